//! `GET /v1/gateways/{gateway}`.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("gateway.read", "gateway:read");
    let admitted = call.identify().await?.own_member_or_operator(need)?;
    admitted.call.no_query()?;
    let all = admitted.app().publisher.list().await;
    let id = admitted.call.param("gateway");
    let found = all.iter().find(|status| status.row.id == id).ok_or_else(Problem::not_found)?;
    Ok(Json(super::shown(&admitted, found).await?).into_response())
}
