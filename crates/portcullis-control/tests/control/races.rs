//! What happens when two callers do things at the same time: some order always holds.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::harness::{Answer, Plant};

/// Sends two requests at the same instant, from two threads.
async fn at_once(
    plant: &Arc<Plant>,
    one: (Method, String, Value),
    other: (Method, String, Value),
) -> [Answer; 2] {
    let start = Arc::new(Barrier::new(2));
    let send = |(method, path, body): (Method, String, Value)| {
        let (plant, start) = (Arc::clone(plant), Arc::clone(&start));
        tokio::spawn(async move {
            start.wait().await;
            plant.ask(method, &path).json(body).send().await
        })
    };
    let (one, other) = (send(one), send(other));
    [one.await.unwrap(), other.await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_parallel_creates_for_the_last_slot_exactly_one_succeeds() {
    let plant = Arc::new(Plant::start().await);
    plant.patch(&plant.o("/policy"), json!({"profile": "precisely"})).await;
    for round in 0..12 {
        let (id, ..) = plant.agent(&format!("sa {round}"), None).await;
        let create = |name: &str| (Method::POST, plant.s(&id, "/keys"), json!({"name": name}));
        let answers = at_once(&plant, create("a"), create("b")).await;
        let mut statuses = answers.each_ref().map(|answer| answer.status.as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{} {}", answers[0].text, answers[1].text);
        let loser = answers.iter().find(|answer| answer.status == 409).unwrap();
        loser.assert_problem(409, "key_limit_reached");
        assert_eq!(plant.get(&plant.s(&id, "")).await.number("/key_count"), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_parallel_creates_with_one_username_exactly_one_succeeds() {
    let plant = Arc::new(Plant::start().await);
    for round in 0..12 {
        let create =
            |name: String| (Method::POST, plant.o("/service-accounts"), json!({"username": name}));
        let names = (format!("Finance {round}"), format!("finance {round}"));
        let answers = at_once(&plant, create(names.0), create(names.1)).await;
        let mut statuses = answers.each_ref().map(|answer| answer.status.as_u16());
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
        let loser = answers.iter().find(|answer| answer.status == 409).unwrap();
        loser.assert_problem(409, "username_taken");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_beside_a_deletion_leaves_no_secret_that_works() {
    let plant = Arc::new(Plant::start().await);
    for round in 0..12 {
        let (id, key, old) = plant.agent(&format!("sa {round}"), None).await;
        let path = plant.s(&id, &format!("/keys/{key}"));
        let rotate = (Method::POST, format!("{path}:rotate"), json!({"retain_minutes": 60}));
        let [rotated, deleted] =
            at_once(&plant, rotate, (Method::DELETE, path.clone(), json!({}))).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        let mut values = vec![old];
        match rotated.status.as_u16() {
            200 => values.push(rotated.text("/value")),
            _ => rotated.assert_problem(404, "not_found"),
        }
        for value in &values {
            assert_eq!(plant.accepts(value).await, 401);
        }
        plant.get(&path).await.assert_problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_beside_a_deletion_brings_nothing_back() {
    let plant = Arc::new(Plant::start().await);
    for round in 0..12 {
        let (id, _, value) = plant.agent(&format!("sa {round}"), None).await;
        let path = plant.s(&id, "");
        plant.post(&format!("{path}:deactivate"), json!({})).await;
        let activate = (Method::POST, format!("{path}:activate"), json!({}));
        let [activated, deleted] =
            at_once(&plant, activate, (Method::DELETE, path.clone(), json!({}))).await;
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        if activated.status != 200 {
            activated.assert_problem(404, "not_found");
        }
        assert_eq!(plant.accepts(&value).await, 401);
        plant.get(&path).await.assert_problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_beside_the_deactivation_of_its_account_never_outlives_it() {
    let plant = Arc::new(Plant::start().await);
    plant.patch(&plant.o("/policy"), json!({"sa_deactivate_keys": "delete"})).await;
    for round in 0..12 {
        let (id, ..) = plant.agent(&format!("sa {round}"), None).await;
        let create = (Method::POST, plant.s(&id, "/keys"), json!({"name": "late"}));
        let off = (Method::POST, plant.s(&id, ":deactivate"), json!({}));
        let [created, off] = at_once(&plant, create, off).await;
        assert_eq!(off.status, 200, "{}", off.text);
        if created.status != 201 {
            created.assert_problem(409, "service_account_inactive");
        }
        assert_eq!(plant.get(&plant.s(&id, "")).await.number("/key_count"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_owners_cannot_remove_each_other() {
    let plant = Arc::new(Plant::start().await);
    let first = plant.get("/v1/whoami").await.text("/principal/id");
    let body = json!({"username": "ann", "email": "a@example.org", "role_id": "owner"});
    let second = plant.post(&plant.o("/users"), body).await.text("/user/id");
    let keys = plant.o(&format!("/users/{second}/keys"));
    let value = plant.post(&keys, json!({"name": "k"})).await.text("/value");
    let start = Arc::new(Barrier::new(2));
    let remove = |user: &str, token: String| {
        let (plant, start) = (Arc::clone(&plant), Arc::clone(&start));
        let path = plant.o(&format!("/users/{user}"));
        tokio::spawn(async move {
            start.wait().await;
            plant.ask(Method::DELETE, &path).token(&token).send().await.status.as_u16()
        })
    };
    let (one, other) = (remove(&first, value.clone()), remove(&second, plant.admin.clone()));
    let mut statuses = [one.await.unwrap(), other.await.unwrap()];
    statuses.sort_unstable();
    // The one that came second is refused: its caller is gone, or it would take the last owner.
    assert_eq!(statuses[0], 200);
    assert!(matches!(statuses[1], 401 | 409), "{statuses:?}");
}
