//! Fields of OrgPolicy that no profile presets, set in the database: the policy has no endpoint of
//! its own yet.

use portcullis_core::feed::Kind;
use reqwest::Method;
use serde_json::json;

use crate::harness::Plant;
use crate::player::Gateway;

#[tokio::test]
async fn a_policy_can_make_if_match_mandatory() {
    let mut plant = Plant::start().await;
    plant.change_policy(r#""require_if_match":false"#, r#""require_if_match":true"#).await;
    let (id, key, _) = plant.agent("ci", None).await;
    for path in [plant.s(&id, ""), plant.s(&id, &format!("/keys/{key}"))] {
        plant
            .patch(&path, json!({"description": "x"}))
            .await
            .assert_problem(428, "precondition_required");
        plant.delete(&path).await.assert_problem(428, "precondition_required");
        let ask = plant.ask(Method::PATCH, &path).header("if-match", "\"1\"");
        assert_eq!(ask.json(json!({"description": "x"})).send().await.status, 200);
    }
    let path = plant.s(&id, &format!("/keys/{key}"));
    let gone = plant.ask(Method::DELETE, &path).header("if-match", "*").send().await;
    assert_eq!(gone.status, 200);
}

#[tokio::test]
async fn a_policy_can_make_keys_expire() {
    let mut plant = Plant::start().await;
    plant.change_policy(r#""key_ttl_default":null"#, r#""key_ttl_default":60"#).await;
    plant.change_policy(r#""key_ttl_max":null"#, r#""key_ttl_max":120"#).await;
    plant.change_policy(r#""allow_never_expires":true"#, r#""allow_never_expires":false"#).await;
    let id = plant.account(json!({"username": "ci"})).await;
    let keys = plant.s(&id, "/keys");
    let made = plant.post(&keys, json!({"name": "a"})).await;
    assert_eq!(made.text("/key/expires_at"), "2026-11-22T00:01:00.000000Z");
    plant
        .post(&keys, json!({"name": "b", "expires_at": null}))
        .await
        .assert_faults(&[("expires_at", "policy")]);
    plant
        .post(&keys, json!({"name": "b", "ttl_seconds": 121}))
        .await
        .assert_faults(&[("expires_at", "policy")]);
    let path = format!("{keys}/{}", made.text("/key/id"));
    plant
        .post(&format!("{path}:rotate"), json!({"expires": "never"}))
        .await
        .assert_faults(&[("expires", "policy")]);
    plant
        .patch(&path, json!({"expires_at": "2026-11-22T00:03:00Z"}))
        .await
        .assert_faults(&[("expires_at", "policy")]);
}

#[tokio::test]
async fn a_policy_can_forbid_roles_and_the_reuse_of_names() {
    let mut plant = Plant::start().await;
    let early = plant.account(json!({"username": "early", "role_id": "admin"})).await;
    plant.change_policy(r#""sa_forbidden_roles":[]"#, r#""sa_forbidden_roles":["admin"]"#).await;
    let reuse = r#""username_reuse_after_delete":"#;
    plant.change_policy(&format!("{reuse}true"), &format!("{reuse}false")).await;
    let id = plant.account(json!({"username": "ci"})).await;
    let grant = json!({"resource_ids": [plant.root], "role_id": "admin"});
    plant.post(&plant.s(&id, "/access:grant"), grant).await.assert_problem(409, "policy_forbids");
    // What was bound before grants nothing any more.
    let body = json!({"service_account_id": early, "permission": "cluster:write"});
    let answer = plant.post(&plant.o(":explain"), body).await;
    assert_eq!(answer.body["allowed"], false);
    assert_eq!(answer.text("/contributions/0/excluded"), "forbidden");
    plant.delete(&plant.s(&id, "")).await;
    plant
        .post(&plant.o("/service-accounts"), json!({"username": "CI"}))
        .await
        .assert_problem(409, "username_taken");
}

#[tokio::test]
async fn only_a_policy_that_asks_for_it_limits_how_long_a_gateway_serves_without_contact() {
    let mut plant = Plant::start().await;
    let org = (Kind::Org, plant.org.clone());
    let open = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    assert_eq!(open.records[&org], json!({"state": "active"}));

    plant.change_policy(r#""on_stale":"serve_recorded""#, r#""on_stale":"fail_closed""#).await;
    for verb in [":suspend?wait=none", ":resume?wait=none"] {
        let ask = plant.ask(Method::POST, &plant.o(verb)).token(&plant.operator);
        assert!(ask.json(json!({})).send().await.status.is_success(), "{verb}");
    }
    let limited = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    let record = json!({"state": "active", "max_staleness_ms": 30_000, "on_stale": "fail_closed"});
    assert_eq!(limited.records[&org], record);
}
