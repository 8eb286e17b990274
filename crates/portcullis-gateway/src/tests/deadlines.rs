//! Deadlines of secrets and keys to the millisecond, and records that cannot be read.

use std::time::Duration;

use portcullis_core::key::{self, Prefix};
use serde_json::{Value, json};

use super::{Counting, OK, Script, Stage, WALL, pepper};

/// Sooner than the feed's silence would count.
const DEADLINE_MS: u64 = 10_000;

/// A gateway whose key was rotated: the stage's key is the replaced secret, and the current one
/// comes beside. `arrange` says more about the record.
fn rotated(arrange: impl FnOnce(&mut Value)) -> (Stage, String) {
    let stage = Stage::set(Script::fixed(OK).address, |_| {});
    let current = rotated_value(&stage);
    publish(&stage, 2, &current, arrange);
    (stage, current)
}

/// Another secret for the stage's key.
fn rotated_value(stage: &Stage) -> String {
    let id = key::parse(stage.key.as_bytes()).unwrap().id();
    let value = key::mint_for(id, &Prefix::default(), &Counting(900.into())).unwrap();
    value.expose().to_owned()
}

fn publish(stage: &Stage, seq: u64, current: &str, arrange: impl FnOnce(&mut Value)) {
    let digest = key::parse(current.as_bytes()).unwrap().digest(&pepper()).to_hex();
    let mut records = stage.usual_records();
    let record = &mut records.last_mut().unwrap().2;
    record["generation"] = json!(2);
    record["previous"] = record["current"].clone();
    record["previous"]["retained_until_ms"] = json!(WALL + DEADLINE_MS);
    record["current"]["digest"] = json!(digest);
    arrange(record);
    stage.publish(seq, records);
    stage.wait("the record", || stage.running.handle().status().feed.seq == seq);
}

/// The status that a value gets over a connection of its own.
fn status(stage: &Stage, value: &str) -> u16 {
    let lines = format!("authorization: Bearer {value}\r\n");
    let answer = stage.ask(&format!("GET /a HTTP/1.1\r\nhost: api\r\n{lines}\r\n"));
    if answer.status() != 200 {
        assert_eq!(answer.code(), "invalid_token");
    }
    answer.status()
}

/// The statuses of both secrets one millisecond before the deadline, at it and one after; both are
/// used before, so that whatever is kept of them is warm, and over a connection that stays.
fn around_the_deadline(stage: &Stage, old: &str, current: &str) -> [[u16; 2]; 3] {
    let mut kept = stage.connect();
    let mut old_on_the_kept_connection = || {
        let request =
            format!("GET /a HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {old}\r\n\r\n");
        kept.ask(&request).status()
    };
    let mut both = || {
        let seen = [status(stage, old), status(stage, current)];
        assert_eq!(old_on_the_kept_connection(), seen[0]);
        seen
    };
    assert_eq!(both(), [200, 200]);
    let steps = [DEADLINE_MS - 1, 1, 1];
    steps.map(|ms| {
        stage.clock.advance(Duration::from_millis(ms));
        both()
    })
}

#[test]
fn x_9_a_replaced_secret_ends_at_its_deadline_exactly() {
    let (stage, current) = rotated(|_| {});
    let seen = around_the_deadline(&stage, &stage.key, &current);
    assert_eq!(seen, [[200, 200], [401, 200], [401, 200]]);
}

/// Whatever the retention says, nothing of a key outlives the key.
#[test]
fn x_10_a_retention_never_extends_the_life_of_an_expiring_key() {
    let (stage, current) = rotated(|record| {
        record["expires_at_ms"] = json!(WALL + DEADLINE_MS);
        record["previous"]["retained_until_ms"] = json!(WALL + 6 * DEADLINE_MS);
    });
    let seen = around_the_deadline(&stage, &stage.key, &current);
    assert_eq!(seen, [[200, 200], [401, 401], [401, 401]]);
}

#[test]
fn x_9_a_key_ends_at_its_expiry_exactly_after_its_replaced_secret() {
    let (stage, current) = rotated(|record| {
        record["expires_at_ms"] = json!(WALL + DEADLINE_MS);
        record["previous"]["retained_until_ms"] = json!(WALL + DEADLINE_MS / 2);
    });
    stage.clock.advance(Duration::from_millis(DEADLINE_MS / 2 - 1));
    assert_eq!([status(&stage, &stage.key), status(&stage, &current)], [200, 200]);
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!([status(&stage, &stage.key), status(&stage, &current)], [401, 200]);
    stage.clock.advance(Duration::from_millis(DEADLINE_MS / 2 - 1));
    assert_eq!(status(&stage, &current), 200);
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!(status(&stage, &current), 401);
}

/// What is wrong with a record, and how it gets so.
type Corruption = (&'static str, fn(&mut Value));

/// What can be wrong with a key's record.
const CORRUPTIONS: [Corruption; 8] = [
    ("no deadline", |record| {
        record["previous"].as_object_mut().unwrap().remove("retained_until_ms");
    }),
    ("a deadline of null", |record| record["previous"]["retained_until_ms"] = json!(null)),
    ("a deadline of text", |record| record["previous"]["retained_until_ms"] = json!("never")),
    ("a deadline before time", |record| record["previous"]["retained_until_ms"] = json!(-1)),
    ("an expiry of text", |record| record["expires_at_ms"] = json!("never")),
    ("a short digest", |record| record["previous"]["digest"] = json!("00")),
    ("an unknown algorithm", |record| record["current"]["alg"] = json!("none")),
    ("an unknown state", |record| record["state"] = json!("splendid")),
];

/// A key whose record cannot be read is no key: neither of its secrets opens anything.
#[test]
fn x_9_a_corrupt_record_opens_nothing() {
    for (what, corrupt) in CORRUPTIONS {
        let stage = Stage::set_empty(Script::fixed(OK).address, |_| {});
        let current = rotated_value(&stage);
        publish(&stage, 1, &current, corrupt);
        stage.wait("the snapshot", || stage.running.handle().status().ready);
        assert_eq!([status(&stage, &stage.key), status(&stage, &current)], [401, 401], "{what}");
    }
}

/// A record that cannot be read leaves the one before it in place, with the deadlines it had.
#[test]
fn x_9_a_corrupt_record_lengthens_no_deadline() {
    for (what, corrupt) in CORRUPTIONS {
        let (stage, current) = rotated(|record| {
            record["expires_at_ms"] = json!(WALL + 2 * DEADLINE_MS);
        });
        publish(&stage, 3, &current, |record| {
            record["previous"]["retained_until_ms"] = json!(WALL + 3 * DEADLINE_MS);
            corrupt(record);
        });
        let seen = around_the_deadline(&stage, &stage.key, &current);
        assert_eq!(seen, [[200, 200], [401, 200], [401, 200]], "{what}");
        stage.clock.advance(Duration::from_millis(DEADLINE_MS - 2));
        assert_eq!(status(&stage, &current), 200, "{what}");
        stage.clock.advance(Duration::from_millis(1));
        assert_eq!(status(&stage, &current), 401, "{what}");
    }
}
