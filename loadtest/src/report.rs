//! The report: a table with the bars for people, JSON for programs, an SVG for the eye. It says
//! what was measured, met or missed; it must never round a miss into a pass.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::chart;
use crate::contenders::Contender;
use crate::machine::{self, Machine};
use crate::options::Options;
use crate::rounds::{Spread, Tally};
use crate::site::Tools;

/// What Portcullis may cost at most, as a multiple of each of the others.
const BARS: [(Contender, f64); 5] = [
    (Contender::Nginx, 1.0),
    (Contender::Haproxy, 1.0),
    (Contender::Envoy, 0.35),
    (Contender::Pingora, 0.6),
    (Contender::Floor, 1.35),
];

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) setting: Setting,
    pub(crate) bars: Vec<Bar>,
    pub(crate) results: Vec<Outcome>,
}

/// What was asked for.
#[derive(Serialize)]
pub(crate) struct Setting {
    rounds: u32,
    seconds: f64,
    warmup: f64,
    keys: u32,
    connections: u16,
    seed: u64,
}

/// One bar and how Portcullis stands to it.
#[derive(Serialize)]
pub(crate) struct Bar {
    against: Contender,
    limit: f64,
    /// Ratio of the medians: this is what is judged.
    ratio: f64,
    /// Ratios within each round, to show how sure the ratio is.
    within_rounds: Option<Spread>,
    met: bool,
}

/// One contender's row.
#[derive(Serialize)]
pub(crate) struct Outcome {
    pub(crate) version: String,
    pub(crate) cpu_us_per_request: Option<Spread>,
    kernel_us_per_request: Option<Spread>,
    requests_per_second: Option<Spread>,
    p50_us: Option<Spread>,
    p99_us: Option<Spread>,
    core_others: Option<Spread>,
    bytes_per_key: Option<f64>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        machine: Machine,
        tools: &Tools,
        tallies: Vec<Tally>,
    ) -> Self {
        let bars = BARS.iter().filter_map(|(against, limit)| bar(&tallies, *against, *limit));
        Self {
            date: machine::now(),
            commit: machine::commit(),
            machine,
            setting: Setting {
                rounds: options.rounds,
                seconds: options.seconds,
                warmup: options.warmup,
                keys: options.keys,
                connections: options.connections,
                seed: options.seed,
            },
            bars: bars.collect(),
            results: tallies.into_iter().map(|tally| outcome(options, tools, tally)).collect(),
        }
    }

    /// Whether every round of every contender was measured.
    pub(crate) fn is_complete(&self) -> bool {
        self.results.iter().all(|outcome| outcome.tally.failures.is_empty())
    }

    pub(crate) fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).context("writing the report as JSON")
    }

    /// Writes JSON and chart; says where.
    pub(crate) fn write(&self, folder: &Path, partial: bool) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder)?;
        let name = if partial { "partial" } else { "compare" };
        let files = [("json", self.to_json()? + "\n"), ("svg", chart::draw(self))];
        let mut written = Vec::new();
        for (extension, content) in files {
            let path = folder.join(name).with_extension(extension);
            std::fs::write(&path, content)
                .with_context(|| format!("writing {}", path.display()))?;
            written.push(path);
        }
        Ok(written)
    }

    /// Where and when, on one line.
    pub(crate) fn caption(&self) -> String {
        let Machine { cpu, cores, memory_gib, kernel } = &self.machine;
        format!(
            "{cpu}, {cores} cores, {memory_gib:.0} GiB, Linux {kernel}; commit {}; {}",
            self.commit, self.date
        )
    }

    /// How, on one line.
    pub(crate) fn setting_line(&self) -> String {
        let Setting { rounds, seconds, keys, connections, seed, warmup: _ } = &self.setting;
        format!(
            "{keys} keys, {connections} keep-alive connections, {rounds} interleaved rounds of \
             {seconds} s, proxy on one core, load and upstream on another, seed {seed}"
        )
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("\n{}\n{}\n\n", self.caption(), self.setting_line());
        text += "                          CPU µs per request       kernel  requests   p50    p99   \
                 memory  bytes/  others\n";
        text += "contender                 median (min-max)             µs        /s    µs     µs      \
                 MiB     key  on core\n";
        for outcome in &self.results {
            row(&mut text, outcome);
        }
        text += "\nversions\n";
        for outcome in &self.results {
            let _ = writeln!(text, "  {:<24} {}", outcome.tally.label, outcome.version);
        }
        if !self.bars.is_empty() {
            text += "\nbars: CPU per request, Portcullis / other (ratio of medians)\n";
        }
        for Bar { against, limit, ratio, within_rounds, met } in &self.bars {
            let range = within_rounds.map_or_else(String::new, |Spread { min, max, .. }| {
                format!("  (within rounds {min:.3}-{max:.3})")
            });
            let verdict = if *met { "pass" } else { "MISS" };
            let label = against.label();
            let _ = writeln!(text, "  {verdict}  {ratio:.3} <= {limit:.2} x {label:<24}{range}");
        }
        for outcome in &self.results {
            for failure in &outcome.tally.failures {
                let _ = writeln!(text, "FAILED  {}, {failure}", outcome.tally.label);
            }
        }
        text
    }
}

fn bar(tallies: &[Tally], against: Contender, limit: f64) -> Option<Bar> {
    let find = |contender| tallies.iter().find(|tally| tally.contender == contender);
    let (ours, theirs) = (find(Contender::Portcullis)?, find(against)?);
    let median = |tally: &Tally| tally.spread(|round| round.cpu_us_per_request);
    let ratio = median(ours)?.median / median(theirs)?.median;
    let pairs = ours.rounds.iter().filter_map(|our| {
        let their = theirs.rounds.iter().find(|their| their.number == our.number)?;
        Some(our.cpu_us_per_request / their.cpu_us_per_request)
    });
    let within_rounds = Spread::of(pairs.collect());
    Some(Bar { against, limit, ratio, within_rounds, met: ratio <= limit })
}

fn outcome(options: &Options, tools: &Tools, tally: Tally) -> Outcome {
    Outcome {
        version: machine::version(tally.contender, tools),
        cpu_us_per_request: tally.spread(|round| round.cpu_us_per_request),
        kernel_us_per_request: tally.spread(|round| round.kernel_us_per_request),
        requests_per_second: tally.spread(|round| round.requests_per_second),
        p50_us: tally.spread(|round| round.p50_us),
        p99_us: tally.spread(|round| round.p99_us),
        core_others: tally.spread(|round| round.core_others),
        bytes_per_key: tally.bytes_per_key(options.keys),
        tally,
    }
}

fn row(text: &mut String, outcome: &Outcome) {
    let median = |spread: Option<Spread>| spread.map_or(f64::NAN, |spread| spread.median);
    let cpu = outcome.cpu_us_per_request.map_or_else(
        || "not measured".to_owned(),
        |Spread { median, min, max }| format!("{median:6.2} ({min:.2}-{max:.2})"),
    );
    let per_key =
        outcome.bytes_per_key.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
    let _ = writeln!(
        text,
        "{:<24}  {cpu:<22} {:>8.2} {:>9.0} {:>5.0} {:>6.0} {:>8.1} {per_key:>7} {:>6.1} %",
        outcome.tally.label,
        median(outcome.kernel_us_per_request),
        median(outcome.requests_per_second),
        median(outcome.p50_us),
        median(outcome.p99_us),
        outcome.tally.full_bytes as f64 / 1024.0 / 1024.0,
        median(outcome.core_others) * 100.0,
    );
}
