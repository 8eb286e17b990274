//! `GET O/policy`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::{self, Reply};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/policy",
    "Read the organization's policy",
    Need::root("org_policy.read", "organization:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("OrgPolicy"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let org = admitted.org()?;
    Ok(reply::object(&admitted.call, org.version, super::shown(org)))
}
