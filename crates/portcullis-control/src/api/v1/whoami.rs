//! `GET /v1/whoami`: who the credential stands for, and what they may do on the root.

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::caller::Caller;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/whoami",
    "Who the credential stands for",
    Need::anybody("credential.whoami"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Plain("Whoami"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let body = match &admitted.caller {
        Caller::Member(member) => json!({
            "principal": {"kind": member.kind, "id": member.id, "username": member.name},
            "org_id": member.org.id,
            "key_id": member.key_id,
            "generation": member.generation,
            "permissions": member.access.permission_texts(&member.org.root_resource_id),
        }),
        Caller::Operator { key_id } => json!({
            "principal": {"kind": "operator", "id": "operator", "username": "operator"},
            "org_id": null,
            "key_id": key_id,
            "generation": 1,
            "permissions": [],
        }),
    };
    Ok(Json(body).into_response())
}
