//! Use at the gateway and what the control plane shows of it: soon enough by default, each request
//! once, each secret by itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::admin::{Admin, Key};
use crate::support::stage::{OPEN_ROUTE, Stage};
use crate::support::upstream::Upstream;
use crate::support::wait::{self, Stopwatch};

/// What a last use may lag by default.
const LAG: Duration = Duration::from_secs(10);

fn shown(owner: &Admin, key: &Key) -> Value {
    owner.call("GET", &key.path, None).expect_status(200).json()
}

#[test]
fn a_use_at_the_gateway_is_shown_within_ten_seconds_for_the_secret_that_was_used() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let old = stage.owner.key(&account, "main");
    let new = stage.owner.rotate(&account, &old, &json!({"retain_minutes": 60}));
    let watch = Stopwatch::start();
    for _ in 0..3 {
        stage.ask(&old.value).expect_status(200);
    }
    let used = wait::until("the old secret's use", || {
        Some(shown(&stage.owner, &old)).filter(|key| key["use_count"] == 3)
    });
    assert!(watch.elapsed() < LAG, "{:?}", watch.elapsed());
    assert_eq!(used["last_used_ip"], "127.0.0.1");
    assert!(used["current"]["last_used_at"].is_null(), "{used}");
    assert!(used["previous"]["last_used_at"].is_string(), "{used}");

    stage.ask(&new.value).expect_status(200);
    stage.ask("ptc_00000000001_unknown").expect_status(401);
    let used = wait::until("the new secret's use", || {
        Some(shown(&stage.owner, &old)).filter(|key| key["use_count"] == 4)
    });
    assert!(used["current"]["last_used_at"].is_string(), "{used}");
    let usage = stage.owner.call("GET", &format!("{}/usage", old.path), None);
    let usage = usage.expect_status(200).json();
    assert_eq!((&usage["total_calls"], &usage["total_denied"]), (&json!(4), &json!(0)));
    let days = usage["days"].as_array().unwrap();
    assert_eq!(days.iter().map(|day| day["calls"].as_u64().unwrap()).sum::<u64>(), 4);
}

#[test]
fn an_organization_may_want_its_uses_sooner_than_the_gateway_reports_by_itself() {
    let config = format!("[feed]\nusage_interval = \"8s\"\n{OPEN_ROUTE}");
    let stage = Stage::with(Upstream::nginx(), &config);
    let policy = format!("{}/policy", stage.owner.organization);
    stage.owner.patch(&policy, &json!({"last_used_flush_s": 1}));
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "main");
    let used = |times: u64| {
        wait::until("the use", || {
            Some(shown(&stage.owner, &key)).filter(|key| key["use_count"] == times)
        });
    };
    // The first report brings the wish back.
    stage.ask(&key.value).expect_status(200);
    used(1);
    let watch = Stopwatch::start();
    stage.ask(&key.value).expect_status(200);
    used(2);
    assert!(watch.elapsed() < Duration::from_secs(5), "{:?}", watch.elapsed());
}

#[test]
fn a_revoked_keys_refusals_are_counted_and_audited_once_a_minute() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "main");
    stage.owner.act(&key.path, "revoke");
    for _ in 0..5 {
        stage.ask(&key.value).expect_status(401);
    }
    wait::until("the refusals", || {
        Some(shown(&stage.owner, &key)).filter(|key| key["denied_count"] == 5)
    });
    let events = stage.owner.get("/audit-events?action=credential.denied");
    let events = events.expect_status(200).json();
    let events = events["items"].as_array().unwrap();
    // Five refusals may fall into two minutes and into several reports.
    assert!((1..=2).contains(&events.len()), "{events:?}");
    assert_eq!(events[0]["reason"], "key_revoked");
    assert_eq!(events[0]["target"]["id"], json!(key.id));
}

#[test]
fn what_was_used_just_before_the_end_is_there_after_the_next_start() {
    let Stage { program, owner, home, upstream } = Stage::new();
    let account = owner.account("ci");
    let key = owner.key(&account, "main");
    let gateway = program.gateway();
    let ask = || crate::support::http::Request::get("/").bearer(&key.value).send(gateway);
    for _ in 0..7 {
        ask().expect_status(200);
    }
    assert!(program.interrupt().success());
    let config = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    let program = home.up_with(&config).ready();
    assert_eq!(shown(&program.owner(&home), &key)["use_count"], 7);
    drop(upstream);
}
