//! OrgPolicy: read, changed field by field, reset to a profile; what it changes about access reaches
//! gateways, and nothing final comes back.

use portcullis_core::feed::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

async fn policy(plant: &Plant, change: Value) -> Answer {
    let changed = plant.patch(&plant.o("/policy"), change).await;
    // 202 where a gateway that only took a snapshot has not acknowledged.
    assert!(changed.status.is_success(), "{}", changed.text);
    changed
}

#[tokio::test]
async fn a_policy_is_read_changed_and_reset_to_a_profile() {
    let plant = Plant::start().await;
    let read = plant.get(&plant.o("/policy")).await;
    assert_eq!((read.status.as_u16(), read.header("etag")), (200, "\"1\""));
    assert_eq!(read.text("/profile"), "default");
    assert_eq!(read.body["max_keys_per_sa"], json!(null));

    let changed = policy(&plant, json!({"max_keys_per_sa": 3, "confirm_style": "typed"})).await;
    assert_eq!(changed.body["policy"]["max_keys_per_sa"], 3);
    assert_eq!(changed.header("etag"), "\"2\"");
    let event = plant.last_event().await;
    assert_eq!(event["action"], "org_policy.update");
    assert_eq!(event["before"]["max_keys_per_sa"], json!(null));
    assert_eq!(event["after"]["max_keys_per_sa"], 3);

    let again = policy(&plant, json!({"max_keys_per_sa": 3})).await;
    assert_eq!((&again.body["seq"], again.header("etag")), (&changed.body["seq"], "\"2\""));

    let reset = policy(&plant, json!({"profile": "precisely", "retire_after_days": 30})).await;
    let fields = &reset.body["policy"];
    assert_eq!(fields["profile"], "precisely");
    assert_eq!((&fields["max_keys_per_sa"], &fields["retire_after_days"]), (&json!(2), &json!(30)));
    assert_eq!(fields["confirm_style"], "click", "what was changed before is preset again");
    assert_eq!(plant.get(&plant.o("")).await.body["profile"], "precisely");
}

#[tokio::test]
async fn every_field_out_of_its_range_is_named_and_nothing_changes() {
    let plant = Plant::start().await;
    let before = plant.get(&plant.o("/policy")).await;
    let wrong = json!({
        "sa_ops": ["deactivate", "explode"], "rotate_max_retain_minutes": 525_601,
        "max_keys_per_sa": 0, "key_ttl_max": -1, "allow_never_expires": "yes",
        "inheritance": "sideways", "sa_forbidden_groups": "owner",
        "session_token_mode": {"workspace": "loose"}, "session_token_ttl": 59,
        "detached_max_ttl": 3601, "last_used_flush_s": 0, "max_staleness_s": 3601,
        "on_stale": "panic", "profile": "acme", "version": 7, "colour": "red",
    });
    plant.patch(&plant.o("/policy"), wrong).await.assert_faults(&[
        ("profile", "bad_format"),
        ("sa_ops[1]", "bad_format"),
        ("rotate_max_retain_minutes", "out_of_range"),
        ("max_keys_per_sa", "out_of_range"),
        ("key_ttl_max", "out_of_range"),
        ("allow_never_expires", "bad_format"),
        ("inheritance", "bad_format"),
        ("sa_forbidden_groups", "bad_format"),
        ("session_token_mode", "bad_format"),
        ("session_token_ttl", "out_of_range"),
        ("detached_max_ttl", "out_of_range"),
        ("last_used_flush_s", "out_of_range"),
        ("max_staleness_s", "out_of_range"),
        ("on_stale", "bad_format"),
        ("version", "read_only"),
        ("colour", "unknown_field"),
    ]);
    let path = plant.o("/policy");
    for (change, field, code) in [
        (json!({"deny_enabled": null}), "deny_enabled", "bad_format"),
        (json!({"key_ttl_default": 9, "key_ttl_max": 8}), "key_ttl_default", "out_of_range"),
        (json!({"sa_forbidden_roles": ["nobody"]}), "sa_forbidden_roles", "unknown_reference"),
        (json!({"sa_forbidden_groups": ["nobody"]}), "sa_forbidden_groups", "unknown_reference"),
    ] {
        plant.patch(&path, change).await.assert_faults(&[(field, code)]);
    }
    assert_eq!(plant.get(&path).await.body, before.body);
}

#[tokio::test]
async fn audiences_of_session_tokens_are_merged_one_by_one() {
    let plant = Plant::start().await;
    let modes = json!({"session_token_mode": {"workspace": "detached", "cluster": "bound"}});
    policy(&plant, modes).await;
    let changed = policy(&plant, json!({"session_token_mode": {"workspace": null}})).await;
    assert_eq!(changed.body["policy"]["session_token_mode"], json!({"cluster": "bound"}));
}

#[tokio::test]
async fn only_who_may_update_the_organization_changes_its_policy_and_with_the_right_version() {
    let plant = Plant::start().await;
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let path = plant.o("/policy");
    let by = |token: &str, method| plant.ask(method, &path).token(token);
    assert_eq!(by(&admin, Method::GET).send().await.status, 200);
    let change = json!({"deny_enabled": true});
    let denied = by(&admin, Method::PATCH).json(change.clone()).send().await;
    denied.assert_problem(403, "permission_denied");
    let operator = by(&plant.operator, Method::PATCH).json(change.clone()).send().await;
    operator.assert_problem(404, "not_found");
    let stale = plant.ask(Method::PATCH, &path).header("if-match", "\"9\"").json(change.clone());
    stale.send().await.assert_problem(412, "precondition_failed");
    plant.delete(&path).await.assert_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn a_new_organization_can_be_given_a_policy() {
    let plant = Plant::start().await;
    let make = |policy: Value| {
        let body = json!({
            "name": "acme", "profile": "zenml", "owner": {"username": "root"}, "policy": policy,
        });
        plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body).send()
    };
    make(json!({"inheritance": "odd"}))
        .await
        .assert_faults(&[("policy.inheritance", "bad_format")]);
    make(json!({"sa_warn_roles": ["odd"]}))
        .await
        .assert_faults(&[("policy.sa_warn_roles", "unknown_reference")]);
    let made = make(json!({"max_keys_per_sa": 5})).await;
    let fields = &made.body["organization"]["policy"];
    assert_eq!((&fields["max_keys_per_sa"], &fields["key_render"]), (&json!(5), &json!("zenpro")));
}

#[tokio::test]
async fn a_change_of_inheritance_or_of_forbidden_roles_reaches_gateways() {
    let plant = Plant::start().await;
    let cluster = plant.resource("cluster", "k1").await;
    let id = plant.account(json!({"username": "ci", "role_id": "member"})).await;
    let grant = json!({"resource_ids": [cluster], "role_id": "viewer"});
    assert_eq!(plant.post(&plant.s(&id, "/access:grant"), grant).await.status, 200);
    let account = (Kind::Account, id.clone());
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let overriding = gateway.snapshot().await.records[&account].clone();
    plant.clock.advance_ms(5001);

    policy(&plant, json!({"inheritance": "union"})).await;
    let union = gateway.snapshot().await.records[&account].clone();
    assert_ne!(union, overriding);
    plant.clock.advance_ms(5001);
    policy(&plant, json!({"sa_forbidden_roles": ["member"]})).await;
    let forbidden = gateway.snapshot().await.records[&account].clone();
    assert!(!forbidden.to_string().contains("@member"), "{forbidden}");
    plant.clock.advance_ms(5001);
    policy(&plant, json!({"profile": "default"})).await;
    assert_eq!(gateway.snapshot().await.records[&account], overriding);
}

#[tokio::test]
async fn a_policy_is_never_retroactive_on_what_is_final() {
    let plant = Plant::start().await;
    let (revoked, _, old) = plant.agent("old", Some("viewer")).await;
    plant.post(&plant.s(&revoked, ":revoke"), json!({})).await;
    let (id, ..) = plant.agent("ci", None).await;
    plant.post(&plant.s(&id, "/keys"), json!({"name": "second"})).await;
    policy(&plant, json!({"profile": "zenml"})).await;
    policy(&plant, json!({"max_keys_per_sa": 1, "inheritance": "override"})).await;
    assert_eq!(plant.get(&plant.s(&revoked, "")).await.text("/state"), "revoked");
    assert_eq!(plant.accepts(&old).await, 401);
    // A lower limit deletes nothing and refuses the next key.
    assert_eq!(plant.get(&plant.s(&id, "")).await.number("/key_count"), 2);
    let third = plant.post(&plant.s(&id, "/keys"), json!({"name": "third"})).await;
    third.assert_problem(409, "key_limit_reached");
}

#[tokio::test]
async fn what_a_policy_does_not_offer_is_409() {
    let plant = Plant::start().await;
    let (id, key, _) = plant.agent("ci", None).await;
    policy(&plant, json!({"sa_ops": ["delete"], "key_ops": []})).await;
    for verb in [":deactivate", ":activate", ":revoke"] {
        let answer = plant.post(&plant.s(&id, verb), json!({})).await;
        answer.assert_problem(409, "operation_not_offered");
    }
    let key = plant.s(&id, &format!("/keys/{key}"));
    for verb in [":deactivate", ":activate", ":revoke", ":rotate"] {
        let answer = plant.post(&format!("{key}{verb}"), json!({})).await;
        answer.assert_problem(409, "operation_not_offered");
    }
    plant.delete(&key).await.assert_problem(409, "operation_not_offered");
    assert_eq!(plant.delete(&plant.s(&id, "")).await.status, 200);
}

#[tokio::test]
async fn a_policy_can_make_if_match_mandatory() {
    let plant = Plant::start().await;
    policy(&plant, json!({"require_if_match": true})).await;
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
    let change = json!({"require_if_match": false});
    plant.patch(&plant.o("/policy"), change).await.assert_problem(428, "precondition_required");
}

#[tokio::test]
async fn a_policy_can_make_keys_expire() {
    let plant = Plant::start().await;
    let change = json!({"key_ttl_default": 60, "key_ttl_max": 120, "allow_never_expires": false});
    policy(&plant, change).await;
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
    let plant = Plant::start().await;
    let early = plant.account(json!({"username": "early", "role_id": "admin"})).await;
    let change = json!({"sa_forbidden_roles": ["admin"], "username_reuse_after_delete": false});
    policy(&plant, change).await;
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
    policy(&plant, json!({"username_reuse_after_delete": true})).await;
    let reborn = plant.account(json!({"username": "CI"})).await;
    assert_ne!(reborn, id, "always with a new id");
}

#[tokio::test]
async fn what_a_client_learns_and_how_long_a_gateway_serves_alone_is_published_at_once() {
    let plant = Plant::start().await;
    let org = (Kind::Org, plant.org.clone());
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let open = gateway.snapshot().await;
    assert_eq!(open.records[&org], json!({"state": "active"}));
    plant.clock.advance_ms(5001);
    policy(&plant, json!({"on_stale": "fail_closed", "reveal_reason_to_client": true})).await;
    let limited = gateway.snapshot().await;
    let record = json!({
        "state": "active", "max_staleness_ms": 30_000, "on_stale": "fail_closed",
        "reveal_reason": true,
    });
    assert_eq!(limited.records[&org], record);
}
