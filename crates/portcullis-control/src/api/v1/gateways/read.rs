//! `GET /v1/gateways/{gateway}`.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/gateways/{gateway}",
    "Read a gateway",
    Need::root("gateway.read", "gateway:read").in_own_or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Plain("Gateway"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let all = admitted.app().publisher.list().await;
    let id = admitted.call.param("gateway");
    let found = all.iter().find(|status| status.row.id == id).ok_or_else(Problem::not_found)?;
    Ok(Json(super::shown(&admitted, found).await?).into_response())
}
