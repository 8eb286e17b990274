//! `POST O:suspend`: refuses all credentials of the organization.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}:suspend",
    "Refuse all credentials of the organization",
    Need::operator("organization.suspend"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("organization", "Organization"));

async fn run(admitted: Admitted) -> Reply {
    super::set_suspended(admitted, true).await
}
