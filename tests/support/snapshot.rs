//! Writes snapshot files in the feed's own format, as a foreign control plane would: keys are
//! minted with the core's public functions, records are plain JSON.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::{End, Header, Kind, Line, Position, RecordSum, StateDigest};
use portcullis_core::key::{Pepper, PlainKey, Prefix, mint};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::portcullis::Home;

/// The bytes of every pepper file that tests write.
pub(crate) const PEPPER: [u8; 32] = [7; 32];

/// Records to be written as a snapshot.
pub(crate) struct Snapshot {
    seq: u64,
    records: Vec<(Kind, String, Value)>,
    entropy: Counting,
}

impl Snapshot {
    /// One active organization, `o1`.
    pub(crate) fn new() -> Self {
        let entropy = Counting(AtomicU64::new(1));
        Self { seq: 1, records: Vec::new(), entropy }.with(
            Kind::Org,
            "o1",
            json!({"state": "active"}),
        )
    }

    /// Adds a record, or replaces the one with this kind and id.
    pub(crate) fn with(mut self, kind: Kind, id: &str, record: Value) -> Self {
        self.put(kind, id, record);
        self
    }

    pub(crate) fn put(&mut self, kind: Kind, id: &str, record: Value) {
        self.remove(kind, id);
        self.records.push((kind, id.to_owned(), record));
    }

    pub(crate) fn remove(&mut self, kind: Kind, id: &str) {
        self.records.retain(|(k, i, _)| *k != kind || i != id);
    }

    /// An active account of `o1` that may read everything.
    pub(crate) fn account(&mut self, id: &str) {
        self.account_with(id, &json!({}));
    }

    /// An account, with these members added or replaced.
    pub(crate) fn account_with(&mut self, id: &str, members: &Value) {
        let grants = json!([{"at": "org", "self": ["*:read"], "below": ["*:read"]}]);
        let record = json!({"org": "o1", "state": "active", "name": id, "grants": grants});
        self.put(Kind::Account, id, merged(record, members));
    }

    /// A key of the account; returns what a client presents.
    pub(crate) fn key(&mut self, account: &str) -> PlainKey {
        self.key_with(account, &json!({}))
    }

    /// A key, with these members added or replaced.
    pub(crate) fn key_with(&mut self, account: &str, members: &Value) -> PlainKey {
        let key = mint(&Prefix::default(), &self.entropy).expect("counting does not fail");
        let record = json!({
            "account": account, "state": "active", "generation": 1, "current": digest_of(&key),
        });
        self.put(Kind::Key, &key.id().to_string(), merged(record, members));
        key
    }

    /// Moves on to the next position, as each new state of a file must.
    pub(crate) fn advance(&mut self) {
        self.seq += 1;
    }

    pub(crate) fn set_seq(&mut self, seq: u64) {
        self.seq = seq;
    }

    /// The file's whole text.
    pub(crate) fn text(&self) -> String {
        let position = Position { epoch: 1, seq: self.seq };
        let header =
            Header { format: 1, cluster: "test".to_owned(), position, at_ms: 1_795_305_600_000 };
        let mut text = Line::Header(header).to_json() + "\n";
        let mut digest = StateDigest::default();
        for (kind, id, record) in &self.records {
            digest.add(RecordSum::of(*kind, id, record));
            let line = Line::Record { kind: *kind, id: id.clone(), record: record.clone() };
            text.push_str(&line.to_json());
            text.push('\n');
        }
        let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let count = self.records.len() as u64;
        let end = End { position, count, digest, sha256, sig: None };
        text + &Line::End(end).to_json() + "\n"
    }

    /// Puts the file in place as a whole, so that no reader sees half of it.
    pub(crate) fn write_to(&self, home: &Home) -> PathBuf {
        publish(home, &self.text())
    }
}

/// Puts `text` in place of the snapshot file, as a whole.
pub(crate) fn publish(home: &Home, text: &str) -> PathBuf {
    let next = home.write("snapshot.next", text);
    let path = home.path("snapshot.ndjson");
    std::fs::rename(next, &path).expect("the snapshot is put in place");
    path
}

/// The digest record of a key under the tests' pepper, version 1.
pub(crate) fn digest_of(key: &PlainKey) -> Value {
    let digest = key.parsed().digest(&Pepper::new(1, PEPPER));
    json!({"alg": "b3", "pepper": 1, "digest": digest.to_hex()})
}

fn merged(mut record: Value, members: &Value) -> Value {
    let members = members.as_object().expect("members are an object");
    for (name, value) in members {
        record[name] = value.clone();
    }
    record
}

/// A generator that counts, so that every run mints the same keys.
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for block in out.chunks_mut(8) {
            let next = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).to_be_bytes();
            block.copy_from_slice(&next[..block.len()]);
        }
        Ok(())
    }
}
