//! What the command line asks for.

use clap::Parser;

use crate::contenders::Contender;

/// Measure what one proxied request costs through Portcullis and through the proxies people use.
///
/// Every contender runs on one core, the load generator and the upstream on another; rounds are
/// interleaved, so that a noisy minute hits all of them. Figures are medians over the rounds.
///
/// Exit code 0: everything was measured (whether or not the bars were met); 1: something could not
/// be measured, or a round failed; 2: usage.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
pub(crate) struct Options {
    /// Rounds per contender.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Measured seconds per round.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,

    /// Unmeasured seconds of load before each round.
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) warmup: f64,

    /// Only these contenders; the results are then written as `partial.*`.
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<Contender>,

    /// Keys that every contender knows; each request presents a random one.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,

    /// Keep-alive connections, each with one request in flight.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,

    /// Seed of the keys, the order of keys presented, and the order of play.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Print the report as JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,

    /// Folder for `compare.json` and `compare.svg`.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    pub(crate) results: String,

    /// Core of the contenders.
    #[arg(long, default_value_t = 0)]
    pub(crate) proxy_core: usize,

    /// Core of the load generator and the upstream.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: usize,
}

impl Options {
    /// The contenders of this run, each once, in the order of the table.
    pub(crate) fn contenders(&self) -> Vec<Contender> {
        let all = Contender::ALL.into_iter();
        all.filter(|contender| self.only.is_empty() || self.only.contains(contender)).collect()
    }

    pub(crate) fn is_partial(&self) -> bool {
        !self.only.is_empty()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed are 0.1 to 600 seconds".to_owned()),
    }
}
