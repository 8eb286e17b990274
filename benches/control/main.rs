//! How fast the control plane is on a large installation: lists, reads, writes one at a time and
//! from 32 clients, changes that touch 100,000 accounts, the snapshot.
//!
//! `cargo bench --bench control -- DATA [PART…]`, where `DATA` is a directory
//! made by `loadtest/populate` and parts are `lists`, `objects`, `writes`, `load`, `snapshot` and
//! `wide`; all of them if none is named. It is written to, so figures of a second run are of a slightly larger one.
//!
//! The true program is started; callers are plain HTTP/1.1 connections on the same cores. Prints medians, 99th percentiles and the bars they are held to.

#![expect(clippy::disallowed_methods, reason = "a bench measures time")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod client;
mod follower;
mod plant;
mod reads;
mod report;
mod writes;

use std::path::PathBuf;

use crate::plant::Plant;

fn main() {
    // The bench harness of cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let Some(data) = arguments.next() else {
        println!("skipped: give the data directory that loadtest/populate made");
        return;
    };
    let parts: Vec<String> = arguments.collect();
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let plant = Plant::start(&PathBuf::from(data));
        report::heading(&plant);
        if wants("lists") {
            reads::lists(&plant).await;
        }
        if wants("objects") {
            reads::objects(&plant).await;
        }
        if wants("writes") {
            writes::one_at_a_time(&plant).await;
        }
        if wants("load") {
            writes::from_32_clients(&plant).await;
        }
        if wants("snapshot") {
            reads::snapshot(&plant).await;
        }
        if wants("wide") {
            writes::wide_changes(&plant).await;
        }
        plant.stop();
    });
}
