//! What a running gateway tells about itself: its state for operators and, for one key and one
//! request, the chain of checks. Reads shared state only; never touches a worker.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// State of a running gateway, as `GET /admin/v1/status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Name at the control plane.
    pub gateway: String,
    /// Random name of this run.
    pub boot: String,
    /// Whether requests can be decided and are taken.
    pub ready: bool,
    /// What `ready` lacks; empty when ready.
    pub failing: Vec<&'static str>,
    /// Whether every thread has ticked within the last 5 s.
    pub alive: bool,
    /// Whether a drain has begun.
    pub draining: bool,
    /// Threads that serve requests.
    pub workers: usize,
    /// Requests being served now.
    pub in_flight: u64,
    /// Open downstream connections.
    pub connections: u64,
    /// The upstreams of the configuration in force, in its order.
    pub upstreams: Vec<UpstreamStatus>,
    /// The feed and the directory it built.
    pub feed: FeedStatus,
    /// Records in the directory, by kind, and tombstones.
    pub counts: Vec<KindCount>,
}

/// An upstream as all workers together see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Connections that wait for a request.
    pub idle: i64,
    /// Connections in use.
    pub active: i64,
    /// Its addresses.
    pub addresses: Vec<UpstreamAddressStatus>,
}

/// An address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamAddressStatus {
    /// As configured.
    pub host: String,
    /// What it resolves to; empty = no request can go there.
    pub resolved: Vec<SocketAddr>,
}

/// How many records of one kind the directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KindCount {
    /// A feed kind, or `tombstone`.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
}

/// The feed's side of [`Status`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FeedStatus {
    /// `pull` or `file`.
    pub mode: &'static str,
    /// Whether the changes stream is open (or the file was read).
    pub connected: bool,
    /// Cluster named by the last snapshot.
    pub cluster: Option<String>,
    /// Epoch of the directory.
    pub epoch: u64,
    /// Sequence number of the directory.
    pub seq: u64,
    /// Milliseconds since the last valid line; `null` before the first and in file mode.
    pub staleness_ms: Option<u64>,
    /// Digest of the directory's records.
    pub digest: String,
    /// Records the directory refused, newest last.
    pub refused: Vec<RefusedRecord>,
    /// Records held back by a tombstone or a newer generation.
    pub held: Vec<HeldRecord>,
    /// The last thing that went wrong, in words.
    pub last_fault: Option<String>,
}

/// A record that was refused, as it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedRecord {
    /// The transaction it came in.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
    /// What is wrong with it.
    pub why: String,
}

/// A record that is held back, as it is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldRecord {
    /// Its kind.
    pub kind: &'static str,
    /// Its id.
    pub id: String,
}

/// What `POST /admin/v1/explain` asks: would this request pass with this key? Takes no plaintext.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The key's public id.
    pub key_id: String,
    /// Request method.
    pub method: String,
    /// Request host.
    #[serde(default)]
    pub host: String,
    /// Request target: path and, if any, query.
    pub path: String,
    /// Address the request comes from; absent = 127.0.0.1.
    #[serde(default)]
    pub source: Option<std::net::IpAddr>,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the request would be forwarded.
    pub allowed: bool,
    /// `allowed`, `public`, or the label of the deny reason.
    pub outcome: &'static str,
    /// HTTP status of the denial, if it is one.
    pub status: Option<u16>,
    /// Position of the directory that was asked.
    pub position: String,
    /// The checks in the order in which a request meets them; the last one decided.
    pub checks: Vec<Check>,
}

/// One check of an [`Explanation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the step, as in the life of a request.
    pub step: &'static str,
    /// Whether it lets the request go on.
    pub passed: bool,
    /// What was found.
    pub found: String,
}
