//! `POST /feed/v1/acks`: how far a gateway is, and what it could not take.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use portcullis_core::feed::{Position, parse_strict};
use serde::Deserialize;

use super::{Ack, entrance};
use crate::api::App;
use crate::api::body::read_whole;
use crate::api::problem::{Code, Problem};

/// The body. Members that we do not use yet, and those of a newer gateway, are ignored.
#[derive(Deserialize)]
struct AckBody {
    gateway: String,
    epoch: u64,
    applied: u64,
    #[serde(default)]
    refused: Vec<RefusedRecord>,
    #[serde(default)]
    held: Vec<HeldRecord>,
    /// Null: it would serve for ever.
    #[serde(default)]
    fence_ms: Option<u64>,
}

#[derive(Deserialize)]
struct RefusedRecord {
    seq: u64,
    kind: String,
    id: String,
    #[serde(default)]
    why: String,
}

#[derive(Deserialize)]
struct HeldRecord {
    kind: String,
    id: String,
}

pub(super) async fn receive(State(app): State<App>, headers: HeaderMap, body: Body) -> Response {
    let gateway = match entrance::admit(&app, &headers).await {
        Ok(gateway) => gateway,
        Err(refused) => return refused,
    };
    let bytes = match read_whole(body).await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    let body = match parse_strict(&bytes).and_then(serde_json::from_value::<AckBody>) {
        Ok(body) if body.gateway == gateway.id => body,
        Ok(_) => {
            let detail = "`gateway` must be the id of the Portcullis-Gateway header.";
            return Problem::new(Code::MalformedRequest, detail).into_response();
        }
        Err(error) => {
            let detail = format!("The ack cannot be read: {error}.");
            return Problem::new(Code::MalformedRequest, detail).into_response();
        }
    };
    let AckBody { gateway: id, epoch, applied, refused, held, fence_ms } = body;
    for RefusedRecord { seq, kind, id: record, why } in &refused {
        tracing::warn!(gateway = id, seq, kind, record, why, "a gateway refused a record");
    }
    for HeldRecord { kind, id: record } in &held {
        tracing::warn!(gateway = id, kind, record, "a gateway holds back a record: tombstone");
    }
    let ack = Ack {
        applied: Position { epoch, seq: applied },
        fence_ms,
        refused: refused.iter().map(|record| record.seq).collect(),
    };
    app.publisher.ack(&id, ack).await;
    StatusCode::NO_CONTENT.into_response()
}
