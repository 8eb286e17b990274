//! Human users: seats, roles, keys of their own that die with them, and what they leave behind.

use portcullis_core::feed::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

async fn invite(plant: &Plant, name: &str, role: Option<&str>) -> String {
    let body = json!({"username": name, "email": format!("{name}@example.org"), "role_id": role});
    let made = plant.post(&plant.o("/users"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.text("/user/id")
}

/// A key of a user; its path and value.
async fn key_of(plant: &Plant, user: &str, name: &str) -> (String, String) {
    let keys = plant.o(&format!("/users/{user}/keys"));
    let made = plant.post(&keys, json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    (format!("{keys}/{}", made.text("/key/id")), made.text("/value"))
}

/// The owner that the first start made.
async fn owner(plant: &Plant) -> String {
    plant.get("/v1/whoami").await.text("/principal/id")
}

#[tokio::test]
async fn a_user_is_invited_with_a_role_listed_and_removed() {
    let plant = Plant::start().await;
    let ann = invite(&plant, "ann", Some("viewer")).await;
    let path = plant.o(&format!("/users/{ann}"));
    let read = plant.get(&path).await;
    assert_eq!((read.header("etag"), read.text("/email").as_str()), ("\"1\"", "ann@example.org"));
    assert_eq!(read.body["seat"], true);
    let bindings = plant.get(&plant.o(&format!("/role-bindings?subject_id={ann}"))).await;
    assert_eq!(bindings.text("/items/0/role_id"), "viewer");
    let event = plant.last_event().await;
    assert_eq!((&event["action"], &event["target"]["id"]), (&json!("user.create"), &json!(ann)));

    for (query, total) in [("", 2), ("&username=ANN", 1), ("&q=example.org", 1), ("&q=zoe", 0)] {
        let found = plant.get(&plant.o(&format!("/users?count=true{query}"))).await;
        assert_eq!(found.number("/total"), total, "{query}");
    }
    let gone = plant.delete(&path).await;
    assert_eq!((gone.status.as_u16(), gone.text("/user/state").as_str()), (200, "removed"));
    assert_eq!(gone.body["user"].get("email"), None);
    plant.get(&path).await.assert_problem(404, "not_found");
    plant.delete(&path).await.assert_problem(404, "not_found");
    let removed = plant.get(&plant.o("/users?state=removed")).await;
    assert_eq!(removed.text("/items/0/username"), "ann");
    assert_eq!(removed.text("/items/0/removed_by/display"), "admin");
    let bindings = plant.get(&plant.o(&format!("/role-bindings?subject_id={ann}"))).await;
    assert_eq!(bindings.body["items"], json!([]));
    // The name is free again, for somebody with another id.
    assert_ne!(invite(&plant, "Ann", None).await, ann);
}

#[tokio::test]
async fn what_is_wrong_with_a_new_user_is_named() {
    let plant = Plant::start().await;
    let users = plant.o("/users");
    let faults = |body: Value| plant.post(&users, body);
    faults(json!({})).await.assert_faults(&[("username", "required"), ("email", "required")]);
    for email in ["ann", "@example.org", "ann@", "a b@example.org", "a@b@c"] {
        let answer = faults(json!({"username": "ann", "email": email})).await;
        answer.assert_faults(&[("email", "bad_format")]);
    }
    faults(json!({"username": "a\u{202e}b", "email": "a@b.c", "seat": true}))
        .await
        .assert_faults(&[("username", "bad_format"), ("seat", "unknown_field")]);
    faults(json!({"username": "ann", "email": "a@b.c", "role_id": "nobody"}))
        .await
        .assert_faults(&[("role_id", "unknown_reference")]);
    invite(&plant, "ann", None).await;
    faults(json!({"username": " ANN ", "email": "a@b.c"}))
        .await
        .assert_problem(409, "username_taken");
    // A service account may have the name of a human (Z-4).
    plant.account(json!({"username": "ann"})).await;
    plant.patch(&format!("{users}/x"), json!({})).await.assert_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn seats_count_humans_only() {
    let plant = Plant::start().await;
    for name in ["a", "b", "c"] {
        plant.agent(name, Some("viewer")).await;
    }
    let seats = async || plant.get(&plant.o("/users?count=true")).await.number("/total");
    assert_eq!(seats().await, 1);
    let ann = invite(&plant, "ann", None).await;
    assert_eq!(seats().await, 2);
    plant.delete(&plant.o(&format!("/users/{ann}"))).await;
    assert_eq!(seats().await, 1);
}

#[tokio::test]
async fn keys_of_a_user_die_with_the_user_and_what_the_user_made_stays() {
    let plant = Plant::start().await;
    let ann = invite(&plant, "ann", Some("owner")).await;
    let (key, value) = key_of(&plant, &ann, "laptop").await;
    let by_ann = |method, path: &str| plant.ask(method, path).token(&value);
    let body = json!({"username": "robot", "role_id": "viewer", "create_key": {"name": "main"}});
    let robot = by_ann(Method::POST, &plant.o("/service-accounts")).json(body).send().await;
    let (id, robot_value) = (robot.text("/service_account/id"), robot.text("/value"));
    let shown = plant.get(&plant.s(&id, "")).await.body;
    assert_eq!(shown["author"]["id"], json!(ann));
    let bindings = plant.get(&plant.o(&format!("/role-bindings?subject_id={id}"))).await.body;

    assert_eq!(plant.delete(&plant.o(&format!("/users/{ann}"))).await.status, 200);
    assert_eq!(plant.accepts(&value).await, 401);
    plant.get(&key).await.assert_problem(404, "not_found");
    let listed = plant.get(&plant.o("/keys?owner_kind=user")).await;
    assert!(!listed.text.contains(&ann), "{}", listed.text);
    assert_eq!(plant.accepts(&robot_value).await, 200);
    assert_eq!(plant.get(&plant.s(&id, "")).await.body, shown);
    let after = plant.get(&plant.o(&format!("/role-bindings?subject_id={id}"))).await.body;
    assert_eq!(after, bindings);
    let state = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    assert!(!state.records.contains_key(&(Kind::Account, ann)));
    let robots = state.records.keys().filter(|(kind, _)| *kind == Kind::Key).count();
    assert_eq!(robots, 2, "the first owner's key and the robot's");
}

#[tokio::test]
async fn the_last_owner_cannot_be_removed_and_no_account_counts_as_one() {
    let plant = Plant::start().await;
    let first = owner(&plant).await;
    plant.agent("robot", Some("owner")).await;
    let path = plant.o(&format!("/users/{first}"));
    plant.delete(&path).await.assert_problem(409, "last_owner");
    let second = invite(&plant, "ann", Some("owner")).await;
    let (_, value) = key_of(&plant, &second, "laptop").await;
    let by_ann = plant.ask(Method::DELETE, &path).token(&value).send().await;
    assert_eq!(by_ann.status, 200, "{}", by_ann.text);
    assert_eq!(plant.accepts(&plant.admin).await, 401);
    let own = plant.ask(Method::DELETE, &plant.o(&format!("/users/{second}"))).token(&value);
    own.send().await.assert_problem(409, "last_owner");
}

#[tokio::test]
async fn a_user_manages_own_keys_without_a_permission_and_no_others() {
    let plant = Plant::start().await;
    let ann = invite(&plant, "ann", Some("viewer")).await;
    let bob = invite(&plant, "bob", None).await;
    let (_, value) = key_of(&plant, &ann, "laptop").await;
    let (bobs, _) = key_of(&plant, &bob, "laptop").await;
    let by = |method, path: String| plant.ask(method, &path).token(&value);
    let keys = plant.o(&format!("/users/{ann}/keys"));
    let ok = |answer: &Answer, status: u16| assert_eq!(answer.status, status, "{}", answer.text);

    let made = by(Method::POST, keys.clone()).json(json!({"name": "phone"})).send().await;
    ok(&made, 201);
    let phone = format!("{keys}/{}", made.text("/key/id"));
    assert_eq!(made.header("location"), phone);
    ok(&by(Method::GET, keys.clone()).send().await, 200);
    ok(&by(Method::PATCH, phone.clone()).json(json!({"description": "d"})).send().await, 200);
    ok(&by(Method::POST, format!("{phone}:rotate")).send().await, 200);
    ok(&by(Method::POST, format!("{phone}:deactivate")).send().await, 200);
    ok(&by(Method::POST, format!("{phone}:activate")).send().await, 200);
    ok(&by(Method::POST, format!("{phone}:revoke")).send().await, 200);
    ok(&by(Method::DELETE, phone.clone()).send().await, 200);

    by(Method::GET, bobs.clone()).send().await.assert_problem(403, "permission_denied");
    by(Method::DELETE, bobs).send().await.assert_problem(403, "permission_denied");
    let theirs = by(Method::POST, plant.o(&format!("/users/{bob}/keys")));
    theirs.json(json!({"name": "x"})).send().await.assert_problem(403, "permission_denied");

    // A key that narrows its user does not manage the user's keys, or it could widen itself.
    let body = json!({"name": "narrow", "restriction": {"permissions": ["cluster:read"]}});
    let narrow = by(Method::POST, keys.clone()).json(body).send().await.text("/value");
    let widened = plant.ask(Method::POST, &keys).token(&narrow).json(json!({"name": "wide"}));
    widened.send().await.assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn nobody_makes_a_key_of_a_user_who_may_do_more() {
    let plant = Plant::start().await;
    let first = owner(&plant).await;
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let keys = plant.o(&format!("/users/{first}/keys"));
    let ask = plant.ask(Method::POST, &keys).token(&admin).json(json!({"name": "x"}));
    ask.send().await.assert_problem(403, "privilege_escalation");
    let users = plant.ask(Method::POST, &plant.o("/users")).token(&admin);
    let body = json!({"username": "ann", "email": "a@b.c", "role_id": "owner"});
    users.json(body).send().await.assert_problem(403, "privilege_escalation");
    assert_eq!(plant.get(&plant.o("/users?count=true")).await.number("/total"), 1);
}

#[tokio::test]
async fn the_admin_token_is_a_key_listed_rotated_expiring_and_audited() {
    let plant = Plant::start().await;
    let first = owner(&plant).await;
    let keys = plant.o(&format!("/users/{first}/keys"));
    let listed = plant.get(&keys).await;
    assert_eq!(listed.text("/items/0/name"), "admin-token");
    assert_eq!(listed.text("/items/0/owner/kind"), "user");
    let path = format!("{keys}/{}", listed.text("/items/0/id"));
    let rotated = plant.post(&format!("{path}:rotate"), json!({"retain_minutes": 1})).await;
    let new = rotated.text("/value");
    assert_eq!(plant.accepts(&plant.admin).await, 200, "it is retained");
    let by_new = |method, path: &str| plant.ask(method, path).token(&new);
    let expiring = by_new(Method::PATCH, &path).json(json!({"expires_at": "2026-11-22T00:02:00Z"}));
    assert_eq!(expiring.send().await.status, 200);
    let query = plant.o("/audit-events?order_by=-created_at&action=api_key.rotate");
    let events = by_new(Method::GET, &query).send().await;
    assert_eq!(events.text("/items/0/actor/id"), first);
    plant.clock.advance_ms(60_000);
    assert_eq!(plant.accepts(&plant.admin).await, 401);
    assert_eq!(plant.accepts(&new).await, 200);
    plant.clock.advance_ms(60_000);
    assert_eq!(plant.accepts(&new).await, 401);
}

#[tokio::test]
async fn the_limit_of_keys_is_for_service_accounts_only() {
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"max_keys_per_sa": 1})).await;
    let ann = invite(&plant, "ann", None).await;
    for name in ["a", "b", "c"] {
        key_of(&plant, &ann, name).await;
    }
    let keys = plant.o(&format!("/users/{ann}/keys"));
    plant.post(&keys, json!({"name": "a"})).await.assert_problem(409, "name_taken");
}
