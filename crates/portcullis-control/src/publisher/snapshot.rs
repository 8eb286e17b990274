//! `GET /feed/v1/snapshot`: everything a gateway needs, as of one commit, sent as fast as it reads.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use portcullis_core::feed::{End, FORMAT, Header, Kind, Line, record_json};
use portcullis_core::time::MonoNs;
use sha2::{Digest as _, Sha256};

use super::entrance;
use crate::api::App;
use crate::api::problem::Problem;
use crate::store::feed::{self, FeedHead};
use crate::store::{StoreError, View};

/// Records read from the database at a time.
const CHUNK: i64 = 1000;
/// A reader slower than this would keep the database's log from being folded back.
const LONGEST: Duration = Duration::from_secs(600);

/// What others refer to comes before what refers to it, for the reader's convenience.
const ORDER: [Kind; 10] = [
    Kind::Plan,
    Kind::Role,
    Kind::Org,
    Kind::Resource,
    Kind::Set,
    Kind::Account,
    Kind::Key,
    Kind::Quota,
    Kind::Signer,
    Kind::Block,
];

pub(super) async fn send(State(app): State<App>, headers: HeaderMap) -> Response {
    // Registered before the head is read: a later change waits for this gateway.
    let gateway = match entrance::admit(&app, &headers).await {
        Ok(gateway) => gateway,
        Err(refused) => return refused,
    };
    let (view, head) = match open(&app).await {
        Ok(opened) => opened,
        Err(error) => return Problem::from(error).into_response(),
    };
    let tag = format!("\"{}-{}\"", head.position.epoch, head.position.seq);
    let known =
        headers.get(header::IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes());
    if known {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let dump = Dump {
        started: app.clock.now().mono,
        app,
        gateway_id: gateway.id,
        view,
        head,
        stage: Stage::Header,
        hash: Sha256::new(),
        count: 0,
    };
    let body = Body::from_stream(stream::try_unfold(dump, Dump::next));
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::ETAG, tag),
    ];
    (headers, body).into_response()
}

async fn open(app: &App) -> Result<(View, FeedHead), StoreError> {
    let mut view = app.store.long_view().await?;
    let head = feed::find_head(view.conn()).await?;
    Ok((view, head))
}

/// A snapshot on its way. The read transaction lives as long as it.
struct Dump {
    app: App,
    gateway_id: String,
    view: View,
    head: FeedHead,
    started: MonoNs,
    stage: Stage,
    hash: Sha256,
    count: u64,
}

enum Stage {
    Done,
    Header,
    /// Index into [`ORDER`], and the last id sent of that kind.
    Records(usize, String),
}

impl Dump {
    /// The next piece; an error cuts the connection, and the gateway discards what it has.
    async fn next(mut self) -> Result<Option<(Bytes, Dump)>, io::Error> {
        let now = self.app.clock.now().mono;
        if Duration::from_nanos(now.since(self.started)) > LONGEST {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the snapshot was read too slowly",
            ));
        }
        if self.app.publisher.end().is_cancelled()
            || !self.app.publisher.told(&self.gateway_id).await
        {
            return Err(io::Error::other("the feed ends"));
        }
        let (text, stage) = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Done => return Ok(None),
            Stage::Header => {
                let header = Line::Header(Header {
                    format: FORMAT,
                    cluster: self.app.ledger.cluster.clone(),
                    position: self.head.position,
                    at_ms: self.app.now().0,
                });
                (format!("{}\n", header.to_json()), Stage::Records(0, String::new()))
            }
            Stage::Records(index, after) => match ORDER.get(index) {
                Some(kind) => self.records(*kind, index, &after).await.map_err(io::Error::other)?,
                None => (self.end_line(), Stage::Done),
            },
        };
        self.stage = stage;
        self.hash.update(text.as_bytes());
        Ok(Some((Bytes::from(text), self)))
    }

    async fn records(
        &mut self,
        kind: Kind,
        index: usize,
        after: &str,
    ) -> Result<(String, Stage), StoreError> {
        let rows = feed::list_records(self.view.conn(), kind, after, CHUNK).await?;
        self.count += rows.len() as u64;
        let text = rows.iter().map(|row| record_json(kind, &row.id, &row.record) + "\n").collect();
        let stage = match rows.into_iter().next_back() {
            Some(last) => Stage::Records(index, last.id),
            None => Stage::Records(index + 1, String::new()),
        };
        Ok((text, stage))
    }

    fn end_line(&self) -> String {
        let hash = self.hash.clone().finalize();
        let mut end = End {
            position: self.head.position,
            count: self.count,
            digest: self.head.digest,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            sig: None,
        };
        let unsigned = Line::End(end.clone()).signed_form();
        end.sig = Some(self.app.ledger.signer.sign(unsigned.as_bytes()));
        format!("{}\n", Line::End(end).to_json())
    }
}
