//! The whole data plane over real sockets: a gateway that reads its directory from a file, in
//! front of an upstream that answers with prepared bytes. Time is advanced by hand.

mod deadlines;
mod feed;
mod forwarding;
mod refusals;
mod reloads;
mod upstreams;
mod usage;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::{End, Header, Kind, Line, Position, RecordSum, StateDigest};
use portcullis_core::key::{self, Pepper, PepperRing, Prefix};
use portcullis_core::time::{Clock, MonoNs, Now, WallMs};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    Access, Feed, Headers, Identity, Keys, Limits, Listener, Log, Records, Route, Running,
    Settings, Spellings, Timeouts, Upstream, UpstreamAddress, bind,
};

/// How long anything may take that ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(10);
const WALL: u64 = 1_795_305_600_000;

/// A clock that stands still until it is told otherwise.
#[derive(Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(crate::phase::nanos(by), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Now {
        let ns = self.0.load(Ordering::SeqCst);
        Now { wall: WallMs(WALL + ns / 1_000_000), mono: MonoNs(1_000_000_000 + ns) }
    }
}

/// Counts up; every byte string it gives is another one.
#[derive(Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for chunk in out.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A gateway under test, with its key and its files.
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) key: String,
    pub(crate) key_id: String,
    pub(crate) digest: String,
    pub(crate) registry: prometheus::Registry,
    pub(crate) running: Running,
    feed: PathBuf,
    records: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// A gateway with one route to `upstream`, changed by `arrange`, with a loaded directory.
    pub(crate) fn set(upstream: SocketAddr, arrange: impl FnOnce(&mut Settings)) -> Self {
        let stage = Self::set_empty(upstream, arrange);
        stage.publish(1, stage.usual_records());
        stage.wait("the snapshot is loaded", || stage.running.handle().status().ready);
        stage
    }

    /// The same without a directory.
    pub(crate) fn set_empty(upstream: SocketAddr, arrange: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (feed, records) = (folder.path().join("feed"), folder.path().join("records"));
        let entropy = Arc::new(Counting::default());
        let plain = key::mint(&Prefix::default(), &*entropy).unwrap();
        let digest = key::parse(plain.expose().as_bytes()).unwrap().digest(&pepper()).to_hex();
        let mut settings = usual_settings(upstream, &feed);
        settings.log.records = Records::File(records.clone());
        arrange(&mut settings);
        let clock = Arc::new(HandClock::default());
        let registry = prometheus::Registry::new();
        let bound =
            bind(settings, Arc::clone(&clock) as Arc<dyn Clock>, entropy, &registry).unwrap();
        let (_, address) = bound.addresses().first().unwrap().clone();
        let running = bound.run().unwrap();
        Self {
            address,
            clock,
            key: plain.expose().to_owned(),
            key_id: plain.id().to_string(),
            digest,
            registry,
            running,
            feed,
            records,
            _folder: folder,
        }
    }

    /// An organization, a cluster, an account that may read clusters, and its key.
    pub(crate) fn usual_records(&self) -> Vec<(Kind, String, Value)> {
        vec![
            (Kind::Org, "o1".to_owned(), json!({"state": "active"})),
            (Kind::Resource, "o1:cluster/c1".to_owned(), json!({"parent": "org"})),
            (
                Kind::Account,
                "sa1".to_owned(),
                json!({
                    "org": "o1", "name": "ci bot", "state": "active",
                    "grants": [{"at": "org", "self": ["cluster:read"], "below": ["cluster:read"]}],
                }),
            ),
            (
                Kind::Key,
                self.key_id.clone(),
                json!({
                    "account": "sa1", "state": "active", "generation": 1,
                    "current": {"alg": "b3", "pepper": 1, "digest": self.digest},
                }),
            ),
        ]
    }

    /// Writes a snapshot to the gateway's feed.
    pub(crate) fn publish(&self, seq: u64, records: Vec<(Kind, String, Value)>) {
        let text = snapshot(Position { epoch: 1, seq }, records);
        let fresh = self.feed.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &self.feed).unwrap();
    }

    /// Waits for a state that must come.
    pub(crate) fn wait(&self, what: &str, reached: impl Fn() -> bool) {
        let (_keep, alarm) = channel::<()>();
        for _ in 0..PATIENCE.as_millis() / 10 {
            if reached() {
                return;
            }
            let _ = alarm.recv_timeout(Duration::from_millis(10));
        }
        panic!("not reached: {what}; {:?}", self.running.handle().status());
    }

    /// Sends `request` on a connection of its own and reads one answer.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        self.connect().ask(request)
    }

    /// `GET path` with the key.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&self.request("GET", path, ""))
    }

    /// A request with the key and further header lines.
    pub(crate) fn request(&self, method: &str, path: &str, lines: &str) -> String {
        let key = &self.key;
        format!(
            "{method} {path} HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {key}\r\n{lines}\r\n"
        )
    }

    pub(crate) fn connect(&self) -> Caller {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller { socket, buffer: Vec::new() }
    }

    /// Every access record, once there are `count`.
    pub(crate) fn records(&self, count: usize) -> Vec<Value> {
        let read = || -> Vec<Value> {
            let text = std::fs::read_to_string(&self.records).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        self.wait("the access records", || read().len() >= count);
        read()
    }

    /// The value of a counter, once it is at least 1.
    pub(crate) fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = || {
            let families = self.registry.gather();
            let family = families.iter().find(|family| family.name() == name);
            let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
            metrics
                .iter()
                .filter(|metric| {
                    labels.iter().all(|(name, value)| {
                        metric
                            .get_label()
                            .iter()
                            .any(|label| label.name() == *name && label.value() == *value)
                    })
                })
                .map(|metric| metric.get_counter().get_value() as u64)
                .sum::<u64>()
        };
        self.wait(name, || value() > 0);
        value()
    }
}

impl Stage {
    /// The sum of a gauge's series with this label value.
    pub(crate) fn gauge(&self, name: &str, label: &str) -> i64 {
        let families = self.registry.gather();
        let name = format!("portcullis_{name}");
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let named = metrics
            .iter()
            .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
        named.map(|metric| metric.get_gauge().get_value() as i64).sum()
    }
}

pub(crate) fn pepper() -> Pepper {
    Pepper::new(1, [7; 32])
}

/// One listener, one upstream, one route that asks for a valid key and nothing else.
pub(crate) fn usual_settings(upstream: SocketAddr, feed: &Path) -> Settings {
    Settings {
        gateway_id: "gw-1".to_owned(),
        workers: 1,
        listeners: vec![Listener {
            name: "public".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            trusted_proxies: Vec::new(),
            require_tls: false,
        }],
        feed: Feed::File { path: feed.to_owned(), verify_key: None },
        keys: Keys {
            peppers: PepperRing::new(vec![pepper()]).unwrap(),
            prefixes: Vec::new(),
            spellings: Spellings::default(),
            sessions: false,
        },
        identity: Identity::default(),
        headers: Headers::default(),
        paths: Default::default(),
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        failures: Default::default(),
        upstreams: vec![Upstream::new(
            "main",
            vec![UpstreamAddress { host: upstream.to_string(), weight: 1 }],
        )],
        routes: vec![Route::new("all", "/{*rest}", "main")],
        log: Log { records: Records::Off, sample_allowed: 1.0 },
    }
}

/// A snapshot in the feed's own format.
pub(crate) fn snapshot(position: Position, records: Vec<(Kind, String, Value)>) -> String {
    let mut digest = StateDigest::default();
    let mut lines =
        vec![Line::Header(Header { format: 1, cluster: "c7f3".to_owned(), position, at_ms: WALL })];
    let count = records.len() as u64;
    for (kind, id, record) in records {
        digest.add(RecordSum::of(kind, &id, &record));
        lines.push(Line::Record { kind, id, record });
    }
    let mut text: String = lines.iter().map(|line| line.to_json() + "\n").collect();
    let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    text += &Line::End(End { position, count, digest, sha256, sig: None }).to_json();
    text + "\n"
}

/// One downstream connection.
pub(crate) struct Caller {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

impl Caller {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request.as_bytes());
        self.read(request.starts_with("HEAD "))
    }

    /// Reads one answer.
    pub(crate) fn read(&mut self, head_only: bool) -> Answer {
        let (head, mut rest) = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                break (std::mem::take(&mut self.buffer), rest);
            }
            assert!(self.fill(), "closed before an answer: {:?}", text(&self.buffer));
        };
        let head = text(&head);
        let mut answer = Answer { head, body: Vec::new(), whole: true };
        if head_only {
            self.buffer = rest;
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            std::mem::swap(&mut self.buffer, &mut rest);
            while self.buffer.len() < length {
                if !self.fill() {
                    answer.whole = false;
                    break;
                }
            }
            let rest = self.buffer.split_off(length.min(self.buffer.len()));
            answer.body = std::mem::replace(&mut self.buffer, rest);
        } else if answer.header("transfer-encoding").is_some() {
            std::mem::swap(&mut self.buffer, &mut rest);
            (answer.body, answer.whole) = self.chunks();
        }
        answer
    }

    fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = find(&self.buffer, b"\r\n") else {
                if !self.fill() {
                    return (body, false);
                }
                continue;
            };
            let size = usize::from_str_radix(&text(&self.buffer[..line]), 16).unwrap();
            while self.buffer.len() < line + 2 + size + 2 {
                if !self.fill() {
                    return (body, false);
                }
            }
            body.extend_from_slice(&self.buffer[line + 2..line + 2 + size]);
            self.buffer.drain(..line + 2 + size + 2);
            if size == 0 {
                return (body, true);
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Whether the gateway closes the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.get(9..12).unwrap().parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        lines_named(&self.head, name)
    }

    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no problem: {} {:?}", self.head, text(&self.body)));
        assert_eq!(body["status"], self.status());
        body["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn lines_named<'h>(head: &'h str, name: &str) -> impl Iterator<Item = &'h str> {
    let name = name.to_owned();
    head.lines().filter_map(move |line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(&name).then_some(value)
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An upstream that answers each head with prepared bytes and tells what it saw.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    pub(crate) heads: Receiver<String>,
}

impl Script {
    /// `answer` gets the head and the connection, and says whether to go on with it.
    pub(crate) fn run(
        answer: impl Fn(&str, &mut Incoming) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heads) = channel();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (answer, sender) = (Arc::clone(&answer), sender.clone());
                std::thread::spawn(move || {
                    let mut socket = Incoming { socket: socket.unwrap(), buffer: Vec::new() };
                    while let Some(head) = socket.head() {
                        let _ = sender.send(head.clone());
                        if !answer(&head, &mut socket) {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, heads }
    }

    /// Always the same answer.
    pub(crate) fn fixed(answer: &'static str) -> Self {
        Self::run(move |_, socket| socket.write_all(answer.as_bytes()).is_ok())
    }

    pub(crate) fn head(&self) -> String {
        self.heads.recv_timeout(PATIENCE).unwrap()
    }
}

/// A connection as an upstream sees it.
pub(crate) struct Incoming {
    pub(crate) socket: TcpStream,
    /// Read, but not yet asked for.
    buffer: Vec<u8>,
}

impl Incoming {
    fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(end + 4);
                return Some(text(&std::mem::replace(&mut self.buffer, rest)));
            }
            let mut piece = [0; 4096];
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.buffer.is_empty() {
            return self.socket.read(out);
        }
        let count = out.len().min(self.buffer.len());
        out[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        Ok(count)
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-up: 1\r\n\r\nhi";

#[test]
fn a_drain_lets_requests_finish_and_ends_every_thread() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    assert_eq!(caller.ask(&stage.request("GET", "/a", "")).status(), 200);
    stage.running.handle().drain(Some(Duration::from_secs(5)));
    assert!(caller.is_closed());
    stage.running.join().unwrap();
}

#[test]
fn explain_names_the_check_that_decides() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        let route = settings.routes.first_mut().unwrap();
        route.path = "/clusters/{cluster}".to_owned();
        route.access = Access::Require {
            permission: "cluster:read".to_owned(),
            resource: Some("cluster/{cluster}".to_owned()),
        };
    });
    let ask = |path: &str| {
        stage.running.handle().explain(&crate::Question {
            key_id: stage.key_id.clone(),
            method: "GET".to_owned(),
            host: String::new(),
            path: path.to_owned(),
            source: None,
        })
    };
    let allowed = ask("/clusters/c1");
    assert!(allowed.allowed, "{allowed:?}");
    let unknown = ask("/clusters/c2");
    assert_eq!((unknown.outcome, unknown.status), ("unknown_resource", Some(403)));
    assert_eq!(unknown.checks.last().unwrap().step, "authorize");
    assert_eq!(ask("/nothing").outcome, "no_route");
}
