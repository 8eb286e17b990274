//! The feed: its lines, and what a ledger makes of them.

use std::collections::BTreeMap;

use portcullis_core::directory::{Fit, Ledger, SnapshotRecord};
use portcullis_core::feed::{
    Change, Line, Position, RecordSum, StateDigest, parse_line, parse_strict,
};
use serde_json::Value;

/// A line is read whole or not at all, and what was read is written and read again as the same.
pub(crate) fn feed_line(data: &[u8]) {
    let _ = parse_strict(data);
    let Ok(line) = parse_line(data) else { return };
    let text = line.to_json();
    let again = parse_line(text.as_bytes()).expect("what we write can be read");
    assert_eq!(again, line);
    assert_eq!(again.to_json(), text);
}

/// One line of the feed per line of the input. Nothing panics, positions only grow, and the digest
/// is that of the records that are live.
pub(crate) fn ledger(data: &[u8]) {
    let mut ledger = Ledger::new(1);
    let mut model = Model::default();
    let mut snapshot = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        match parse_line(line) {
            Ok(Line::Record { kind, id, record }) => {
                snapshot.push(SnapshotRecord::Known(kind, id, record));
            }
            Ok(Line::Unknown { kind, id, record }) => {
                snapshot.push(SnapshotRecord::Unknown { kind, id, record });
            }
            Ok(Line::End(end)) => {
                let records = std::mem::take(&mut snapshot);
                let ahead = end.position >= ledger.position();
                if ahead && ledger.load(end.position, records.clone()).is_ok() {
                    model = Model::of(records);
                }
            }
            Ok(Line::Txn(txn)) if ledger.fit(txn.position) == Fit::Next => {
                let before = ledger.position();
                let outcome = ledger.apply(&txn);
                assert!(ledger.position() > before);
                assert!(outcome.refused.len() + outcome.held.len() <= txn.changes.len());
                txn.changes.iter().for_each(|change| model.apply(change));
            }
            Ok(_) | Err(_) => {}
        }
        assert_eq!(ledger.digest(), model.digest());
        read(&ledger);
    }
}

/// The records that are live: what every gateway and the control plane must agree on.
#[derive(Default)]
struct Model(BTreeMap<(String, String), Value>);

impl Model {
    fn of(records: Vec<SnapshotRecord>) -> Self {
        let records = records.into_iter().map(|record| match record {
            SnapshotRecord::Known(kind, id, record) => ((kind.to_string(), id), record),
            SnapshotRecord::Unknown { kind, id, record } => ((kind, id), record),
        });
        Self(records.collect())
    }

    fn apply(&mut self, change: &Change) {
        let (kind, id, record) = match change {
            Change::Put { kind, id, record } => (kind.as_str(), id, Some(record)),
            Change::Delete { kind, id } | Change::Revoke { kind, id, .. } => {
                (kind.as_str(), id, None)
            }
            Change::UnknownKind { kind, id, record } => (kind.as_str(), id, record.as_ref()),
            Change::UnknownOp { .. } => return,
        };
        let place = (kind.to_owned(), id.clone());
        match record {
            Some(record) => self.0.insert(place, record.clone()),
            None => self.0.remove(&place),
        };
    }

    fn digest(&self) -> StateDigest {
        let mut digest = StateDigest::default();
        for ((kind, id), record) in &self.0 {
            digest.add(RecordSum::of_unknown(kind, id, record));
        }
        digest
    }
}

/// Looking at a view does not panic either.
fn read(ledger: &Ledger) {
    let view = ledger.view();
    assert_eq!(view.position(), ledger.position());
    assert!(view.position() >= Position::default());
    let _ = ledger.counts();
}
