//! Instants and the clock's trait. The only implementation that asks the operating system lives in
//! the root package; everything else takes `now` as an argument.

use std::fmt;

/// Wall-clock instant in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMs(pub u64);

impl WallMs {
    /// The instant `ms` later; saturates instead of wrapping.
    pub fn plus_ms(self, ms: u64) -> WallMs {
        WallMs(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; 0 if `earlier` is later.
    pub fn since(self, earlier: WallMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for WallMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Monotonic instant in nanoseconds from an arbitrary start of the process.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoNs(pub u64);

impl MonoNs {
    /// Nanoseconds from `earlier` to here; 0 if `earlier` is later.
    pub fn since(self, earlier: MonoNs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One clock sample: a request is decided from exactly one of these.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// For deadlines that are stored or exchanged (expiry, retention).
    pub wall: WallMs,
    /// For durations within this process (latency, staleness).
    pub mono: MonoNs,
}

/// A source of clock samples.
///
/// Implementations never let `wall` decrease while the process runs (invariant I-18).
pub trait Clock: Send + Sync {
    /// The present instant on both clocks.
    fn now(&self) -> Now;

    /// The present instant on the monotonic clock alone, for measuring how long something took.
    fn mono(&self) -> MonoNs {
        self.now().mono
    }
}
