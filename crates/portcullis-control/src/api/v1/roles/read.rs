//! `GET O/roles/{role}`.

use portcullis_core::access::BuiltinRole;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::api::views;

pub(crate) async fn run(call: Call) -> Reply {
    let admitted = call.identify().await?.member(Need::root("role.read", "role:read"))?;
    admitted.call.no_query()?;
    let role = BuiltinRole::find(admitted.call.param("role")).ok_or_else(Problem::not_found)?;
    Ok(reply::object(&admitted.call, 1, views::role(role)))
}
