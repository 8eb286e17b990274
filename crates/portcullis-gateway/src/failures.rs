//! Failed credentials by source, so that a flood of them can be told from a mistake. A sketch of
//! fixed size: no number of sources makes it grow, and a source can only be thought worse than it
//! is, never better. Counts failures and nothing else: whoever presents a valid credential is never
//! asked about here, and no key is ever locked.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pingora_limits::estimator::Estimator;
use portcullis_core::time::MonoNs;

use crate::phase::nanos;
use crate::settings::Failures;

/// Rows and cells of a sketch; a mebibyte for both. An estimate exceeds the truth by more than
/// 1/6000 of all failures with a probability below 2 %.
const ROWS: usize = 4;
const CELLS: usize = 16 * 1024;

/// How many failures are put up with, and how often each source has failed of late: its failures
/// of the running period, and those of the one before in proportion to how much of it is still less
/// than a period ago.
pub(crate) struct FailureLimit {
    /// In a period; 0 = any number.
    rate: u64,
    counts: Arc<Counts>,
}

/// What was counted. Outlives a reload that keeps the period.
struct Counts {
    /// Counts of even and of odd periods.
    sketches: [Estimator; 2],
    /// The running period. Whoever moves it on clears the sketch it will use.
    period: AtomicU64,
    period_ms: u64,
}

/// A source: an IPv4 address, or the network that one IPv6 subscriber has at least.
#[derive(Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.into()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

/// A source's failures as counted, at an instant.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Tally {
    /// Those of the period before.
    earlier: u64,
    /// Those of the running one.
    running: u64,
    /// How much of the running one has passed, and how long it is.
    into_ms: u64,
    period_ms: u64,
}

impl Tally {
    fn estimate(self) -> u64 {
        let Self { earlier, running, into_ms, period_ms } = self;
        running.saturating_add(earlier.saturating_mul(period_ms - into_ms) / period_ms)
    }

    /// Seconds until the estimate is within `rate` again, if nothing else fails; at least one.
    fn seconds_until(self, rate: u64) -> u64 {
        let Self { earlier, running, into_ms, period_ms } = self;
        // A count that fades over a period is within `room` after this much of it.
        let faded = |count: u64, room: u64| {
            period_ms - (room.saturating_mul(period_ms) / count.max(1)).min(period_ms)
        };
        let wait_ms = match rate.checked_sub(running) {
            Some(room) => faded(earlier, room).saturating_sub(into_ms),
            None => period_ms - into_ms + faded(running, rate),
        };
        wait_ms.div_ceil(1_000).max(1)
    }
}

impl FailureLimit {
    pub(crate) fn new(settings: &Failures) -> Self {
        let counts = Counts {
            sketches: [Estimator::new(ROWS, CELLS), Estimator::new(ROWS, CELLS)],
            period: AtomicU64::new(0),
            period_ms: (nanos(settings.period) / 1_000_000).max(1),
        };
        Self { rate: settings.rate, counts: Arc::new(counts) }
    }

    /// Goes on with what `old` has counted, if it counts in the same periods.
    pub(crate) fn follow(&mut self, old: &Self) {
        if self.counts.period_ms == old.counts.period_ms {
            self.counts = Arc::clone(&old.counts);
        }
    }

    /// Counts a failure; the result is for how many seconds the source should keep away, if it
    /// fails too often.
    pub(crate) fn note(&self, source: IpAddr, now: MonoNs) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let tally = self.counts.tally(source, now, 1);
        (tally.estimate() > self.rate).then(|| tally.seconds_until(self.rate))
    }

    /// Whether one more failure of this source would be one too many.
    pub(crate) fn is_flooding(&self, source: IpAddr, now: MonoNs) -> bool {
        self.rate > 0 && self.counts.tally(source, now, 0).estimate() >= self.rate
    }
}

impl Counts {
    fn tally(&self, source: IpAddr, now: MonoNs, failures: isize) -> Tally {
        let now_ms = now.0 / 1_000_000;
        let period = now_ms / self.period_ms;
        self.move_on(period);
        let [even, odd] = &self.sketches;
        let (running, earlier) = if period.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let source = Source::of(source);
        let count = |found: isize| u64::try_from(found).unwrap_or(0);
        let running =
            if failures > 0 { running.incr(&source, failures) } else { running.get(&source) };
        Tally {
            earlier: count(earlier.get(&source)),
            running: count(running),
            into_ms: now_ms % self.period_ms,
            period_ms: self.period_ms,
        }
    }

    /// Begins `period`, if nobody has yet. A failure that is noted meanwhile may be forgotten.
    fn move_on(&self, period: u64) {
        let seen = self.period.load(Ordering::Relaxed);
        if period <= seen {
            return;
        }
        let moved =
            self.period.compare_exchange(seen, period, Ordering::Relaxed, Ordering::Relaxed);
        if moved.is_err() {
            return;
        }
        let [even, odd] = &self.sketches;
        let (running, earlier) = if period.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        running.reset();
        if period > seen + 1 {
            earlier.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counts(rate: u64) -> FailureLimit {
        FailureLimit::new(&Failures { rate, period: Duration::from_secs(10) })
    }

    fn at(ms: u64) -> MonoNs {
        MonoNs(ms * 1_000_000)
    }

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn so_many_failures_are_put_up_with_and_the_next_one_is_not() {
        let counts = counts(3);
        for _ in 0..3 {
            assert!(!counts.is_flooding(source(1), at(0)));
            assert_eq!(counts.note(source(1), at(0)), None);
        }
        assert!(counts.is_flooding(source(1), at(0)));
        assert!(counts.note(source(1), at(0)).is_some());
        assert_eq!(counts.note(source(2), at(0)), None, "another source");
    }

    #[test]
    fn failures_fade_over_the_period_after_theirs() {
        let counts = counts(10);
        for _ in 0..20 {
            counts.note(source(1), at(9_999));
        }
        // Of the twenty the half counts in the middle of the next period, and this one is new.
        assert_eq!(counts.note(source(1), at(15_000)), Some(1));
        assert_eq!(counts.note(source(1), at(16_000)), None);
        assert_eq!(counts.note(source(1), at(39_999)), None, "all of it is long ago");
    }

    #[test]
    fn the_wait_ends_when_the_estimate_is_within_the_rate_again() {
        for earlier in [0, 1, 50, 100, 1_000] {
            for running in [0, 1, 60, 101, 5_000] {
                for into_ms in [0, 1, 4_000, 9_999] {
                    let tally = Tally { earlier, running, into_ms, period_ms: 10_000 };
                    if tally.estimate() <= 100 {
                        continue;
                    }
                    let then = into_ms + tally.seconds_until(100) * 1_000;
                    let later = match then.checked_sub(10_000) {
                        None => Tally { into_ms: then, ..tally },
                        Some(into_ms) if into_ms <= 10_000 => {
                            Tally { earlier: running, running: 0, into_ms, period_ms: 10_000 }
                        }
                        Some(_) => continue,
                    };
                    assert!(later.estimate() <= 100, "{tally:?} {later:?}");
                }
            }
        }
    }

    #[test]
    fn an_ipv6_source_is_its_network_and_a_mapped_address_is_the_mapped_one() {
        let counts = counts(1);
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(counts.note(v6("2001:db8:0:1::1"), at(0)), None);
        assert!(counts.note(v6("2001:db8:0:1:ffff::2"), at(0)).is_some());
        assert_eq!(counts.note(v6("2001:db8:0:2::1"), at(0)), None);
        assert_eq!(counts.note(v6("::ffff:192.0.2.9"), at(0)), None);
        assert!(counts.note(source(9), at(0)).is_some());
    }

    #[test]
    fn a_reload_forgets_nothing_unless_it_changes_the_period() {
        let old = counts(1);
        assert_eq!(old.note(source(1), at(0)), None);
        let mut same = counts(1);
        same.follow(&old);
        assert!(same.note(source(1), at(0)).is_some());
        let mut other = FailureLimit::new(&Failures { rate: 1, period: Duration::from_secs(11) });
        other.follow(&old);
        assert_eq!(other.note(source(1), at(0)), None);
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let counts = counts(0);
        assert!((0..1_000).all(|_| counts.note(source(1), at(0)).is_none()));
        assert!(!counts.is_flooding(source(1), at(0)));
    }

    #[test]
    fn many_sources_do_not_make_each_other_suspicious() {
        let counts = counts(100);
        for host in 0..50_000_u32 {
            let source = IpAddr::from(host.to_be_bytes());
            assert_eq!(counts.note(source, at(0)), None, "{source}");
        }
    }
}
