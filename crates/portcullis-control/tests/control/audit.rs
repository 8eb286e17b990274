//! The audit log: one event per mutation and per denied call, chained.

use reqwest::Method;
use serde_json::json;
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
    assert_eq!(event["target"], json!({"kind": "service_account", "id": id, "name": "ci"}));
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
async fn the_chain_shows_a_changed_and_a_missing_event() {
    let mut plant = Plant::start().await;
    for n in 0..5 {
        plant.account(json!({"username": format!("bot-{n}")})).await;
    }
    let verify = plant.o("/audit-events:verify");
    let sound = plant.get(&verify).await;
    assert_eq!(
        sound.body,
        json!({"ok": true, "first_seq": 1, "last_seq": 6, "first_bad_seq": null})
    );
    let filtered =
        plant.get(&plant.o("/audit-events?after_seq=4&action=service_account.create")).await;
    assert_eq!(filtered.body["items"].as_array().unwrap().len(), 2);

    for (statement, bad) in [
        ("UPDATE audit_events SET actor_name = 'mallory' WHERE seq = 3", 3),
        ("DELETE FROM audit_events WHERE seq = 2", 3),
    ] {
        plant.stop().await;
        let url = format!("sqlite://{}", plant.database().display());
        let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query(statement).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        plant.restart().await;
        let found = plant.get(&verify).await;
        assert_eq!((&found.body["ok"], &found.body["first_bad_seq"]), (&json!(false), &json!(bad)));
    }
}
