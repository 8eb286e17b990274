//! `POST O/resources/{resource}:archive`: only reading is left.

use crate::api::call::Call;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    super::set_archived(call, "resource.archive", true).await
}
