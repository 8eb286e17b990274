//! `GET O/audit-events:verify`: walks the whole chain of the organization, with its checkpoints.

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::store::checkpoints;

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
    let public_key = admitted.app().ledger.signer.public_key();
    let org_id = &admitted.org()?.id;
    let verdict = checkpoints::verify(view.conn(), org_id, public_key.clone()).await?;
    let mut body = json!(verdict);
    body["public_key"] = json!(public_key);
    Ok(Json(body).into_response())
}
