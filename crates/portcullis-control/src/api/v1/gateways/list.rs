//! `GET /v1/gateways`: few enough for one page.

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("gateway.list", "gateway:read");
    let admitted = call.identify().await?.own_member_or_operator(need)?;
    admitted.call.no_query()?;
    let mut items = Vec::new();
    for status in admitted.app().publisher.list().await {
        items.push(super::shown(&admitted, &status).await?);
    }
    Ok(Json(json!({"items": items, "next_cursor": null})).into_response())
}
