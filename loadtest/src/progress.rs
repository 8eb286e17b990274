//! The display while it runs, on standard error: one moving line on a terminal, one line per
//! measured round elsewhere. It must never write to standard output, which is the report's.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::options::Options;
use crate::rounds::Round;

const BAR_CELLS: usize = 24;

pub(crate) struct Progress {
    terminal: bool,
    rounds: u32,
    total: Duration,
    done: Cell<Duration>,
}

impl Progress {
    pub(crate) fn new(options: &Options, contenders: usize) -> Self {
        let round = Duration::from_secs_f64(options.warmup + options.seconds);
        let contenders = u32::try_from(contenders).unwrap_or(u32::MAX);
        Self {
            terminal: std::io::stderr().is_terminal(),
            rounds: options.rounds,
            total: round * options.rounds * contenders,
            done: Cell::new(Duration::ZERO),
        }
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        if self.terminal {
            eprintln!("\r\x1b[K{text}");
        } else {
            eprintln!("{text}");
        }
    }

    /// A measured round, as a line that stays.
    pub(crate) fn measured(&self, number: u32, label: &str, round: &Round) {
        self.note(&format!(
            "round {number}/{}  {label:<24} {:>7.2} µs/request {:>8.0} requests/s  p99 {:>6.0} µs",
            self.rounds, round.cpu_us_per_request, round.requests_per_second, round.p99_us
        ));
    }

    /// The moving line.
    pub(crate) fn driven(&self, slice: Duration, number: u32, label: &str) {
        self.done.set(self.done.get() + slice);
        if !self.terminal {
            return;
        }
        let share = self.done.get().as_secs_f64() / self.total.as_secs_f64();
        let full = ((BAR_CELLS as f64 * share) as usize).min(BAR_CELLS);
        let left = self.total.saturating_sub(self.done.get()).as_secs();
        eprint!(
            "\r\x1b[K[{}{}] {:>3.0} %  round {number}/{}  {label}  about {}:{:02} left",
            "#".repeat(full),
            ".".repeat(BAR_CELLS - full),
            share * 100.0,
            self.rounds,
            left / 60,
            left % 60
        );
        // A display that cannot be written to is no reason to stop measuring.
        let _ = std::io::stderr().flush();
    }

    /// Takes the moving line away.
    pub(crate) fn finish(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
