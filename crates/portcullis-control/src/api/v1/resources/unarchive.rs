//! `POST O/resources/{resource}:unarchive`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/resources/{resource}:unarchive",
    "Take a resource out of the archive",
    Need::root("resource.unarchive", "resource:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::changed("resource", "Resource"))
.may_refuse(&[Code::ImmutableObject]);

async fn run(admitted: Admitted) -> Reply {
    super::set_archived(admitted, false).await
}
