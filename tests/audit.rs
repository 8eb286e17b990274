//! The audit log and usage from the command line: listed, exported, proven whole, and every
//! tampering shown with an exit code.

use std::fs;

use serde_json::Value;

use crate::support::operator::Operator;
use crate::support::stage::Stage;

#[test]
fn an_export_is_proven_whole_offline_and_every_tampering_is_found() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    for name in ["one", "two", "three"] {
        operator.run(&["account", "create", name]);
    }
    let listed = operator.json(&["audit", "list", "--action", "service_account.create"]);
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|e| e["target"]["name"].as_str()).collect();
    assert_eq!(names, ["three", "two", "one"]);
    assert_eq!(operator.json(&["audit", "list", "--limit", "2"]).as_array().unwrap().len(), 2);

    operator.run(&["audit", "export", "--output", "audit.jsonl"]);
    let file = stage.home.path("audit.jsonl");
    let key = stage.home.data().join("feed-signing.pub");
    let key = key.to_str().unwrap();
    let verify = ["audit", "verify", "audit.jsonl", "--public-key", key];
    let told = operator.run(&verify);
    assert_eq!(told, "whole and unchanged: 4 events, signed up to event 4\n");
    // An export is not written over, and offline the key must come from elsewhere.
    assert!(!operator.try_run(&["audit", "export", "--output", "audit.jsonl"]).status.success());
    assert_eq!(operator.try_run(&["audit", "verify", "audit.jsonl"]).status.code(), Some(2));

    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let without = |gone: &str| -> String {
        let kept = lines.iter().filter(|line| !line.contains(gone));
        kept.map(|line| format!("{line}\n")).collect()
    };
    for (bad, said) in [
        (whole.replace("three", "thief"), "event 4: the event was changed"),
        (without("\"name\":\"two\""), "event 4: events before it are missing"),
        (without("\"name\":\"three\""), "event 4: it was signed and is gone"),
        (without("audit_checkpoint"), "event 1: its checkpoint is missing"),
    ] {
        fs::write(&file, bad).unwrap();
        let found = operator.try_run(&verify);
        assert_eq!(found.status.code(), Some(1));
        let told = String::from_utf8(found.stdout).unwrap();
        assert!(told.starts_with(said), "{told}");
    }

    // Cut off with its checkpoints, an export is sound by itself; an earlier one shows the cut.
    let cut: String = lines[..3].iter().map(|line| format!("{line}\n")).collect();
    fs::write(&file, cut).unwrap();
    fs::write(stage.home.path("earlier.jsonl"), &whole).unwrap();
    operator.run(&verify);
    let found = operator.try_run(&[&verify[..], &["--earlier", "earlier.jsonl"]].concat());
    assert_eq!(found.status.code(), Some(1));
}

#[test]
fn the_servers_log_is_verified_with_the_operators_own_key() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    operator.run(&["account", "create", "one"]);
    let verdict = operator.json(&["audit", "verify"]);
    assert_eq!(verdict["ok"], true);
    let key = stage.home.data().join("feed-signing.pub");
    let key = key.to_str().unwrap();
    assert_eq!(operator.json(&["audit", "verify", "--public-key", key])["last_seq"], 2);
    let other = stage.home.write("other.pub", "0000000000000000000000000000000000000000000\n");
    let other = other.to_str().unwrap();
    let refused = operator.try_run(&["audit", "verify", "--public-key", other]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("not signed by a trusted key"));

    let csv = operator.run(&["audit", "export", "--format", "csv"]);
    assert!(csv.starts_with("seq,id,ts,"), "{csv}");
    let events = operator.run(&["audit", "export", "--format", "cloudevents"]);
    let first: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!(first["specversion"], "1.0");
    let filtered = operator.run(&["audit", "export", "--action", "service_account.create"]);
    assert_eq!(filtered.lines().count(), 1);
}

#[test]
fn usage_is_shown_for_organization_account_and_key() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    operator.run(&["account", "create", "ci"]);
    operator.run(&["key", "create", "ci", "--name", "main", "--secret-file", "ci.key"]);
    let value = fs::read_to_string(stage.home.path("ci.key")).unwrap().trim().to_owned();
    stage.ask(&value).expect_status(200);
    let id = &value[4..15];
    let used = crate::support::wait::until("the use is shown", || {
        Some(operator.json(&["usage", "key", id])).filter(|usage| usage["total_calls"] == 1)
    });
    assert_eq!(used["last_used_ip"], "127.0.0.1");
    let table = operator.run(&["usage", "account", "ci"]);
    assert!(table.contains("total calls") && table.contains("DAY"), "{table}");
    let org = operator.json(&["usage", "org"]);
    assert_eq!((&org["service_accounts"], &org["keys"]), (&1.into(), &2.into()));
    let keys = operator.run(&["key", "list", "ci"]);
    assert!(keys.contains("LAST USED") && keys.contains("20"), "{keys}");
}
