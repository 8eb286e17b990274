//! `GET O`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::{self, Reply};
use crate::api::views;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}",
    "Read the organization",
    Need::root("organization.read", "organization:read").or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("Organization"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let org = admitted.org()?;
    Ok(reply::object(&admitted.call, org.version, views::organization(org)))
}
