//! Custom roles: what they hold, who may write them, and that a change of one is one record.

use portcullis_core::feed::{Change, Kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

async fn role(plant: &Plant, body: Value) -> String {
    let made = plant.post(&plant.o("/roles"), body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.text("/role/id")
}

async fn bind(plant: &Plant, role: &str, kind: &str, subject: &str, resource: &str) -> Answer {
    let body = json!({
        "role_id": role, "subject": {"kind": kind, "id": subject}, "resource_id": resource,
    });
    plant.post(&plant.o("/role-bindings"), body).await
}

/// What the account may do on the resource, as `explain` says.
async fn permissions(plant: &Plant, account: &str, resource: &str) -> (Value, Value) {
    let body = json!({"service_account_id": account, "resource_id": resource});
    let answer = plant.post(&plant.o(":explain"), body).await;
    (answer.body["permissions"].clone(), answer.body["denied"].clone())
}

#[tokio::test]
async fn a_role_is_made_read_changed_listed_and_deleted() {
    let plant = Plant::start().await;
    let body = json!({
        "name": "Deployer", "description": "Ships", "permissions": ["cluster:deploy", "*:read"],
        "level": 45, "binding_kinds": ["cluster", "organization"],
    });
    let made = plant.post(&plant.o("/roles"), body).await;
    assert_eq!((made.status.as_u16(), made.header("etag")), (201, "\"1\""), "{}", made.text);
    let id = made.text("/role/id");
    let path = plant.o(&format!("/roles/{id}"));
    assert_eq!(made.header("location"), path);
    assert_eq!(made.body["role"]["permissions"], json!(["*:read", "cluster:deploy"]));
    assert_eq!(made.body["role"]["sa_assignable"], true);
    assert_eq!(plant.get(&path).await.body, made.body["role"]);
    let patched = plant.patch(&path, json!({"permissions": ["cluster:deploy"], "level": 5})).await;
    assert_eq!(patched.number("/role/version"), 2);
    assert_eq!(patched.body["role"]["permissions"], json!(["cluster:deploy"]));
    let stale = plant.ask(Method::PATCH, &path).header("if-match", "\"1\"").json(json!({}));
    stale.send().await.assert_problem(412, "precondition_failed");
    let custom = plant.get(&plant.o("/roles?kind=custom&count=true")).await;
    assert_eq!((custom.number("/total"), custom.text("/items/0/id")), (1, id.clone()));
    assert_eq!(plant.get(&plant.o("/roles?count=true")).await.number("/total"), 9);
    // Both kinds page in one order, from either end.
    for (order, first, last) in [("created_at", "owner", &*id), ("-created_at", &*id, "owner")] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = plant.o(&format!("/roles?page_size=4&order_by={order}{cursor}"));
            let page = plant.get(&page).await;
            let items = page.body["items"].as_array().unwrap().clone();
            seen.extend(items.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((seen.len(), &*seen[0], &*seen[8]), (9, first, last), "{order}");
    }
    assert_eq!(plant.delete(&path).await.status, 200);
    plant.get(&path).await.assert_problem(404, "not_found");
    plant.delete(&path).await.assert_problem(404, "not_found");
    let event = plant.last_event().await;
    assert_eq!(
        (&event["action"], &event["target"]["name"]),
        (&json!("role.delete"), &json!("Deployer"))
    );
}

#[tokio::test]
async fn bad_roles_are_refused_with_the_field_named() {
    let plant = Plant::start().await;
    let post = async |body: Value| plant.post(&plant.o("/roles"), body).await;
    post(json!({})).await.assert_faults(&[("name", "required")]);
    post(json!({"name": "x"})).await.assert_faults(&[("permissions", "required")]);
    post(json!({"name": "x", "permissions": ["Cluster:read", "*:*", "a"]}))
        .await
        .assert_faults(&[("permissions[0]", "bad_format"), ("permissions[2]", "bad_format")]);
    post(json!({"name": "x", "permissions": [], "level": 101, "binding_kinds": []}))
        .await
        .assert_faults(&[("level", "out_of_range"), ("binding_kinds", "out_of_range")]);
    post(json!({"name": "x", "permissions": [], "binding_kinds": ["moon"]}))
        .await
        .assert_faults(&[("binding_kinds[0]", "bad_format")]);
    post(json!({"name": "x", "base_role_id": "king"}))
        .await
        .assert_faults(&[("base_role_id", "unknown_reference")]);
    post(json!({"name": "x", "permissions": [], "deny": ["*:read"]}))
        .await
        .assert_faults(&[("deny", "policy")]);
    post(json!({"name": "bi\u{202e}di", "permissions": []}))
        .await
        .assert_faults(&[("name", "bad_format")]);
    // Names are the same by case and Unicode form, and built-in names are taken.
    role(&plant, json!({"name": "Café", "permissions": []})).await;
    for taken in ["CAFÉ", "cafe\u{301}", "Viewer", "ORG_MEMBER", "organization member"] {
        post(json!({"name": taken, "permissions": []})).await.assert_problem(409, "name_taken");
    }
    for path in ["/roles/viewer", "/roles/owner"] {
        let patched = plant.patch(&plant.o(path), json!({"name": "y"})).await;
        patched.assert_problem(409, "immutable_object");
        plant.delete(&plant.o(path)).await.assert_problem(409, "immutable_object");
    }
    plant.patch(&plant.o("/roles/none"), json!({})).await.assert_problem(404, "not_found");
    let id = role(&plant, json!({"name": "z", "permissions": []})).await;
    plant
        .patch(&plant.o(&format!("/roles/{id}")), json!({"base_role_id": null, "id": "q", "x": 1}))
        .await
        .assert_faults(&[
            ("id", "read_only"),
            ("base_role_id", "read_only"),
            ("x", "unknown_field"),
        ]);
}

#[tokio::test]
async fn a_role_copies_its_base_and_is_bound_only_where_it_says() {
    let plant = Plant::start().await;
    let (k1, w1) = (plant.resource("cluster", "k1").await, plant.resource("workspace", "w1").await);
    let id = role(&plant, json!({"name": "m2", "base_role_id": "member"})).await;
    let copy = plant.get(&plant.o(&format!("/roles/{id}"))).await;
    assert_eq!(copy.body["permissions"], json!(["*:read", "*:write"]));
    assert_eq!((copy.number("/level"), copy.text("/base_role_id")), (50, "member".to_owned()));
    let body = json!({"name": "m3", "base_role_id": id, "binding_kinds": ["cluster"]});
    let narrow = role(&plant, body).await;
    let sa = plant.account(json!({"username": "ci"})).await;
    let refused = bind(&plant, &narrow, "service_account", &sa, &w1).await;
    refused.assert_faults(&[("role_id", "policy")]);
    assert_eq!(bind(&plant, &narrow, "service_account", &sa, &k1).await.status, 201);
    for used in [&narrow, &id] {
        let path = plant.o(&format!("/roles/{used}"));
        plant.delete(&path).await.assert_problem(409, "role_in_use");
    }
    // What would resolve everybody again waits until nobody has the role.
    let path = plant.o(&format!("/roles/{narrow}"));
    for change in [json!({"sticky": true}), json!({"sa_assignable": false})] {
        plant.patch(&path, change).await.assert_problem(409, "role_in_use");
    }
    assert_eq!(plant.patch(&path, json!({"sticky": false, "level": 3})).await.status, 200);
}

#[tokio::test]
async fn a_role_that_is_not_for_accounts_reaches_none() {
    let plant = Plant::start().await;
    let body = json!({"name": "people", "permissions": ["*:read"], "sa_assignable": false});
    let id = role(&plant, body).await;
    let sa = plant.account(json!({"username": "ci"})).await;
    let refused = bind(&plant, &id, "service_account", &sa, &plant.root).await;
    refused.assert_problem(409, "policy_forbids");
    // Nor through a group, of which users get it.
    let group = plant.post(&plant.o("/groups"), json!({"name": "g"})).await.text("/group/id");
    assert_eq!(bind(&plant, &id, "group", &group, &plant.root).await.status, 201);
    let members = plant.o(&format!("/groups/{group}/members"));
    let user = json!({"username": "ann", "email": "a@b.c", "group_ids": [group]});
    let user = plant.post(&plant.o("/users"), user).await.text("/user/id");
    let joined =
        plant.post(&members, json!({"principal": {"kind": "service_account", "id": sa}})).await;
    assert_eq!(joined.status, 201, "{}", joined.text);
    assert_eq!(permissions(&plant, &sa, &plant.root).await.0, json!([]));
    let body = json!({"user_id": user, "permission": "cluster:read"});
    assert_eq!(plant.post(&plant.o(":explain"), body).await.body["allowed"], true);
    let explained = plant.post(&plant.o(":explain"), json!({"service_account_id": sa})).await;
    assert_eq!(explained.text("/contributions/0/excluded"), "forbidden");
    assert_eq!(explained.text("/contributions/0/via"), "group");
}

#[tokio::test]
async fn nobody_writes_a_role_beyond_their_own_rights() {
    let plant = Plant::start().await;
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let ask = |method: Method, path: String, body: Value| {
        plant.ask(method, &path).token(&admin).json(body).send()
    };
    let roles = plant.o("/roles");
    ask(Method::POST, roles.clone(), json!({"name": "x", "permissions": ["**"]}))
        .await
        .assert_problem(403, "privilege_escalation");
    ask(Method::POST, roles.clone(), json!({"name": "x", "permissions": ["organization:*"]}))
        .await
        .assert_problem(403, "privilege_escalation");
    ask(Method::POST, roles.clone(), json!({"name": "x", "base_role_id": "owner"}))
        .await
        .assert_problem(403, "privilege_escalation");
    let made =
        ask(Method::POST, roles, json!({"name": "x", "permissions": ["role:*", "*:*"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = plant.o(&format!("/roles/{}", made.text("/role/id")));
    ask(Method::PATCH, path.clone(), json!({"permissions": ["organization:update"]}))
        .await
        .assert_problem(403, "privilege_escalation");
    assert_eq!(ask(Method::PATCH, path, json!({"permissions": ["*:read"]})).await.status, 200);
}

#[tokio::test]
async fn a_role_in_use_grows_only_by_what_its_author_has_wherever_it_is_bound() {
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"inheritance": "override"})).await;
    let k1 = plant.resource("cluster", "k1").await;
    let id = role(&plant, json!({"name": "x", "permissions": ["*:read"]})).await;
    let sa = plant.account(json!({"username": "ci"})).await;
    assert_eq!(bind(&plant, &id, "service_account", &sa, &k1).await.status, 201);
    // The author may write on the root, and only read on the cluster.
    let author =
        role(&plant, json!({"name": "a", "permissions": ["*:write", "*:read", "role:*"]})).await;
    let body = json!({
        "username": "author", "role_id": author, "create_key": {"name": "k"},
        "bindings": [{"role_id": "viewer", "resource_id": k1}],
    });
    let author = plant.post(&plant.o("/service-accounts"), body).await.text("/value");
    let path = plant.o(&format!("/roles/{id}"));
    let grow = || {
        plant
            .ask(Method::PATCH, &path)
            .token(&author)
            .json(json!({"permissions": ["*:read", "*:write"]}))
            .send()
    };
    grow().await.assert_problem(403, "privilege_escalation");
    plant.delete(&plant.s(&sa, &format!("/access/{k1}"))).await;
    // The author's own narrower place still lies below the root.
    grow().await.assert_problem(403, "privilege_escalation");
}

#[tokio::test]
async fn a_denial_wins_at_every_level_and_through_every_group() {
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": true})).await;
    let k1 = plant.resource("cluster", "k1").await;
    let body = json!({"name": "no writes", "permissions": ["*:list"], "deny": ["cluster:write"]});
    let limit = role(&plant, body).await;
    let (sa, key, _) = plant.agent("ci", Some("member")).await;
    let group = plant.post(&plant.o("/groups"), json!({"name": "g"})).await.text("/group/id");
    bind(&plant, &limit, "group", &group, &plant.root).await;
    let may = async |permission: &str, resource: &str| {
        let body = json!({"key_id": key, "resource_id": resource, "permission": permission});
        plant.post(&plant.o(":explain"), body).await
    };
    assert_eq!(may("cluster:write", &k1).await.body["allowed"], true);
    let assign = plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [group]})).await;
    assert_eq!(assign.status, 200, "{}", assign.text);
    let denied = may("cluster:write", &k1).await;
    assert_eq!(denied.body["allowed"], false);
    assert_eq!(denied.body["denied"], json!(["cluster:write"]));
    let of = |role: &str| {
        let all = denied.body["contributions"].as_array().unwrap();
        all.iter().find(|one| one["role_id"] == role).unwrap().clone()
    };
    assert_eq!(of("member")["excluded"], "denied");
    assert_eq!(of(&limit)["denies"], json!(["cluster:write"]));
    assert_eq!(may("cluster:read", &k1).await.body["allowed"], true);
    // A nearer role overrides grants, never denials.
    bind(&plant, "member", "group", &group, &k1).await;
    assert_eq!(may("cluster:write", &k1).await.body["allowed"], false);
    let row = plant.get(&plant.s(&sa, "/access")).await;
    assert_eq!(row.body["items"][0]["denied"], json!(["cluster:write"]));
    // Only who has what is denied may lift the denial.
    let (_, _, admin) = plant.agent("keeper", Some("viewer")).await;
    let body = json!({"username": "x", "create_key": {"name": "k"}});
    let lifter = plant.post(&plant.o("/service-accounts"), body).await;
    let manage = role(&plant, json!({"name": "mm", "permissions": ["group_member:*"]})).await;
    bind(&plant, &manage, "service_account", &lifter.text("/service_account/id"), &plant.root)
        .await;
    let path = plant.s(&sa, &format!("/groups/{group}"));
    let leave = |token: String| plant.ask(Method::DELETE, &path).token(&token).send();
    leave(admin).await.assert_problem(403, "permission_denied");
    leave(lifter.text("/value")).await.assert_problem(403, "privilege_escalation");
    assert_eq!(leave(plant.admin.clone()).await.status, 200);
    assert_eq!(may("cluster:write", &k1).await.body["allowed"], true);
    // Without denials in the policy, a role's denials are nothing.
    plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [group]})).await;
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": false})).await;
    assert_eq!(may("cluster:write", &k1).await.body["allowed"], true);
}

/// The changes of the newest transaction.
async fn last_changes(plant: &Plant) -> Vec<(&'static str, Kind)> {
    let head = plant.get("/readyz").await.number("/seq");
    let gateway = Gateway { plant, id: "gw-1" };
    let after = portcullis_core::feed::Position { epoch: 1, seq: head - 1 };
    let txn = gateway.follow(after).await.txn().await;
    txn.changes
        .iter()
        .map(|change| match change {
            Change::Put { kind, .. } => ("put", *kind),
            Change::Delete { kind, .. } => ("delete", *kind),
            Change::Revoke { kind, .. } => ("revoke", *kind),
            Change::UnknownKind { .. } | Change::UnknownOp { .. } => panic!("{change:?}"),
        })
        .collect()
}

#[tokio::test]
async fn what_many_accounts_share_changes_in_one_record() {
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": true})).await;
    let id = role(&plant, json!({"name": "x", "permissions": ["*:read"]})).await;
    let group = plant.post(&plant.o("/groups"), json!({"name": "g"})).await.text("/group/id");
    let mut accounts = Vec::new();
    for n in 0..20 {
        let body = json!({"username": format!("sa{n}"), "role_id": id, "group_ids": [group]});
        accounts.push(plant.account(body).await);
    }
    // Nobody listens, so nothing is waited for.
    let role = plant.o(&format!("/roles/{id}"));
    let body = json!({"permissions": ["*:read", "*:write"], "deny": ["*:delete"]});
    assert_eq!(plant.patch(&role, body).await.status, 200);
    assert_eq!(last_changes(&plant).await, [("put", Kind::Role)]);
    plant.clock.advance_ms(10_000);
    let made = bind(&plant, &id, "group", &group, &plant.root).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(last_changes(&plant).await, [("put", Kind::Set)]);
    plant.clock.advance_ms(10_000);
    let sa = plant.account(json!({"username": "late"})).await;
    plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [group]})).await;
    assert_eq!(last_changes(&plant).await, [("put", Kind::Account)]);
    plant.clock.advance_ms(10_000);
    let subject = json!({"kind": "group", "id": group});
    let bindings = json!([{"role_id": "member", "subject": subject, "resource_id": plant.root}]);
    let body = json!({"name": "p", "bindings": bindings});
    let policy = plant.post(&plant.o("/security-policies"), body).await;
    let policy = plant.o(&format!("/security-policies/{}", policy.text("/security_policy/id")));
    plant.clock.advance_ms(10_000);
    plant.post(&format!("{policy}:disable"), json!({})).await;
    assert_eq!(last_changes(&plant).await, [("put", Kind::Set)]);
    plant.clock.advance_ms(10_000);
    assert!(plant.delete(&plant.o(&format!("/groups/{group}"))).await.status.is_success());
    assert_eq!(last_changes(&plant).await, [("delete", Kind::Set)]);
}
