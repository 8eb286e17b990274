//! Bindings and access rows: inheritance, direct access, escalation, owners.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};

/// The access row of a resource, if there is one.
async fn row(plant: &Plant, account: &str, resource: &str) -> Option<Value> {
    let rows = plant.get(&plant.s(account, "/access")).await;
    assert_eq!(rows.status, 200, "{}", rows.text);
    let rows = rows.body["items"].as_array().unwrap().clone();
    rows.into_iter().find(|row| row["resource"]["id"] == resource)
}

async fn permissions(plant: &Plant, account: &str, resource: &str) -> Value {
    match row(plant, account, resource).await {
        Some(row) => row["permissions"].clone(),
        None => json!([]),
    }
}

async fn grant(plant: &Plant, account: &str, resources: &[&str], role: &str) -> Answer {
    let body = json!({"resource_ids": resources, "role_id": role});
    plant.post(&plant.s(account, "/access:grant"), body).await
}

#[tokio::test]
async fn rows_show_inherited_and_direct_access_and_only_direct_is_editable() {
    let plant = Plant::start().await;
    let (k1, k2) = (plant.resource("cluster", "k1").await, plant.resource("cluster", "k2").await);
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let inherited = row(&plant, &id, &k1).await.unwrap();
    assert_eq!(inherited["source"], "inherited");
    assert_eq!(inherited["from_resource_id"], plant.root);
    assert_eq!(
        (&inherited["editable"], &inherited["role_ids"]),
        (&json!(false), &json!(["viewer"]))
    );
    let path = plant.s(&id, &format!("/access/{k1}"));
    let refused = plant.patch(&path, json!({"role_id": "member"})).await;
    refused.assert_problem(409, "access_is_inherited");
    assert_eq!(refused.text("/resource_id"), k1);
    plant.delete(&path).await.assert_problem(409, "access_is_inherited");

    let granted = grant(&plant, &id, &[&k1], "member").await;
    assert_eq!(granted.status, 200, "{}", granted.text);
    assert_eq!(permissions(&plant, &id, &k1).await, json!(["*:read", "*:write"]));
    assert_eq!(permissions(&plant, &id, &k2).await, json!(["*:read"]));
    let again = grant(&plant, &id, &[&k1], "member").await;
    assert_eq!((again.status.as_u16(), &again.body["seq"]), (200, &granted.body["seq"]));

    // Vector 3: a direct role can lower what is inherited.
    plant
        .patch(&plant.s(&id, &format!("/access/{}", plant.root)), json!({"role_id": "member"}))
        .await;
    let lowered = plant.patch(&path, json!({"role_id": "viewer"})).await;
    assert_eq!(lowered.status, 200, "{}", lowered.text);
    assert_eq!(permissions(&plant, &id, &k1).await, json!(["*:read"]));
    assert_eq!(permissions(&plant, &id, &k2).await, json!(["*:read", "*:write"]));
    // Vector 10: revoking it brings the inherited role back.
    assert_eq!(plant.delete(&path).await.status, 200);
    assert_eq!(permissions(&plant, &id, &k1).await, json!(["*:read", "*:write"]));
    // Vector 11: direct access survives the organization's.
    grant(&plant, &id, &[&k1], "member").await;
    plant.delete(&plant.s(&id, &format!("/access/{}", plant.root))).await;
    assert_eq!(permissions(&plant, &id, &k1).await, json!(["*:read", "*:write"]));
    assert_eq!(permissions(&plant, &id, &k2).await, json!([]));
    plant
        .patch(&plant.s(&id, &format!("/access/{k2}")), json!({"role_id": "viewer"}))
        .await
        .assert_problem(404, "not_found");
    // Vector 16: a new cluster is covered.
    grant(&plant, &id, &[&plant.root], "viewer").await;
    let k3 = plant.resource("cluster", "k3").await;
    assert_eq!(permissions(&plant, &id, &k3).await, json!(["*:read"]));
}

#[tokio::test]
async fn bindings_are_created_read_changed_and_removed() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let subject = json!({"kind": "service_account", "id": id});
    let body = json!({"role_id": "viewer", "subject": subject, "resource_id": plant.root});
    let made = plant.post(&plant.o("/role-bindings"), body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = plant.o(&format!("/role-bindings/{}", made.text("/role_binding/id")));
    assert_eq!(made.header("location"), path);
    plant.post(&plant.o("/role-bindings"), body).await.assert_problem(409, "duplicate_binding");
    assert_eq!(plant.get(&path).await.body, made.body["role_binding"]);
    let patched = plant.patch(&path, json!({"role_id": "member", "propagate": false})).await;
    assert_eq!(patched.text("/role_binding/role_id"), "member");
    assert_eq!(patched.number("/role_binding/version"), 2);
    let list = plant.get(&plant.o(&format!("/role-bindings?subject_id={id}&role_id=member"))).await;
    assert_eq!(list.body["items"][0], patched.body["role_binding"]);
    plant
        .patch(&path, json!({"resource_id": "x", "role_id": "king"}))
        .await
        .assert_faults(&[("resource_id", "read_only")]);
    plant
        .patch(&path, json!({"role_id": "king"}))
        .await
        .assert_faults(&[("role_id", "unknown_reference")]);
    assert_eq!(plant.delete(&path).await.status, 200);
    plant.get(&path).await.assert_problem(404, "not_found");
    let body =
        json!({"role_id": "viewer", "subject": {"kind": "team", "id": "x"}, "resource_id": "x"});
    plant
        .post(&plant.o("/role-bindings"), body)
        .await
        .assert_faults(&[("subject.kind", "bad_format")]);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let plant = Plant::start().await;
    let cluster = plant.resource("cluster", "k1").await;
    let (admin_id, _, admin) = plant.agent("admin", Some("admin")).await;
    let (owner_id, owner_key, _) = plant.agent("owner", Some("owner")).await;
    let target = plant.account(json!({"username": "target"})).await;
    let ask = |method: Method, path: String, body: Value| {
        plant.ask(method, &path).token(&admin).json(body).send()
    };
    let bind = |subject: &str, role: &str, resource: &str| {
        let subject = json!({"kind": "service_account", "id": subject});
        let body = json!({"role_id": role, "subject": subject, "resource_id": resource});
        ask(Method::POST, plant.o("/role-bindings"), body)
    };
    bind(&target, "owner", &plant.root).await.assert_problem(403, "privilege_escalation");
    assert_eq!(bind(&target, "admin", &cluster).await.status, 201);
    bind(&admin_id, "viewer", &cluster).await.assert_problem(403, "privilege_escalation");
    let body = json!({"username": "x", "role_id": "owner"});
    ask(Method::POST, plant.o("/service-accounts"), body)
        .await
        .assert_problem(403, "privilege_escalation");
    // A key of an owner is an owner's power.
    ask(Method::POST, plant.s(&owner_id, "/keys"), json!({"name": "x"}))
        .await
        .assert_problem(403, "privilege_escalation");
    let rotate = plant.s(&owner_id, &format!("/keys/{owner_key}:rotate"));
    ask(Method::POST, rotate, json!({})).await.assert_problem(403, "privilege_escalation");
    assert_eq!(
        ask(Method::POST, plant.s(&target, "/keys"), json!({"name": "x"})).await.status,
        201
    );
    let event = plant.get(&plant.o("/audit-events?outcome=denied&count=true")).await;
    assert_eq!(event.number("/total"), 5);
    assert_eq!(event.text("/items/0/reason"), "privilege_escalation");
}

#[tokio::test]
async fn a_manager_gives_roles_only_below_its_own_place() {
    let plant = Plant::start().await;
    let (w1, w2) =
        (plant.resource("workspace", "w1").await, plant.resource("workspace", "w2").await);
    let body = json!({
        "username": "boss", "bindings": [{"role_id": "manager", "resource_id": w1}],
        "create_key": {"name": "k"},
    });
    let boss = plant.post(&plant.o("/service-accounts"), body).await.text("/value");
    let target = plant.account(json!({"username": "target"})).await;
    let bind = |role: &str, resource: &str| {
        let subject = json!({"kind": "service_account", "id": target});
        let body = json!({"role_id": role, "subject": subject, "resource_id": resource});
        plant.ask(Method::POST, &plant.o("/role-bindings")).token(&boss).json(body).send()
    };
    assert_eq!(bind("member", &w1).await.status, 201);
    bind("member", &w2).await.assert_problem(403, "permission_denied");
    bind("member", &plant.root).await.assert_problem(403, "permission_denied");
    bind("admin", &w1).await.assert_problem(403, "privilege_escalation");
    let list = plant.ask(Method::GET, &plant.o("/role-bindings")).token(&boss).send().await;
    list.assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn a_restricted_key_cannot_hand_out_what_it_was_narrowed_from() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "owner"})).await;
    let restriction = json!({"permissions": ["role_binding:*", "api_key:*", "*:read"]});
    let body = json!({"name": "narrow", "restriction": restriction});
    let key = plant.post(&plant.s(&id, "/keys"), body).await;
    let narrow = key.text("/value");
    let target = plant.account(json!({"username": "target"})).await;
    let bind = |role: &str| {
        let subject = json!({"kind": "service_account", "id": target});
        let body = json!({"role_id": role, "subject": subject, "resource_id": plant.root});
        plant.ask(Method::POST, &plant.o("/role-bindings")).token(&narrow).json(body).send()
    };
    bind("member").await.assert_problem(403, "privilege_escalation");
    assert_eq!(bind("viewer").await.status, 201);
    // Nor can it widen itself, or mint an unrestricted sister.
    let own = plant.s(&id, &format!("/keys/{}", key.text("/key/id")));
    plant
        .ask(Method::PATCH, &own)
        .token(&narrow)
        .json(json!({"restriction": null}))
        .send()
        .await
        .assert_problem(403, "privilege_escalation");
    plant
        .ask(Method::POST, &plant.s(&id, "/keys"))
        .token(&narrow)
        .json(json!({"name": "x"}))
        .send()
        .await
        .assert_problem(403, "privilege_escalation");
}

#[tokio::test]
async fn the_last_human_owner_stays() {
    let plant = Plant::start().await;
    let (_, _, robot) = plant.agent("robot", Some("owner")).await;
    let list = plant.get(&plant.o("/role-bindings?subject_kind=user")).await;
    let path = plant.o(&format!("/role-bindings/{}", list.text("/items/0/id")));
    let ask =
        |method: Method, body: Value| plant.ask(method, &path).token(&robot).json(body).send();
    ask(Method::DELETE, json!({})).await.assert_problem(409, "last_owner");
    ask(Method::PATCH, json!({"role_id": "viewer"})).await.assert_problem(409, "last_owner");
    // Nobody changes their own bindings.
    plant.delete(&path).await.assert_problem(403, "privilege_escalation");
}

#[tokio::test]
async fn an_administrative_role_for_an_account_is_warned_about() {
    let plant = Plant::start().await;
    let body = json!({"name": "agents", "profile": "dezifi", "owner": {"username": "root"}});
    let made = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let made = made.send().await;
    let base = format!("/v1/organizations/{}", made.text("/organization/id"));
    let root = made.text("/organization/root_resource_id");
    let owner = made.text("/value");
    let post = |rest: &str, body: Value| {
        plant.ask(Method::POST, &format!("{base}{rest}")).token(&owner).json(body).send()
    };
    let account = post("/service-accounts", json!({"username": "x", "role_id": "admin"})).await;
    assert_eq!(account.text("/warnings/0/code"), "admin_role");
    let path = format!("/service-accounts/{}/access:grant", account.text("/service_account/id"));
    post(&path, json!({"resource_ids": [root], "role_id": "viewer"}))
        .await
        .assert_problem(409, "role_limit_reached");
}

#[tokio::test]
async fn explain_names_the_bindings_and_why_some_do_not_count() {
    let plant = Plant::start().await;
    let k1 = plant.resource("cluster", "k1").await;
    let body = json!({
        "username": "ci", "role_id": "member",
        "bindings": [{"role_id": "viewer", "resource_id": k1}], "create_key": {"name": "k"},
    });
    let made = plant.post(&plant.o("/service-accounts"), body).await;
    let id = made.text("/service_account/id");
    let ask = async |body: Value| plant.post(&plant.o(":explain"), body).await;
    let body = json!({"service_account_id": id, "resource_id": k1, "permission": "cluster:write"});
    let answer = ask(body).await;
    assert_eq!(answer.body["allowed"], false);
    assert_eq!(answer.body["permissions"], json!(["*:read"]));
    let excluded: Vec<(&str, &Value)> = answer.body["contributions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["role_id"].as_str().unwrap(), &one["excluded"]))
        .collect();
    assert_eq!(excluded, [("viewer", &json!(null)), ("member", &json!("overridden"))]);
    let body = json!({"key_id": made.text("/key/id"), "permission": "cluster:write"});
    assert_eq!(ask(body.clone()).await.body["allowed"], true);
    plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    let off = ask(body).await;
    assert_eq!((&off.body["allowed"], &off.body["permissions"]), (&json!(false), &json!([])));
    ask(json!({"key_id": "x", "user_id": "y"}))
        .await
        .assert_faults(&[("service_account_id", "required")]);
    ask(json!({"key_id": "x"})).await.assert_faults(&[("key_id", "unknown_reference")]);
}

/// I-19 and gateway.md 7.4: methods narrow at the admin API as they do at gateways, and whoever is
/// limited in them can make nobody who is not.
#[tokio::test]
async fn a_key_for_some_methods_calls_no_others_and_hands_out_nothing() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "owner"})).await;
    let keys = plant.s(&id, "/keys");
    let limited = async |name: &str, methods: Value| {
        let body = json!({"name": name, "restriction": {"methods": methods}});
        let made = plant.post(&keys, body).await;
        (plant.s(&id, &format!("/keys/{}", made.text("/key/id"))), made.text("/value"))
    };
    let (_, reader) = limited("reader", json!(["GET"])).await;
    let (own, writer) = limited("writer", json!(["POST", "PATCH"])).await;
    let ask = |method: Method, path: &str, token: &str| plant.ask(method, path).token(token);

    assert_eq!(ask(Method::GET, &keys, &reader).send().await.status, 200);
    let create = ask(Method::POST, &keys, &reader).json(json!({"name": "free"}));
    create.send().await.assert_problem(403, "permission_denied");
    ask(Method::GET, &keys, &writer).send().await.assert_problem(403, "permission_denied");

    for (method, path, body) in [
        (Method::POST, &keys, json!({"name": "free"})),
        (Method::PATCH, &own, json!({"restriction": null})),
    ] {
        let answer = ask(method, path, &writer).json(body).send().await;
        answer.assert_problem(403, "privilege_escalation");
    }
    let body = json!({"username": "harmless"});
    let made = ask(Method::POST, &plant.o("/service-accounts"), &writer).json(body).send().await;
    assert_eq!(made.status, 201, "it grants nothing: {}", made.text);
}

#[tokio::test]
async fn diagnose_says_why_a_key_does_not_work() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", None).await;
    let reason = async |body: Value| {
        let answer = plant.post(&plant.o(":diagnose"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["reason"].clone()
    };
    assert_eq!(reason(json!({"value": value})).await, json!(null));
    assert_eq!(reason(json!({"value": "ptc_x"})).await, "malformed");
    let unknown = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    assert_eq!(reason(json!({"value": unknown})).await, "unknown_key");
    let path = plant.s(&id, &format!("/keys/{key}"));
    plant.post(&format!("{path}:rotate"), json!({"retain_minutes": 1})).await;
    assert_eq!(reason(json!({"value": value})).await, json!(null));
    plant.clock.advance_ms(60_000);
    assert_eq!(reason(json!({"value": value})).await, "retention_over");
    plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    assert_eq!(reason(json!({"key_id": key})).await, "sa_inactive");
    plant.post(&format!("{path}:deactivate"), json!({})).await;
    assert_eq!(reason(json!({"key_id": key})).await, "key_inactive");
    plant.post(&plant.o(":diagnose"), json!({})).await.assert_faults(&[("value", "required")]);
}

/// Z-55: which binding would give it.
#[tokio::test]
async fn diagnose_says_which_binding_would_give_a_missing_permission() {
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": true})).await;
    let k1 = plant.resource("cluster", "k1").await;
    let (sa, key, _) = plant.agent("ci", Some("viewer")).await;
    let ask = async |permission: &str| {
        let body = json!({"key_id": key, "permission": permission, "resource_id": k1});
        let answer = plant.post(&plant.o(":diagnose"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let check = answer.body["checks"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(check["check"], "permission");
        (answer, check["detail"].as_str().unwrap().to_owned())
    };
    let (held, _) = ask("cluster:read").await;
    assert_eq!((&held.body["reason"], &held.body["suggestions"]), (&json!(null), &json!([])));
    let (missing, detail) = ask("cluster:write").await;
    assert_eq!(
        (missing.text("/reason").as_str(), &missing.body["usable"]),
        ("insufficient_scope", &json!(true))
    );
    assert!(detail.contains("the role Member on cluster/k1 would give it"), "{detail}");
    // The suggestion is a binding as it can be created, and it helps.
    let suggestion = missing.body["suggestions"][0].clone();
    let made = plant.post(&plant.o("/role-bindings"), suggestion).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(ask("cluster:write").await.0.body["reason"], json!(null));

    // What a binding cannot help is said instead.
    plant.post(&plant.o(&format!("/resources/{k1}:archive")), json!({})).await;
    assert!(ask("cluster:write").await.1.contains("archived"));
    plant.post(&plant.o(&format!("/resources/{k1}:unarchive")), json!({})).await;
    let path = plant.s(&sa, &format!("/keys/{key}"));
    plant.patch(&path, json!({"restriction": {"permissions": ["*:read"]}})).await;
    assert!(ask("cluster:write").await.1.contains("restricted"));
    plant.patch(&path, json!({"restriction": null})).await;
    let body = json!({"name": "x", "permissions": [], "deny": ["*:write"]});
    let role = plant.post(&plant.o("/roles"), body).await.text("/role/id");
    let body = json!({
        "role_id": role, "subject": {"kind": "service_account", "id": sa},
        "resource_id": plant.root,
    });
    let made = plant.post(&plant.o("/role-bindings"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let (denied, detail) = ask("cluster:write").await;
    assert!(detail.contains("denies"), "{detail}");
    assert_eq!(denied.body["suggestions"], json!([]));
    // A binding of a policy that is off is named.
    let subject = json!({"kind": "service_account", "id": sa});
    let bindings = json!([{"role_id": "executor", "subject": subject, "resource_id": k1}]);
    let body = json!({"name": "p", "enabled": false, "bindings": bindings});
    plant.post(&plant.o("/security-policies"), body).await;
    assert!(ask("cluster:execute").await.1.contains("is disabled"));
    plant
        .post(
            &plant.o(":diagnose"),
            json!({"key_id": key, "permission": "*", "resource_id": "x y"}),
        )
        .await
        .assert_faults(&[("permission", "bad_format"), ("resource_id", "bad_format")]);
}
