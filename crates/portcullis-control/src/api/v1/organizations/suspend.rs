//! `POST O:suspend`: refuses all credentials of the organization.

use crate::api::call::Call;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    super::set_suspended(call, "organization.suspend", true).await
}
