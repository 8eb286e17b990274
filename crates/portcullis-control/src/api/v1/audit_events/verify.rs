//! `GET O/audit-events:verify`: walks the whole chain of the organization.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::store::audit;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/audit-events:verify",
    "Verify the chain of audit events",
    Need::root("audit_event.verify", "audit_event:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Plain("ChainVerdict"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let verdict = audit::verify(view.conn(), &admitted.org()?.id).await?;
    Ok(Json(verdict).into_response())
}
