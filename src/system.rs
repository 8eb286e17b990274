//! The operating system's clock and random generator. This is the only place that asks for them;
//! everything else takes the traits.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is the one implementation that the ban of ambient clocks points to"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::{Clock, MonoNs, Now, WallMs};

/// The system's clocks. Readers never see wall time decrease: a clock that is set back appears
/// to stand still at the latest instant seen, so that nothing that expired comes back.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    latest_wall_ms: AtomicU64,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { started: Instant::now(), latest_wall_ms: AtomicU64::new(0) }
    }

    /// `reading`, or the latest wall time already shown if that is later.
    fn never_back(&self, reading: u64) -> u64 {
        let latest = self.latest_wall_ms.load(Ordering::Acquire);
        if reading <= latest {
            // The usual case within one millisecond: no store, so cores do not fight for the line.
            return latest;
        }
        self.latest_wall_ms.fetch_max(reading, Ordering::AcqRel).max(reading)
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        // A clock before 1970 reads as 0 and is lifted to the latest instant seen.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let reading = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Now { wall: WallMs(self.never_back(reading)), mono: self.mono() }
    }

    fn mono(&self) -> MonoNs {
        MonoNs(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The operating system's random generator.
#[derive(Copy, Clone, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        getrandom::fill(out).map_err(|_| EntropyFailure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_stands_still_while_the_system_clock_is_behind() {
        let clock = SystemClock::new();
        assert_eq!(clock.never_back(1_000), 1_000);
        assert_eq!(clock.never_back(400), 1_000);
        assert_eq!(clock.never_back(1_001), 1_001);
    }

    #[test]
    fn both_clocks_go_forward() {
        let clock = SystemClock::new();
        let first = clock.now();
        let second = clock.now();
        assert!(second.wall >= first.wall && second.mono >= first.mono);
        assert!(first.wall > WallMs(1_700_000_000_000));
    }
}
