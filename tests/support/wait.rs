//! Waiting for a state, with a deadline. The one place of the test suite that reads the ambient
//! clock and pauses.

use std::time::{Duration, Instant};

/// How long a test waits for something that should be there at once. Generous: it is spent only on
/// failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A stretch of real time, for deadlines and for statements about how long something took.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "the true binary runs in real time, so its tests measure it"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the true binary runs in real time, so its tests measure it"
    )]
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Asks until there is an answer; panics with `what` when the patience ends.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(watch.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        pause();
    }
}

/// Gives the processor away between two questions. The states asked for belong to other processes,
/// which offer nothing to block on; the pause decides nothing, the state does.
#[expect(clippy::disallowed_methods, reason = "another process offers no condition to block on")]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
