//! `compare`: starts every contender on one core of this machine, drives the same load through
//! each in interleaved rounds from another core, and reports what a proxied request costs.
//!
//! It must never time a contender that does not check keys, never count a wrong answer as a
//! request, and never end a process it did not start.

mod chart;
mod contenders;
mod cost;
mod keys;
mod load;
mod machine;
mod options;
mod probe;
mod progress;
mod report;
mod rounds;
mod running;
mod seeded;
mod site;
mod upstream;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::contenders::Contender;
use crate::keys::KeySet;
use crate::machine::Machine;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::Report;
use crate::rounds::{Entrant, Rounds};
use crate::running::Running;
use crate::site::{Site, Tools};
use crate::upstream::Upstream;

fn main() -> ExitCode {
    let options = Options::parse();
    match compare(&options) {
        Ok(report) if report.is_complete() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<Report> {
    let contenders = options.contenders();
    let machine = Machine::read()?;
    machine::pin_to(options.load_core)?;
    let tools = Tools::find(&contenders)?;
    let progress = Progress::new(options, contenders.len());

    progress.note(&format!("minting {} keys", options.keys));
    let keys = KeySet::mint(options.keys, options.seed)?;
    let mut upstream = Upstream::bind()?;
    let site = Site::open(tools, upstream.address()?, options.proxy_core)?;

    let mut entrants = Vec::new();
    for contender in contenders {
        progress.note(&format!("starting {}", contender.label()));
        entrants.push(enter(contender, &site, &mut upstream, &keys)?);
    }
    let upstream = &mut upstream;
    Rounds { options, keys: &keys, upstream, progress: &progress }.play(&mut entrants);
    progress.finish();
    let tallies = entrants.into_iter().map(Entrant::retire).collect();

    let report = Report::new(options, machine, &site.tools, tallies);
    let written = report.write(Path::new(&options.results), options.is_partial())?;
    if options.json {
        println!("{}", report.to_json()?);
    } else {
        print!("{}", report.to_text());
    }
    for path in written {
        progress.note(&format!("wrote {}", path.display()));
    }
    Ok(report)
}

/// Starts a contender twice: with one key, for the memory it takes empty, then with all of them,
/// to stay. Either time it must prove that it admits a good key and refuses the rest.
fn enter(
    contender: Contender,
    site: &Site,
    upstream: &mut Upstream,
    keys: &KeySet,
) -> Result<Entrant> {
    let empty_bytes = start(contender, site, upstream, &keys.first(1))?.settled_memory()?;
    let running = start(contender, site, upstream, keys)?;
    let full_bytes = running.settled_memory()?;
    Ok(Entrant::new(running, empty_bytes, full_bytes))
}

fn start(
    contender: Contender,
    site: &Site,
    upstream: &mut Upstream,
    keys: &KeySet,
) -> Result<Running> {
    let mut running = Running::start(contender.launch(site, keys)?)?;
    upstream.serve_while(|| {
        probe::await_ready(&mut running, keys)?;
        if contender.checks_keys() { probe::refuses_strangers(&running, keys) } else { Ok(()) }
    })??;
    Ok(running)
}
