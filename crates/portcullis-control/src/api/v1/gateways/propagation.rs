//! `GET /v1/propagation/{seq}`: who has applied a change.

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::feed::Position;
use serde_json::json;

use crate::api::admission::{Admitted, Need, Wait};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::caller::Caller;
use crate::store::feed;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/propagation/{seq}",
    "Say which gateways have applied a change",
    Need::root("propagation.read", "organization:read").in_own_or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| _ = Wait::read(query))
.answers(Answer::Plain("Propagation"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let wait = Wait::read(&mut query);
    query.finish()?;
    let seq: u64 = admitted.call.param("seq").parse().map_err(|_| Problem::not_found())?;
    let publisher = &admitted.app().publisher;
    let position = Position { epoch: publisher.position().epoch, seq };
    let mut view = admitted.view().await?;
    let org_id = feed::find_change_org(view.conn(), position).await?;
    drop(view);
    let org_id = org_id.ok_or_else(Problem::not_found)?;
    if let Caller::Member(member) = &admitted.caller
        && member.org.id != org_id
    {
        return Err(Problem::not_found());
    }
    let timeout_ms = if wait.applied == Some(true) { wait.timeout_ms } else { 0 };
    let spread = publisher.wait_applied(position, timeout_ms).await;
    let state = match (spread.pending.is_empty(), spread.refused) {
        (_, true) => "failed",
        (true, false) => "applied",
        (false, false) => "pending",
    };
    let body = json!({"epoch": position.epoch, "seq": seq, "state": state, "gateways": spread});
    Ok(Json(body).into_response())
}
