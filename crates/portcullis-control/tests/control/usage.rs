//! The use of keys: what gateways report and what the admin API sees itself, counted once, shown
//! per key, account, organization and secret.

use std::time::Duration;

use portcullis_core::feed::Position;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Plant, START_MS};
use crate::player::Gateway;

const HOUR_MS: u64 = 3_600_000;

impl Plant {
    /// Posts a report of gateway `gw-1`.
    async fn report(&self, id: &str, lines: &[Value]) -> Answer {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.ask(Method::POST, "/feed/v1/usage")
            .token(&self.gateway_token)
            .header("portcullis-gateway", "gw-1")
            .header("portcullis-feed", "1")
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", id)
            .raw(body)
            .send()
            .await
    }

    async fn key(&self, account: &str, key: &str) -> Value {
        self.get(&self.s(account, &format!("/keys/{key}"))).await.body
    }

    /// Waits until the key is as wanted.
    async fn until(&self, account: &str, key: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let reached = async {
            loop {
                let found = self.key(account, key).await;
                if wanted(&found) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("it happens at once")
    }
}

fn line(key: &str, allowed: u64, denied: u64, at_ms: u64) -> Value {
    json!({
        "key": key, "window_ms": 5000, "allowed": allowed, "denied": denied,
        "last_at_ms": at_ms, "last_source": "192.0.2.7",
    })
}

#[tokio::test]
async fn a_report_counts_once_per_id_for_key_account_organization_and_day() {
    let mut plant = Plant::start().await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    plant.clock.advance_ms(48 * HOUR_MS);
    let yesterday = START_MS + 24 * HOUR_MS + 5;
    let today = START_MS + 47 * HOUR_MS + 59 * 60_000;
    let lines = [
        line(&key, 3, 0, yesterday),
        line(&key, 10, 0, today),
        line(&key, 0, 2, today + 1),
        line("00000000000", 99, 0, today),
    ];
    let taken = plant.report("boot-1", &lines).await;
    let asked = (taken.status, taken.header("portcullis-usage-within"));
    assert_eq!(asked, (StatusCode::NO_CONTENT, "60"));
    plant.restart().await;
    for _ in 0..2 {
        assert_eq!(plant.report("boot-1", &lines).await.status, StatusCode::NO_CONTENT);
    }
    plant.patch(&plant.o("/policy"), json!({"last_used_flush_s": 2})).await;
    let taken = plant.report("boot-0", &[line(&key, 0, 0, yesterday)]).await;
    assert_eq!(taken.header("portcullis-usage-within"), "2");
    let shown = plant.key(&sa, &key).await;
    assert_eq!(shown["last_used_at"], "2026-11-23T23:59:00.000000Z");
    assert_eq!(
        (&shown["last_used_ip"], &shown["use_count"], &shown["denied_count"]),
        (&json!("192.0.2.7"), &json!(13), &json!(2))
    );
    let wanted = json!({
        "total_calls": 13, "total_denied": 2,
        "last_used_at": "2026-11-23T23:59:00.000000Z", "last_used_ip": "192.0.2.7",
        "days": [
            {"day": "2026-11-23", "calls": 13, "denied": 2, "last_ip": "192.0.2.7"},
        ],
    });
    assert_eq!(plant.get(&plant.s(&sa, &format!("/keys/{key}/usage"))).await.body, wanted);
    assert_eq!(plant.get(&plant.s(&sa, "/usage")).await.body, wanted);
    // Another id is another report, also from before the newest use.
    plant.report("boot-2", &[line(&key, 1, 0, START_MS)]).await;
    let usage = plant.get(&plant.s(&sa, "/usage?to=2026-11-22T23:00:00Z")).await;
    assert_eq!(usage.body["last_used_at"], "2026-11-23T23:59:00.000000Z");
    assert_eq!(usage.number("/total_calls"), 14);
    assert_eq!(
        usage.body["days"],
        json!([{"day": "2026-11-22", "calls": 1, "denied": 0, "last_ip": "192.0.2.7"}])
    );
    let of_org = plant.get(&plant.o("/usage")).await;
    assert_eq!(
        (&of_org.body["seats"], &of_org.body["service_accounts"], &of_org.body["keys"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert!(of_org.number("/calls") >= 14);
    assert_eq!(of_org.number("/denied"), 2);
    // An observation is no change: nothing was committed to the feed.
    assert_eq!(shown["version"], 1);
}

#[tokio::test]
async fn a_report_that_cannot_be_read_counts_nothing_and_names_the_line() {
    let plant = Plant::start().await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    let good = line(&key, 1, 0, START_MS);
    for (bad, what) in [
        (json!({"key": key}), "missing field"),
        (line("not a key", 1, 0, START_MS), "key: "),
        (line(&key, u64::MAX >> 1, 0, START_MS), "integers are at most"),
        (
            json!({"key": key, "allowed": 1, "denied": 0, "last_at_ms": 1, "last_source": "x"}),
            "last_source: ",
        ),
    ] {
        let refused = plant.report("r-1", &[good.clone(), bad]).await;
        refused.assert_problem(400, "malformed_request");
        let detail = refused.text("/detail");
        assert!(detail.contains("Line 2") && detail.contains(what), "{detail}");
    }
    assert_eq!(plant.key(&sa, &key).await["use_count"], 0);
    let spaced = plant.report("no spaces", std::slice::from_ref(&good)).await;
    spaced.assert_problem(400, "malformed_request");
    let stranger = plant.ask(Method::POST, "/feed/v1/usage").send().await;
    stranger.assert_problem(401, "invalid_token");
    // A clock that is ahead does not make a key look used tomorrow.
    let ahead = line(&key, 1, 0, START_MS + 99 * HOUR_MS);
    assert_eq!(plant.report("r-2", &[ahead]).await.status, StatusCode::NO_CONTENT);
    assert_eq!(plant.key(&sa, &key).await["last_used_at"], "2026-11-22T00:00:00.000000Z");
}

#[tokio::test]
async fn refusals_of_known_keys_are_audited_once_per_key_reason_and_minute() {
    let mut plant = Plant::start().await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    let refused = |reason: &str, generation: Value| {
        let mut refused = line(&key, 0, 4, START_MS);
        (refused["reason"], refused["generation"]) = (json!(reason), generation);
        refused
    };
    let lines = [
        refused("bad_secret", json!(null)),
        refused("bad_secret", json!(null)),
        refused("key_expired", json!(null)),
        refused("missing_permission", json!(1)),
        refused("a reason of tomorrow", json!(null)),
    ];
    plant.report("r-1", &lines).await;
    plant.report("r-2", &lines).await;
    let list = plant.o("/audit-events?action=credential.denied&count=true");
    let events = plant.get(&list).await;
    assert_eq!(events.number("/total"), 2);
    let event = &events.body["items"][0];
    assert_eq!((&event["reason"], &event["outcome"]), (&json!("bad_secret"), &json!("denied")));
    assert_eq!(event["actor"]["id"], json!(sa));
    assert_eq!((&event["target"]["id"], &event["ip"]), (&json!(key), &json!("192.0.2.7")));
    assert_eq!(
        (&event["after"]["gateway"], &event["after"]["denied"]),
        (&json!("gw-1"), &json!(4))
    );
    // The minute counts across restarts.
    plant.restart().await;
    plant.report("r-3", &lines).await;
    assert_eq!(plant.get(&list).await.number("/total"), 2);
    plant.clock.advance_ms(60_000);
    plant.report("r-4", &lines).await;
    assert_eq!(plant.get(&list).await.number("/total"), 4);
    // What was refused after the secret was proven is a use, what was refused before is none.
    assert_eq!(plant.key(&sa, &key).await["denied_count"], 80);
    assert_eq!(plant.key(&sa, &key).await["last_used_at"], "2026-11-22T00:00:00.000000Z");
    assert_eq!(plant.get(&plant.o("/audit-events:verify")).await.body["ok"], true);
}

#[tokio::test]
async fn calls_of_the_admin_api_are_uses_too() {
    let mut plant = Plant::start().await;
    let (sa, key, value) = plant.agent("ci", Some("viewer")).await;
    assert_eq!(plant.key(&sa, &key).await["last_used_at"], json!(null));
    plant.clock.advance_ms(5000);
    for _ in 0..4 {
        assert_eq!(plant.accepts(&value).await, 200);
    }
    let denied = plant.ask(Method::DELETE, &plant.s(&sa, "")).token(&value).send().await;
    denied.assert_problem(403, "permission_denied");
    let shown = plant.until(&sa, &key, |key| key["denied_count"] == 1).await;
    assert_eq!((&shown["use_count"], &shown["last_used_ip"]), (&json!(4), &json!("127.0.0.1")));
    assert_eq!(shown["last_used_at"], "2026-11-22T00:00:05.000000Z");
    assert_eq!(shown["current"]["last_used_at"], "2026-11-22T00:00:05.000000Z");
    // What was not written yet is written at the end.
    assert_eq!(plant.accepts(&value).await, 200);
    plant.restart().await;
    assert_eq!(plant.key(&sa, &key).await["use_count"], 5);
}

#[tokio::test]
async fn each_secret_has_its_own_last_use() {
    let plant = Plant::start().await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    let used = |generation: u64, at_ms: u64| {
        let mut used = line(&key, 1, 0, at_ms);
        used["generation"] = json!(generation);
        used
    };
    plant.report("r-1", &[used(1, START_MS)]).await;
    let rotate = plant.s(&sa, &format!("/keys/{key}:rotate?wait=none"));
    plant.post(&rotate, json!({"retain_minutes": 600})).await;
    let shown = plant.key(&sa, &key).await;
    assert_eq!(shown["current"]["last_used_at"], json!(null));
    assert_eq!(shown["previous"]["last_used_at"], "2026-11-22T00:00:00.000000Z");
    plant.clock.advance_ms(HOUR_MS);
    plant.report("r-2", &[used(1, START_MS + 60_000), used(2, START_MS + 120_000)]).await;
    let shown = plant.key(&sa, &key).await;
    assert_eq!(shown["current"]["last_used_at"], "2026-11-22T00:02:00.000000Z");
    assert_eq!(shown["previous"]["last_used_at"], "2026-11-22T00:01:00.000000Z");
    // A change of the expiry leaves both alone; the next rotation moves them on.
    plant.patch(&plant.s(&sa, &format!("/keys/{key}")), json!({"expires_at": null})).await;
    assert_eq!(plant.key(&sa, &key).await["previous"], shown["previous"]);
    plant.post(&rotate, json!({"retain_minutes": 600})).await;
    let shown = plant.key(&sa, &key).await;
    assert_eq!(shown["previous"]["last_used_at"], "2026-11-22T00:02:00.000000Z");
    assert_eq!(plant.post(&rotate, json!({})).await.body["key"]["previous"], json!(null));
}

#[tokio::test]
async fn a_replaced_secret_that_went_quiet_is_retired() {
    let plant = Plant::start().await;
    let (sa, key, value) = plant.agent("ci", Some("viewer")).await;
    let rotate = plant.s(&sa, &format!("/keys/{key}:rotate"));
    for wrong in [json!(0), json!(9000), json!("2")] {
        let body = json!({"retain_minutes": 60, "retire_after_quiet_hours": wrong});
        assert_eq!(plant.post(&rotate, body).await.status, 422);
    }
    let body = json!({"retain_minutes": 6000, "retire_after_quiet_hours": 2});
    let rotated = plant.post(&rotate, body).await;
    assert_eq!(rotated.body["key"]["previous"]["retire_after_quiet_hours"], 2);
    plant.clock.advance_ms(HOUR_MS);
    // A use an hour later makes it quiet from then on.
    assert_eq!(plant.accepts(&value).await, 200);
    plant.until(&sa, &key, |key| key["previous"]["last_used_at"] != json!(null)).await;
    plant.clock.advance_ms(2 * HOUR_MS - 1);
    assert_eq!(plant.key(&sa, &key).await["previous"]["generation"], 1);
    plant.clock.advance_ms(1001);
    plant.until(&sa, &key, |key| key["previous"].is_null()).await;
    assert_eq!(plant.accepts(&value).await, 401);
    assert_eq!(plant.accepts(&rotated.text("/value")).await, 200);
    let events = plant.get(&plant.o("/audit-events?action=api_key.retire_secret")).await;
    assert_eq!(events.body["items"].as_array().unwrap().len(), 1);
    let event = &events.body["items"][0];
    assert_eq!((&event["actor"]["kind"], &event["target"]["id"]), (&json!("system"), &json!(key)));
    assert_eq!(event["before"]["previous"]["generation"], 1);
}

#[tokio::test]
async fn nothing_is_retired_while_a_gateway_may_know_of_a_use() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    gateway.snapshot().await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    let body = json!({"retain_minutes": 6000, "retire_after_quiet_hours": 1});
    let rotate = plant.s(&sa, &format!("/keys/{key}:rotate?wait=none"));
    plant.post(&rotate, body).await;
    // The gateway is silent for two hours; what it tells then comes first.
    plant.clock.advance_ms(2 * HOUR_MS);
    let (probe, probe_key, value) = plant.agent("probe", None).await;
    for rounds in 1..=2 {
        // That a call is counted shows that the housekeeping came by.
        assert_eq!(plant.accepts(&value).await, 200);
        plant.until(&probe, &probe_key, |key| key["use_count"] == rounds).await;
    }
    let mut used = line(&key, 1, 0, START_MS + 90 * 60_000);
    used["generation"] = json!(1);
    plant.report("r-1", &[used]).await;
    let heard = async |rounds: u32| {
        for _ in 0..rounds {
            let seq = plant.get("/readyz").await.number("/seq");
            gateway.ack(Position { epoch: 1, seq }, None).await;
            plant.key(&sa, &key).await;
            plant.clock.advance_ms(4000);
        }
    };
    heard(20).await;
    assert_eq!(plant.key(&sa, &key).await["previous"]["generation"], 1);
    let retired = async {
        while !plant.key(&sa, &key).await["previous"].is_null() {
            heard(1).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), retired).await.expect("an hour of quiet");
}
