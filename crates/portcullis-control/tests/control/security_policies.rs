//! Security policies: bundles of bindings, on and off; and bindings in batches.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;

/// A group with one account in it; ids of both and of the account's key.
async fn team(plant: &Plant) -> (String, String, String) {
    let group = plant.post(&plant.o("/groups"), json!({"name": "g"})).await.text("/group/id");
    let (sa, key, _) = plant.agent("ci", None).await;
    let assigned = plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [group]})).await;
    assert_eq!(assigned.status, 200, "{}", assigned.text);
    (group, sa, key)
}

fn binding(role: &str, kind: &str, id: &str, resource: &str) -> Value {
    json!({"role_id": role, "subject": {"kind": kind, "id": id}, "resource_id": resource})
}

async fn may(plant: &Plant, key: &str, permission: &str) -> Value {
    let body = json!({"key_id": key, "permission": permission});
    plant.post(&plant.o(":explain"), body).await.body["allowed"].clone()
}

/// PA-2, K-23, vector 13.
#[tokio::test]
async fn a_policy_gives_while_it_is_on_and_nothing_while_it_is_off() {
    let plant = Plant::start().await;
    let (group, sa, key) = team(&plant).await;
    let bindings = json!([
        binding("member", "group", &group, &plant.root),
        binding("executor", "service_account", &sa, &plant.root),
    ]);
    let body = json!({"name": "Writers", "bindings": bindings});
    let made = plant.post(&plant.o("/security-policies"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = plant.o(&format!("/security-policies/{}", made.text("/security_policy/id")));
    assert_eq!(made.header("location"), path);
    let read = plant.get(&path).await;
    assert_eq!((read.number("/group_count"), read.number("/role_count")), (1, 2));
    assert_eq!(read.body["bindings"].as_array().unwrap().len(), 2);
    assert_eq!(may(&plant, &key, "cluster:write").await, true);
    assert_eq!(may(&plant, &key, "cluster:execute").await, true);
    let off = plant.post(&format!("{path}:disable"), json!({})).await;
    assert_eq!(
        (off.status.as_u16(), &off.body["security_policy"]["enabled"]),
        (200, &json!(false))
    );
    assert_eq!(may(&plant, &key, "cluster:write").await, false);
    assert_eq!(may(&plant, &key, "cluster:execute").await, false);
    let explained = plant.post(&plant.o(":explain"), json!({"key_id": key})).await;
    assert_eq!(explained.text("/contributions/0/excluded"), "disabled");
    assert_eq!(explained.text("/contributions/0/policy_id"), read.text("/id"));
    let again = plant.post(&format!("{path}:disable"), json!({})).await;
    assert_eq!(again.body["seq"], off.body["seq"]);
    plant.post(&format!("{path}:enable"), json!({})).await;
    assert_eq!(may(&plant, &key, "cluster:write").await, true);

    // A direct row that a policy gives is changed in the policy.
    let rows = plant.get(&plant.s(&sa, "/access")).await;
    assert_eq!(
        (rows.text("/items/0/source").as_str(), &rows.body["items"][0]["editable"]),
        ("direct", &json!(false))
    );
    let access = plant.s(&sa, &format!("/access/{}", plant.root));
    plant.delete(&access).await.assert_problem(409, "access_is_inherited");

    let body = json!({"bindings": [binding("viewer", "group", &group, &plant.root)]});
    let patched = plant.patch(&path, body).await;
    assert_eq!(patched.number("/security_policy/version"), 4, "{}", patched.text);
    assert_eq!(may(&plant, &key, "cluster:write").await, false);
    assert_eq!(may(&plant, &key, "cluster:read").await, true);
    assert_eq!(plant.delete(&path).await.status, 200);
    assert_eq!(may(&plant, &key, "cluster:read").await, false);
    plant.get(&path).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn default_policies_are_switched_and_nothing_else() {
    let plant = Plant::start().await;
    let list = plant.get(&plant.o("/security-policies?kind=default&count=true")).await;
    assert_eq!((list.number("/total"), list.text("/items/0/name")), (1, "Owners".to_owned()));
    assert!(list.body["items"][0].get("bindings").is_none());
    let path = plant.o(&format!("/security-policies/{}", list.text("/items/0/id")));
    plant.patch(&path, json!({"name": "x"})).await.assert_problem(409, "immutable_object");
    plant.delete(&path).await.assert_problem(409, "immutable_object");
    let read = plant.get(&path).await;
    let inner = plant.o(&format!("/role-bindings/{}", read.text("/bindings/0/id")));
    plant.delete(&inner).await.assert_problem(409, "immutable_object");
    plant.patch(&inner, json!({"role_id": "viewer"})).await.assert_problem(409, "immutable_object");
    let sa = plant.account(json!({"username": "ci"})).await;
    let mut body = binding("viewer", "service_account", &sa, &plant.root);
    body["policy_id"] = read.body["id"].clone();
    let refused = plant.post(&plant.o("/role-bindings"), body).await;
    refused.assert_problem(409, "immutable_object");
    // Its group is empty and another owner exists, so it can be off.
    assert_eq!(plant.post(&format!("{path}:disable"), json!({})).await.status, 200);
    assert_eq!(plant.post(&format!("{path}:enable"), json!({})).await.status, 200);
}

#[tokio::test]
async fn bad_policies_are_refused_whole() {
    let plant = Plant::start().await;
    let (group, _, _) = team(&plant).await;
    let post = async |body: Value| plant.post(&plant.o("/security-policies"), body).await;
    post(json!({"name": "p", "bindings": [
        binding("viewer", "group", &group, &plant.root), binding("king", "group", &group, &plant.root),
    ]}))
    .await
    .assert_faults(&[("bindings[1].role_id", "unknown_reference")]);
    post(json!({"name": "p", "bindings": [binding("viewer", "group", "none", &plant.root)]}))
        .await
        .assert_faults(&[("bindings[0].subject.id", "unknown_reference")]);
    post(json!({"name": "p", "bindings": [
        binding("viewer", "group", &group, &plant.root), binding("viewer", "group", &group, &plant.root),
    ]}))
    .await
    .assert_problem(409, "duplicate_binding");
    let custom = plant.get(&plant.o("/security-policies?kind=custom&count=true")).await;
    assert_eq!(custom.number("/total"), 0);
    assert_eq!(post(json!({"name": "Plan"})).await.status, 201);
    post(json!({"name": "PLAN"})).await.assert_problem(409, "name_taken");
    post(json!({"name": "owners"})).await.assert_problem(409, "name_taken");
}

#[tokio::test]
async fn switching_a_policy_on_is_granting_all_of_it() {
    let plant = Plant::start().await;
    let (group, _, _) = team(&plant).await;
    let (admin_id, _, admin) = plant.agent("admin", Some("admin")).await;
    let bindings = json!([binding("owner", "group", &group, &plant.root)]);
    let body = json!({"name": "p", "enabled": false, "bindings": bindings});
    let made = plant.post(&plant.o("/security-policies"), body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = plant.o(&format!("/security-policies/{}", made.text("/security_policy/id")));
    let ask = |method: Method, path: String, body: Value| {
        plant.ask(method, &path).token(&admin).json(body).send()
    };
    ask(Method::POST, format!("{path}:enable"), json!({}))
        .await
        .assert_problem(403, "privilege_escalation");
    ask(Method::PATCH, path, json!({"enabled": true}))
        .await
        .assert_problem(403, "privilege_escalation");
    // Nor is a policy a way to change one's own bindings.
    let bindings = json!([binding("viewer", "service_account", &admin_id, &plant.root)]);
    ask(Method::POST, plant.o("/security-policies"), json!({"name": "q", "bindings": bindings}))
        .await
        .assert_problem(403, "privilege_escalation");
}

#[tokio::test]
async fn a_batch_of_bindings_is_all_or_nothing() {
    let plant = Plant::start().await;
    let (group, sa, key) = team(&plant).await;
    let batch = plant.o("/role-bindings:batch");
    let create = json!([
        binding("member", "group", &group, &plant.root),
        binding("executor", "service_account", &sa, &plant.root),
    ]);
    let made = plant.post(&batch, json!({"create": create})).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let ids: Vec<String> = (0..2).map(|n| made.text(&format!("/created/{n}/id"))).collect();
    assert_eq!(may(&plant, &key, "cluster:execute").await, true);
    let total = async || plant.get(&plant.o("/role-bindings?count=true")).await.number("/total");
    let before = total().await;
    let create = json!([
        binding("viewer", "group", &group, &plant.root),
        binding("viewer", "group", &group, "none"),
    ]);
    plant
        .post(&batch, json!({"create": create, "delete": ids}))
        .await
        .assert_faults(&[("create[1].resource_id", "unknown_reference")]);
    plant
        .post(&batch, json!({"delete": [ids[0], "none"]}))
        .await
        .assert_faults(&[("delete[1]", "unknown_reference")]);
    assert_eq!(total().await, before);
    let one = binding("viewer", "group", &group, &plant.root);
    let body = json!({"create": vec![one; 201]});
    plant.post(&batch, body).await.assert_faults(&[("create", "out_of_range")]);
    // What goes makes room for what comes.
    let create = json!([binding("member", "group", &group, &plant.root)]);
    let swapped = plant.post(&batch, json!({"create": create, "delete": ids})).await;
    assert_eq!(swapped.status, 200, "{}", swapped.text);
    assert_eq!(swapped.body["deleted"].as_array().unwrap().len(), 2);
    assert_eq!(may(&plant, &key, "cluster:execute").await, false);
    assert_eq!(may(&plant, &key, "cluster:write").await, true);
    let event = plant.last_event().await;
    assert_eq!(event["action"], "role_binding.batch");
    let (_, _, weak) = plant.agent("weak", Some("viewer")).await;
    plant
        .ask(Method::POST, &batch)
        .token(&weak)
        .json(json!({}))
        .send()
        .await
        .assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn bindings_are_listed_by_policy_and_by_kind_of_subject() {
    let plant = Plant::start().await;
    let (group, sa, _) = team(&plant).await;
    let bindings = json!([binding("member", "group", &group, &plant.root)]);
    let body = json!({"name": "p", "bindings": bindings});
    let made = plant.post(&plant.o("/security-policies"), body).await;
    let policy = made.text("/security_policy/id");
    let mut body = binding("viewer", "service_account", &sa, &plant.root);
    body["policy_id"] = json!(policy);
    let added = plant.post(&plant.o("/role-bindings"), body).await;
    assert_eq!(added.text("/role_binding/policy_id"), policy, "{}", added.text);
    for (filter, total) in [
        (format!("policy_id={policy}"), 2),
        (format!("policy_id={policy}&subject_kind=group"), 1),
        (format!("subject_id={sa}"), 1),
        (format!("role_id=member&resource_id={}", plant.root), 1),
    ] {
        let list = plant.get(&plant.o(&format!("/role-bindings?count=true&{filter}"))).await;
        assert_eq!(list.number("/total"), total, "{filter}");
    }
}
