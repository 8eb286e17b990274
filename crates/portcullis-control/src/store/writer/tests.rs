use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::{Kind, Position};
use portcullis_core::time::WallMs;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Settlement, Turn};
use crate::resolve::AsOf;
use crate::settings::FeedSigner;
use crate::store::audit::{Actor, Event, INSTALLATION, Origin, Outcome, Target};
use crate::store::unit::Ledger;
use crate::store::{Committed, Store, StoreError, Unit, feed};

struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        out.fill(self.0.fetch_add(1, Ordering::SeqCst));
        Ok(())
    }
}

/// A new database in a folder of its own.
struct Bench {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    entropy: Arc<Counting>,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(dir.path()).await;
        let ledger = Ledger {
            cluster: "test".to_owned(),
            signer: FeedSigner::from_seed(&[9; 32]),
            change_log_length: 100,
            head: watch::Sender::new(Position { epoch: 1, seq: 0 }),
        };
        Bench {
            store: Arc::new(store),
            ledger: Arc::new(ledger),
            entropy: Arc::new(Counting(AtomicU8::new(0))),
            _dir: dir,
        }
    }

    /// A unit that changes one record, in a task of its own. Returns once it waits, so somebody
    /// else must have the turn.
    async fn queue(&self, id: &'static str) -> JoinHandle<Result<Committed, StoreError>> {
        let (store, ledger, entropy) =
            (Arc::clone(&self.store), Arc::clone(&self.ledger), Arc::clone(&self.entropy));
        self.waits(async move {
            let mut unit = Unit::begin(&store, ledger, WallMs(1)).await?;
            unit.put(Kind::Role, id, json!({"permissions": []})).await?;
            unit.commit(event(), entropy.as_ref()).await
        })
        .await
    }

    /// A bare turn, once it is this asker's. Returns once it is asked for.
    async fn ask(&self) -> JoinHandle<Result<Turn, StoreError>> {
        let store = Arc::clone(&self.store);
        self.waits(async move { store.writer.turn().await }).await
    }

    /// Runs what asks for a turn in a task of its own, and returns once it waits for that.
    async fn waits<T: Send + 'static>(
        &self,
        asks: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let waiting = self.store.writer.waiting();
        let task = tokio::spawn(asks);
        while self.store.writer.waiting() == waiting {
            tokio::task::yield_now().await;
        }
        task
    }

    /// What a reader sees: the records and the seq.
    async fn seen(&self) -> (Vec<String>, u64) {
        let mut view = self.store.view().await.expect("a view");
        let rows = feed::list_records(view.conn(), Kind::Role, "", 100).await.expect("records");
        let head = feed::find_head(view.conn()).await.expect("a head");
        assert_eq!(head.records, rows.len() as u64);
        (rows.into_iter().map(|row| row.id).collect(), head.position.seq)
    }

    fn announced(&self) -> u64 {
        self.ledger.head.borrow().seq
    }
}

async fn open(dir: &Path) -> Store {
    Store::open(&dir.join("p.db"), u64::MAX).await.expect("a database")
}

fn event() -> Event {
    Event {
        org_id: INSTALLATION.to_owned(),
        actor: Actor {
            kind: "system",
            id: "system".to_owned(),
            name: "test".to_owned(),
            key_id: None,
            state: "active".to_owned(),
        },
        action: "role.update".to_owned(),
        target: Target { kind: "role", id: String::new(), name: String::new() },
        resource_id: None,
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: None,
        after: None,
    }
}

fn is_open(settlement: &Settlement) -> bool {
    settlement.0.borrow().is_none()
}

async fn setting(turn: &mut Turn, name: &str, value: String) -> Result<(), StoreError> {
    let insert = "INSERT INTO installation (name, value) VALUES ($1, $2)";
    sqlx::query(insert).bind(name).bind(value).execute(turn.conn()).await?;
    Ok(())
}

#[tokio::test]
async fn units_that_wait_for_each_other_become_durable_together_and_are_answered_then() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let units = [bench.queue("a").await, bench.queue("b").await, bench.queue("c").await];
    let last = bench.ask().await;
    drop(first);
    let last = last.await.expect("no panic").expect("the last turn");
    // All three are done but for the disk, and nobody has heard of them.
    assert!(is_open(&last.settlement));
    assert!(units.iter().all(|unit| !unit.is_finished()));
    assert_eq!(bench.seen().await, (vec![], 0));
    assert_eq!(bench.announced(), 0);

    drop(last);
    for (unit, seq) in units.into_iter().zip(1..) {
        let committed = unit.await.expect("no panic").expect("a commit");
        assert_eq!(committed.position, Position { epoch: 1, seq }, "a seq for each, in order");
        assert_eq!(bench.announced(), 3);
    }
    assert_eq!(bench.seen().await, (vec!["a".into(), "b".into(), "c".into()], 3));
    let mut view = bench.store.view().await.expect("a view");
    let start = Position { epoch: 1, seq: 0 };
    let lines = feed::list_changes(view.conn(), start, 10).await.expect("lines");
    assert_eq!(lines.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3], "a line for each");
}

#[tokio::test]
async fn a_unit_that_fails_is_dropped_or_loses_its_caller_takes_no_neighbour_along() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let before = bench.queue("before").await;
    let failing = bench.ask().await;
    let cut_short = bench.queue("cut-short").await;
    let after = bench.queue("after").await;
    cut_short.abort();
    drop(first);

    let mut failing = failing.await.expect("no panic").expect("a turn");
    setting(&mut failing, "once", "1".to_owned()).await.expect("room");
    let twice = setting(&mut failing, "once", "2".to_owned()).await;
    assert!(matches!(twice, Err(StoreError::Refused(_))), "{twice:?}");
    let settlement = failing.settlement();
    drop(failing);

    before.await.expect("no panic").expect("a commit");
    after.await.expect("no panic").expect("a commit");
    settlement.wait().await.expect("what it read became durable");
    assert_eq!(bench.seen().await, (vec!["after".into(), "before".into()], 2));
    let mut turn = bench.store.writer.turn().await.expect("a turn");
    setting(&mut turn, "once", "3".to_owned()).await.expect("nothing is left of it");
}

#[tokio::test]
async fn an_undone_unit_is_answered_when_what_it_read_is_durable() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let writes = bench.queue("a").await;
    let reads = bench.ask().await;
    drop(first);
    let mut reads = reads.await.expect("no panic").expect("a turn");
    let record = feed::find_record(reads.conn(), Kind::Role, "a").await.expect("a read");
    assert!(record.is_some(), "it reads what its neighbour wrote");
    let settlement = reads.settlement();
    assert!(is_open(&settlement));
    drop(reads);
    settlement.wait().await.expect("durable");
    assert_eq!(bench.seen().await, (vec!["a".into()], 1));
    writes.await.expect("no panic").expect("a commit");
}

#[tokio::test]
async fn a_group_that_cannot_be_made_durable_fails_every_unit_in_it_and_announces_nothing() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let units = [bench.queue("a").await, bench.queue("b").await];
    let bad = bench.ask().await;
    let last = bench.queue("c").await;
    drop(first);
    // A deferred constraint is looked at by the last COMMIT and makes it fail.
    let mut bad = bad.await.expect("no panic").expect("a turn");
    for statement in [
        "PRAGMA defer_foreign_keys = ON",
        "INSERT INTO resources (id, org_id, kind, name, ref, state, created_ms, updated_ms,
             version) VALUES ('r', 'nobody', 'k', 'n', 'r', 'active', 1, 1, 1)",
    ] {
        sqlx::query(statement).execute(bad.conn()).await.expect("not looked at yet");
    }
    let refused = bad.keep(None).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    for unit in units.into_iter().chain([last]) {
        let refused = unit.await.expect("no panic");
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    assert_eq!(bench.seen().await, (vec![], 0));
    assert_eq!(bench.announced(), 0);

    let first = bench.store.writer.turn().await.expect("the next group is none the worse");
    let next = bench.queue("d").await;
    drop(first);
    next.await.expect("no panic").expect("a commit");
    assert_eq!(bench.seen().await, (vec!["d".into()], 1));
    assert_eq!(bench.announced(), 1);
}

#[tokio::test]
async fn a_full_disk_in_the_middle_of_a_group_loses_no_change_that_was_answered() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let before = bench.queue("before").await;
    let full = bench.ask().await;
    let after = bench.queue("after").await;
    drop(first);
    let mut full = full.await.expect("no panic").expect("a turn");
    sqlx::query("PRAGMA max_page_count = 1").execute(full.conn()).await.expect("a pragma");
    let refused = setting(&mut full, "big", "x".repeat(1 << 20)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(full);

    let before = before.await.expect("no panic");
    let after = after.await.expect("no panic");
    let mut kept: Vec<String> = Vec::new();
    for (unit, id) in [(after, "after"), (before, "before")] {
        match unit {
            Ok(_) => kept.push(id.to_owned()),
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    }
    let (seen, seq) = bench.seen().await;
    assert_eq!(seen, kept);
    assert_eq!((seq, bench.announced()), (kept.len() as u64, kept.len() as u64));
}

#[tokio::test]
async fn what_is_remembered_of_access_does_not_outlive_a_change_of_it() {
    let bench = Bench::new().await;
    let before = bench.store.view().await.expect("a view").as_of();
    let first = bench.store.writer.turn().await.expect("a turn");
    assert_eq!(first.as_of, before, "nothing has changed");
    let changes = bench.queue("role").await;
    let follows = bench.ask().await;
    drop(first);
    let follows = follows.await.expect("no panic").expect("a turn");
    assert_eq!(follows.as_of, AsOf::UNSETTLED, "it reads what is not durable yet");
    assert_eq!(bench.store.view().await.expect("a view").as_of(), before);
    drop(follows);
    changes.await.expect("no panic").expect("a commit");
    let after = bench.store.view().await.expect("a view").as_of();
    assert_ne!(after, before, "the change was answered after the count rose");
    assert_eq!(bench.store.writer.turn().await.expect("a turn").as_of, after);
}

#[tokio::test]
async fn a_caller_who_goes_away_holds_nobody_up() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let gone = [bench.queue("x").await, bench.queue("y").await];
    let stays = bench.queue("stays").await;
    for unit in &gone {
        unit.abort();
    }
    for unit in gone {
        assert!(unit.await.is_err_and(|error| error.is_cancelled()));
    }
    drop(first);
    stays.await.expect("no panic").expect("a commit");
    assert_eq!(bench.seen().await, (vec!["stays".into()], 1));
}

#[tokio::test]
async fn closing_waits_for_those_who_asked_before_and_refuses_those_after() {
    let bench = Bench::new().await;
    let first = bench.store.writer.turn().await.expect("a turn");
    let before = bench.queue("before").await;
    let store = Arc::clone(&bench.store);
    let closing = bench.waits(async move { store.writer.close().await }).await;
    drop(first);
    closing.await.expect("no panic");
    before.await.expect("no panic").expect("a commit");
    let refused = bench.store.writer.turn().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert_eq!(bench.seen().await, (vec!["before".into()], 1));
}
