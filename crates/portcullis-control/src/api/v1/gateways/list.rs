//! `GET /v1/gateways`: few enough for one page.

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/gateways",
    "List the gateways",
    Need::root("gateway.list", "gateway:read").in_own_or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.notes("Few enough for one page.")
.answers(Answer::Plain("Gateways"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let mut items = Vec::new();
    for status in admitted.app().publisher.list().await {
        items.push(super::shown(&admitted, &status).await?);
    }
    Ok(Json(json!({"items": items, "next_cursor": null})).into_response())
}
