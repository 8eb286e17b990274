use ed25519_dalek::{Signer as _, SigningKey};
use portcullis_core::feed::{End, Kind};
use serde_json::json;

use super::*;
use crate::tests::snapshot;

const ANYONE: Trust<'static> = Trust { cluster: None, verify_key: None };
const HERE: Position = Position { epoch: 1, seq: 5 };

fn good() -> String {
    snapshot(
        HERE,
        vec![
            (Kind::Org, "o1".to_owned(), json!({"state": "active"})),
            (Kind::Resource, "o1:cluster/c1".to_owned(), json!({"parent": "org"})),
        ],
    )
}

#[test]
fn a_whole_snapshot_is_read_and_gives_its_records_in_order() {
    let read = Snapshot::read(good().as_bytes(), ANYONE).unwrap();
    assert_eq!((read.position, read.cluster.as_str()), (HERE, "c7f3"));
    let records: Vec<_> = read.records().collect();
    let known = |kind, id: &str, record| SnapshotRecord::Known(kind, id.to_owned(), record);
    let [org, resource] = [
        known(Kind::Org, "o1", json!({"state": "active"})),
        known(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"})),
    ];
    assert_eq!(records, [org, resource]);
}

/// A newer control plane has kinds of its own: such a record counts, and is refused alone.
#[test]
fn a_snapshot_with_a_record_of_an_unknown_kind_is_read() {
    let record = r#"{"id":"m1","kind":"moon","record":{"phase":1}}"#;
    let hash = Sha256::digest(b"moon\0m1\0{\"phase\":1}");
    let sum = RecordSum(u128::from_le_bytes(hash[..16].try_into().unwrap()));
    let mut digest = StateDigest::default();
    digest.add(sum);

    let whole = snapshot(HERE, Vec::new());
    let header = whole.split_inclusive('\n').next().unwrap();
    let before = format!("{header}{record}\n");
    let sha256 = Sha256::digest(&before).iter().map(|byte| format!("{byte:02x}")).collect();
    let end = Line::End(End { position: HERE, count: 1, digest, sha256, sig: None });
    let text = format!("{before}{}\n", end.to_json());
    let read = Snapshot::read(text.as_bytes(), ANYONE).unwrap();
    assert_eq!(read.records().count(), 1);
}

#[test]
fn every_way_of_not_being_whole_has_its_name() {
    let good = good();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let [header, org, resource, end] = lines.as_slice() else { panic!("{good}") };
    let fault = |text: &str, trust| Snapshot::read(text.as_bytes(), trust).unwrap_err();
    assert_eq!(fault("", ANYONE), SnapshotFault::Truncated);
    assert_eq!(fault(&format!("{header}{org}"), ANYONE), SnapshotFault::Truncated);
    assert_eq!(fault(&format!("{org}{header}"), ANYONE), SnapshotFault::Misplaced(1));
    assert_eq!(fault(&format!("{header}{header}"), ANYONE), SnapshotFault::Misplaced(2));
    assert_eq!(fault(&format!("{good}{org}"), ANYONE), SnapshotFault::Misplaced(5));
    let short = fault(&format!("{header}{org}{end}"), ANYONE);
    assert_eq!(short, SnapshotFault::Count { found: 1, said: 2 });
    let swapped = format!("{header}{resource}{org}{end}");
    assert_eq!(fault(&swapped, ANYONE), SnapshotFault::Sha256);
    let other = Trust { cluster: Some("other"), ..ANYONE };
    assert_eq!(fault(&good, other), SnapshotFault::Cluster("c7f3".to_owned()));
    assert_eq!(
        fault(&good.replace("\"format\":1", "\"format\":2"), ANYONE),
        SnapshotFault::Format(2)
    );
    let moved = good.replace("\"epoch\":1,\"line\":\"end\"", "\"epoch\":2,\"line\":\"end\"");
    assert!(matches!(fault(&moved, ANYONE), SnapshotFault::Position), "{moved}");
    assert!(matches!(fault("nonsense\n", ANYONE), SnapshotFault::Line(1, _)));
    let bad = format!("{header}{org}nonsense\n");
    assert!(matches!(fault(&bad, ANYONE), SnapshotFault::Line(3, _)));
}

#[test]
fn a_signature_is_asked_for_where_a_key_is_set() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let verify_key = key.verifying_key();
    let trust = Trust { verify_key: Some(&verify_key), ..ANYONE };
    let text = good();
    assert_eq!(Snapshot::read(text.as_bytes(), trust).unwrap_err(), SnapshotFault::Signature);

    let sign = |key: &SigningKey| {
        let (before, end) = text.trim_end().rsplit_once('\n').unwrap();
        let mut members: Value = serde_json::from_str(end).unwrap();
        // A member that this build does not know is signed like any other.
        members["later"] = json!(1);
        let sig = key.sign(canonical(&members).as_bytes());
        members["sig"] = json!(URL_SAFE_NO_PAD.encode(sig.to_bytes()));
        format!("{before}\n{members}\n")
    };
    assert!(Snapshot::read(sign(&key).as_bytes(), trust).is_ok());
    let other = SigningKey::from_bytes(&[4; 32]);
    let forged = Snapshot::read(sign(&other).as_bytes(), trust).unwrap_err();
    assert_eq!(forged, SnapshotFault::Signature);
}
