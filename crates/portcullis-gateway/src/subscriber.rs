//! Follows the feed on the steward's thread: applies every transaction to the ledger, publishes a
//! new view with one swap, acknowledges. Whatever goes wrong, the last good state keeps serving.
//! Old views are freed here and never on a worker.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use portcullis_core::directory::{Fit, Ledger, Outcome, Rehash, Which};
use portcullis_core::entropy::Entropy;
use portcullis_core::feed::{Change, Heartbeat, Kind, Line, Txn, parse_line};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;

use crate::feed_client::{CallFault, FeedClient, Lines};
use crate::metrics::seconds;
use crate::shared::{Published, Shared};
use crate::snapshot::{Progress, Snapshot, SnapshotReader, Trust};
use crate::status::{FeedStatus, HeldRecord, KindCount, RefusedRecord};

/// Shortest and longest pause before the feed is tried again.
const PAUSES: std::ops::RangeInclusive<u64> = 100..=10_000;
/// Longest distance between heartbeats that a control plane may keep.
const SLOWEST_HEARTBEAT: Duration = Duration::from_secs(5);
/// How often a file is looked at.
const FILE_ROUND: Duration = Duration::from_millis(200);
/// Pause before an acknowledgement is tried again.
const ACK_PAUSE: Duration = Duration::from_millis(200);
/// Refused and held records that are remembered for acknowledgements and status.
const REMEMBERED: usize = 100;
/// Times that a line may be unreadable before the whole state is fetched.
const BAD_LINES: u32 = 3;

/// Where the feed comes from.
pub(crate) enum Origin {
    Control(FeedClient),
    File(PathBuf),
}

/// What a subscriber is made of.
pub(crate) struct Subscription {
    pub(crate) origin: Origin,
    pub(crate) cluster: Option<String>,
    pub(crate) verify_key: Option<VerifyingKey>,
}

/// The place of the ledger on the steward's thread: the subscriber changes it, a reload interns in
/// it what routes require. Empty only while a snapshot is being loaded on another thread.
#[derive(Clone)]
pub(crate) struct LedgerSlot(Rc<RefCell<Option<Ledger>>>);

impl LedgerSlot {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self(Rc::new(RefCell::new(Some(ledger))))
    }

    /// What `work` makes of the ledger; `None` if it is away.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        self.0.borrow_mut().as_mut().map(work)
    }

    fn take(&self) -> Option<Ledger> {
        self.0.borrow_mut().take()
    }

    fn put(&self, ledger: Ledger) {
        self.0.borrow_mut().replace(ledger);
    }
}

/// The feed's one reader and the directory's one writer.
pub(crate) struct Subscriber {
    shared: Arc<Shared>,
    entropy: Arc<dyn Entropy>,
    ledger: LedgerSlot,
    cluster: Option<String>,
    verify_key: Option<VerifyingKey>,
    /// Fast digests that workers found.
    rehashes: mpsc::Receiver<Rehash>,
    /// Those that the control plane's records do not have yet.
    found: Vec<RehashRecord>,
    /// Views that a worker may still be reading.
    retired: Vec<Arc<Published>>,
    status: FeedStatus,
    acks: watch::Sender<Bytes>,
    /// Tries since the last valid line.
    failures: u32,
    bad_lines: u32,
    gaps: u32,
    heartbeat_every: Duration,
}

/// Why full state is needed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Resync {
    Corrupt,
    Digest,
    Gap,
    Gone,
    Start,
}

impl Resync {
    fn label(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Digest => "digest",
            Self::Gap => "gap",
            Self::Gone => "gone",
            Self::Start => "start",
        }
    }
}

/// How a round of following ended.
enum Round {
    /// Try again after a pause.
    Again,
    /// Try again, not before this long.
    After(Duration),
    /// Full state is needed first.
    Resync(Resync),
}

impl Subscriber {
    pub(crate) fn new(
        shared: Arc<Shared>,
        entropy: Arc<dyn Entropy>,
        (ledger, rehashes): (LedgerSlot, mpsc::Receiver<Rehash>),
        subscription: &Subscription,
    ) -> Self {
        let mode = match subscription.origin {
            Origin::Control(_) => "pull",
            Origin::File(_) => "file",
        };
        Self {
            shared,
            entropy,
            ledger,
            cluster: subscription.cluster.clone(),
            verify_key: subscription.verify_key,
            rehashes,
            found: Vec::new(),
            retired: Vec::new(),
            status: FeedStatus { mode, ..FeedStatus::default() },
            acks: watch::channel(Bytes::new()).0,
            failures: 0,
            bad_lines: 0,
            gaps: 0,
            heartbeat_every: SLOWEST_HEARTBEAT,
        }
    }

    /// Follows until the process ends.
    pub(crate) async fn run(mut self, origin: Origin) {
        match origin {
            Origin::Control(client) => {
                spawn_local(acknowledge(client.sibling(), self.acks.subscribe()));
                self.follow(client).await;
            }
            Origin::File(path) => self.watch(path).await,
        }
    }

    fn trust(&self) -> Trust<'_> {
        Trust { cluster: self.cluster.as_deref(), verify_key: self.verify_key.as_ref() }
    }

    async fn follow(&mut self, client: FeedClient) {
        let mut needed = Some(Resync::Start);
        loop {
            self.take_rehashes();
            let round = match needed {
                Some(why) => match self.resync(&client, why).await {
                    Ok(()) => {
                        needed = None;
                        continue;
                    }
                    Err(round) => round,
                },
                None => self.changes(&client).await,
            };
            self.connected(false);
            match round {
                Round::Resync(why) => {
                    needed = Some(why);
                    self.pause(Duration::ZERO).await;
                }
                Round::Again => self.pause(Duration::ZERO).await,
                Round::After(least) => self.pause(least).await,
            }
        }
    }

    fn is_loaded(&self) -> bool {
        self.shared.directory.load().is_some()
    }

    /// Full jitter: anything between the shortest pause and one that doubles with each failure.
    async fn pause(&mut self, least: Duration) {
        self.failures = self.failures.saturating_add(1);
        let ceiling = PAUSES.start().saturating_mul(1 << self.failures.min(10)).min(*PAUSES.end());
        let mut seed = [0; 8];
        // Without randomness the pause is merely the longest one.
        let jitter = match self.entropy.fill(&mut seed) {
            Ok(()) => u64::from_le_bytes(seed) % (ceiling - PAUSES.start() + 1),
            Err(_) => ceiling - PAUSES.start(),
        };
        let pause = Duration::from_millis(PAUSES.start() + jitter);
        tokio::time::sleep(pause.max(least.min(Duration::from_secs(60)))).await;
    }

    /// Fetches and loads full state.
    async fn resync(&mut self, client: &FeedClient, why: Resync) -> Result<(), Round> {
        self.shared.metrics.feed_resyncs.with_label_values(&[why.label()]).inc();
        let mut lines = match client.snapshot().await {
            Ok(lines) => lines,
            Err(fault) => return Err(self.call_failed(&fault)),
        };
        let snapshot = match self.read_snapshot(&mut lines).await {
            Ok(snapshot) => snapshot,
            Err(what) => {
                self.alarm("snapshot", what);
                return Err(Round::After(Duration::from_secs(1)));
            }
        };
        if self.load(snapshot).await {
            self.touch();
            (self.bad_lines, self.gaps) = (0, 0);
            Ok(())
        } else {
            Err(Round::After(Duration::from_secs(1)))
        }
    }

    async fn read_snapshot(&self, lines: &mut Lines) -> Result<Snapshot, String> {
        let mut reader = SnapshotReader::new(self.trust());
        loop {
            let next = tokio::time::timeout(SLOWEST_HEARTBEAT * 3, lines.next());
            let line = match next.await {
                Err(_) => return Err("the snapshot stopped arriving".to_owned()),
                Ok(Err(fault)) => return Err(fault.to_string()),
                Ok(Ok(None)) => return Err("the snapshot ends before its end line".to_owned()),
                Ok(Ok(Some(line))) => line,
            };
            match reader.take(&line).map_err(|fault| fault.to_string())? {
                Progress::More(more) => reader = more,
                Progress::Whole(snapshot) => return Ok(snapshot),
            }
        }
    }

    /// Loads a whole snapshot off this thread and publishes it. Whether it was.
    async fn load(&mut self, snapshot: Snapshot) -> bool {
        let Some(ours) = self.ledger.with(|ledger| ledger.position()) else { return false };
        if self.is_loaded() && snapshot.position < ours {
            let theirs = snapshot.position;
            self.alarm("behind", format!("the snapshot is at {theirs}, this gateway at {ours}"));
            return false;
        }
        let cluster = snapshot.cluster.clone();
        let Some(mut ledger) = self.ledger.take() else { return false };
        let loading = tokio::task::spawn_blocking(move || {
            let outcome = ledger.load(snapshot.position, snapshot.records());
            (ledger, outcome)
        });
        let (ledger, outcome) = match loading.await {
            Ok(loaded) => loaded,
            // The ledger went with the panic. What is published keeps serving; restarting the
            // process is all that helps, and readiness says so.
            Err(error) => {
                self.alarm("panic", format!("loading a snapshot failed: {error}"));
                return false;
            }
        };
        self.ledger.put(ledger);
        match outcome {
            Ok(outcome) => {
                let changes = &self.shared.metrics.feed_changes;
                for refused in &outcome.refused {
                    changes.with_label_values(&[kind_label(refused.kind), "refused"]).inc();
                }
                for held in &outcome.held {
                    changes.with_label_values(&[held.kind.as_str(), "held"]).inc();
                }
                self.cluster.get_or_insert(cluster.clone());
                self.status.cluster = Some(cluster);
                self.remember(outcome);
                // What the snapshot brought back slow is found again at its next use.
                self.found.clear();
                self.publish();
                true
            }
            Err(refused) => {
                self.alarm("snapshot", refused.to_string());
                false
            }
        }
    }

    /// Follows the stream of changes until it ends.
    async fn changes(&mut self, client: &FeedClient) -> Round {
        let Some(here) = self.ledger.with(|ledger| ledger.position()) else {
            return Round::After(SLOWEST_HEARTBEAT);
        };
        let mut lines = match client.changes(here).await {
            Ok(lines) => lines,
            Err(fault) => return self.call_failed(&fault),
        };
        self.connected(true);
        self.acknowledge();
        loop {
            let patience = (self.heartbeat_every * 3).max(Duration::from_secs(3));
            let next = tokio::select! {
                Some(found) = self.rehashes.recv() => {
                    self.take_rehash(&found);
                    continue;
                }
                next = tokio::time::timeout(patience, lines.next()) => next,
            };
            let line = match next {
                Ok(Ok(Some(line))) => line,
                Ok(Ok(None)) => return self.lost("the control plane closed the feed"),
                Ok(Err(fault)) => return self.lost(&fault.to_string()),
                Err(_) => return self.lost("the feed fell silent"),
            };
            if let Some(round) = self.take_line(&line) {
                return round;
            }
        }
    }

    /// Takes one line of the stream; a result ends it.
    fn take_line(&mut self, bytes: &[u8]) -> Option<Round> {
        match parse_line(bytes) {
            Ok(Line::Txn(txn)) if self.trust().accepts(bytes) => self.take_txn(&txn),
            Ok(Line::Heartbeat(beat)) if self.trust().accepts(bytes) => self.take_heartbeat(&beat),
            Ok(Line::Txn(_) | Line::Heartbeat(_)) => self.bad_line("its signature does not verify"),
            Ok(Line::End(_) | Line::Header(_) | Line::Record { .. } | Line::Unknown { .. }) => {
                self.bad_line("it belongs to a snapshot")
            }
            Err(error) => self.bad_line(&error.to_string()),
        }
    }

    fn bad_line(&mut self, why: &str) -> Option<Round> {
        self.bad_lines += 1;
        self.alarm("corrupt", format!("a line of the feed is bad: {why}"));
        Some(if self.bad_lines >= BAD_LINES {
            Round::Resync(Resync::Corrupt)
        } else {
            Round::Again
        })
    }

    fn take_txn(&mut self, txn: &Txn) -> Option<Round> {
        let count = |kind: &str, result: &str, count: usize| {
            let changes = &self.shared.metrics.feed_changes;
            changes.with_label_values(&[kind, result]).inc_by(count as u64);
        };
        let (fit, here) =
            self.ledger.with(|ledger| (ledger.fit(txn.position), ledger.position()))?;
        match fit {
            Fit::Duplicate => {
                count("txn", "duplicate", 1);
                return None;
            }
            Fit::Gap => {
                let what = format!("{} came after {here}", txn.position);
                return Some(self.gap(&what));
            }
            Fit::Next => {}
        }
        let began = self.shared.clock.now();
        let outcome = self.ledger.with(|ledger| ledger.apply(txn))?;
        for change in &txn.changes {
            let is = |kind, id: &str| kind == change.kind() && id == change.id();
            let refused = outcome.refused.iter().any(|refused| is(refused.kind, &refused.id));
            let held = outcome.held.iter().any(|held| is(Some(held.kind), &held.id));
            let result = if refused {
                "refused"
            } else if held {
                "held"
            } else {
                "applied"
            };
            count(kind_label(change.kind()), result, 1);
        }
        self.remember(outcome);
        self.found.retain(|found| {
            let is_this =
                |change: &Change| change.kind() == Some(Kind::Key) && change.id() == found.id;
            !txn.changes.iter().any(is_this)
        });
        self.publish();
        let now = self.shared.clock.now();
        let metrics = &self.shared.metrics;
        metrics.feed_apply_seconds.observe(seconds(now.mono.since(began.mono)));
        if txn.changes.iter().any(|change| matches!(change, Change::Revoke { .. })) {
            let late_ms = now.wall.0.saturating_sub(txn.at_ms);
            metrics.revocation_propagation_seconds.observe(seconds(late_ms * 1_000_000));
        }
        self.touch();
        (self.bad_lines, self.gaps) = (0, 0);
        None
    }

    fn take_heartbeat(&mut self, beat: &Heartbeat) -> Option<Round> {
        let (here, digest) = self.ledger.with(|ledger| (ledger.position(), ledger.digest()))?;
        if beat.position > here {
            let what = format!("the feed is at {}, this gateway at {here}", beat.position);
            return Some(self.gap(&what));
        }
        if beat.position < here {
            // Behind us: neither news nor a sign of contact.
            return None;
        }
        if beat.digest != digest {
            self.alarm("digest", format!("the state at {here} differs from the control plane's"));
            return Some(Round::Resync(Resync::Digest));
        }
        let contact = self.shared.contact.load(Ordering::Relaxed);
        let since = Duration::from_nanos(self.shared.clock.now().mono.0.saturating_sub(contact));
        self.heartbeat_every = since.clamp(Duration::from_secs(1), SLOWEST_HEARTBEAT);
        self.touch();
        (self.bad_lines, self.gaps) = (0, 0);
        self.show();
        self.acknowledge();
        None
    }

    fn take_rehashes(&mut self) {
        while let Ok(found) = self.rehashes.try_recv() {
            self.take_rehash(&found);
        }
    }

    /// Puts a fast digest in force, and tells the control plane until its record says so, too.
    fn take_rehash(&mut self, found: &Rehash) {
        if self.ledger.with(|ledger| ledger.rehash(found)) == Some(true) {
            self.found.push(RehashRecord::of(found));
            let excess = self.found.len().saturating_sub(REMEMBERED);
            self.found.drain(..excess);
            self.publish();
        }
    }

    fn gap(&mut self, what: &str) -> Round {
        self.gaps += 1;
        self.status.last_fault = Some(format!("gap in the feed: {what}"));
        if self.gaps > 1 { Round::Resync(Resync::Gap) } else { Round::Again }
    }

    fn lost(&mut self, what: &str) -> Round {
        self.status.last_fault = Some(what.to_owned());
        Round::Again
    }

    fn call_failed(&mut self, fault: &CallFault) -> Round {
        match fault {
            CallFault::Gone => Round::Resync(Resync::Gone),
            CallFault::Behind(_) => {
                self.alarm("behind", fault.to_string());
                Round::After(Duration::from_secs(1))
            }
            CallFault::Refused(_) => {
                self.alarm("refused", fault.to_string());
                Round::After(Duration::from_secs(1))
            }
            CallFault::Busy(after) => {
                self.status.last_fault = Some(fault.to_string());
                Round::After(after.unwrap_or_default())
            }
            CallFault::Lost(_) => self.lost(&fault.to_string()),
        }
    }

    /// Re-reads a file whenever it changes. A bad file leaves the last good state.
    async fn watch(&mut self, path: PathBuf) {
        let mut seen: Option<(SystemTime, u64)> = None;
        let mut rounds = tokio::time::interval(FILE_ROUND);
        loop {
            rounds.tick().await;
            self.take_rehashes();
            self.bury();
            let stamp = match tokio::fs::metadata(&path).await {
                Ok(found) => found.modified().ok().map(|modified| (modified, found.len())),
                Err(error) => {
                    self.file_fault(&mut seen, format!("cannot read {}: {error}", path.display()));
                    continue;
                }
            };
            if stamp.is_some() && stamp == seen {
                continue;
            }
            seen = stamp;
            let bytes = match tokio::fs::read(&path).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.file_fault(&mut seen, format!("cannot read {}: {error}", path.display()));
                    continue;
                }
            };
            let read = Snapshot::read(&bytes, self.trust());
            drop(bytes);
            match read {
                Ok(snapshot) => {
                    let loaded = self.load(snapshot).await;
                    self.connected(loaded);
                }
                Err(fault) => {
                    self.alarm("snapshot", format!("{}: {fault}", path.display()));
                    self.connected(false);
                }
            }
        }
    }

    fn file_fault(&mut self, seen: &mut Option<(SystemTime, u64)>, what: String) {
        *seen = None;
        if self.status.last_fault.as_ref() != Some(&what) {
            self.alarm("file", what);
            self.connected(false);
        }
    }

    /// One transaction, one swap. Whoever reads from now on reads the new view.
    fn publish(&mut self) {
        let Some(view) = self.ledger.with(|ledger| ledger.view()) else { return };
        let published = Arc::new(Published::new(view));
        let old = self.shared.directory.swap(Some(published));
        self.shared.swapped.notify_waiters();
        self.retired.extend(old);
        self.bury();
        self.acknowledge();
        self.show();
    }

    /// Frees views that nobody reads any more, here and not on a worker.
    fn bury(&mut self) {
        self.retired.retain(|view| Arc::strong_count(view) > 1);
    }

    /// A valid line came that was not behind.
    fn touch(&mut self) {
        self.failures = 0;
        let now = self.shared.clock.now().mono.0.max(1);
        self.shared.contact.store(now, Ordering::Relaxed);
        self.bury();
    }

    fn remember(&mut self, outcome: Outcome) {
        let Outcome { applied: _, refused, held } = outcome;
        for refused in refused {
            self.shared.metrics.feed_alarms.with_label_values(&["record"]).inc();
            tracing::warn!(
                kind = kind_label(refused.kind), id = %refused.id, seq = refused.seq,
                why = %refused.why,
                "a record of the feed was refused"
            );
            self.status.refused.push(RefusedRecord {
                seq: refused.seq,
                kind: kind_label(refused.kind),
                id: refused.id,
                why: refused.why,
            });
        }
        for held in held {
            self.status.held.push(HeldRecord { kind: held.kind.as_str(), id: held.id });
        }
        let excess = self.status.refused.len().saturating_sub(REMEMBERED);
        self.status.refused.drain(..excess);
        let excess = self.status.held.len().saturating_sub(REMEMBERED);
        self.status.held.drain(..excess);
    }

    fn alarm(&mut self, why: &str, what: String) {
        self.shared.metrics.feed_alarms.with_label_values(&[why]).inc();
        tracing::warn!(why, "{what}");
        self.status.last_fault = Some(what);
        self.show();
    }

    fn connected(&mut self, connected: bool) {
        self.status.connected = connected;
        if connected {
            self.status.last_fault = None;
        }
        self.show();
    }

    /// Makes the present state visible to operators.
    fn show(&mut self) {
        let metrics = &self.shared.metrics;
        metrics.feed_connected.set(i64::from(self.status.connected));
        let known =
            self.ledger.with(|ledger| (ledger.position(), ledger.counts(), ledger.digest()));
        if let Some((position, counts, digest)) = known {
            self.status.epoch = position.epoch;
            self.status.seq = position.seq;
            self.status.digest = digest.to_string();
            let shown = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            metrics.feed_epoch.set(shown(position.epoch));
            metrics.feed_seq.set(shown(position.seq));
            metrics.tombstones.set(shown(counts.tombstones as u64));
            let kinds = [
                ("account", counts.accounts),
                ("key", counts.keys),
                ("other", counts.others),
                ("tombstone", counts.tombstones),
            ];
            let counted = kinds.map(|(kind, count)| KindCount { kind, count: count as u64 });
            for KindCount { kind, count } in counted.iter().take(3) {
                metrics.directory_records.with_label_values(&[kind]).set(shown(*count));
            }
            self.shared.counts.store(Arc::new(counted.to_vec()));
        }
        self.shared.feed.store(Arc::new(self.status.clone()));
    }

    /// Offers the newest state to whoever acknowledges; an older one that was not sent is dropped.
    fn acknowledge(&self) {
        let known = self.ledger.with(|ledger| (ledger.position(), ledger.digest()));
        let Some((position, digest)) = known else { return };
        let ack = serde_json::json!({
            "gateway": self.shared.gateway,
            "boot": self.shared.boot,
            "epoch": position.epoch,
            "applied": position.seq,
            "digest": digest.to_string(),
            "refused": self.status.refused,
            "held": self.status.held,
            "rehash": self.found,
            "fence_ms": self.shared.plan.load().fence_ms(),
        });
        self.acks.send_replace(Bytes::from(ack.to_string()));
    }
}

/// A kind's name in metrics and reports.
fn kind_label(kind: Option<Kind>) -> &'static str {
    kind.map_or("unknown", Kind::as_str)
}

/// Sends the newest acknowledgement whenever there is one; while one is under way the next ones
/// fall together.
async fn acknowledge(mut client: FeedClient, mut states: watch::Receiver<Bytes>) {
    while states.changed().await.is_ok() {
        loop {
            let state = states.borrow_and_update().clone();
            match client.ack(state).await {
                Ok(()) => break,
                Err(_) => tokio::time::sleep(ACK_PAUSE).await,
            }
        }
    }
}

/// A fast digest as it is acknowledged.
#[derive(Serialize)]
struct RehashRecord {
    id: String,
    generation: u32,
    secret: &'static str,
    pepper: u32,
    digest: String,
}

impl RehashRecord {
    fn of(found: &Rehash) -> Self {
        Self {
            id: found.key.to_string(),
            generation: found.generation,
            secret: match found.which {
                Which::Current => "current",
                Which::Previous => "previous",
            },
            pepper: found.pepper,
            digest: found.digest.to_hex(),
        }
    }
}
