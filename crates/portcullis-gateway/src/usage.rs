//! What every key did, counted by each worker for itself: no lock, no atomic, and no allocation
//! once the table has the size that the keys of one tick need. The ticker hands the counts to the
//! steward. They never live inside what a push replaces, and nothing here decides about a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use portcullis_core::key::KeyId;
use portcullis_core::time::WallMs;
use portcullis_core::verdict::DenyReason;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::feed_client::FeedClient;

/// Places in a worker's table before it first grows.
const PLACES: usize = 4096;
/// Batches of one worker that may wait for the steward; a worker that finds no room keeps counting.
const WAITING: usize = 8;
/// How long a worker that ends waits for room.
const LAST_PATIENCE: Duration = Duration::from_secs(2);
const DAY_MS: u64 = 86_400_000;

/// What is counted apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) key: KeyId,
    /// The generation of the secret that was proven; `None` if none was.
    pub(crate) generation: Option<u32>,
    /// Why the request was denied; `None` if it passed.
    pub(crate) reason: Option<DenyReason>,
    /// The day in UTC, so that no count spans two of them.
    day: u32,
}

/// How often, when last and from where last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) times: u64,
    pub(crate) last_at: WallMs,
    pub(crate) last_source: IpAddr,
}

/// Counts on their way to the steward.
pub(crate) type Counts = Vec<(Use, Count)>;

impl Use {
    pub(crate) fn new(
        key: KeyId,
        generation: Option<u32>,
        reason: Option<DenyReason>,
        at: WallMs,
    ) -> Self {
        let day = u32::try_from(at.0 / DAY_MS).unwrap_or(u32::MAX);
        Self { key, generation, reason, day }
    }
}

impl Hash for Use {
    /// Two words. What does not fit the second one exactly is told apart by equality.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { key, generation, reason, day } = *self;
        let reason = reason.map_or(0, |reason| 1 + reason as u64);
        let generation = u64::from(generation.unwrap_or(0));
        state.write_u64(key.as_u64());
        state.write_u64(generation << 32 | u64::from(day) << 8 ^ reason);
    }
}

impl Count {
    /// Adds a count of the same thing.
    pub(crate) fn add(&mut self, other: Count) {
        self.times = self.times.saturating_add(other.times);
        if other.last_at >= self.last_at {
            (self.last_at, self.last_source) = (other.last_at, other.last_source);
        }
    }
}

/// One worker's counters. Never leaves its thread.
pub(crate) struct Tally {
    counts: RefCell<HashMap<Use, Count, RandomState>>,
    /// `None` where nobody is told, and then nothing is counted.
    to: Option<Sender<Counts>>,
    /// The steward has ended or was told that nobody wants to know.
    off: Cell<bool>,
}

impl Tally {
    pub(crate) fn new(to: Option<Sender<Counts>>) -> Self {
        let places = if to.is_some() { PLACES } else { 0 };
        let counts = HashMap::with_capacity_and_hasher(places, RandomState::default());
        Self { counts: RefCell::new(counts), off: Cell::new(to.is_none()), to }
    }

    /// Counts one use.
    pub(crate) fn count(&self, used: Use, at: WallMs, source: IpAddr) {
        if self.off.get() {
            return;
        }
        let one = Count { times: 1, last_at: at, last_source: source };
        self.counts.borrow_mut().entry(used).and_modify(|count| count.add(one)).or_insert(one);
    }

    /// Gives what was counted to the steward, or keeps it if that has enough to do.
    pub(crate) fn hand_over(&self) {
        let mut counts = self.counts.borrow_mut();
        let Some(to) = self.to.as_ref().filter(|_| !counts.is_empty()) else { return };
        match to.try_reserve() {
            Ok(permit) => permit.send(counts.drain().collect()),
            Err(TrySendError::Full(())) => {}
            Err(TrySendError::Closed(())) => {
                self.off.set(true);
                counts.clear();
            }
        }
    }

    /// Gives the rest to the steward, and waits for room if there is none.
    pub(crate) async fn finish(&self) {
        let rest: Counts = self.counts.borrow_mut().drain().collect();
        if let Some(to) = self.to.as_ref().filter(|_| !rest.is_empty()) {
            let _ = tokio::time::timeout(LAST_PATIENCE, to.send(rest)).await;
        }
    }
}

/// The steward's end of what `workers` workers count.
pub(crate) struct Desk {
    pub(crate) client: FeedClient,
    pub(crate) every: Duration,
    pub(crate) from: Receiver<Counts>,
}

/// Both ends of the way from the workers to the steward.
pub(crate) fn channel(
    (client, every): (FeedClient, Duration),
    workers: usize,
) -> (Sender<Counts>, Desk) {
    let (to, from) = tokio::sync::mpsc::channel(WAITING * workers.max(1));
    (to, Desk { client, every, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64) -> KeyId {
        KeyId::from_digits(format!("{id:011}").as_bytes()).unwrap()
    }

    #[test]
    fn counts_are_kept_apart_by_key_secret_reason_and_day() {
        let (to, mut from) = tokio::sync::mpsc::channel(1);
        let tally = Tally::new(Some(to));
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let count = |used: (u64, Option<u32>, Option<DenyReason>), at, source| {
            tally.count(Use::new(key(used.0), used.1, used.2, WallMs(at)), WallMs(at), source);
        };
        count((1, Some(1), None), 5, here);
        count((1, Some(1), None), 7, there);
        count((1, Some(2), None), 8, here);
        count((1, None, Some(DenyReason::BadSecret)), 9, here);
        count((2, Some(1), None), 9, here);
        count((1, Some(1), None), DAY_MS, here);
        tally.hand_over();
        let counts: HashMap<Use, Count> = from.try_recv().unwrap().into_iter().collect();
        assert_eq!(counts.len(), 5);
        let twice = counts[&Use::new(key(1), Some(1), None, WallMs(0))];
        assert_eq!(twice, Count { times: 2, last_at: WallMs(7), last_source: there });
    }

    #[test]
    fn what_finds_no_room_is_counted_on_and_never_lost() {
        let (to, mut from) = tokio::sync::mpsc::channel(1);
        let tally = Tally::new(Some(to));
        let source = IpAddr::from([192, 0, 2, 1]);
        for at in 0..3 {
            tally.count(Use::new(key(1), Some(1), None, WallMs(at)), WallMs(at), source);
            tally.hand_over();
        }
        assert_eq!(from.try_recv().unwrap()[0].1.times, 1);
        tally.hand_over();
        assert_eq!(from.try_recv().unwrap()[0].1.times, 2);
        drop(from);
        tally.count(Use::new(key(1), Some(1), None, WallMs(9)), WallMs(9), source);
        tally.hand_over();
        assert!(tally.off.get() && tally.counts.borrow().is_empty());
    }

    #[test]
    fn counting_allocates_nothing() {
        let (to, _from) = tokio::sync::mpsc::channel(1);
        let tally = Tally::new(Some(to));
        let source = IpAddr::from([192, 0, 2, 1]);
        let keys: Vec<KeyId> = (0..PLACES as u64).map(key).collect();
        let counted = allocation_counter::measure(|| {
            for key in keys.iter().chain(&keys) {
                tally.count(Use::new(*key, Some(1), None, WallMs(1)), WallMs(1), source);
            }
        });
        assert_eq!(tally.counts.borrow().len(), PLACES);
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}
