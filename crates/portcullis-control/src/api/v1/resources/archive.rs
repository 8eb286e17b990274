//! `POST O/resources/{resource}:archive`: only reading is left.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/resources/{resource}:archive",
    "Archive a resource: only reading is left",
    Need::root("resource.archive", "resource:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("resource", "Resource"))
.may_refuse(&[Code::ImmutableObject]);

async fn run(admitted: Admitted) -> Reply {
    super::set_archived(admitted, true).await
}
