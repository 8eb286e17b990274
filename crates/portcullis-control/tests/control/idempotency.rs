//! `Idempotency-Key`: a call that is sent again changes nothing again.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::harness::{Answer, Plant};

const MINUTE_MS: u64 = 60_000;

async fn post(plant: &Plant, path: &str, key: &str, body: Value) -> Answer {
    plant.ask(Method::POST, path).header("idempotency-key", key).json(body).send().await
}

#[track_caller]
fn assert_withheld(answer: &Answer) {
    assert_eq!(answer.header("idempotency-replayed"), "true", "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let shown = (&answer.body["value"], &answer.body["secret"], &answer.body["value_withheld"]);
    assert_eq!(shown, (&Value::Null, &Value::Null, &json!(true)));
}

#[tokio::test]
async fn a_create_sent_again_gives_the_same_key_and_its_secret_once_more() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let path = plant.s(&id, "/keys");
    let first = post(&plant, &path, "a", json!({"name": "deploy"})).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(first.header("idempotency-replayed"), "");
    let seq = first.number("/seq");
    let again = post(&plant, &path, "a", json!({"name": "deploy"})).await;
    assert_eq!(again.status, 201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.body, first.body);
    for name in ["location", "etag", "cache-control"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!(plant.accepts(&again.text("/value")).await, 200);
    let third = post(&plant, &path, "a", json!({"name": "deploy"})).await;
    assert_eq!(third.status, 201);
    assert_withheld(&third);
    assert_eq!(third.body["key"], first.body["key"]);
    assert_eq!(plant.get(&path).await.body["items"].as_array().unwrap().len(), 1);
    // Nothing happened since the first call.
    let next = post(&plant, &path, "b", json!({"name": "other"})).await;
    assert_eq!(next.number("/seq"), seq + 1);
}

#[tokio::test]
async fn many_equal_creates_at_once_make_exactly_one_key() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let path = plant.s(&id, "/keys");
    for round in ["a", "b", "c"] {
        let calls = (0..32).map(|_| post(&plant, &path, round, json!({"name": round})));
        let answers = futures_util::future::join_all(calls).await;
        let mut values = Vec::new();
        for answer in &answers {
            match answer.status.as_u16() {
                201 => values.extend(answer.body["value"].as_str().map(str::to_owned)),
                _ => answer.assert_problem(409, "idempotency_in_progress"),
            }
        }
        let fresh = |answer: &&Answer| {
            answer.status == 201 && answer.header("idempotency-replayed").is_empty()
        };
        assert_eq!(answers.iter().filter(fresh).count(), 1);
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 1, "one key, however many were told of it");
    }
    assert_eq!(plant.get(&path).await.body["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn the_scope_is_principal_and_path_and_the_body_must_be_the_same() {
    let plant = Plant::start().await;
    let (_, _, other) = plant.agent("other", Some("owner")).await;
    let one = plant.account(json!({"username": "one"})).await;
    let two = plant.account(json!({"username": "two"})).await;
    let path = plant.s(&one, "/keys");
    let first = post(&plant, &path, "a", json!({"name": "x"})).await;
    let reused = post(&plant, &path, "a", json!({"name": "y"})).await;
    reused.assert_problem(422, "idempotency_key_reused");
    let elsewhere = post(&plant, &plant.s(&two, "/keys"), "a", json!({"name": "x"})).await;
    assert_ne!(elsewhere.text("/key/id"), first.text("/key/id"));
    let theirs = plant.ask(Method::POST, &path).token(&other).header("idempotency-key", "a");
    theirs.json(json!({"name": "x"})).send().await.assert_problem(409, "name_taken");
    // How long to wait is no part of what is asked for.
    let patient = post(&plant, &format!("{path}?wait=none"), "a", json!({"name": "x"})).await;
    assert_eq!(patient.text("/key/id"), first.text("/key/id"));
}

#[tokio::test]
async fn a_secret_is_withheld_once_its_key_was_rotated_or_does_not_work() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let path = plant.s(&id, "/keys");
    for (name, verb) in [("a", ":rotate"), ("b", ":deactivate"), ("c", ":revoke")] {
        let made = post(&plant, &path, name, json!({"name": name})).await;
        let key = made.text("/key/id");
        assert_eq!(plant.post(&format!("{path}/{key}{verb}"), json!({})).await.status, 200);
        assert_withheld(&post(&plant, &path, name, json!({"name": name})).await);
    }
    let rotate =
        format!("{path}/{}:rotate", plant.get(&format!("{path}?name=a")).await.text("/items/0/id"));
    let first = post(&plant, &rotate, "r", json!({})).await;
    let again = post(&plant, &rotate, "r", json!({})).await;
    assert_eq!((again.status.as_u16(), &again.body["value"]), (200, &first.body["value"]));
    assert_eq!(again.number("/key/generation"), 3);
}

#[tokio::test]
async fn secrets_are_kept_for_a_quarter_of_an_hour_and_answers_for_a_day() {
    let mut plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let path = plant.s(&id, "/keys");
    let first = post(&plant, &path, "a", json!({"name": "a"})).await;
    let value = first.text("/value");
    assert_eq!(sealed(&plant).await, 1);
    plant.clock.advance_ms(14 * MINUTE_MS);
    assert_withheld(&post(&plant, &path, "a", json!({"name": "a"})).await);
    post(&plant, &path, "b", json!({"name": "b"})).await;
    assert_eq!(sealed(&plant).await, 1, "only that of the newest call");
    plant.restart().await;
    let kept = post(&plant, &path, "a", json!({"name": "a"})).await;
    assert_eq!(kept.text("/key/id"), first.text("/key/id"));
    plant.clock.advance_ms(24 * 60 * MINUTE_MS);
    let late = post(&plant, &path, "a", json!({"name": "a"})).await;
    late.assert_problem(409, "name_taken");
    plant.stop().await;
    for file in std::fs::read_dir(plant.database().parent().unwrap()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let secret = value.rsplit('_').next().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

/// How many answers hold sealed secrets.
async fn sealed(plant: &Plant) -> i64 {
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let statement = "SELECT COUNT(*) FROM idempotent_answers WHERE sealed IS NOT NULL";
    let count = sqlx::query_scalar(statement).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    count
}

#[tokio::test]
async fn a_policy_can_forbid_that_a_secret_is_given_twice() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let policy = json!({"replay_secret_once": false});
    assert_eq!(plant.patch(&plant.o("/policy"), policy).await.status, 200);
    let path = plant.s(&id, "/keys");
    post(&plant, &path, "a", json!({"name": "a"})).await;
    assert_eq!(sealed(&plant).await, 0);
    assert_withheld(&post(&plant, &path, "a", json!({"name": "a"})).await);
}

#[tokio::test]
async fn a_refused_call_leaves_its_key_free() {
    let plant = Plant::start().await;
    let path = plant.o("/service-accounts");
    plant.account(json!({"username": "ci"})).await;
    post(&plant, &path, "a", json!({"username": "CI"})).await.assert_problem(409, "username_taken");
    post(&plant, &path, "a", json!({"nonsense": 1})).await.assert_problem(422, "validation_failed");
    let made =
        post(&plant, &path, "a", json!({"username": "cd", "create_key": {"name": "x"}})).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

#[tokio::test]
async fn what_changes_nothing_is_answered_the_same_again_too() {
    let plant = Plant::start().await;
    let (id, key, _) = plant.agent("ci", None).await;
    let path = plant.s(&id, ":activate");
    let first = post(&plant, &path, "a", json!({})).await;
    assert_eq!(first.status, 200);
    plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    let again = post(&plant, &path, "a", json!({})).await;
    assert_eq!((again.body, again.status.as_u16()), (first.body, 200));
    assert_eq!(plant.get(&plant.s(&id, "")).await.body["state"], "inactive");
    let asked = json!({"key_id": key});
    let first = post(&plant, &plant.o(":diagnose"), "a", asked.clone()).await;
    assert_eq!(first.body["reason"], "sa_inactive");
    plant.post(&plant.s(&id, ":activate"), json!({})).await;
    let again = post(&plant, &plant.o(":diagnose"), "a", asked).await;
    assert_eq!(
        (again.body["reason"].as_str(), again.header("idempotency-replayed")),
        (Some("sa_inactive"), "true")
    );
}

#[tokio::test]
async fn a_replay_needs_what_the_first_call_needed() {
    let plant = Plant::start().await;
    let (admin, _, token) = plant.agent("admin", Some("owner")).await;
    let id = plant.account(json!({"username": "ci"})).await;
    let ask = || {
        let ask = plant.ask(Method::POST, &plant.s(&id, "/keys")).token(&token);
        ask.header("idempotency-key", "a").json(json!({"name": "a"})).send()
    };
    assert_eq!(ask().await.status, 201);
    let role = json!({"role_id": "viewer"});
    let changed = plant.patch(&plant.s(&admin, &format!("/access/{}", plant.root)), role).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    ask().await.assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn the_header_is_checked() {
    let plant = Plant::start().await;
    let path = plant.o("/service-accounts");
    for wrong in ["", "a b", &"a".repeat(129)] {
        let answer = post(&plant, &path, wrong, json!({"username": "ci"})).await;
        answer.assert_faults(&[("Idempotency-Key", "bad_format")]);
    }
    let twice = plant.ask(Method::POST, &path).header("idempotency-key", "a");
    let twice = twice.second_header("idempotency-key", "a").json(json!({"username": "ci"}));
    twice.send().await.assert_faults(&[("Idempotency-Key", "bad_format")]);
}

#[tokio::test]
async fn a_batch_that_was_cut_off_says_so_and_not_that_it_runs() {
    let mut plant = Plant::start().await;
    let (id, key, _) = plant.agent("ci", None).await;
    let path = plant.s(&id, "/keys:batch");
    let batch = json!({"action": "deactivate", "ids": [key]});
    assert_eq!(post(&plant, &path, "a", batch.clone()).await.status, 200);
    // As a process leaves it that dies after the first change and before the answer.
    plant.stop().await;
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let statement = "UPDATE idempotent_answers SET status = NULL, body = NULL, narrowing = NULL,
         epoch = NULL, seq = NULL";
    let done = sqlx::query(statement).execute(&mut conn).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    conn.close().await.unwrap();
    plant.restart().await;

    for _ in 0..2 {
        let again = post(&plant, &path, "a", batch.clone()).await;
        again.assert_problem(409, "idempotency_outcome_unknown");
    }
    let other = json!({"action": "activate", "ids": [key]});
    post(&plant, &path, "a", other).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(post(&plant, &path, "b", batch).await.status, 200);
}

#[tokio::test]
async fn a_replay_is_asked_for_as_rightly_as_the_first_call() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    // It is active already.
    let path = plant.s(&id, ":activate");
    assert_eq!(post(&plant, &path, "a", json!({})).await.status, 200);
    let waiting = format!("{path}?wait=none&wait_timeout_ms=1");
    assert_eq!(post(&plant, &waiting, "a", json!({})).await.status, 200);
    let wrong = post(&plant, &format!("{path}?wait_timeout_ms=null"), "a", json!({})).await;
    wrong.assert_faults(&[("wait_timeout_ms", "bad_format")]);
}
