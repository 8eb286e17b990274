//! `GET /feed/v1/changes`: the committed lines after a position, then each new one as it commits,
//! with a heartbeat every second.
//!
//! A subscriber has no queue of its own: it reads the change table at its own pace, so a slow one
//! costs nothing but itself. One that falls behind the table's end is closed and starts over.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use portcullis_core::feed::{Heartbeat, Line, Position};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use super::entrance;
use crate::api::App;
use crate::api::problem::{Code, Problem};
use crate::store::StoreError;
use crate::store::feed::{self, FeedHead};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Lines read from the database at a time.
const CHUNK: i64 = 128;

#[derive(Deserialize)]
pub(super) struct From {
    after: u64,
    epoch: u64,
}

pub(super) async fn follow(
    State(app): State<App>,
    headers: HeaderMap,
    from: Result<Query<From>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let gateway = match entrance::admit(&app, &headers).await {
        Ok(gateway) => gateway,
        Err(refused) => return refused,
    };
    let Ok(Query(From { after, epoch })) = from else {
        let detail = "Give after=<seq>&epoch=<epoch>, both integers.";
        return Problem::new(Code::MalformedRequest, detail).into_response();
    };
    let position = Position { epoch, seq: after };
    // Watched before the table is read: a commit in between is not missed.
    let head = app.ledger.head.subscribe();
    match resume(&app, position).await {
        Ok(Resume::Follow) => {}
        Ok(Resume::StartOver) => return StatusCode::GONE.into_response(),
        Ok(Resume::WeAreBehind(ours)) => {
            let body = json!({"epoch": ours.epoch, "seq": ours.seq});
            return (StatusCode::CONFLICT, Json(body)).into_response();
        }
        Err(error) => return Problem::from(error).into_response(),
    }
    let mut beat = tokio::time::interval(HEARTBEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let subscriber = Subscriber { app, id: gateway.id, position, head, beat };
    let lines = stream::unfold(subscriber, |mut subscriber| async move {
        let bytes = subscriber.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), subscriber))
    });
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

#[derive(Debug, PartialEq, Eq)]
enum Resume {
    Follow,
    StartOver,
    WeAreBehind(Position),
}

/// | the gateway is at | answer |
/// |---|---|
/// | our position, or one we still have all lines after | follow |
/// | an older position or epoch | start over (410) |
/// | a position we have not reached | history went back (409) |
async fn resume(app: &App, theirs: Position) -> Result<Resume, StoreError> {
    let mut view = app.store.view().await?;
    let ours = feed::find_head(view.conn()).await?.position;
    if theirs > ours {
        return Ok(Resume::WeAreBehind(ours));
    }
    if theirs == ours {
        return Ok(Resume::Follow);
    }
    let next = feed::list_changes(view.conn(), theirs, 1).await?;
    let contiguous = next.first().is_some_and(|row| row.seq.unsigned_abs() == theirs.seq + 1);
    Ok(if contiguous { Resume::Follow } else { Resume::StartOver })
}

struct Subscriber {
    app: App,
    id: String,
    /// The last line sent.
    position: Position,
    head: watch::Receiver<Position>,
    beat: Interval,
}

impl Subscriber {
    /// The next lines, or a heartbeat. `None` closes the connection; the gateway comes back.
    async fn next(&mut self) -> Option<Bytes> {
        let end = self.app.publisher.end();
        loop {
            if end.is_cancelled() || !self.app.publisher.told(&self.id).await {
                return None;
            }
            self.head.borrow_and_update();
            let (head, lines) = match self.read().await {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(gateway = self.id, %error, "a feed stream was closed");
                    return None;
                }
            };
            if let Some(lines) = lines {
                return Some(lines);
            }
            if head.position != self.position {
                return None;
            }
            tokio::select! {
                () = end.cancelled() => return None,
                changed = self.head.changed() => changed.ok()?,
                _ = self.beat.tick() => return Some(self.heartbeat(&head).await),
            }
        }
    }

    /// The head and the lines up to it, all of one commit. A gap means that the lines are gone.
    async fn read(&mut self) -> Result<(FeedHead, Option<Bytes>), StoreError> {
        let mut view = self.app.store.view().await?;
        let head = feed::find_head(view.conn()).await?;
        let rows = feed::list_changes(view.conn(), self.position, CHUNK).await?;
        let mut text = String::new();
        for row in rows {
            if row.seq.unsigned_abs() != self.position.seq + 1 {
                break;
            }
            self.position.seq += 1;
            text.push_str(&row.line);
            text.push('\n');
        }
        Ok((head, (!text.is_empty()).then(|| Bytes::from(text))))
    }

    async fn heartbeat(&self, head: &FeedHead) -> Bytes {
        let mut beat = Heartbeat {
            position: head.position,
            at_ms: self.app.now().0,
            digest: head.digest,
            gateways: self.app.publisher.count_live().await,
            sig: None,
        };
        let unsigned = Line::Heartbeat(beat.clone()).signed_form();
        beat.sig = Some(self.app.ledger.signer.sign(unsigned.as_bytes()));
        Bytes::from(format!("{}\n", Line::Heartbeat(beat).to_json()))
    }
}
