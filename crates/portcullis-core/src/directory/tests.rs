use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::access::Permission;
use crate::entropy::{Entropy, EntropyFailure};
use crate::feed::{Change, Kind, Line, RecordSum, StateDigest, Txn, parse_line};
use crate::key::{Pepper, PlainKey, Prefix, mint_for};

const NOW: WallMs = WallMs(1_000_000);

/// Bytes that depend on a seed alone.
struct Seeded(u64);

impl Entropy for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        let hash = blake3::hash(&self.0.to_le_bytes());
        for (to, from) in out.iter_mut().zip(hash.as_bytes().iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }
}

fn peppers() -> PepperRing {
    PepperRing::new(vec![Pepper::new(1, [7; 32]), Pepper::new(2, [8; 32])]).expect("two peppers")
}

fn peer() -> IpAddr {
    "192.0.2.7".parse().expect("an address")
}

fn key(number: u64, secret: u64) -> PlainKey {
    mint_for(KeyId::from_u64(number), &Prefix::default(), &Seeded(secret)).expect("seeded")
}

fn digest(key: &PlainKey, pepper: u32) -> Value {
    let ring = peppers();
    let pepper_of = ring.find(pepper).expect("in the ring");
    json!({"alg": "b3", "pepper": pepper, "digest": key.parsed().digest(pepper_of).to_hex()})
}

fn key_record(key: &PlainKey, more: Value) -> Value {
    let mut record = json!({"account": "sa1", "state": "active", "generation": 1,
                            "current": digest(key, 1)});
    if let (Value::Object(record), Value::Object(more)) = (&mut record, more) {
        record.extend(more);
    }
    record
}

fn account_record(grants: &Value) -> Value {
    json!({"org": "o1", "state": "active", "name": "build bot/1", "grants": grants})
}

struct World {
    ledger: Ledger,
    records: BTreeMap<(Kind, String), Value>,
    revoked: Vec<(Kind, String)>,
}

impl World {
    /// Organization o1 with cluster/c1 and cluster/c2, account sa1 that may read everywhere, and
    /// key 1 with secret 1.
    fn new() -> Self {
        let mut world =
            Self { ledger: Ledger::new(99), records: BTreeMap::new(), revoked: Vec::new() };
        world.put(Kind::Org, "o1", json!({"state": "active"}));
        world.put(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"}));
        world.put(Kind::Resource, "o1:cluster/c2", json!({"parent": "org"}));
        world.put(Kind::Role, "viewer", json!({"permissions": ["*:read"]}));
        world.put(
            Kind::Account,
            "sa1",
            account_record(&json!([{"at": "org", "self": ["@viewer"], "below": ["@viewer"]}])),
        );
        world.put(Kind::Key, &id(1), key_record(&key(1, 1), json!({})));
        world
    }

    fn change(&mut self, change: Change) -> Outcome {
        self.apply(vec![change])
    }

    fn apply(&mut self, changes: Vec<Change>) -> Outcome {
        let here = self.ledger.position();
        let position = Position { epoch: 1, seq: here.seq + 1 };
        self.ledger.apply(&Txn { position, at_ms: 0, changes, sig: None })
    }

    fn put(&mut self, kind: Kind, id: &str, record: Value) -> Outcome {
        self.records.insert((kind, id.to_owned()), record.clone());
        self.change(Change::Put { kind, id: id.to_owned(), record })
    }

    fn revoke(&mut self, kind: Kind, id: &str) -> Outcome {
        self.records.remove(&(kind, id.to_owned()));
        self.revoked.push((kind, id.to_owned()));
        self.change(Change::Revoke { kind, id: id.to_owned(), expires_at_ms: None })
    }

    fn delete(&mut self, kind: Kind, id: &str) -> Outcome {
        self.records.remove(&(kind, id.to_owned()));
        self.change(Change::Delete { kind, id: id.to_owned() })
    }

    fn snapshot(&self) -> Vec<(Kind, String, Value)> {
        let records = self.records.iter();
        records.map(|((kind, id), record)| (*kind, id.clone(), record.clone())).collect()
    }

    fn reload(&mut self) -> Outcome {
        let position = self.ledger.position();
        self.ledger.load(position, self.snapshot()).expect("few bad records")
    }

    fn reason(&self, key: &PlainKey, now: WallMs) -> Option<DenyReason> {
        let directory = self.ledger.view();
        let verdict = directory.verify(&key.parsed(), peer(), now, &peppers());
        verdict.err().map(|refusal| refusal.reason)
    }

    fn may(
        &mut self,
        key: &PlainKey,
        permission: &str,
        place: Place<'_>,
    ) -> Result<(), DenyReason> {
        let permission: Permission = permission.parse().expect("a permission");
        let need = self.ledger.symbols().requirement(&permission);
        let directory = self.ledger.view();
        let principal = directory
            .verify(&key.parsed(), peer(), NOW, &peppers())
            .map_err(|refusal| refusal.reason)?;
        principal.authorize(&need, place, "GET").map(|_| ())
    }

    fn expected_digest(&self) -> StateDigest {
        let mut digest = StateDigest::default();
        for ((kind, id), record) in &self.records {
            digest.add(RecordSum::of(*kind, id, record));
        }
        digest
    }
}

fn id(number: u64) -> String {
    KeyId::from_u64(number).to_string()
}

#[test]
fn a_usable_key_gives_its_principal() {
    let world = World::new();
    let directory = world.ledger.view();
    let presented = key(1, 1).parsed();
    let principal = directory.verify(&presented, peer(), NOW, &peppers()).expect("usable");
    assert_eq!(principal.org_id(), "o1");
    assert_eq!(principal.account_id(), "sa1");
    assert_eq!(principal.account_name(), "build%20bot%2F1");
    assert_eq!(principal.key_id(), KeyId::from_u64(1));
    assert_eq!(principal.generation(), 1);
}

#[test]
fn every_reason_to_refuse_a_key_is_named() {
    let put = |record: Value| {
        let mut world = World::new();
        world.put(Kind::Key, &id(1), key_record(&key(1, 1), record));
        world.reason(&key(1, 1), NOW)
    };
    let world = World::new();
    assert_eq!(world.reason(&key(2, 1), NOW), Some(DenyReason::UnknownKey));
    assert_eq!(world.reason(&key(1, 2), NOW), Some(DenyReason::BadSecret));
    assert_eq!(
        put(json!({"current": {"alg": "b3", "pepper": 9, "digest": "00".repeat(32)}})),
        Some(DenyReason::UnknownKey)
    );
    assert_eq!(put(json!({"state": "inactive"})), Some(DenyReason::KeyInactive));
    assert_eq!(put(json!({"not_before_ms": NOW.0 + 1})), Some(DenyReason::NotYetValid));
    assert_eq!(put(json!({"not_before_ms": NOW.0})), None);
    assert_eq!(put(json!({"expires_at_ms": NOW.0})), Some(DenyReason::KeyExpired));
    assert_eq!(put(json!({"expires_at_ms": NOW.0 + 1})), None);
    assert_eq!(put(json!({"account": "nobody"})), Some(DenyReason::SaInactive));
    assert_eq!(put(json!({"cnf": {"x5t#S256": "x"}})), Some(DenyReason::BindingMismatch));
    assert_eq!(put(json!({"sources": ["10.0.0.0/8"]})), Some(DenyReason::SourceNotAllowed));
    assert_eq!(put(json!({"sources": ["10.0.0.0/8", "192.0.2.0/24"]})), None);

    let mut world = World::new();
    world.put(Kind::Account, "sa1", json!({"org": "o1", "state": "inactive"}));
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::SaInactive));
    let mut world = World::new();
    world.put(Kind::Org, "o1", json!({"state": "suspended"}));
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::OrgSuspended));
    world.delete(Kind::Org, "o1");
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::OrgSuspended));
    let mut world = World::new();
    world.put(Kind::Block, "b", json!({"match": {"prefix": "ptc"}, "until_ms": NOW.0 + 1}));
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::Blocked));
    assert_eq!(world.reason(&key(1, 1), NOW.plus_ms(1)), None);
    let mut world = World::new();
    world.revoke(Kind::Key, &id(1));
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::KeyRevoked));
}

#[test]
fn a_replaced_secret_works_strictly_before_its_deadline() {
    let mut world = World::new();
    let previous = |pepper| {
        let mut record = digest(&key(1, 1), pepper);
        record["retained_until_ms"] = json!(NOW.0);
        json!({"generation": 2, "previous": record})
    };
    for pepper in [1, 2] {
        world.put(Kind::Key, &id(1), key_record(&key(1, 2), previous(pepper)));
        assert_eq!(world.reason(&key(1, 2), NOW), None);
        assert_eq!(world.reason(&key(1, 1), WallMs(NOW.0 - 1)), None);
        assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::RetentionOver));
        assert_eq!(world.reason(&key(1, 1), NOW.plus_ms(1)), Some(DenyReason::RetentionOver));
        assert_eq!(world.reason(&key(1, 3), NOW), Some(DenyReason::BadSecret));
    }
}

#[test]
fn a_tombstone_outlives_puts_snapshots_and_epochs() {
    let mut world = World::new();
    let record = key_record(&key(1, 1), json!({}));
    world.revoke(Kind::Key, &id(1));
    let outcome = world.put(Kind::Key, &id(1), record.clone());
    assert_eq!(outcome.held, [Held { kind: Kind::Key, id: id(1) }]);
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::KeyRevoked));
    assert_eq!(world.ledger.digest(), world.expected_digest());
    let outcome = world.reload();
    assert_eq!(outcome.held, [Held { kind: Kind::Key, id: id(1) }]);
    world.records.remove(&(Kind::Key, id(1)));
    world.ledger.load(Position { epoch: 2, seq: 0 }, world.snapshot()).expect("good");
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::KeyRevoked));
    assert_eq!(world.ledger.counts().tombstones, 1);
    assert_eq!(world.ledger.counts().keys, 0);
}

#[test]
fn a_revoked_account_kills_all_its_keys_and_never_comes_back() {
    let mut world = World::new();
    world.put(Kind::Key, &id(2), key_record(&key(2, 2), json!({})));
    let record = account_record(&json!([]));
    world.revoke(Kind::Account, "sa1");
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::SaRevoked));
    assert_eq!(world.reason(&key(2, 2), NOW), Some(DenyReason::SaRevoked));
    let outcome = world.put(Kind::Account, "sa1", record);
    assert_eq!(outcome.held, [Held { kind: Kind::Account, id: "sa1".to_owned() }]);
    assert_eq!(world.ledger.digest(), world.expected_digest());
    assert_eq!(world.reload().held.len(), 1);
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::SaRevoked));
    assert_eq!(world.ledger.digest(), world.expected_digest());
}

#[test]
fn an_earlier_generation_is_held() {
    let mut world = World::new();
    world.put(Kind::Key, &id(1), key_record(&key(1, 2), json!({"generation": 3})));
    let outcome = world.put(Kind::Key, &id(1), key_record(&key(1, 1), json!({"generation": 2})));
    assert_eq!(outcome.held.len(), 1);
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::BadSecret));
    assert_eq!(world.reason(&key(1, 2), NOW), None);
    assert_eq!(world.reload().held.len(), 1);
    assert_eq!(world.reason(&key(1, 2), NOW), None);
}

#[test]
fn a_key_without_a_first_generation_is_unreadable() {
    let mut world = World::new();
    let outcome = world.put(Kind::Key, &id(2), key_record(&key(2, 2), json!({"generation": 0})));
    let refused: Vec<&str> = outcome.refused.iter().map(|refused| &*refused.why).collect();
    assert_eq!(refused, ["generation: it begins with 1"]);
    assert_eq!(world.reason(&key(2, 2), NOW), Some(DenyReason::UnknownKey));
}

/// What is granted may be taken back only together with what was to replace it, and the other way
/// round; but what is revoked is revoked.
#[test]
fn a_bad_record_refuses_its_transaction_except_for_the_revocations() {
    let bad = [
        (Kind::Role, "viewer", json!({"permissions": ["@other"]})),
        (Kind::Account, "sa1", json!({"org": "o1", "state": "active", "crit": ["moon"]})),
        (Kind::Key, "short", json!({})),
        // Below itself, which shows only when the places are put together.
        (Kind::Resource, "o1:cluster/c1", json!({"parent": "cluster/c2"})),
    ];
    for (kind, name, record) in bad {
        let mut world = World::new();
        world.put(Kind::Key, &id(2), key_record(&key(2, 2), json!({})));
        world.put(Kind::Block, "b", json!({"match": {"key": id(1)}}));
        let put = |kind, id: &str, record| Change::Put { kind, id: id.to_owned(), record };
        let third = key_record(&key(3, 3), json!({}));
        let below = json!({"parent": "cluster/c1"});
        let outcome = world.apply(vec![
            Change::Delete { kind: Kind::Block, id: "b".to_owned() },
            put(Kind::Resource, "o1:cluster/c2", below.clone()),
            put(Kind::Key, &id(3), third.clone()),
            Change::Revoke { kind: Kind::Key, id: id(2), expires_at_ms: None },
            put(kind, name, record.clone()),
        ]);
        assert_eq!((outcome.applied, outcome.refused.len()), (1, 4), "{name}: {outcome:?}");
        assert!(!outcome.refused[3].why.starts_with("another"), "{name}: {outcome:?}");
        assert_eq!(world.ledger.position().seq, 9);
        let reason = |world: &World, number| world.reason(&key(number, number), NOW);
        assert_eq!(reason(&world, 1), Some(DenyReason::Blocked), "{name}");
        assert_eq!(reason(&world, 2), Some(DenyReason::KeyRevoked), "{name}");
        assert_eq!(reason(&world, 3), Some(DenyReason::UnknownKey), "{name}");

        // The digest is that of what the control plane has, and the next snapshot brings the rest.
        for (kind, id, record) in [
            (kind, name.to_owned(), record),
            (Kind::Resource, "o1:cluster/c2".to_owned(), below),
            (Kind::Key, id(3), third),
        ] {
            world.records.insert((kind, id), record);
        }
        world.records.remove(&(Kind::Block, "b".to_owned()));
        world.records.remove(&(Kind::Key, id(2)));
        assert_eq!(world.ledger.digest(), world.expected_digest(), "{name}");
        world.reload();
        assert_eq!((reason(&world, 1), reason(&world, 3)), (None, None), "{name}");
        assert_eq!(reason(&world, 2), Some(DenyReason::KeyRevoked), "{name}");
        assert_eq!(world.ledger.digest(), world.expected_digest(), "{name}");
    }
}

/// A newer control plane has kinds and operations of its own.
#[test]
fn what_is_not_known_here_refuses_its_transaction_except_for_the_revocations() {
    for unknown in [
        r#"{"op":"put","kind":"moon","id":"m1","record":{"phase":1}}"#,
        r#"{"op":"delete","kind":"moon","id":"m1"}"#,
        r#"{"op":"revoke","kind":"moon","id":"m1"}"#,
        r#"{"op":"merge","kind":"org","id":"o1","record":{"state":"suspended"}}"#,
        r#"{"op":"merge","kind":"moon","id":"m1"}"#,
    ] {
        let mut world = World::new();
        let gone = r#"{"op":"delete","kind":"role","id":"viewer"}"#;
        // Whatever a revocation says besides.
        let revoked =
            format!(r#"{{"op":"revoke","kind":"key","id":"{}","expires_at_ms":"soon"}}"#, id(1));
        let text = format!(
            r#"{{"line":"txn","epoch":1,"seq":7,"at_ms":0,"changes":[{gone},{unknown},{revoked}]}}"#
        );
        let Ok(Line::Txn(txn)) = parse_line(text.as_bytes()) else { panic!("{text}") };
        let outcome = world.ledger.apply(&txn);
        assert_eq!((outcome.applied, outcome.refused.len()), (1, 2), "{unknown}: {outcome:?}");
        assert!(outcome.refused[1].why.ends_with(" is not known here"), "{outcome:?}");
        assert_eq!(world.ledger.position().seq, 7);
        assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::KeyRevoked), "{unknown}");
    }
}

#[test]
fn a_snapshot_is_loaded_without_its_records_of_unknown_kinds() {
    let mut world = World::new();
    let moon = |phase| SnapshotRecord::Unknown {
        kind: "moon".to_owned(),
        id: "m1".to_owned(),
        record: json!({"phase": phase}),
    };
    let sum = |phase| RecordSum::of_unknown("moon", "m1", &json!({"phase": phase}));
    let records = world.snapshot().into_iter().map(SnapshotRecord::from);
    // Twice, and the later one counts.
    let records: Vec<_> = records.chain([moon(1), moon(2)]).collect();
    let outcome = world.ledger.load(Position { epoch: 2, seq: 0 }, records).expect("few are bad");
    assert_eq!((outcome.applied, outcome.refused.len()), (6, 2), "{outcome:?}");
    assert_eq!(world.reason(&key(1, 1), NOW), None);
    let mut digest = world.expected_digest();
    digest.add(sum(2));
    assert_eq!((world.ledger.digest(), world.ledger.counts().others), (digest, 5));

    // Changes of such a record count, too, so that no digest calls for a snapshot because of them.
    let name = || ("moon".to_owned(), "m1".to_owned());
    for record in [Some(json!({"phase": 3})), None, None] {
        let (kind, id) = name();
        world.change(Change::UnknownKind { kind, id, record: record.clone() });
        let mut digest = world.expected_digest();
        record.iter().for_each(|_| digest.add(sum(3)));
        let others = 4 + usize::from(record.is_some());
        assert_eq!((world.ledger.digest(), world.ledger.counts().others), (digest, others));
    }
}

#[test]
fn a_bad_record_leaves_the_one_before_it_in_place() {
    let mut world = World::new();
    let bad = [
        (Kind::Key, id(1), json!({}), "missing field `account`"),
        (Kind::Key, "short".to_owned(), json!({}), "id: a key id is 11 characters"),
        (Kind::Key, id(1), key_record(&key(1, 1), json!({"crit": ["moon"]})), "crit: \"moon\""),
        (Kind::Key, id(1), key_record(&key(1, 1), json!({"sources": ["x"]})), "sources: "),
        (
            Kind::Account,
            "sa1".to_owned(),
            account_record(&json!([{"at": "?", "self": [], "below": []}])),
            "grants: `at` is",
        ),
        (
            Kind::Account,
            "sa1".to_owned(),
            account_record(&json!([{"at": "org", "self": ["x"], "below": []}])),
            "grants: \"x\"",
        ),
        (Kind::Org, "o1".to_owned(), json!({"state": "tired"}), "unknown variant `tired`"),
        (Kind::Resource, "o1:cluster/c1".to_owned(), json!({"parent": "cluster/c1"}), "parent: "),
        (Kind::Resource, "nowhere".to_owned(), json!({"parent": "org"}), "id: "),
        (Kind::Role, "viewer".to_owned(), json!({"permissions": ["@other"]}), "permissions: "),
    ];
    for (kind, name, record, why) in bad {
        let outcome = world.put(kind, &name, record);
        let refused = outcome.refused.first().map(|refused| refused.why.clone());
        assert!(refused.as_ref().is_some_and(|text| text.starts_with(why)), "{why}: {refused:?}");
        assert_eq!(world.ledger.digest(), world.expected_digest(), "{why}");
        assert_eq!(
            world.may(&key(1, 1), "cluster:read", Place::At("cluster/c1", Unknown::Deny)),
            Ok(())
        );
    }
    let outcome = world.reload();
    assert_eq!(outcome.refused.len(), 7, "{outcome:?}");
    assert_eq!(world.ledger.digest(), world.expected_digest());
    assert_eq!(
        world.may(&key(1, 1), "cluster:read", Place::At("cluster/c1", Unknown::Deny)),
        Ok(())
    );
    assert_eq!(world.delete(Kind::Key, &id(1)).refused.len(), 1);
}

#[test]
fn a_snapshot_with_many_bad_records_changes_nothing() {
    let mut world = World::new();
    let before = world.ledger.digest();
    let bad = (0..11).map(|number| (Kind::Key, format!("bad{number}"), json!({})));
    let refused = world.ledger.load(Position { epoch: 5, seq: 9 }, bad).expect_err("all bad");
    assert_eq!(refused.records, 11);
    assert_eq!(world.ledger.digest(), before);
    assert_eq!(world.ledger.position().epoch, 1);
    assert_eq!(world.reason(&key(1, 1), NOW), None);
}

#[test]
fn the_first_point_on_the_way_to_the_root_decides() {
    let mut world = World::new();
    let c1 = Place::At("cluster/c1", Unknown::Deny);
    let c2 = Place::At("cluster/c2", Unknown::Deny);
    assert_eq!(world.may(&key(1, 1), "cluster:read", c1), Ok(()));
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "role:read", Place::Root), Err(DenyReason::MissingPermission));
    world.put(
        Kind::Account,
        "sa1",
        account_record(&json!([
            {"at": "org", "self": ["org:admin"], "below": ["cluster:*"]},
            {"at": "cluster/c1", "self": ["*:read"], "below": ["*:*"]},
        ])),
    );
    world.put(Kind::Resource, "o1:project/p1", json!({"parent": "cluster/c1"}));
    let p1 = Place::At("project/p1", Unknown::Deny);
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "cluster:write", c2), Ok(()));
    assert_eq!(world.may(&key(1, 1), "org:admin", Place::Root), Ok(()));
    assert_eq!(world.may(&key(1, 1), "org:admin", c2), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "thing:poke", p1), Ok(()));
    assert_eq!(world.may(&key(1, 1), "role:read", p1), Err(DenyReason::MissingPermission));
    world.put(Kind::Resource, "o1:project/p1", json!({"parent": "cluster/c2"}));
    assert_eq!(world.may(&key(1, 1), "thing:poke", p1), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "cluster:poke", p1), Ok(()));
}

#[test]
fn unknown_resources_are_refused_or_count_as_children_of_the_root() {
    let mut world = World::new();
    let stranger = |unknown| Place::At("cluster/nope", unknown);
    assert_eq!(
        world.may(&key(1, 1), "cluster:read", stranger(Unknown::Deny)),
        Err(DenyReason::UnknownResource)
    );
    assert_eq!(world.may(&key(1, 1), "cluster:read", stranger(Unknown::Root)), Ok(()));
    world.put(
        Kind::Account,
        "sa1",
        account_record(&json!([
            {"at": "org", "self": ["*:read"], "below": []},
        ])),
    );
    assert_eq!(
        world.may(&key(1, 1), "cluster:read", stranger(Unknown::Root)),
        Err(DenyReason::MissingPermission)
    );
    world.delete(Kind::Resource, "o1:cluster/c1");
    assert_eq!(
        world.may(&key(1, 1), "cluster:read", Place::At("cluster/c1", Unknown::Deny)),
        Err(DenyReason::UnknownResource)
    );
}

#[test]
fn roles_and_sets_change_in_one_record_for_all_who_name_them() {
    let mut world = World::new();
    let c1 = Place::At("cluster/c1", Unknown::Deny);
    world.put(Kind::Role, "viewer", json!({"permissions": ["*:write"]}));
    assert_eq!(world.may(&key(1, 1), "cluster:read", c1), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Ok(()));
    let mut record = account_record(&json!([]));
    record["sets"] = json!(["team"]);
    world.put(Kind::Account, "sa1", record);
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Err(DenyReason::MissingPermission));
    let points = json!([{"at": "cluster/c1", "self": ["cluster:write"], "below": []}]);
    world.put(Kind::Set, "team", json!({"org": "o1", "points": points}));
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Ok(()));
    world.delete(Kind::Set, "team");
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Err(DenyReason::MissingPermission));
}

#[test]
fn a_denial_anywhere_wins_over_every_grant() {
    let mut world = World::new();
    let (c1, c2) = (Place::At("cluster/c1", Unknown::Deny), Place::At("cluster/c2", Unknown::Deny));
    let (read, write) = ("cluster:read", "cluster:write");
    let everywhere = json!([{"at": "org", "self": ["@viewer"], "below": ["@viewer"]}]);
    let refused = Err(DenyReason::MissingPermission);
    world.put(Kind::Role, "limits", json!({"permissions": ["*:write"], "deny": [], "crit": []}));
    let here = json!([{"at": "cluster/c1", "self": ["@limits"], "below": ["@limits"]}]);
    let mut record = account_record(&everywhere);
    record["sets"] = json!(["team"]);
    record["crit"] = json!(["denials"]);
    world.put(Kind::Account, "sa1", record.clone());
    let set = json!({"org": "o1", "points": here, "denials": here, "crit": ["denials"]});
    world.put(Kind::Set, "team", set);
    assert_eq!(
        (world.may(&key(1, 1), read, c1), world.may(&key(1, 1), write, c1)),
        (Ok(()), Ok(()))
    );
    // One record of the role, and the denial reaches whoever has it, by any way.
    let role = json!({"permissions": ["*:write"], "deny": ["*:read"], "crit": ["deny"]});
    world.put(Kind::Role, "limits", role);
    assert_eq!(
        (world.may(&key(1, 1), read, c1), world.may(&key(1, 1), write, c1)),
        (refused, Ok(()))
    );
    assert_eq!(world.may(&key(1, 1), read, c2), Ok(()));
    world.reload();
    assert_eq!(world.may(&key(1, 1), read, c1), refused);
    // A denial of its own, without a role.
    record["denials"] = json!([{"at": "org", "self": [], "below": ["cluster:*"]}]);
    world.put(Kind::Account, "sa1", record);
    assert_eq!(world.may(&key(1, 1), write, c1), refused);
    assert_eq!(world.may(&key(1, 1), read, Place::Root), Ok(()));
}

#[test]
fn a_denial_by_an_unknown_role_denies_everything() {
    let mut world = World::new();
    let mut record = account_record(&json!([{"at": "org", "self": ["**"], "below": ["**"]}]));
    record["denials"] = json!([{"at": "org", "self": ["@nobody"], "below": []}]);
    record["crit"] = json!(["denials"]);
    world.put(Kind::Account, "sa1", record);
    let refused = Err(DenyReason::MissingPermission);
    assert_eq!(world.may(&key(1, 1), "cluster:read", Place::Root), refused);
    let c1 = Place::At("cluster/c1", Unknown::Deny);
    assert_eq!(world.may(&key(1, 1), "cluster:read", c1), Ok(()));
}

#[test]
fn a_record_with_a_denial_that_cannot_be_read_is_refused() {
    let mut world = World::new();
    let mut record = account_record(&json!([{"at": "org", "self": ["**"], "below": ["**"]}]));
    record["denials"] = json!([{"at": "org", "self": ["@nobody"], "below": ["Cluster"]}]);
    record["crit"] = json!(["denials", "exceptions"]);
    let outcome = world.put(Kind::Account, "sa1", record.clone());
    assert!(outcome.refused[0].why.contains("exceptions"), "{outcome:?}");
    record["crit"] = json!(["denials"]);
    let outcome = world.put(Kind::Account, "sa1", record);
    assert!(outcome.refused[0].why.starts_with("denials:"), "{outcome:?}");
    let role = json!({"permissions": [], "deny": ["@viewer"], "crit": ["deny"]});
    let outcome = world.put(Kind::Role, "viewer", role);
    assert_eq!(outcome.refused[0].why, "deny: a role names no other role");
}

#[test]
fn a_restriction_narrows_by_permission_resource_and_method() {
    let mut world = World::new();
    let mut with = |restrict: Value, permission: &str, place: Place<'_>| {
        world.put(Kind::Key, &id(1), key_record(&key(1, 1), json!({"restrict": restrict})));
        world.may(&key(1, 1), permission, place)
    };
    let c1 = Place::At("cluster/c1", Unknown::Deny);
    let c2 = Place::At("cluster/c2", Unknown::Deny);
    let no = Err(DenyReason::Restricted);
    assert_eq!(with(json!({}), "cluster:read", c1), Ok(()));
    assert_eq!(with(json!({"permissions": ["node:*"]}), "cluster:read", c1), no);
    assert_eq!(with(json!({"permissions": ["*:read"]}), "cluster:read", c1), Ok(()));
    assert_eq!(
        with(json!({"permissions": ["*:*"]}), "cluster:write", c1),
        Err(DenyReason::MissingPermission)
    );
    assert_eq!(with(json!({"resources": ["cluster/c1"]}), "cluster:read", c1), Ok(()));
    assert_eq!(with(json!({"resources": ["cluster/c1"]}), "cluster:read", c2), no);
    assert_eq!(with(json!({"resources": ["org"]}), "cluster:read", c2), Ok(()));
    assert_eq!(with(json!({"resources": []}), "cluster:read", c2), no);
    assert_eq!(with(json!({"methods": ["GET"]}), "cluster:read", c1), Ok(()));
    assert_eq!(with(json!({"methods": ["POST"]}), "cluster:read", c1), no);
}

#[test]
fn an_archived_resource_keeps_only_read() {
    let mut world = World::new();
    world.put(
        Kind::Account,
        "sa1",
        account_record(&json!([{"at": "org", "self": ["**"], "below": ["**"]}])),
    );
    let c1 = Place::At("cluster/c1", Unknown::Deny);
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Ok(()));
    world.put(
        Kind::Resource,
        "o1:cluster/c1",
        json!({"parent": "org", "archived": true, "crit": ["archived"]}),
    );
    assert_eq!(world.may(&key(1, 1), "cluster:write", c1), Err(DenyReason::MissingPermission));
    assert_eq!(world.may(&key(1, 1), "cluster:read", c1), Ok(()));
}

#[test]
fn a_view_never_sees_what_comes_later() {
    let mut world = World::new();
    let before = world.ledger.view();
    world.revoke(Kind::Key, &id(1));
    world.revoke(Kind::Account, "sa1");
    assert!(before.verify(&key(1, 1).parsed(), peer(), NOW, &peppers()).is_ok());
    assert_eq!(world.reason(&key(1, 1), NOW), Some(DenyReason::KeyRevoked));
}

#[test]
fn explain_names_every_check() {
    let mut world = World::new();
    world.put(
        Kind::Key,
        &id(1),
        key_record(&key(1, 1), json!({"state": "inactive", "expires_at_ms": 1})),
    );
    let findings = world.ledger.view().explain(KeyId::from_u64(1), peer(), NOW);
    let denied: Vec<_> = findings.iter().filter_map(|finding| finding.denied).collect();
    assert_eq!(denied, [DenyReason::KeyInactive, DenyReason::KeyExpired]);
    assert_eq!(findings.len(), 10);
    let unknown = world.ledger.view().explain(KeyId::from_u64(9), peer(), NOW);
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].denied, Some(DenyReason::UnknownKey));
}

#[test]
fn positions_fit_or_they_do_not() {
    let world = World::new();
    let at = |epoch, seq| world.ledger.fit(Position { epoch, seq });
    let here = world.ledger.position();
    assert_eq!(at(here.epoch, here.seq), Fit::Duplicate);
    assert_eq!(at(0, 999), Fit::Duplicate);
    assert_eq!(at(here.epoch, here.seq + 1), Fit::Next);
    assert_eq!(at(here.epoch, here.seq + 2), Fit::Gap);
    assert_eq!(at(here.epoch + 1, here.seq + 1), Fit::Gap);
}

/// One random step on a handful of keys and accounts.
#[derive(Clone, Debug)]
enum Step {
    Key { number: u64, secret: u64, generation: u32, active: bool },
    RevokeKey(u64),
    Account { number: u64, active: bool },
    RevokeAccount(u64),
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..40, 0u64..3, 1u32..4, any::<bool>()).prop_map(
            |(number, secret, generation, active)| Step::Key { number, secret, generation, active }),
        3 => (0u64..40).prop_map(Step::RevokeKey),
        2 => (0u64..3, any::<bool>()).prop_map(|(number, active)| Step::Account { number, active }),
        1 => (0u64..3).prop_map(Step::RevokeAccount),
        1 => Just(Step::Reload),
    ]
}

#[test]
fn the_key_table_splits_its_shards_as_it_grows() {
    let mut table = KeyTable::new(Mixer(7));
    let count = 300_000;
    for number in 0..count {
        let entry = keys::Entry {
            digest: Digest::DUMMY,
            pepper: 1,
            account: number,
            generation: 1,
            standing: Standing::Active,
            expires_at: None,
            extra: None,
        };
        table.put(KeyId::from_u64(u64::from(number)), entry, RecordSum(1));
    }
    assert_eq!(table.len(), count as usize);
    for number in 0..count {
        let found = table.find(KeyId::from_u64(u64::from(number))).map(|slot| slot.account);
        assert_eq!(found, Some(number));
    }
    assert!(table.find(KeyId::from_u64(u64::from(count))).is_none());
}

proptest! {
    #[test]
    fn any_history_ends_in_the_state_that_the_model_ends_in(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        let state = |active| if active { "active" } else { "inactive" };
        // Key → (secret, generation, active, account revoked?) as a plain map would have it.
        let mut keys: BTreeMap<u64, Option<(u64, u32, bool)>> = BTreeMap::new();
        let mut accounts: BTreeMap<u64, Option<bool>> = BTreeMap::new();
        keys.insert(1, Some((1, 1, true)));
        for step in steps {
            match step {
                Step::Key { number, secret, generation, active } => {
                    let record = key_record(&key(number, secret), json!({
                        "account": format!("a{}", number % 3),
                        "generation": generation, "state": state(active)}));
                    world.put(Kind::Key, &id(number), record);
                    let entry = keys.entry(number).or_insert(Some((secret, 0, active)));
                    if let Some(old) = entry && generation >= old.1 {
                        *old = (secret, generation, active);
                    }
                }
                Step::RevokeKey(number) => {
                    world.revoke(Kind::Key, &id(number));
                    keys.insert(number, None);
                }
                Step::Account { number, active } => {
                    let record = json!({"org": "o1", "state": state(active)});
                    world.put(Kind::Account, &format!("a{number}"), record);
                    let entry = accounts.entry(number).or_insert(Some(active));
                    if let Some(old) = entry { *old = active; }
                }
                Step::RevokeAccount(number) => {
                    world.revoke(Kind::Account, &format!("a{number}"));
                    accounts.insert(number, None);
                }
                Step::Reload => { world.reload(); }
            }
            prop_assert_eq!(world.ledger.digest(), world.expected_digest());
        }
        for number in (0..40).filter(|number| *number != 1) {
            let account = accounts.get(&(number % 3)).copied();
            for secret in 0..3 {
                let expected = match keys.get(&number) {
                    None => Some(DenyReason::UnknownKey),
                    Some(None) => None,
                    Some(Some((right, ..))) if *right != secret => Some(DenyReason::BadSecret),
                    Some(Some((_, _, active))) => match (account, active) {
                        (Some(None), _) => Some(DenyReason::SaRevoked),
                        (_, false) => Some(DenyReason::KeyInactive),
                        (Some(Some(true)), true) => None,
                        (None | Some(Some(false)), true) => Some(DenyReason::SaInactive),
                    },
                };
                let reason = world.reason(&key(number, secret), NOW);
                if matches!(keys.get(&number), Some(None)) {
                    // A tombstone keeps the digest it had, if it ever had one.
                    prop_assert!(matches!(
                        reason,
                        Some(DenyReason::BadSecret | DenyReason::KeyRevoked | DenyReason::UnknownKey)
                    ));
                } else {
                    prop_assert_eq!(reason, expected);
                }
            }
        }
    }

    #[test]
    fn the_key_table_equals_a_set(
        seed: u64,
        numbers in proptest::collection::vec(any::<u64>(), 1..3000),
        copied in 0usize..3000,
    ) {
        let entry = |number: u64| keys::Entry {
            digest: Digest::DUMMY, pepper: 1, account: number as u32, generation: 1,
            standing: Standing::Active, expires_at: None, extra: None,
        };
        let mut table = KeyTable::new(Mixer(seed));
        let (first, rest) = numbers.split_at(copied.min(numbers.len()));
        for number in first {
            table.put(KeyId::from_u64(*number), entry(*number), RecordSum(1));
        }
        let copy = table.clone();
        for number in rest {
            table.put(KeyId::from_u64(*number), entry(*number), RecordSum(2));
        }
        table.settle();
        for number in rest.iter().filter(|number| !first.contains(number)) {
            prop_assert!(copy.find(KeyId::from_u64(*number)).is_none());
        }
        let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
        prop_assert_eq!(table.len(), distinct.len());
        for number in &numbers {
            let found = table.find(KeyId::from_u64(*number)).map(|slot| slot.account);
            prop_assert_eq!(found, Some(*number as u32));
            let missing = number.wrapping_add(1);
            if !distinct.contains(&missing) {
                prop_assert!(table.find(KeyId::from_u64(missing)).is_none());
            }
        }
    }
}

#[test]
fn a_record_that_a_snapshot_holds_twice_counts_once_and_the_later_one_does() {
    let good_key = |secret| key_record(&key(1, secret), json!({}));
    let good_account = |name: &str| {
        let mut record = account_record(&json!([]));
        record["name"] = json!(name);
        record
    };
    let cases = [
        (Kind::Org, "o1".to_owned(), json!({"state": "active"}), json!({"state": "suspended"})),
        (Kind::Key, id(1), good_key(1), good_key(2)),
        (Kind::Key, id(1), good_key(1), json!({"state": 7})),
        (Kind::Key, id(1), json!({"state": 7}), good_key(1)),
        (Kind::Account, "sa1".to_owned(), good_account("a"), good_account("b")),
        (Kind::Account, "sa1".to_owned(), good_account("a"), json!({"org": 7})),
        (Kind::Account, "sa1".to_owned(), json!({"org": 7}), good_account("a")),
    ];
    for (kind, id, first, second) in cases {
        let mut ledger = Ledger::new(7);
        let records = [(kind, id.clone(), first), (kind, id.clone(), second.clone())];
        let position = Position { epoch: 1, seq: 1 };
        ledger.load(position, records).expect("few bad records");
        let mut digest = StateDigest::default();
        digest.add(RecordSum::of(kind, &id, &second));
        assert_eq!(ledger.digest(), digest, "{kind} {second}");
        let Counts { keys, accounts, others, .. } = ledger.counts();
        assert_eq!(keys + accounts + others, 1, "{kind} {second}");
    }
}
