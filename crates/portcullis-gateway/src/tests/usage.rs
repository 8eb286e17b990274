//! What a gateway tells its control plane about the use of keys: everything once, whatever happens
//! to single reports.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use portcullis_core::feed::Position;
use portcullis_core::key::{KeyId, Prefix, mint_for};
use serde_json::{Value, json};

use super::{Counting, OK, PATIENCE, Script, Stage, WALL, lines_named, snapshot};
use crate::settings::{Feed, FeedToken};

/// How the control plane treats a report.
#[derive(Copy, Clone)]
enum Treat {
    Answer(u16),
    /// Takes it and is gone before it answers.
    Vanish,
}

/// A control plane that serves one snapshot, treats the first reports as it is told, and takes all
/// others.
struct Control {
    url: String,
    snapshot: Arc<OnceLock<String>>,
    reports: Receiver<(String, Vec<Value>)>,
}

struct Desk {
    snapshot: Arc<OnceLock<String>>,
    treatments: Vec<Treat>,
    treated: AtomicUsize,
}

impl Control {
    fn start(treatments: Vec<Treat>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let snapshot = Arc::new(OnceLock::new());
        let desk = Arc::new(Desk {
            snapshot: Arc::clone(&snapshot),
            treatments,
            treated: AtomicUsize::new(0),
        });
        let (arrived, reports) = channel();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (desk, arrived) = (Arc::clone(&desk), arrived.clone());
                std::thread::spawn(move || desk.serve(&socket.unwrap(), &arrived));
            }
        });
        Self { url, snapshot, reports }
    }

    /// A gateway that follows this control plane and knows one key, whose secret is the replaced
    /// one of generation 1.
    fn stage(&self, upstream: SocketAddr) -> Stage {
        let url = self.url.clone();
        let stage = Stage::set_empty(upstream, |settings| {
            settings.feed = Feed::Control {
                url,
                token: FeedToken::new("token".to_owned()),
                cluster: None,
                verify_key: None,
                usage_interval: Duration::from_millis(20),
            };
        });
        let mut records = stage.usual_records();
        let (_, _, key) = records.last_mut().unwrap();
        key["generation"] = json!(2);
        key["previous"] = key["current"].clone();
        key["previous"]["retained_until_ms"] = json!(WALL + 3_600_000);
        key["current"]["digest"] = json!("00".repeat(32));
        self.snapshot.set(snapshot(Position { epoch: 1, seq: 1 }, records)).unwrap();
        stage.wait("the snapshot is loaded", || stage.running.handle().status().ready);
        stage
    }

    /// Reads reports until they count `allowed` and `denied` together, each id once; every line.
    fn read(&self, allowed: u64, denied: u64) -> Vec<Value> {
        let mut bodies: HashMap<String, Vec<Value>> = HashMap::new();
        loop {
            let lines: Vec<Value> = bodies.values().flatten().cloned().collect();
            let sum = |name: &str| lines.iter().map(|line| line[name].as_u64().unwrap()).sum();
            let (seen_allowed, seen_denied): (u64, u64) = (sum("allowed"), sum("denied"));
            assert!(seen_allowed <= allowed && seen_denied <= denied, "{lines:?}");
            if (seen_allowed, seen_denied) == (allowed, denied) {
                return lines;
            }
            let (id, lines) = self.reports.recv_timeout(PATIENCE).unwrap();
            let before = bodies.insert(id, lines.clone());
            assert!(before.is_none_or(|before| before == lines), "a body with an id never changes");
        }
    }
}

impl Desk {
    fn serve(&self, socket: &TcpStream, arrived: &Sender<(String, Vec<Value>)>) {
        let mut reader = BufReader::new(socket);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let value = |name: &str| lines_named(&head, name).next().map(str::to_owned);
            let length = value("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let (status, answer) = if head.starts_with("GET /feed/v1/snapshot") {
                self.snapshot.get().map_or((503, ""), |text| (200, text.as_str()))
            } else if head.starts_with("POST /feed/v1/usage") {
                assert_eq!(value("content-type").unwrap(), "application/x-ndjson");
                let text = String::from_utf8(body).unwrap();
                let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let _ = arrived.send((value("idempotency-key").unwrap(), lines));
                match self.treatments.get(self.treated.fetch_add(1, Ordering::SeqCst)) {
                    None => (204, ""),
                    Some(Treat::Answer(status)) => (*status, ""),
                    Some(Treat::Vanish) => return,
                }
            } else {
                (503, "")
            };
            let length = answer.len();
            let whole = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{answer}");
            let mut out = socket;
            out.write_all(whole.as_bytes()).unwrap();
        }
    }
}

#[test]
fn every_use_is_reported_once_with_its_secret_and_its_reason() {
    let upstream = Script::fixed(OK);
    let treatments = vec![Treat::Vanish, Treat::Answer(503), Treat::Answer(401), Treat::Vanish];
    let control = Control::start(treatments);
    let stage = control.stage(upstream.address);
    let id: KeyId = stage.key_id.parse().unwrap();
    let other = mint_for(id, &Prefix::default(), &Counting::default()).unwrap();
    let wrong = stage.request("GET", "/a", "").replace(&stage.key, other.expose());
    let stranger = stage.request("GET", "/a", "").replace(&stage.key_id, "00000000001");
    for _ in 0..3 {
        assert_eq!(stage.get("/a").status(), 200);
        assert_eq!(stage.ask(&wrong).status(), 401);
        assert_eq!(stage.ask(&stranger).status(), 401);
    }
    for line in control.read(3, 3) {
        assert_eq!((&line["key"], &line["last_at_ms"]), (&json!(stage.key_id), &json!(WALL)));
        assert_eq!(line["last_source"], "127.0.0.1");
        let (generation, reason) = match line["allowed"].as_u64().unwrap() {
            0 => (json!(null), json!("bad_secret")),
            _ => (json!(1), json!(null)),
        };
        assert_eq!((&line["generation"], &line["reason"]), (&generation, &reason));
    }
}

#[test]
fn a_drain_reports_what_was_counted_last() {
    let upstream = Script::fixed(OK);
    let control = Control::start(Vec::new());
    let stage = control.stage(upstream.address);
    assert_eq!(stage.get("/a").status(), 200);
    stage.running.handle().drain(None);
    stage.running.join().unwrap();
    control.read(1, 0);
}

#[test]
fn a_control_plane_without_the_endpoint_is_left_alone() {
    let upstream = Script::fixed(OK);
    let control = Control::start(vec![Treat::Answer(404)]);
    let stage = control.stage(upstream.address);
    assert_eq!(stage.get("/a").status(), 200);
    control.read(1, 0);
    assert_eq!(stage.counter("portcullis_usage_reports_total", &[("result", "not_wanted")]), 1);
    assert_eq!(stage.get("/a").status(), 200);
    stage.running.handle().drain(None);
    stage.running.join().unwrap();
    assert!(control.reports.try_recv().is_err());
}
