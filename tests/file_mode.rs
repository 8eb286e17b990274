//! A gateway that follows a file: the directory without any control plane.

use portcullis_core::feed::Kind;
use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::snapshot::{Snapshot, publish};
use crate::support::stage::{FILE_ARGS, FileStage, OPEN_ROUTE, file_home};
use crate::support::upstream::Upstream;
use crate::support::wait;

#[test]
fn a_changed_file_is_read_again_and_swapped_as_a_whole() {
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let first = snapshot.key("ci");
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    stage.ask(first.expose()).expect_status(200);

    let second = snapshot.key("ci");
    snapshot.put(
        Kind::Key,
        &first.id().to_string(),
        json!({
            "account": "ci", "state": "inactive", "generation": 1,
            "current": crate::support::snapshot::digest_of(&first),
        }),
    );
    snapshot.advance();
    snapshot.write_to(&stage.home);
    wait::until("the new key", || (stage.ask(second.expose()).status == 200).then_some(()));
    stage.ask(first.expose()).expect_status(401);
    assert!(stage.program.metric("portcullis_feed_seq") >= 2.0);
}

#[test]
fn a_file_that_is_damaged_changes_nothing_and_is_reported() {
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    snapshot.advance();
    let good = snapshot.text();
    let lines: Vec<&str> = good.lines().collect();
    let truncated = lines[..lines.len() - 1].join("\n") + "\n";
    let one_line_less = [&lines[..2], &lines[3..]].concat().join("\n") + "\n";
    let flipped = good.replacen("\"active\"", "\"actixe\"", 1);
    for (what, damaged) in [
        ("no end line", truncated),
        ("a line is missing", one_line_less),
        ("a byte was changed", flipped),
        ("not JSON", "hello\n".to_owned()),
        ("empty", String::new()),
        (
            "a member twice",
            good.replacen("{\"kind\":\"org\"", "{\"kind\":\"org\",\"kind\":\"org\"", 1),
        ),
    ] {
        let before = stage.program.log().len();
        publish(&stage.home, &damaged);
        wait::until(&format!("a word about the file ({what})"), || {
            let log = stage.program.log();
            log[before..].lines().any(|line| line.contains("snapshot")).then_some(())
        });
        stage.ask(key.expose()).expect_status(200);
        stage.ask("nonsense").expect_status(401);
    }
    snapshot.remove(Kind::Account, "ci");
    snapshot.advance();
    snapshot.write_to(&stage.home);
    wait::until("the next good file", || (stage.ask(key.expose()).status == 401).then_some(()));
}

#[test]
fn one_bad_record_rejects_only_itself_and_is_named_in_the_status() {
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let good = snapshot.key("ci");
    let bad =
        snapshot.key_with("ci", &json!({"current": {"alg": "b3", "pepper": 1, "digest": "short"}}));
    let strange = snapshot.key_with("ci", &json!({"crit": ["moon_phase"]}));
    let unknown_state = snapshot.key_with("ci", &json!({"state": "sleepy"}));
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    stage.ask(good.expose()).expect_status(200);
    for key in [&bad, &strange, &unknown_state] {
        stage.ask(key.expose()).expect_status(401);
    }
    assert_eq!(
        stage.program.metric("portcullis_feed_changes_total{kind=\"key\",result=\"refused\"}"),
        3.0
    );
    let log = stage.program.log();
    assert!(log.contains(&bad.id().to_string()), "{log}");
}

#[test]
fn an_older_file_is_refused() {
    let mut snapshot = Snapshot::new();
    snapshot.set_seq(10);
    snapshot.account("ci");
    let key = snapshot.key("ci");
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    snapshot.set_seq(9);
    snapshot.remove(Kind::Account, "ci");
    let before = stage.program.log().len();
    snapshot.write_to(&stage.home);
    wait::until("a word about the file", || {
        stage.program.log()[before..].lines().any(|line| line.contains("snapshot")).then_some(())
    });
    stage.ask(key.expose()).expect_status(200);
}

#[test]
fn shared_sets_and_roles_give_what_their_records_say() {
    let mut snapshot = Snapshot::new()
        .with(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"}))
        .with(Kind::Role, "auditor", json!({"permissions": ["cluster:read"]}))
        .with(Kind::Set, "team", json!({"org": "o1", "points": [{"at": "cluster/c1", "self": ["@auditor"], "below": ["@auditor"]}]}));
    snapshot.account_with("ci", &json!({"grants": [], "sets": ["team"]}));
    let key = snapshot.key("ci");
    let config = "[[routes]]\nname = \"read\"\npath = \"/clusters/{cluster}\"\nupstream = \"app\"\n\
                  require = { permission = \"cluster:read\", resource = \"cluster/{cluster}\" }\n";
    let stage = FileStage::with(Upstream::nginx(), config, &snapshot);
    let request = Request::get("/clusters/c1").bearer(key.expose());
    stage.send(&request).expect_status(200);
    snapshot.put(Kind::Role, "auditor", json!({"permissions": ["node:read"]}));
    snapshot.advance();
    snapshot.write_to(&stage.home);
    wait::until("the role's change", || (stage.send(&request).status == 403).then_some(()));
}

#[test]
fn the_documented_snapshot_of_the_specification_is_understood() {
    let upstream = Upstream::nginx();
    let home = file_home(&upstream, OPEN_ROUTE);
    let mut snapshot =
        Snapshot::new().with(Kind::Org, "o1", json!({"state": "active", "a_new_member": 1}));
    snapshot
        .account_with("sa1", &json!({"name": "ci", "plan": "pro", "unknown": {"deep": [1, 2]}}));
    let key =
        snapshot.key_with("sa1", &json!({"generation": 2, "expires_at_ms": 4_000_000_000_000_u64}));
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    Request::get("/").bearer(key.expose()).send(program.gateway()).expect_status(200);
    let status: Value =
        serde_json::from_str(Request::get("/readyz").send(program.admin_listener()).text())
            .unwrap_or_default();
    assert!(status.is_object() || status.is_null());
}
