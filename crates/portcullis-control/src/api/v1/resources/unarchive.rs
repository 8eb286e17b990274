//! `POST O/resources/{resource}:unarchive`.

use crate::api::call::Call;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    super::set_archived(call, "resource.unarchive", false).await
}
