//! `GET O/audit-events:verify`: walks the whole chain of the organization.

use axum::Json;
use axum::response::IntoResponse as _;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;
use crate::store::audit;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("audit_event.verify", "audit_event:read");
    let admitted = call.identify().await?.member(need)?;
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let verdict = audit::verify(view.conn(), &admitted.org()?.id).await?;
    Ok(Json(verdict).into_response())
}
