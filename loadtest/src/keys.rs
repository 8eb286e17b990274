//! The keys of a run: minted by the product's own code from a seed, so that a run can be repeated
//! key for key. They open nothing anywhere, and must never be used outside a run.

use anyhow::Result;
use portcullis_core::feed::{End, FORMAT, Header, Kind, Line, Position, RecordSum, StateDigest};
use portcullis_core::key::{Pepper, Prefix, mint};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::seeded::Seeded;

/// Version and bytes of the pepper the digests are made with.
pub(crate) const PEPPER_VERSION: u32 = 1;
pub(crate) const PEPPER: [u8; 32] = *b"a pepper that opens nothing here";

const KEYS_PER_ACCOUNT: usize = 100;
const ORG: &str = "o1";

pub(crate) struct KeySet {
    keys: Vec<Key>,
    /// Well-formed, and known to nobody.
    stranger: String,
}

#[derive(Clone)]
struct Key {
    text: String,
    id: String,
    digest: String,
}

impl KeySet {
    pub(crate) fn mint(count: u32, seed: u64) -> Result<Self> {
        let entropy = Seeded::new(seed);
        let prefix = Prefix::default();
        let pepper = Pepper::new(PEPPER_VERSION, PEPPER);
        let key = || -> Result<Key> {
            let plain = mint(&prefix, &entropy)?;
            let digest = plain.parsed().digest(&pepper).to_hex();
            Ok(Key { text: plain.expose().to_owned(), id: plain.id().to_string(), digest })
        };
        let keys = (0..count).map(|_| key()).collect::<Result<_>>()?;
        Ok(Self { keys, stranger: key()?.text })
    }

    /// A set of the first `count` keys.
    pub(crate) fn first(&self, count: usize) -> Self {
        Self {
            keys: self.keys.iter().take(count).cloned().collect(),
            stranger: self.stranger.clone(),
        }
    }

    /// The plaintexts, in order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.text.as_str())
    }

    pub(crate) fn stranger(&self) -> &str {
        &self.stranger
    }

    /// A text file with something per key.
    pub(crate) fn lines(&self, line: impl Fn(&str) -> String) -> Vec<u8> {
        self.texts().map(line).collect::<String>().into_bytes()
    }

    /// The same keys as a feed snapshot: one organization, one cluster, accounts of 100 keys each
    /// that may read it through a role on the whole organization.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let position = Position { epoch: 1, seq: 1 };
        let header = Header { format: FORMAT, cluster: "compare".to_owned(), position, at_ms: 1 };
        let mut bytes = Vec::new();
        push(&mut bytes, &Line::Header(header));
        let (mut count, mut digest) = (0, StateDigest::default());
        self.records(|kind, id, record| {
            count += 1;
            digest.add(RecordSum::of(kind, &id, &record));
            push(&mut bytes, &Line::Record { kind, id, record });
        });
        let hash = Sha256::digest(&bytes);
        let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        push(&mut bytes, &Line::End(End { position, count, digest, sha256, sig: None }));
        bytes
    }

    fn records(&self, mut emit: impl FnMut(Kind, String, Value)) {
        emit(Kind::Org, ORG.to_owned(), json!({"state": "active"}));
        emit(Kind::Resource, format!("{ORG}:cluster/c1"), json!({"parent": "org"}));
        emit(Kind::Role, "viewer".to_owned(), json!({"permissions": ["*:read"]}));
        for (index, keys) in self.keys.chunks(KEYS_PER_ACCOUNT).enumerate() {
            let account = format!("sa{index}");
            let grants = json!([{"at": "org", "self": ["@viewer"], "below": ["@viewer"]}]);
            let record = json!({
                "org": ORG, "name": format!("caller-{index}"), "state": "active", "grants": grants,
            });
            emit(Kind::Account, account.clone(), record);
            for key in keys {
                let current = json!({"alg": "b3", "pepper": PEPPER_VERSION, "digest": key.digest});
                let record = json!({
                    "account": account, "state": "active", "generation": 1, "current": current,
                });
                emit(Kind::Key, key.id.clone(), record);
            }
        }
    }
}

fn push(bytes: &mut Vec<u8>, line: &Line) {
    bytes.extend_from_slice(line.to_json().as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use portcullis_core::feed::parse_line;

    use super::*;

    #[test]
    fn the_same_seed_mints_the_same_keys_and_another_seed_others() {
        let texts = |seed| {
            let keys = KeySet::mint(3, seed).expect("the generator cannot fail");
            keys.texts().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(texts(1), texts(1));
        assert_ne!(texts(1), texts(2));
    }

    #[test]
    fn the_snapshot_is_read_by_the_products_own_parser_and_counts_its_records() {
        let keys = KeySet::mint(250, 1).expect("the generator cannot fail");
        let snapshot = keys.snapshot();
        let mut records = 0;
        for line in snapshot.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse_line(line).expect("a line of the feed") {
                Line::Record { .. } => records += 1,
                Line::End(end) => assert_eq!(end.count, records),
                Line::Header(_) | Line::Heartbeat(_) | Line::Txn(_) | Line::Unknown { .. } => {}
            }
        }
        assert_eq!(records, 250 + 3 + 3);
    }
}
