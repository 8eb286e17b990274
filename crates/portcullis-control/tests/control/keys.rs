//! Keys: one showing, rotation with retention, states, limits, races.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};

/// A key of an account, its path and its first value.
async fn key(plant: &Plant, body: Value) -> (String, Answer) {
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let made = plant.post(&plant.s(&id, "/keys"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    (plant.s(&id, &format!("/keys/{}", made.text("/key/id"))), made)
}

#[tokio::test]
async fn a_value_is_shown_once_and_nothing_derived_from_it_ever() {
    let plant = Plant::start().await;
    let (path, made) = key(&plant, json!({"name": "main"})).await;
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(made.header("location"), path);
    let (value, secret) = (made.text("/value"), made.text("/secret"));
    assert!(value.starts_with(&format!("{}_", made.text("/key/hint/prefix"))));
    assert!(value.ends_with(&secret) && secret.len() == 49);
    assert!(value.ends_with(&made.text("/key/hint/last4")));
    assert_eq!(plant.accepts(&value).await, 200);
    for path in [&path, &plant.o("/keys"), &plant.o("/audit-events")] {
        let read = plant.get(path).await;
        assert_eq!(read.status, 200);
        assert!(!read.text.contains(&secret) && !read.text.contains("digest"));
    }
    let basic = base64(format!("{}:{secret}", made.text("/key/id")).as_bytes());
    let whoami =
        plant.ask(Method::GET, "/v1/whoami").header("authorization", &format!("Basic {basic}"));
    assert_eq!(whoami.send().await.status, 200);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn rotation_without_retention_stops_the_old_value_at_once() {
    let plant = Plant::start().await;
    let (path, made) = key(&plant, json!({"name": "main", "description": "d"})).await;
    let rotated = plant.ask(Method::POST, &format!("{path}:rotate")).send().await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    assert_eq!(rotated.header("cache-control"), "no-store");
    assert_eq!(rotated.text("/key/id"), made.text("/key/id"));
    assert_eq!(rotated.text("/key/description"), "d");
    assert_eq!(rotated.number("/key/generation"), 2);
    assert_eq!(rotated.body["key"]["previous"], json!(null));
    assert_eq!(rotated.text("/key/last_rotated_at"), "2026-11-22T00:00:00.000000Z");
    assert_eq!(plant.accepts(&made.text("/value")).await, 401);
    assert_eq!(plant.accepts(&rotated.text("/value")).await, 200);
}

#[tokio::test]
async fn a_retained_value_works_strictly_before_its_deadline_and_the_second_rotation_ends_it() {
    let plant = Plant::start().await;
    let (path, made) = key(&plant, json!({"name": "main"})).await;
    let rotate = format!("{path}:rotate");
    let second = plant.post(&rotate, json!({"retain_minutes": 5})).await;
    let previous = &second.body["key"]["previous"];
    assert_eq!(
        (&previous["generation"], &previous["retained_until"]),
        (&json!(1), &json!("2026-11-22T00:05:00.000000Z"))
    );
    plant.clock.advance_ms(5 * 60_000 - 1);
    assert_eq!(plant.accepts(&made.text("/value")).await, 200);
    plant.clock.advance_ms(1);
    assert_eq!(plant.accepts(&made.text("/value")).await, 401);
    assert_eq!(plant.accepts(&second.text("/value")).await, 200);

    let third = plant.post(&rotate, json!({"retain_minutes": 5})).await;
    let fourth = plant.post(&rotate, json!({"retain_minutes": 5})).await;
    assert_eq!(plant.accepts(&second.text("/value")).await, 401);
    assert_eq!(plant.accepts(&third.text("/value")).await, 200);
    assert_eq!(plant.accepts(&fourth.text("/value")).await, 200);
}

#[tokio::test]
async fn retention_never_outlives_the_old_expiry_and_shrinks_with_a_nearer_one() {
    let plant = Plant::start().await;
    let (path, _) = key(&plant, json!({"name": "main", "ttl_seconds": 300})).await;
    let body = json!({"retain_minutes": 60, "expires": "2026-11-23T00:00:00Z"});
    let rotated = plant.post(&format!("{path}:rotate"), body).await;
    assert_eq!(rotated.text("/key/previous/retained_until"), "2026-11-22T00:05:00.000000Z");
    assert_eq!(rotated.text("/key/expires_at"), "2026-11-23T00:00:00.000000Z");
    let nearer = plant.patch(&path, json!({"expires_at": "2026-11-22T00:01:00Z"})).await;
    assert_eq!(nearer.text("/key/previous/retained_until"), "2026-11-22T00:01:00.000000Z");
    let later = plant.patch(&path, json!({"expires_at": null})).await;
    assert_eq!(later.text("/key/previous/retained_until"), "2026-11-22T00:01:00.000000Z");
    assert_eq!(later.body["key"]["expires_at"], json!(null));
}

#[tokio::test]
async fn rotation_is_refused_in_the_states_that_forbid_it() {
    let plant = Plant::start().await;
    let (path, _) = key(&plant, json!({"name": "main", "ttl_seconds": 60})).await;
    let rotate = format!("{path}:rotate");
    plant
        .post(&rotate, json!({"retain_minutes": 525_601}))
        .await
        .assert_faults(&[("retain_minutes", "out_of_range")]);
    plant
        .post(&rotate, json!({"retain_minutes": -1, "expires": "soon"}))
        .await
        .assert_faults(&[("retain_minutes", "out_of_range"), ("expires", "bad_format")]);
    plant
        .post(&rotate, json!({"expires": "2020-01-01T00:00:00Z"}))
        .await
        .assert_faults(&[("expires", "out_of_range")]);
    plant.post(&format!("{path}:deactivate"), json!({})).await;
    plant.post(&rotate, json!({})).await.assert_problem(409, "key_inactive");
    plant.post(&format!("{path}:activate"), json!({})).await;
    plant.clock.advance_ms(60_000);
    plant.post(&rotate, json!({})).await.assert_problem(409, "key_expired");
    assert_eq!(plant.post(&rotate, json!({"expires": "never"})).await.status, 200);
    plant.post(&format!("{path}:revoke"), json!({})).await;
    plant.post(&rotate, json!({})).await.assert_problem(409, "state_terminal");
    plant.post(&format!("{path}:activate"), json!({})).await.assert_problem(409, "state_terminal");
    plant.delete(&path).await;
    plant.post(&rotate, json!({})).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_key_is_switched_off_and_on_and_the_same_value_works_again() {
    let plant = Plant::start().await;
    let (path, made) = key(&plant, json!({"name": "main"})).await;
    let value = made.text("/value");
    let off = plant.post(&format!("{path}:deactivate"), json!({})).await;
    assert_eq!(off.text("/key/state"), "inactive");
    assert_eq!(off.body["key"]["usable"], false);
    assert_eq!(plant.accepts(&value).await, 401);
    let again = plant.post(&format!("{path}:deactivate"), json!({})).await;
    assert_eq!((again.status.as_u16(), &again.body["seq"]), (200, &off.body["seq"]));
    assert_eq!(plant.post(&format!("{path}:activate"), json!({})).await.status, 200);
    assert_eq!(plant.accepts(&value).await, 200);
}

#[tokio::test]
async fn a_deleted_key_is_gone_and_its_name_is_free() {
    let plant = Plant::start().await;
    let (path, made) = key(&plant, json!({"name": "main"})).await;
    let (keys, _) = path.rsplit_once('/').unwrap();
    plant.post(keys, json!({"name": "main"})).await.assert_problem(409, "name_taken");
    let other = plant.post(keys, json!({"name": "other"})).await;
    let other = format!("{keys}/{}", other.text("/key/id"));
    plant.patch(&other, json!({"name": "main"})).await.assert_problem(409, "name_taken");
    let gone = plant.delete(&path).await;
    assert_eq!((gone.status.as_u16(), gone.text("/key/state").as_str()), (200, "deleted"));
    assert_eq!(plant.accepts(&made.text("/value")).await, 401);
    plant.delete(&path).await.assert_problem(404, "not_found");
    plant.get(&path).await.assert_problem(404, "not_found");
    assert_eq!(plant.post(keys, json!({"name": "main"})).await.status, 201);
}

#[tokio::test]
async fn expiry_is_strict_and_must_lie_ahead() {
    let plant = Plant::start().await;
    let (path, made) =
        key(&plant, json!({"name": "main", "expires_at": "2026-11-22T00:00:01Z"})).await;
    let value = made.text("/value");
    plant.clock.advance_ms(999);
    assert_eq!(plant.accepts(&value).await, 200);
    plant.clock.advance_ms(1);
    assert_eq!(plant.accepts(&value).await, 401);
    let shown = plant.get(&path).await;
    assert_eq!((&shown.body["expired"], &shown.body["usable"]), (&json!(true), &json!(false)));
    plant
        .patch(&path, json!({"expires_at": "2026-11-22T00:00:01Z"}))
        .await
        .assert_faults(&[("expires_at", "out_of_range")]);
    let (keys, _) = path.rsplit_once('/').unwrap();
    plant
        .post(keys, json!({"name": "b", "expires_at": "2027-01-01T00:00:00Z", "ttl_seconds": 5}))
        .await
        .assert_faults(&[("ttl_seconds", "bad_format")]);
    plant
        .post(keys, json!({"name": "b", "ttl_seconds": 0}))
        .await
        .assert_faults(&[("ttl_seconds", "out_of_range")]);
    plant
        .post(keys, json!({"name": "b", "expires_at": "99999-01-01T00:00:00Z"}))
        .await
        .assert_faults(&[("expires_at", "bad_format")]);
}

#[tokio::test]
async fn a_restriction_narrows_and_names_only_what_exists() {
    let plant = Plant::start().await;
    let body = json!({"name": "main", "restriction": {"permissions": ["cluster:read"]}});
    let (path, made) = key(&plant, body).await;
    let whoami = plant.ask(Method::GET, "/v1/whoami").token(&made.text("/value")).send().await;
    assert_eq!(whoami.body["permissions"], json!(["cluster:read"]));
    let explain = json!({"key_id": made.text("/key/id"), "permission": "cluster:read"});
    let explained = plant.post(&plant.o(":explain"), explain.clone()).await;
    assert_eq!(
        (&explained.body["allowed"], &explained.body["contributions"][0]["excluded"]),
        (&json!(true), &json!(null))
    );
    plant.patch(&path, json!({"restriction": {"permissions": ["cluster:write"]}})).await;
    let explained = plant.post(&plant.o(":explain"), explain).await;
    assert_eq!(
        (&explained.body["allowed"], &explained.body["contributions"][0]["excluded"]),
        (&json!(false), &json!("restricted"))
    );
    plant
        .patch(&path, json!({"restriction": {"resource_ids": ["nope"], "methods": ["GET"]}}))
        .await
        .assert_faults(&[("restriction.resource_ids[0]", "unknown_reference")]);
    plant
        .patch(&path, json!({"restriction": {"permissions": ["x"], "methods": ["get"]}}))
        .await
        .assert_faults(&[
            ("restriction.permissions[0]", "bad_format"),
            ("restriction.methods[0]", "bad_format"),
        ]);
}

#[tokio::test]
async fn of_two_creates_for_the_last_slot_exactly_one_wins() {
    let plant = Plant::start().await;
    let body = json!({"name": "suite", "profile": "precisely", "owner": {"username": "root"}});
    let made = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let made = made.send().await;
    let owner = made.text("/value");
    let base = format!("/v1/organizations/{}/service-accounts", made.text("/organization/id"));
    let body = json!({"username": "finance team", "create_key": {"name": "0"}});
    let agent = plant.ask(Method::POST, &base).token(&owner).json(body).send().await;
    let keys = format!("{base}/{}/keys", agent.text("/service_account/id"));
    let create = |name: &str| {
        plant.ask(Method::POST, &keys).token(&owner).json(json!({"name": name})).send()
    };
    let (a, b, c, d) = tokio::join!(create("a"), create("b"), create("c"), create("d"));
    let mut codes: Vec<u16> = [a, b, c, d].iter().map(|answer| answer.status.as_u16()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [201, 409, 409, 409]);
    create("e").await.assert_problem(409, "key_limit_reached");
    let listed = plant.ask(Method::GET, &format!("{keys}?count=true")).token(&owner).send().await;
    assert_eq!(listed.number("/total"), 2);
}

#[tokio::test]
async fn all_keys_of_the_organization_are_listed_and_old_ones_flagged() {
    let plant = Plant::start().await;
    let (_, made) = key(&plant, json!({"name": "main"})).await;
    plant.clock.advance_ms(90 * 86_400_000);
    let fresh = plant.account(json!({"username": "new", "create_key": {"name": "n"}})).await;
    let ids = |answer: Answer| -> Vec<Value> {
        answer.body["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
    };
    let accounts = "owner_kind=service_account";
    let stale = plant.get(&plant.o(&format!("/keys?{accounts}&stale=true"))).await;
    assert_eq!(ids(stale), [made.body["key"]["id"].clone()]);
    let old = plant.get(&plant.o(&format!("/keys?{accounts}&older_than_days=90"))).await;
    assert_eq!(ids(old), [made.body["key"]["id"].clone()]);
    let older = plant.get(&plant.o(&format!("/keys?{accounts}&older_than_days=91"))).await;
    assert!(ids(older).is_empty());
    assert_eq!(ids(plant.get(&plant.o(&format!("/keys?owner_id={fresh}"))).await).len(), 1);
    assert_eq!(ids(plant.get(&plant.o("/keys?stale=false")).await).len(), 1);
    assert_eq!(ids(plant.get(&plant.o("/keys")).await).len(), 3);
}
