//! A gateway as far as the feed knows it: loads the snapshot into the gateway's own ledger, applies
//! each line, and acknowledges it.

use std::time::{Duration, Instant};

use portcullis_core::directory::Ledger;
use portcullis_core::feed::{Kind, Line, Position, parse_line};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::plant::Plant;

const ID: &str = "bench-gateway";

pub(crate) struct Follower {
    pub(crate) records: u64,
    pub(crate) loaded_in: Duration,
    applied: watch::Receiver<Applied>,
    following: JoinHandle<()>,
}

/// The newest line that was applied.
#[derive(Copy, Clone, Default)]
pub(crate) struct Applied {
    seq: u64,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

impl Follower {
    pub(crate) async fn start(plant: &Plant) -> Follower {
        let client = reqwest::Client::new();
        let base = format!("http://{}/feed/v1", plant.address);
        let token = plant.gateway.clone();
        let ask = move |path: &str| {
            client
                .get(format!("{base}{path}"))
                .bearer_auth(&token)
                .header("portcullis-feed", "1")
                .header("portcullis-gateway", ID)
                .send()
        };
        let snapshot = ask("/snapshot").await.expect("a snapshot");
        let snapshot = snapshot.bytes().await.expect("all of it");
        let started = Instant::now();
        let (mut ledger, position, records) = load(&snapshot);
        let loaded_in = started.elapsed();
        drop(snapshot);
        let changes = format!("/changes?epoch={}&after={}", position.epoch, position.seq);
        let mut changes = ask(&changes).await.expect("changes");
        assert_eq!(changes.status(), 200);
        let mut acks = Client::connect(&plant.address, &plant.gateway)
            .await
            .with(&format!("portcullis-feed: 1\r\nportcullis-gateway: {ID}\r\n"));
        ack(&mut acks, position).await;
        let (tell, applied) = watch::channel(Applied::default());
        let following = tokio::spawn(async move {
            let mut text = Vec::new();
            while let Ok(Some(piece)) = changes.chunk().await {
                text.extend_from_slice(&piece);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let position = apply(&mut ledger, &line, &tell);
                    ack(&mut acks, position).await;
                }
            }
        });
        Follower { records, loaded_in, applied, following }
    }

    /// What the line with this seq cost.
    pub(crate) async fn applied(&mut self, seq: u64) -> Applied {
        *self.applied.wait_for(|applied| applied.seq >= seq).await.expect("it follows")
    }

    pub(crate) async fn stop(self) {
        self.following.abort();
        let _ = self.following.await;
    }
}

fn load(snapshot: &[u8]) -> (Ledger, Position, u64) {
    let mut ledger = Ledger::new(1);
    let mut end = None;
    let mut position = Position::default();
    let lines = snapshot.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.filter_map(|line| match parse_line(line).expect("a line of the feed") {
        Line::Record { kind, id, record } => Some((kind, id, record)),
        Line::Header(_) | Line::Heartbeat(_) | Line::Txn(_) | Line::Unknown { .. } => None,
        Line::End(found) => {
            end = Some(found);
            None
        }
    });
    let records: Vec<(Kind, String, Value)> = records.collect();
    let end = end.expect("an end");
    position.clone_from(&end.position);
    let outcome = ledger.load(position, records).expect("good records");
    assert!(outcome.refused.is_empty(), "{:?}", outcome.refused.first());
    assert_eq!(ledger.digest(), end.digest);
    (ledger, position, end.count)
}

fn apply(ledger: &mut Ledger, line: &[u8], tell: &watch::Sender<Applied>) -> Position {
    let started = Instant::now();
    if let Line::Txn(txn) = parse_line(line.trim_ascii_end()).expect("a line of the feed") {
        let outcome = ledger.apply(&txn);
        std::hint::black_box(ledger.view());
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused.first());
        tell.send_replace(Applied {
            seq: txn.position.seq,
            records: txn.changes.len(),
            bytes: line.len(),
            took: started.elapsed(),
        });
    }
    ledger.position()
}

async fn ack(client: &mut Client, position: Position) {
    let body = json!({"gateway": ID, "epoch": position.epoch, "applied": position.seq});
    client.ok("POST", "/feed/v1/acks", Some(&body)).await;
}
