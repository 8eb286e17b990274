//! The audit log: one event per mutation and per denied call, chained.

use std::time::Duration;

use portcullis_control::{ChainVerdict, ExportWalk, FeedSigner};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::harness::Plant;

#[tokio::test]
async fn a_mutation_leaves_one_event_with_actor_target_and_both_states() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let ask = plant.ask(Method::PATCH, &plant.s(&id, "")).header("user-agent", "tester/1");
    let patched = ask.json(json!({"owning_team": "core"})).send().await;
    let event = plant.last_event().await;
    assert_eq!(event["action"], "service_account.update");
    assert_eq!(
        event["target"],
        json!({"kind": "service_account", "id": id, "name": "ci", "state_now": "active"})
    );
    assert_eq!(
        (&event["actor"]["kind"], &event["actor"]["username"]),
        (&json!("user"), &json!("admin"))
    );
    assert_eq!(event["before"]["owning_team"], json!(null));
    assert_eq!(event["after"]["owning_team"], "core");
    assert_eq!(event["request_id"], patched.header("x-request-id"));
    assert_eq!((&event["ip"], &event["user_agent"]), (&json!("127.0.0.1"), &json!("tester/1")));
    assert_eq!(event["ts"], "2026-11-22T00:00:00.000000Z");
    let path = plant.o(&format!("/audit-events/{}", event["id"].as_str().unwrap()));
    assert_eq!(plant.get(&path).await.body, event);
    // A repetition that changes nothing leaves no event.
    plant.post(&plant.s(&id, ":activate"), json!({})).await;
    assert_eq!(plant.last_event().await, event);
}

#[tokio::test]
async fn denied_calls_and_refused_known_keys_are_recorded() {
    let plant = Plant::start().await;
    let (id, key, viewer) = plant.agent("viewer", Some("viewer")).await;
    let denied = plant.ask(Method::DELETE, &plant.s(&id, "")).token(&viewer).send().await;
    denied.assert_problem(403, "permission_denied");
    let event = plant.last_event().await;
    assert_eq!(event["action"], "service_account.delete");
    assert_eq!(event["outcome"], "denied");
    assert_eq!(event["reason"], "permission_denied service_account:delete");
    assert_eq!((&event["actor"]["id"], &event["actor"]["key_id"]), (&json!(id), &json!(key)));
    assert_eq!(event["target"]["id"], json!(id));

    plant.post(&plant.s(&id, &format!("/keys/{key}:revoke")), json!({})).await;
    for _ in 0..3 {
        assert_eq!(plant.accepts(&viewer).await, 401);
    }
    let refused = plant.o("/audit-events?action=credential.denied&count=true");
    let list = plant.get(&refused).await;
    assert_eq!(list.number("/total"), 1);
    assert_eq!(list.text("/items/0/reason"), "key_revoked");
    plant.clock.advance_ms(60_000);
    assert_eq!(plant.accepts(&viewer).await, 401);
    assert_eq!(plant.get(&refused).await.number("/total"), 2);
}

#[tokio::test]
async fn a_key_in_a_path_where_its_id_belongs_is_told_to_nobody() {
    let plant = Plant::start().await;
    let (id, key, weak) = plant.agent("weak", None).await;
    let uuid = "0190f0a4-7c1e-7000-8000-000000000000";
    let zenpro = "ZENPROKEY_eyJpZCI6IjAxOTBmMGE0LTdjMWUtNzAwMC04MDAwLTAwMDAwMDAwMDAwMCJ9";
    let tail = weak.split('_').next_back().unwrap();
    let encoded = format!("%70{}", &weak[1..]);
    // A text of twenty characters is the shortest key of another system that can be imported.
    let secrets = [&*weak, tail, &*encoded, zenpro, "sk-0123456789abcdefg", &*format!("{uuid}0")];
    for secret in secrets {
        for path in [
            plant.s(&id, &format!("/keys/{secret}")),
            plant.s(secret, ""),
            plant.s(secret, ":revoke"),
            plant.s(&id, &format!("/keys/{key}:{secret}")),
            format!("/v1/organizations/{secret}:suspend"),
            format!("/v1/{secret}"),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let asked = plant.ask(method, &path).token(&weak).send().await;
                assert!(!asked.text.contains(secret), "{}", asked.text);
            }
        }
    }
    let log = plant.get(&plant.o("/audit-events?page_size=200&order_by=-created_at")).await;
    let denied = log.body["items"].as_array().unwrap();
    let denied = denied.iter().filter(|event| event["outcome"] == "denied");
    assert!(denied.clone().count() > 20, "calls with keys in their paths were denied");
    for event in denied {
        let target = event["target"]["id"].as_str().unwrap();
        assert!(["", &*id, &*key].contains(&target), "{event}");
    }
    assert!(secrets.iter().all(|secret| !log.text.contains(secret)));
    // What can be an id is shown, whether there is such an object or not.
    let path = plant.s(uuid, ":revoke");
    let asked = plant.ask(Method::POST, &path).token(&weak).send().await;
    assert_eq!(asked.text("/instance"), path);
    assert_eq!(plant.last_event().await["target"]["id"], uuid);
}

#[tokio::test]
async fn the_chain_shows_what_was_changed_taken_out_and_cut_off() {
    let mut plant = Plant::start().await;
    for n in 0..5 {
        plant.account(json!({"username": format!("bot-{n}")})).await;
    }
    let verify = plant.o("/audit-events:verify");
    let sound = plant.get(&verify).await;
    let public_key = FeedSigner::from_seed(&[9; 32]).public_key();
    assert_eq!(
        sound.body,
        json!({
            "ok": true, "first_seq": 1, "last_seq": 6, "first_bad_seq": null, "fault": null,
            "sealed_seq": 1, "public_key": public_key,
        })
    );
    let filtered =
        plant.get(&plant.o("/audit-events?after_seq=4&action=service_account.create")).await;
    assert_eq!(filtered.body["items"].as_array().unwrap().len(), 2);

    // Stopping signs the last event, so each of these shows for itself.
    plant.stop().await;
    plant.tampered = true;
    let whole = std::fs::read(plant.database()).unwrap();
    for (statement, bad, fault) in [
        ("UPDATE audit_events SET actor_name = 'mallory' WHERE seq = 3", 3, "changed"),
        ("DELETE FROM audit_events WHERE seq = 2", 3, "gap"),
        ("UPDATE audit_events SET seq = 7 - seq WHERE seq IN (3, 4)", 3, "changed"),
        ("DELETE FROM audit_events WHERE seq > 4", 5, "truncated"),
        ("DELETE FROM audit_events", 1, "truncated"),
        ("DELETE FROM audit_checkpoints WHERE seq = 1", 1, "unsealed"),
        ("UPDATE audit_checkpoints SET hash = hash || '0' WHERE seq = 6", 6, "signature"),
    ] {
        let url = format!("sqlite://{}", plant.database().display());
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        // Rows that change places pass through a place of their own.
        for statement in
            statement.replace("seq = 7 - seq WHERE", "seq = 107 - seq WHERE").split(';')
        {
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
                .execute(&mut conn)
                .await
                .unwrap();
        }
        let back = "UPDATE audit_events SET seq = seq - 100 WHERE seq > 100";
        sqlx::query(back).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        plant.restart().await;
        let found = plant.get(&verify).await;
        assert_eq!(
            (&found.body["ok"], &found.body["first_bad_seq"], &found.body["fault"]),
            (&json!(false), &json!(bad), &json!(fault)),
            "{statement}"
        );
        let exported = plant.export("?checkpoints=true", "application/x-ndjson").await;
        assert!(!walked(&exported, &public_key).ok, "{statement}");
        plant.stop().await;
        std::fs::write(plant.database(), &whole).unwrap();
    }
    plant.restart().await;
    assert_eq!(plant.get(&verify).await.body["sealed_seq"], 6);
}

#[tokio::test]
async fn the_chain_is_signed_every_minute_and_at_the_end() {
    let mut plant = Plant::start().await;
    plant.account(json!({"username": "one"})).await;
    let verify = plant.o("/audit-events:verify");
    assert_eq!(plant.get(&verify).await.body["sealed_seq"], 1);
    let signed = async {
        // The first round of the housekeeping may be yet to come.
        while plant.get(&verify).await.body["sealed_seq"] != 2 {
            plant.clock.advance_ms(60_000);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), signed).await.expect("it is signed");
    plant.account(json!({"username": "two"})).await;
    plant.restart().await;
    assert_eq!(plant.get(&verify).await.body["sealed_seq"], 3);
}

#[tokio::test]
async fn a_chain_from_before_checkpoints_gets_them_once() {
    let mut plant = Plant::start().await;
    plant.account(json!({"username": "one"})).await;
    plant.stop().await;
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM audit_checkpoints").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    plant.restart().await;
    let found = plant.get(&plant.o("/audit-events:verify")).await;
    assert_eq!((&found.body["ok"], &found.body["sealed_seq"]), (&json!(true), &json!(1)));
}

impl Plant {
    async fn export(&self, query: &str, accept: &str) -> String {
        let ask = self.ask(Method::GET, &self.o(&format!("/audit-events{query}")));
        let answer = ask.header("accept", accept).send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("content-type").starts_with(accept));
        answer.text
    }
}

fn walked(export: &str, public_key: &str) -> ChainVerdict {
    let mut walk = ExportWalk::new(vec![public_key.to_owned()]);
    export.lines().for_each(|line| walk.line(line.as_bytes()));
    walk.finish()
}

#[tokio::test]
async fn whole_exports_vouch_for_themselves_and_filters_hold_in_every_form() {
    let plant = Plant::start().await;
    for n in 0..620 {
        plant.account(json!({"username": format!("bot-{n}")})).await;
    }
    let key = FeedSigner::from_seed(&[9; 32]).public_key();
    let export = plant.export("?checkpoints=true", "application/x-ndjson").await;
    let verdict = walked(&export, &key);
    assert!(verdict.ok, "{verdict:?}");
    assert_eq!((verdict.last_seq, verdict.sealed_seq), (Some(621), Some(621)));
    let stranger = FeedSigner::from_seed(&[1; 32]).public_key();
    assert!(!walked(&export, &stranger).ok);

    let filter = "?after_seq=3&action=service_account.create&until=2027-01-01T00:00:00Z";
    let lines = plant.export(filter, "application/x-ndjson").await;
    let events: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 618);
    assert_eq!((&events[0]["seq"], &events[617]["seq"]), (&json!(4), &json!(621)));

    let csv = plant.export(filter, "text/csv").await;
    assert_eq!(csv.lines().count(), 619);
    assert!(csv.starts_with("seq,id,ts,actor_kind,"), "{csv}");

    let batch = plant.export(filter, "application/cloudevents-batch+json").await;
    let batch: Vec<Value> = serde_json::from_str(&batch).unwrap();
    assert_eq!(batch.len(), 618);
    let first = &batch[0];
    assert_eq!(
        (&first["specversion"], &first["type"], &first["data"]),
        (&json!("1.0"), &json!("portcullis.audit.service_account.create"), &events[0])
    );
    assert_eq!((&first["id"], &first["time"]), (&events[0]["id"], &events[0]["ts"]));
    assert_eq!(first["source"], json!(plant.o("")));
    let lines = plant.export(&format!("{filter}&cloudevents=true"), "application/x-ndjson").await;
    let line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(&line, first);
    // Nothing found is still a document.
    let none = plant.export("?action=nothing", "application/cloudevents-batch+json").await;
    assert_eq!(none, "[]");

    let path = plant.o("/audit-events?checkpoints=true&action=x&page_size=5");
    let ask = plant.ask(Method::GET, &path).header("accept", "application/x-ndjson");
    ask.send()
        .await
        .assert_faults(&[("checkpoints", "bad_format"), ("page_size", "unknown_field")]);
}

#[tokio::test]
async fn an_event_shows_the_state_that_its_actor_and_target_have_now() {
    let plant = Plant::start().await;
    let (owner, key, value) = plant.agent("boss", Some("owner")).await;
    let body = json!({"username": "doomed"});
    let made = plant.ask(Method::POST, &plant.o("/service-accounts")).token(&value).json(body);
    let id = made.send().await.text("/service_account/id");
    let event = async || {
        let filter =
            plant.o(&format!("/audit-events?target_id={id}&action=service_account.create"));
        plant.get(&filter).await.body["items"][0].clone()
    };
    let before = event().await;
    assert_eq!(
        (&before["actor"]["state_now"], &before["target"]["state_now"]),
        (&json!("active"), &json!("active"))
    );
    plant.post(&plant.s(&owner, ":revoke"), json!({})).await;
    plant.delete(&plant.s(&id, "")).await;
    let after = event().await;
    assert_eq!(
        (&after["actor"]["state_now"], &after["target"]["state_now"]),
        (&json!("revoked"), &json!("deleted"))
    );
    assert_eq!(after["principal_state_at_event"], "active");
    assert_eq!((&after["hash"], &after["actor"]["key_id"]), (&before["hash"], &json!(key)));
    let one =
        plant.get(&plant.o(&format!("/audit-events/{}", after["id"].as_str().unwrap()))).await;
    assert_eq!(one.body, after);
}

#[tokio::test]
async fn every_operation_that_is_denied_leaves_exactly_one_event_with_its_name() {
    let plant = Plant::start().await;
    let (_, _, nobody) = plant.agent("nobody", None).await;
    let document = plant.get("/openapi.json").await.body;
    let newest = async || plant.last_event().await["seq"].as_u64().unwrap();
    let mut denied = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(id) = operation["operationId"].as_str() else { continue };
            let filled = path.replace("{org}", &plant.org);
            let filled: String = filled
                .split('/')
                .map(|part| match (part.find('{'), part.find('}')) {
                    (Some(_), Some(end)) => format!("x{}", &part[end + 1..]),
                    _ => part.to_owned(),
                })
                .collect::<Vec<_>>()
                .join("/");
            let before = newest().await;
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = plant.ask(method, &filled).token(&nobody).json(json!({})).send().await;
            let after = newest().await;
            if answer.status != 403 {
                assert_eq!(after, before, "{id}: {} {}", answer.status, answer.text);
                continue;
            }
            denied += 1;
            let event = plant.last_event().await;
            // What concerns the installation is in the installation's own chain.
            if after == before {
                assert!(!filled.contains("/organizations/"), "{id} left no event");
                continue;
            }
            assert_eq!(after, before + 1, "{id}");
            assert_eq!(event["outcome"], "denied", "{id}");
            let action = event["action"].as_str().unwrap();
            assert!(id.ends_with(action), "{id} is called {action}");
            assert_eq!(event["actor"]["username"], "nobody");
        }
    }
    assert!(denied > 40, "only {denied} operations were denied");
}
