//! The bodies of the fuzz targets, over their seeds and a bounded number of mutations: what
//! libFuzzer does for hours, for a second. What only its own crate can reach is driven there
//! (`credential`, `admin_fields`).

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
#[path = "../fuzz/drive.rs"]
mod drive;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn drive(target: &str, rounds: u64, body: fn(&[u8])) {
    drive::drive(target, &folder().join("seeds"), rounds, body);
}

#[test]
fn any_bytes_are_a_key_or_none() {
    drive("key_text", 3_000, bodies::key_text);
}

#[test]
fn any_number_has_one_spelling() {
    drive("base62", 10_000, bodies::base62);
}

#[test]
fn any_target_has_one_reading_or_none() {
    drive("target", 5_000, bodies::target);
}

#[test]
fn any_routes_answer_like_a_linear_scan() {
    drive("routes", 3_000, bodies::routes);
}

#[test]
fn any_line_of_the_feed_is_read_whole_or_not_at_all() {
    drive("feed_line", 10_000, bodies::feed_line);
}

#[test]
fn any_feed_leaves_a_ledger_whose_digest_is_that_of_its_records() {
    drive("ledger", 3_000, bodies::ledger);
}

#[test]
fn any_configuration_is_read_or_refused_with_reasons() {
    drive("config", 500, bodies::config);
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    let names = |of: &str, ending: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder().join(of)).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        entries.map(|entry| name(entry.unwrap()).trim_end_matches(ending).to_owned()).collect()
    };
    assert_eq!(names("fuzz_targets", ".rs"), names("seeds", ""));
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for target in names("seeds", "") {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
