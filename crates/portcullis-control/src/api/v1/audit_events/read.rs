//! `GET O/audit-events/{event}`.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::store::audit;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/audit-events/{event}",
    "Read an audit event",
    Need::root("audit_event.read", "audit_event:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Plain("AuditEvent"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("event");
    let row = audit::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let shown = super::with_states(view.conn(), &admitted.org()?.id, &[row]).await?;
    Ok(Json(shown.into_iter().next()).into_response())
}
