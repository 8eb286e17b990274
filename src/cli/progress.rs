//! How far long work is: one line on standard error that is written over, for people at a terminal
//! only.

use std::io::{self, IsTerminal, Write};

/// So many steps between two looks at the line.
const EVERY: u64 = 1000;

/// Something that takes long and can be counted.
pub(super) struct Progress {
    what: &'static str,
    done: u64,
    shown: bool,
}

impl Progress {
    /// Counts `what`, such as "events".
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, done: 0, shown: false }
    }

    /// So many are done now.
    pub(super) fn reached(&mut self, done: u64) {
        if done / EVERY > self.done / EVERY && io::stderr().is_terminal() {
            // Nobody can be told that standard error is closed.
            write!(io::stderr().lock(), "\r{done} {}", self.what).unwrap_or_default();
            self.shown = true;
        }
        self.done = done;
    }
}

impl Drop for Progress {
    /// Leaves a clean line to whoever writes next.
    fn drop(&mut self) {
        if self.shown {
            write!(io::stderr().lock(), "\r\u{1b}[K").unwrap_or_default();
        }
    }
}
