//! `POST O:resume`: accepts the organization's credentials again.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}:resume",
    "Accept the credentials of the organization again",
    Need::operator("organization.resume"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::changed("organization", "Organization"));

async fn run(admitted: Admitted) -> Reply {
    super::set_suspended(admitted, false).await
}
