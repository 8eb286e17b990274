//! The bodies of the fuzz targets: what must hold for any bytes whatsoever. libFuzzer runs them
//! (`fuzz/fuzz_targets`), and so does every `cargo test` (`tests/fuzz.rs`), over the same seeds.

mod config;
mod feed;
mod key;
mod route;
mod target;

pub(crate) use config::config;
pub(crate) use feed::{feed_line, ledger};
pub(crate) use key::{base62, key_text};
pub(crate) use route::routes;
pub(crate) use target::target;

/// The input as text, and its lines.
fn lines(data: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(data).split('\n').map(str::to_owned).collect()
}
