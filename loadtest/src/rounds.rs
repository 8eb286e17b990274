//! The rounds: in each, every contender is driven once, in an order drawn anew. What is compared
//! are CPU microseconds per request, which hold on a machine that has other things to do; requests
//! per second and latencies do not, so the share of the core that others took is kept beside them.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::contenders::Contender;
use crate::cost::{self, Cpu};
use crate::keys::KeySet;
use crate::load::{Counted, Load};
use crate::options::Options;
use crate::progress::Progress;
use crate::running::Running;
use crate::seeded::Seeded;
use crate::upstream::Upstream;

/// How often the display moves.
const SLICE: Duration = Duration::from_millis(250);

/// A contender in the field, with all that was measured of it.
pub(crate) struct Entrant {
    running: Running,
    tally: Tally,
}

/// What was measured of one contender.
#[derive(Serialize)]
pub(crate) struct Tally {
    pub(crate) contender: Contender,
    pub(crate) label: &'static str,
    /// Resident memory at rest with one key and with all, in bytes.
    pub(crate) empty_bytes: u64,
    pub(crate) full_bytes: u64,
    pub(crate) rounds: Vec<Round>,
    pub(crate) failures: Vec<String>,
}

/// One contender's measured part of one round.
#[derive(Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) cpu_us_per_request: f64,
    /// The part of it that was spent in the kernel.
    pub(crate) kernel_us_per_request: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) requests: u64,
    pub(crate) reconnects: u64,
    /// Share of the proxy's core that was busy with the proxy, and with anything else.
    pub(crate) core_own: f64,
    pub(crate) core_others: f64,
}

impl Entrant {
    pub(crate) fn new(running: Running, empty_bytes: u64, full_bytes: u64) -> Self {
        let contender = running.contender;
        let tally = Tally {
            contender,
            label: contender.label(),
            empty_bytes,
            full_bytes,
            rounds: Vec::new(),
            failures: Vec::new(),
        };
        Self { running, tally }
    }

    /// Ends its processes; what was measured stays.
    pub(crate) fn retire(self) -> Tally {
        self.tally
    }
}

/// What all rounds share.
pub(crate) struct Rounds<'a> {
    pub(crate) options: &'a Options,
    pub(crate) keys: &'a KeySet,
    pub(crate) upstream: &'a mut Upstream,
    pub(crate) progress: &'a Progress,
}

impl Rounds<'_> {
    /// Plays all rounds. A failed round is noted and the next one is played.
    pub(crate) fn play(&mut self, entrants: &mut [Entrant]) {
        let random = Seeded::new(self.options.seed);
        let mut order: Vec<usize> = (0..entrants.len()).collect();
        for number in 1..=self.options.rounds {
            for end in (1..order.len()).rev() {
                order.swap(end, random.below(end + 1));
            }
            for index in &order {
                let Entrant { running, tally } = &mut entrants[*index];
                match self.measure(running, random.next(), number) {
                    Ok(round) => {
                        self.progress.measured(number, tally.label, &round);
                        tally.rounds.push(round);
                    }
                    Err(error) => {
                        let failure = format!("round {number}: {error:#}");
                        self.progress.note(&format!("{}: {failure}", tally.label));
                        tally.failures.push(failure);
                    }
                }
            }
        }
    }

    fn measure(&mut self, running: &Running, seed: u64, number: u32) -> Result<Round> {
        let Options { connections, warmup, seconds, proxy_core, .. } = *self.options;
        let label = running.contender.label();
        let mut load = Load::open(running.listen, connections, self.keys, seed)?;
        self.drive(&mut load, warmup, number, label)?;
        load.count_anew();
        let processes = running.processes();
        let core_before = cost::core_busy_us(proxy_core)?;
        let before = Cpu::of(&processes)?;
        self.drive(&mut load, seconds, number, label)?;
        let own = Cpu::of(&processes)?.since(before);
        let core_us = cost::core_busy_us(proxy_core)?.saturating_sub(core_before);
        let counted = std::mem::take(&mut load.counted);
        drop(load);
        running.empty_log()?;
        Ok(Round::new(number, counted, own, core_us as f64))
    }

    fn drive(&mut self, load: &mut Load<'_>, seconds: f64, number: u32, label: &str) -> Result<()> {
        let mut left = Duration::from_secs_f64(seconds);
        while left > Duration::ZERO {
            let slice = left.min(SLICE);
            load.drive(slice, self.upstream)?;
            left -= slice;
            self.progress.driven(slice, number, label);
        }
        Ok(())
    }
}

impl Round {
    fn new(number: u32, mut counted: Counted, own: Cpu, core_us: f64) -> Self {
        let own_us = (own.user_us + own.kernel_us) as f64;
        counted.latencies_ns.sort_unstable();
        let requests = counted.latencies_ns.len();
        let at = |share: f64| {
            let index = (requests as f64 * share) as usize;
            counted.latencies_ns.get(index).map_or(f64::NAN, |ns| f64::from(*ns) / 1000.0)
        };
        let elapsed_us = counted.elapsed.as_secs_f64() * 1e6;
        Self {
            number,
            cpu_us_per_request: own_us / requests as f64,
            kernel_us_per_request: own.kernel_us as f64 / requests as f64,
            requests_per_second: requests as f64 * 1e6 / elapsed_us,
            p50_us: at(0.50),
            p99_us: at(0.99),
            requests: requests as u64,
            reconnects: counted.reconnects,
            core_own: own_us / elapsed_us,
            core_others: ((core_us - own_us) / elapsed_us).max(0.0),
        }
    }
}

impl Tally {
    /// Median and range over the rounds of whatever `of` picks; none without a good round.
    pub(crate) fn spread(&self, of: impl Fn(&Round) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(of).collect())
    }

    /// Resident memory that each key beyond the first takes.
    pub(crate) fn bytes_per_key(&self, keys: u32) -> Option<f64> {
        let grown = self.full_bytes as f64 - self.empty_bytes as f64;
        (self.contender.checks_keys() && keys > 1).then(|| grown / f64::from(keys - 1))
    }
}

/// The middle of several values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_the_two_in_the_middle() {
        let median = |values: &[f64]| Spread::of(values.to_vec()).map(|spread| spread.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
    }
}
