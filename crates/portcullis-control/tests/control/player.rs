//! A gateway played by a test: it speaks the feed and folds what it hears.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_core::feed::{
    Change, End, Kind, Line, Position, RecordSum, StateDigest, Txn, parse_line,
};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::Plant;

/// A gateway played by the test.
pub(crate) struct Gateway<'p> {
    pub(crate) plant: &'p Plant,
    pub(crate) id: &'static str,
}

/// An open stream of changes.
pub(crate) struct Stream {
    response: Response,
    buffer: Vec<u8>,
}

impl Stream {
    /// The next line; a stream that says nothing for ten seconds has failed.
    pub(crate) async fn line(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(parse_line(line.strip_suffix(b"\n").unwrap()).unwrap());
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.response.chunk());
            match chunk.await.expect("the stream speaks") {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn txn(&mut self) -> Txn {
        loop {
            match self.line().await.expect("the stream is open") {
                Line::Txn(txn) => return txn,
                Line::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// State as a gateway folds it.
#[derive(Default)]
pub(crate) struct Fold {
    pub(crate) records: BTreeMap<(Kind, String), Value>,
    pub(crate) position: Position,
}

impl Fold {
    pub(crate) fn apply(&mut self, txn: Txn) {
        assert_eq!(txn.position.seq, self.position.seq + 1, "no gap");
        self.position = txn.position;
        for change in txn.changes {
            match change {
                Change::Put { kind, id, record } => {
                    self.records.insert((kind, id), record);
                }
                Change::Delete { kind, id } | Change::Revoke { kind, id, .. } => {
                    self.records.remove(&(kind, id)).expect("what goes was there");
                }
                other @ (Change::UnknownKind { .. } | Change::UnknownOp { .. }) => {
                    panic!("the control plane knows what it says: {other:?}")
                }
            }
        }
    }

    pub(crate) fn digest(&self) -> StateDigest {
        let mut digest = StateDigest::default();
        for ((kind, id), record) in &self.records {
            digest.add(RecordSum::of(*kind, id, record));
        }
        digest
    }
}

impl Gateway<'_> {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.plant
            .client
            .request(method, format!("{}{path}", self.plant.base))
            .bearer_auth(&self.plant.gateway_token)
            .header("portcullis-gateway", self.id)
            .header("portcullis-feed", "1")
    }

    /// The whole state, checked against its own end line.
    pub(crate) async fn snapshot(&self) -> Fold {
        self.read_snapshot().await.0
    }

    pub(crate) async fn snapshot_end(&self) -> End {
        self.read_snapshot().await.1
    }

    async fn read_snapshot(&self) -> (Fold, End) {
        let response = self.request(Method::GET, "/feed/v1/snapshot").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let text = response.text().await.unwrap();
        let mut fold = Fold::default();
        let mut ended = None;
        for line in text.lines() {
            match parse_line(line.as_bytes()).unwrap() {
                Line::Header(header) => fold.position = header.position,
                Line::Record { kind, id, record } => {
                    fold.records.insert((kind, id), record);
                }
                Line::End(end) => ended = Some(end),
                other => panic!("{other:?}"),
            }
        }
        let end = ended.expect("a snapshot ends");
        assert_eq!(end.count, fold.records.len() as u64);
        assert_eq!(end.digest, fold.digest());
        assert_eq!(end.position, fold.position);
        (fold, end)
    }

    pub(crate) async fn changes(&self, from: Position) -> Response {
        let path = format!("/feed/v1/changes?after={}&epoch={}", from.seq, from.epoch);
        self.request(Method::GET, &path).send().await.unwrap()
    }

    pub(crate) async fn follow(&self, from: Position) -> Stream {
        let response = self.changes(from).await;
        assert_eq!(response.status(), 200);
        Stream { response, buffer: Vec::new() }
    }

    pub(crate) async fn ack(&self, applied: Position, fence_ms: Option<u64>) {
        let body = json!({
            "gateway": self.id, "boot": "b", "epoch": applied.epoch, "applied": applied.seq,
            "digest": "0", "refused": [], "held": [], "rehash": [], "fence_ms": fence_ms,
        });
        let sent = self.request(Method::POST, "/feed/v1/acks").body(body.to_string()).send().await;
        assert_eq!(sent.unwrap().status(), 204);
    }
}
