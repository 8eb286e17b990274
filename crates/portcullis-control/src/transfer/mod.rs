//! Export and import: everything that an organization or the whole installation consists of, as lines
//! of JSON. Digests are in it, secrets and peppers are not.
//!
//! ```text
//! {"export": {"format": 1, "scope": "organization", …}, "sum": "…"}
//! {"table": "organizations", "row": {…}, "sum": "…"}
//! …
//! {"end": {"rows": 17}, "sum": "…"}
//! ```
//!
//! The sum of a line covers it and the sum before it, so a changed, missing or moved line is found
//! and named. It finds damage, not forgery: the file deserves the care that the database gets.

pub(crate) mod export;
pub(crate) mod import;

use std::collections::BTreeMap;

use portcullis_core::key::{self, Pepper};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const FORMAT: u32 = 1;
/// Hexadecimal digits of a sum.
const SUM: usize = 32;
/// The longest line; a description has at most 64 KiB.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// What an export begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: u32,
    scope: Scope,
    /// The organization, if it is of one.
    org_id: Option<String>,
    /// The cluster id, if it is of the whole installation.
    cluster: Option<String>,
    epoch: u64,
    seq: u64,
    at: String,
    /// What each pepper in use makes of a key that everybody knows.
    peppers: BTreeMap<u32, String>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    Installation,
    Organization,
}

/// Tells one pepper from another without showing it: the digest of the key in the documentation.
fn check_of(pepper: &Pepper) -> String {
    const KNOWN: &[u8] = b"ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    let known = key::parse(KNOWN).expect("the key in the documentation is well-formed");
    known.digest(pepper).to_hex()
}

/// The running sum over the lines of an export.
#[derive(Default)]
pub struct Seal {
    sum: String,
}

impl Seal {
    /// The line for a body, a JSON object without its last brace.
    fn seal(&mut self, body: &str) -> String {
        self.sum = self.next(body.as_bytes());
        format!("{body},\"sum\":\"{}\"}}\n", self.sum)
    }

    /// The body of a line without its line break, if its sum is right.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the line.
    pub fn open<'l>(&mut self, line: &'l [u8]) -> Result<&'l str, &'static str> {
        let end = line.len().checked_sub(SUM + 10).ok_or("it is cut off")?;
        let (body, tail) = line.split_at_checked(end).ok_or("it is cut off")?;
        let sum = tail.strip_prefix(b",\"sum\":\"").and_then(|tail| tail.strip_suffix(b"\"}"));
        let sum = sum.ok_or("it has no sum, or is cut off")?;
        let expected = self.next(body);
        if sum != expected.as_bytes() {
            return Err("its sum does not fit: it was changed, or lines before it are missing");
        }
        self.sum = expected;
        std::str::from_utf8(body).map_err(|_| "it is not UTF-8")
    }

    fn next(&self, body: &[u8]) -> String {
        let hash = Sha256::new().chain_update(&self.sum).chain_update(body).finalize();
        hash.iter().take(SUM / 2).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Whether the body of a line is that of the last one.
pub fn is_end(body: &str) -> bool {
    body.starts_with("{\"end\":")
}

#[cfg(test)]
mod tests {
    use super::Seal;

    #[test]
    fn a_changed_missing_or_cut_line_is_found_where_it_is() {
        let mut seal = Seal::default();
        let lines: Vec<String> =
            ["{\"a\":1", "{\"b\":2", "{\"c\":3"].map(|body| seal.seal(body)).into();
        let trimmed: Vec<&[u8]> = lines.iter().map(|line| line.trim_end().as_bytes()).collect();
        let faulty = |lines: &[&[u8]]| {
            let mut seal = Seal::default();
            lines.iter().position(|line| seal.open(line).is_err())
        };
        assert_eq!(faulty(&trimmed), None);
        assert_eq!(faulty(&[trimmed[0], trimmed[2]]), Some(1));
        assert_eq!(faulty(&[trimmed[1]]), Some(0));
        for at in 0..trimmed[1].len() {
            let mut changed = trimmed[1].to_vec();
            changed[at] ^= 1;
            assert_eq!(faulty(&[trimmed[0], &changed]), Some(1), "byte {at}");
            assert_eq!(faulty(&[trimmed[0], &trimmed[1][..at]]), Some(1), "cut at {at}");
        }
    }
}
