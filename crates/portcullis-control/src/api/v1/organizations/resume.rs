//! `POST O:resume`: accepts the organization's credentials again.

use crate::api::call::Call;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    super::set_suspended(call, "organization.resume", false).await
}
