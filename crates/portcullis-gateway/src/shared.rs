//! What the gateway's threads share: the published directory, a few atomics, the metrics. Nothing
//! here is locked; every mutable thing has one writer, named at its field.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use portcullis_core::directory::{Directory, Rehash};
use portcullis_core::feed::Position;
use portcullis_core::time::{Clock, MonoNs};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::memory::Gauge;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::reload::Order;
use crate::sink::Out;
use crate::slow::SlowHashes;
use crate::status::{FeedStatus, KindCount};
use crate::usage::Counts;

/// Shared by workers, the steward and handles.
pub(crate) struct Shared {
    pub(crate) gateway: String,
    /// Random name of this run.
    pub(crate) boot: String,
    /// The configuration in force. Written by the steward.
    pub(crate) plan: ArcSwap<Plan>,
    /// The generation of the plan that each worker serves with. Written by that worker.
    pub(crate) taken: Vec<AtomicU64>,
    /// To the steward: another configuration.
    pub(crate) reloads: mpsc::Sender<Order>,
    /// To the sink: where access records go from now on.
    pub(crate) sinks: std::sync::mpsc::Sender<Out>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    /// What requests are decided from; `None` before the first snapshot. Written by the steward.
    pub(crate) directory: ArcSwapOption<Published>,
    /// Rung by the steward after each swap of the directory, for requests that wait for one.
    pub(crate) swapped: Notify,
    /// Mono time of the last valid line, 0 = never. Written by the steward.
    pub(crate) contact: AtomicU64,
    /// Whether staleness has a meaning: not for a file.
    pub(crate) tracks_staleness: bool,
    /// Written by the steward.
    pub(crate) feed: ArcSwap<FeedStatus>,
    /// Written by the steward.
    pub(crate) counts: ArcSwap<Vec<KindCount>>,
    /// Begun by a handle: no new connections, the others finish.
    pub(crate) draining: CancellationToken,
    /// When the drain is over at the latest, in mono ns; 0 = not begun. Written by a handle.
    pub(crate) drain_until: AtomicU64,
    /// Ends the steward, when the workers have ended.
    pub(crate) stopped: CancellationToken,
    /// Each thread's last tick, in mono ns; the steward's is the last one.
    pub(crate) ticks: Vec<AtomicU64>,
    /// Each worker's open requests. Written by that worker's ticker.
    pub(crate) in_flight: Vec<AtomicU64>,
    /// Open downstream connections of all workers.
    pub(crate) connections: AtomicUsize,
    pub(crate) sources: SourceCounts,
    /// Written by the steward.
    pub(crate) memory: Gauge,
    /// Where workers hand their counts to; `None` where nobody is told.
    pub(crate) usage: Option<mpsc::Sender<Counts>>,
    /// Slow hashes, on threads of their own.
    pub(crate) slow: SlowHashes,
    /// To the steward: fast digests that were found.
    pub(crate) rehashes: mpsc::Sender<Rehash>,
}

/// A directory with what is derived from it once per swap.
pub(crate) struct Published {
    directory: Arc<Directory>,
    position: Bytes,
}

impl Published {
    pub(crate) fn new(directory: Arc<Directory>) -> Self {
        let position = Bytes::from(directory.position().to_string());
        Self { directory, position }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn position(&self) -> Position {
        self.directory.position()
    }

    /// `epoch.seq`, for the upstream.
    pub(crate) fn position_text(&self) -> &Bytes {
        &self.position
    }
}

impl Shared {
    /// How long ago the last valid line came, in ns; `None` where that has no meaning.
    pub(crate) fn staleness_ns(&self, now: MonoNs) -> Option<u64> {
        let contact = self.contact.load(Ordering::Relaxed);
        (self.tracks_staleness && contact > 0).then(|| now.since(MonoNs(contact)))
    }

    /// Notes that a worker serves with the plan of this generation.
    pub(crate) fn took(&self, worker: usize, generation: u64) {
        if let Some(taken) = self.taken.get(worker) {
            taken.store(generation, Ordering::Release);
        }
    }

    /// Whether every worker serves with the plan of this generation.
    pub(crate) fn all_took(&self, generation: u64) -> bool {
        self.taken.iter().all(|taken| taken.load(Ordering::Acquire) >= generation)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether the drain has taken as long as it may.
    pub(crate) fn drain_is_over(&self, now: MonoNs) -> bool {
        let until = self.drain_until.load(Ordering::Relaxed);
        until > 0 && now.0 >= until
    }

    /// Tells the steward of a fast digest. If it cannot take it, the next use finds it again.
    pub(crate) fn rehashed(&self, found: Option<Rehash>) {
        if let Some(found) = found {
            let _ = self.rehashes.try_send(found);
        }
    }

    /// Notes that a thread lives.
    pub(crate) fn ticked(&self, thread: usize, now: MonoNs) {
        if let Some(tick) = self.ticks.get(thread) {
            tick.store(now.0.max(1), Ordering::Relaxed);
        }
    }
}

/// Open connections per source address, for all workers: a fixed table of atomics, so that an
/// accept waits for nobody. Sources whose places are all taken are not counted.
pub(crate) struct SourceCounts {
    slots: Box<[AtomicU64]>,
    seed: u64,
}

const SLOTS: usize = 1 << 14;
const PROBES: usize = 8;
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl SourceCounts {
    pub(crate) fn new(seed: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), seed }
    }

    fn tag(&self, source: IpAddr) -> u64 {
        let number = match source.to_canonical() {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let hash = foldhash::quality::FixedState::with_seed(self.seed);
        // The tag is never 0, which marks a free slot.
        (std::hash::BuildHasher::hash_one(&hash, number) >> COUNT_BITS) | 1
    }

    /// Counts a connection in, unless the source has `limit` already.
    pub(crate) fn enter(&self, source: IpAddr, limit: usize) -> bool {
        let tag = self.tag(source);
        for place in self.places(tag) {
            let mut seen = place.load(Ordering::Relaxed);
            while seen & COUNT_MASK == 0 || seen >> COUNT_BITS == tag {
                let count = seen & COUNT_MASK;
                if count >= (limit as u64).min(COUNT_MASK) {
                    return false;
                }
                let next = (tag << COUNT_BITS) | (count + 1);
                match place.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return true,
                    Err(newer) => seen = newer,
                }
            }
        }
        true
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, source: IpAddr) {
        let tag = self.tag(source);
        for place in self.places(tag) {
            let mut seen = place.load(Ordering::Relaxed);
            while seen & COUNT_MASK > 0 && seen >> COUNT_BITS == tag {
                match place.compare_exchange(seen, seen - 1, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(newer) => seen = newer,
                }
            }
        }
    }

    fn places(&self, tag: u64) -> impl Iterator<Item = &AtomicU64> {
        let start = usize::try_from(tag % SLOTS as u64).unwrap_or(0);
        (0..PROBES).filter_map(move |step| self.slots.get((start + step) % SLOTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gets_as_many_connections_as_it_may_have() {
        let counts = SourceCounts::new(7);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(counts.enter(one, 2));
        assert!(counts.enter(one, 2));
        assert!(!counts.enter(one, 2));
        assert!(counts.enter(other, 2));
        counts.leave(one);
        assert!(counts.enter(one, 2));
        assert!(!counts.enter(one, 2));
    }

    #[test]
    fn sources_that_left_make_room() {
        let counts = SourceCounts::new(7);
        for host in 0..100_000_u32 {
            let source = IpAddr::from(host.to_be_bytes());
            assert!(counts.enter(source, 1));
            assert!(!counts.enter(source, 1), "{source}");
            counts.leave(source);
        }
        assert!(counts.slots.iter().all(|slot| slot.load(Ordering::Relaxed) & COUNT_MASK == 0));
    }
}
