//! One operation on many objects: each ends by itself, and the answer comes after one wait.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

/// Id, status and code of each result.
fn ends(answer: &Answer) -> Vec<(String, u64, Value)> {
    assert!(answer.status.is_success(), "{}", answer.text);
    let results = answer.body["results"].as_array().unwrap();
    results
        .iter()
        .map(|one| {
            let id = one["id"].as_str().unwrap().to_owned();
            (id, one["status"].as_u64().unwrap(), one["code"].clone())
        })
        .collect()
}

fn ok(id: &str) -> (String, u64, Value) {
    (id.to_owned(), 200, Value::Null)
}

fn refused(id: &str, status: u64, code: &str) -> (String, u64, Value) {
    (id.to_owned(), status, json!(code))
}

#[tokio::test]
async fn accounts_of_a_batch_succeed_or_fail_singly_in_their_order() {
    let plant = Plant::start().await;
    let (one, _, first) = plant.agent("one", None).await;
    let (two, _, second) = plant.agent("two", None).await;
    let (gone, ..) = plant.agent("gone", None).await;
    plant.post(&plant.s(&gone, ":revoke"), json!({})).await;
    let before = plant.get("/readyz").await.number("/seq");
    let body = json!({"action": "deactivate", "ids": [two, "nobody", gone, one]});
    let batch = plant.post(&plant.o("/service-accounts:batch"), body.clone()).await;
    let expected = [
        ok(&two),
        refused("nobody", 404, "not_found"),
        refused(&gone, 409, "state_terminal"),
        ok(&one),
    ];
    assert_eq!(ends(&batch), expected);
    assert_eq!(batch.number("/seq"), before + 2, "one position for each that changed");
    for value in [&first, &second] {
        assert_eq!(plant.accepts(value).await, 401);
    }
    let events = plant.get(&plant.o("/audit-events?action=service_account.deactivate")).await;
    assert_eq!(events.body["items"].as_array().unwrap().len(), 2);

    let again = plant.post(&plant.o("/service-accounts:batch"), body).await;
    assert_eq!(ends(&again), expected);
    assert_eq!(again.number("/seq"), before + 2, "a repetition changes nothing");
    for (action, left) in [("activate", 200), ("revoke", 401), ("delete", 401)] {
        let body = json!({"action": action, "ids": [one]});
        let batch = plant.post(&plant.o("/service-accounts:batch"), body).await;
        assert_eq!(ends(&batch), [ok(&one)]);
        assert_eq!(plant.accepts(&first).await, left, "{action}");
    }
}

#[tokio::test]
async fn keys_of_a_batch_are_rotated_with_their_values_in_the_answer() {
    let plant = Plant::start().await;
    let (id, key, old) = plant.agent("ci", None).await;
    let keys = plant.s(&id, "/keys");
    let second = plant.post(&keys, json!({"name": "second"})).await;
    let off = plant.post(&keys, json!({"name": "off", "active": false})).await.text("/key/id");
    let second_id = second.text("/key/id");
    let body = json!({
        "action": "rotate", "ids": [key, off, second_id], "retain_minutes": 5,
        "retire_after_quiet_hours": 3,
        "expires": "2026-11-23T00:00:00Z",
    });
    let batch = plant.post(&plant.s(&id, "/keys:batch"), body).await;
    assert_eq!(ends(&batch), [ok(&key), refused(&off, 409, "key_inactive"), ok(&second_id)]);
    assert_eq!(batch.header("cache-control"), "no-store");
    let value = batch.text("/results/0/value");
    assert!(value.ends_with(&batch.text("/results/0/secret")));
    assert_eq!(batch.body["results"][1].get("value"), None);
    for value in [&old, &value, &batch.text("/results/2/value")] {
        assert_eq!(plant.accepts(value).await, 200, "the former secrets are retained");
    }
    let shown = plant.get(&format!("{keys}/{key}")).await;
    assert_eq!(shown.text("/expires_at"), "2026-11-23T00:00:00.000000Z");
    assert_eq!(shown.number("/previous/retire_after_quiet_hours"), 3);
    let audit = plant.get(&plant.o("/audit-events")).await;
    assert!(!audit.text.contains(&batch.text("/results/0/secret")));
}

#[tokio::test]
async fn all_keys_of_an_account_are_deleted_in_one_call() {
    let plant = Plant::start().await;
    let (id, _, first) = plant.agent("ci", Some("viewer")).await;
    let keys = plant.s(&id, "/keys");
    let mut values = vec![first];
    for n in 0..40 {
        values.push(plant.post(&keys, json!({"name": format!("k{n}")})).await.text("/value"));
    }
    let revoked = plant.post(&keys, json!({"name": "revoked"})).await.text("/key/id");
    plant.post(&format!("{keys}/{revoked}:revoke"), json!({})).await;
    let path = plant.s(&id, "/keys:batch");
    let ends = ends(&plant.post(&path, json!({"action": "delete", "all": true})).await);
    assert_eq!((ends.len(), ends.iter().all(|end| end.1 == 200)), (42, true));
    for value in &values {
        assert_eq!(plant.accepts(value).await, 401);
    }
    assert_eq!(plant.get(&keys).await.body["items"], json!([]));
    assert_eq!(plant.get(&plant.s(&id, "")).await.text("/state"), "active");
    let verdict = plant.get(&plant.o("/audit-events:verify")).await;
    assert_eq!(verdict.body["ok"], true);
}

#[tokio::test]
async fn who_ends_the_own_key_ends_it_last() {
    let plant = Plant::start().await;
    let (id, own, value) = plant.agent("ci", Some("admin")).await;
    let other = plant.post(&plant.s(&id, "/keys"), json!({"name": "other"})).await.text("/key/id");
    let path = plant.s(&id, "/keys:batch");
    let body = json!({"action": "revoke", "ids": [own, other]});
    let batch = plant.ask(Method::POST, &path).token(&value).json(body).send().await;
    assert_eq!(ends(&batch), [ok(&own), ok(&other)]);
    assert_eq!(plant.accepts(&value).await, 401);
}

#[tokio::test]
async fn a_batch_needs_the_permission_of_its_action() {
    let plant = Plant::start().await;
    let (id, key, _) = plant.agent("ci", None).await;
    let (_, _, viewer) = plant.agent("viewer", Some("viewer")).await;
    let accounts = plant.o("/service-accounts:batch");
    let keys = plant.s(&id, "/keys:batch");
    for (path, action, object, permission) in [
        (&accounts, "activate", &id, "service_account:update"),
        (&accounts, "delete", &id, "service_account:delete"),
        (&keys, "rotate", &key, "api_key:rotate"),
        (&keys, "deactivate", &key, "api_key:update"),
        (&keys, "revoke", &key, "api_key:delete"),
    ] {
        let body = json!({"action": action, "ids": [object]});
        let denied = plant.ask(Method::POST, path).token(&viewer).json(body).send().await;
        denied.assert_problem(403, "permission_denied");
        assert_eq!(denied.text("/required_permission"), permission);
    }
    assert_eq!(plant.last_event().await["outcome"], "denied");
    let foreign = json!({"action": "delete", "all": true});
    plant.post(&plant.s("nobody", "/keys:batch"), foreign).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn what_is_wrong_with_a_batch_is_named_and_nothing_is_done() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", None).await;
    let accounts = plant.o("/service-accounts:batch");
    let keys = plant.s(&id, "/keys:batch");
    let many: Vec<String> = (0..201).map(|n| format!("id{n}")).collect();
    for (path, body, faults) in [
        (&accounts, json!({}), vec![("action", "required"), ("ids", "required")]),
        (&accounts, json!({"action": "rotate", "ids": [id]}), vec![("action", "bad_format")]),
        (&accounts, json!({"action": "delete", "ids": many}), vec![("ids", "out_of_range")]),
        (&accounts, json!({"action": "delete", "ids": []}), vec![("ids", "out_of_range")]),
        (&accounts, json!({"action": "delete", "ids": [id, id]}), vec![("ids", "bad_format")]),
        (&keys, json!({"action": "delete"}), vec![("ids", "required")]),
        (&keys, json!({"action": "delete", "ids": [key], "all": true}), vec![("ids", "required")]),
        (
            &keys,
            json!({"action": "delete", "all": true, "retain_minutes": 1, "expires": "never"}),
            vec![("retain_minutes", "unknown_field"), ("expires", "unknown_field")],
        ),
        (
            &keys,
            json!({"action": "rotate", "all": true, "retain_minutes": -1}),
            vec![("retain_minutes", "out_of_range")],
        ),
    ] {
        plant.post(path, body).await.assert_faults(&faults);
    }
    assert_eq!(plant.accepts(&value).await, 200);
}

#[tokio::test]
async fn a_batch_waits_once_and_names_the_gateways_that_have_not_applied_it() {
    let plant = Plant::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(plant.agent(name, None).await.0);
    }
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let state = gateway.snapshot().await;
    gateway.ack(state.position, None).await;
    let path = plant.o("/service-accounts:batch?wait_timeout_ms=50");
    let body = json!({"action": "deactivate", "ids": ids});
    let batch = plant.post(&path, body).await;
    assert_eq!(batch.status, 202, "{}", batch.text);
    assert_eq!(batch.body["gateways"]["pending"], json!(["gw-1"]));
    assert_eq!(batch.number("/seq"), state.position.seq + 3);
    let again = plant.post(&path, json!({"action": "deactivate", "ids": ids})).await;
    assert_eq!(again.status, 202, "nothing is left to change, and nobody has applied it");
}

#[tokio::test]
async fn a_user_ends_all_own_keys() {
    let plant = Plant::start().await;
    let body = json!({"username": "ann", "email": "ann@example.org"});
    let ann = plant.post(&plant.o("/users"), body).await.text("/user/id");
    let keys = plant.o(&format!("/users/{ann}/keys"));
    let value = plant.post(&keys, json!({"name": "a"})).await.text("/value");
    plant.post(&keys, json!({"name": "b"})).await;
    let batch = plant.ask(Method::POST, &format!("{keys}:batch")).token(&value);
    let batch = batch.json(json!({"action": "delete", "all": true})).send().await;
    assert_eq!(ends(&batch).len(), 2);
    assert_eq!(plant.accepts(&value).await, 401);
    assert_eq!(plant.get(&keys).await.body["items"], json!([]));
}

#[tokio::test]
async fn a_key_among_the_ids_is_not_told_again_and_not_kept() {
    let mut plant = Plant::start().await;
    let (id, _, value) = plant.agent("ci", None).await;
    let tail = value.split('_').next_back().unwrap();
    let ask = |ids: Value| {
        let ask = plant.ask(Method::POST, &plant.s(&id, "/keys:batch"));
        let body = json!({"action": "deactivate", "ids": ids});
        ask.header("idempotency-key", "a").json(body).send()
    };
    let twice = ask(json!([tail, tail])).await;
    twice.assert_problem(422, "validation_failed");
    assert!(!twice.text.contains(tail), "{}", twice.text);
    let answer = ask(json!([tail, "nowhere"])).await;
    assert_eq!(answer.body["results"][0]["id"], "…", "{}", answer.text);
    assert_eq!(answer.body["results"][0]["code"], "not_found");
    assert_eq!(answer.body["results"][1]["id"], "nowhere");
    plant.stop().await;
    for file in std::fs::read_dir(plant.database().parent().unwrap()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(tail.len()).any(|window| window == tail.as_bytes()));
    }
}
