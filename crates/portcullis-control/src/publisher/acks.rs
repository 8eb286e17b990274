//! `POST /feed/v1/acks`: how far a gateway is, and what it could not take.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use portcullis_core::directory::Which;
use portcullis_core::feed::{Position, parse_strict};
use portcullis_core::key::Digest;
use serde::Deserialize;

use super::{Ack, entrance};
use crate::api::App;
use crate::api::body::read_whole;
use crate::api::problem::{Code, Problem};
use crate::domain::imports::{Rehashed, rehash};
use crate::store::audit::{Actor, Origin};

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
    /// Fast digests it found for secrets that it had slow ones of.
    #[serde(default)]
    rehash: Vec<RehashRecord>,
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

#[derive(Deserialize)]
struct RehashRecord {
    id: String,
    generation: i64,
    secret: WhichSecret,
    pepper: u32,
    digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhichSecret {
    Current,
    Previous,
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
    let AckBody { gateway: id, epoch, applied, refused, held, rehash, fence_ms } = body;
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
    for record in rehash {
        take_rehash(&app, &id, record).await;
    }
    StatusCode::NO_CONTENT.into_response()
}

/// What a gateway found is repeated in every ack until its record says so, so a failure here needs
/// no more than a log line.
async fn take_rehash(app: &App, gateway: &str, record: RehashRecord) {
    let RehashRecord { id, generation, secret, pepper, digest } = record;
    let Ok(digest) = Digest::from_hex(&digest) else {
        tracing::warn!(gateway, key = id, "a gateway sent a digest that cannot be read");
        return;
    };
    let which = match secret {
        WhichSecret::Current => Which::Current,
        WhichSecret::Previous => Which::Previous,
    };
    let actor = Actor {
        kind: "gateway",
        id: gateway.to_owned(),
        name: gateway.to_owned(),
        key_id: None,
        state: "active".to_owned(),
    };
    let found = Rehashed { key_id: id, generation, which, pepper, digest };
    if let Err(error) = rehash(app, &found, actor, Origin::default()).await {
        tracing::warn!(gateway, key = found.key_id, %error, "a fast digest was not saved");
    }
}
