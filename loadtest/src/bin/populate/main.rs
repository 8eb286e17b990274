//! `populate`: fills the data directory of a new control plane with as many service accounts and
//! keys as a large installation has, in minutes.
//!
//! What a row looks like is not written down here. The control plane itself makes one account of
//! each shape through its admin API; what that wrote is written again, any number of times, with
//! other ids, names, digests and instants ([`shape`], [`multiply`]). So the data fits whatever
//! schema the program has, its gateways can follow, and its audit log verifies.
//!
//! Everything but the first accounts follows from the seed. It must never touch a directory that
//! exists, and the keys it makes must never protect anything.

mod multiply;
mod plant;
#[path = "../../seeded.rs"]
mod seeded;
mod shape;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

use crate::multiply::{Multiplier, Plan};
use crate::plant::{Plant, Pools};
use crate::shape::{Marks, Shape};

/// Fill a new data directory with service accounts and keys, for measurements.
#[derive(Debug, Parser)]
#[command(name = "populate", version)]
struct Options {
    /// The data directory to make; it must not exist.
    #[arg(long)]
    data: PathBuf,

    /// The program whose control plane the data is for.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/portcullis"))]
    program: PathBuf,

    /// Service accounts.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    accounts: u32,

    /// Keys of each account.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    keys: u32,

    /// The newest accounts whose creation is in the audit log.
    #[arg(long, default_value_t = 250_000)]
    audited: u32,

    /// The seed of ids, digests and instants.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    match populate(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("populate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn populate(options: &Options) -> Result<()> {
    ensure!(!options.data.exists(), "{} exists already", options.data.display());
    let started = Instant::now();
    let mut plant = Plant::start(&options.program, &options.data)?;
    eprintln!("making resources, groups and roles");
    let pools = Pools::make(&plant)?;
    eprintln!("making one account of each shape");
    let database = options.data.join("portcullis.db");
    let shapes = pools
        .recipes(options.keys)
        .into_iter()
        .map(|recipe| {
            let marks = Marks::read(&database)?;
            plant.make(&recipe)?;
            Shape::since(&database, &marks, &recipe, &pools)
        })
        .collect::<Result<Vec<Shape>>>()?;
    plant.stop()?;

    let pepper = std::fs::read(options.data.join("pepper.1")).context("reading the pepper")?;
    let pepper = <[u8; 32]>::try_from(pepper).ok().context("the pepper is not 32 bytes")?;
    let plan = Plan {
        accounts: options.accounts,
        audited: options.audited,
        seed: options.seed,
        pepper: &pepper,
        pools: &pools,
    };
    let made = Multiplier::open(&database)?.run(&plan, &shapes)?;
    let summary = json!({
        "accounts": options.accounts, "keys_each": options.keys, "seed": options.seed,
        "rows": made.rows, "feed_records": made.records, "organization": pools.organization,
        "root": pools.root, "big_group": pools.big_group, "big_role": pools.big_role,
        "big_resource": pools.big_resource, "other_role": pools.other_role,
        "samples": made.samples,
    });
    std::fs::write(options.data.join("populated.json"), format!("{summary:#}\n"))?;
    eprintln!("{} rows in {:.0} s", made.rows, started.elapsed().as_secs_f64());
    Ok(())
}
