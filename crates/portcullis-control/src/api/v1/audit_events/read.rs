//! `GET O/audit-events/{event}`.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::audit;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("audit_event.read", "audit_event:read");
    let admitted = call.identify().await?.member(need)?;
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("event");
    let row = audit::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    Ok(Json(views::audit_event(&row)).into_response())
}
