//! `GET O/export`: one organization, for who may change it as a whole, and for the operator.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::store::audit::Target;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/export",
    "Export the organization",
    Need::root("organization.export", "organization:update").or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.notes("Lines of JSON with the digests of its keys, and no secret; `portcullis import` takes them.")
.answers(Answer::Lines);

async fn run(admitted: Admitted) -> Reply {
    let org = admitted.org()?;
    let target = Target { kind: "organization", id: org.id.clone(), name: org.name.clone() };
    super::send(&admitted, target).await
}
