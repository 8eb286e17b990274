//! Groups: members, what they gain and lose, and who may not be in which.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};

async fn group(plant: &Plant, name: &str) -> String {
    let made = plant.post(&plant.o("/groups"), json!({"name": name})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.text("/group/id")
}

async fn bind(plant: &Plant, role: &str, group: &str, resource: &str) -> Answer {
    let subject = json!({"kind": "group", "id": group});
    let body = json!({"role_id": role, "subject": subject, "resource_id": resource});
    plant.post(&plant.o("/role-bindings"), body).await
}

async fn join(plant: &Plant, group: &str, kind: &str, id: &str) -> Answer {
    let body = json!({"principal": {"kind": kind, "id": id}});
    plant.post(&plant.o(&format!("/groups/{group}/members")), body).await
}

async fn row(plant: &Plant, account: &str, resource: &str) -> Option<Value> {
    let rows = plant.get(&plant.s(account, "/access")).await;
    let rows = rows.body["items"].as_array().unwrap().clone();
    rows.into_iter().find(|row| row["resource"]["id"] == resource)
}

async fn owner_group(plant: &Plant) -> String {
    plant.get(&plant.o("")).await.text("/owner_group_id")
}

#[tokio::test]
async fn a_group_is_made_read_renamed_listed_and_deleted() {
    let plant = Plant::start().await;
    let id = group(&plant, "Team").await;
    let path = plant.o(&format!("/groups/{id}"));
    let read = plant.get(&path).await;
    assert_eq!((read.header("etag"), read.text("/kind").as_str()), ("\"1\"", "custom"));
    assert_eq!(read.number("/member_count"), 0);
    for taken in ["TEAM", "owners", "Default", " team "] {
        let again = plant.post(&plant.o("/groups"), json!({"name": taken})).await;
        again.assert_problem(409, "name_taken");
    }
    let patched = plant.patch(&path, json!({"name": "Crew", "description": "x"})).await;
    assert_eq!((patched.text("/group/name"), patched.number("/group/version")), ("Crew".into(), 2));
    plant
        .patch(&path, json!({"kind": "owner", "member_count": 3}))
        .await
        .assert_faults(&[("kind", "read_only"), ("member_count", "read_only")]);
    for (kind, total) in [("custom", 1), ("default", 1), ("owner", 1)] {
        let list = plant.get(&plant.o(&format!("/groups?kind={kind}&count=true"))).await;
        assert_eq!(list.number("/total"), total, "{kind}");
    }
    let groups = plant.get(&plant.o("/groups")).await;
    for item in groups.body["items"].as_array().unwrap() {
        if item["kind"] != "custom" {
            let path = plant.o(&format!("/groups/{}", item["id"].as_str().unwrap()));
            plant.delete(&path).await.assert_problem(409, "immutable_object");
        }
    }
    assert_eq!(plant.delete(&path).await.status, 200);
    plant.get(&path).await.assert_problem(404, "not_found");
    plant.get(&format!("{path}/members")).await.assert_problem(404, "not_found");
    join(&plant, &id, "user", "x").await.assert_problem(404, "not_found");
}

/// C-28 to C-36, vectors 6 and 7: what a group gives adds to what an account has, and goes with it.
#[tokio::test]
async fn members_gain_what_the_group_has_and_lose_only_that() {
    let plant = Plant::start().await;
    let (k1, k2) = (plant.resource("cluster", "k1").await, plant.resource("cluster", "k2").await);
    let (sa, _, _) = plant.agent("ci", None).await;
    let body = json!({"resource_ids": [k1], "role_id": "viewer"});
    plant.post(&plant.s(&sa, "/access:grant"), body).await;
    let (g, h) = (group(&plant, "g").await, group(&plant, "h").await);
    bind(&plant, "member", &g, &plant.root).await;
    let assigned = plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [g, h]})).await;
    assert_eq!(assigned.body["groups"].as_array().unwrap().len(), 2, "{}", assigned.text);
    let again = plant.post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": [h]})).await;
    assert_eq!(again.body["seq"], assigned.body["seq"]);

    let direct = row(&plant, &sa, &k1).await.unwrap();
    assert_eq!(direct["source"], "direct");
    assert_eq!(direct["permissions"], json!(["*:read", "*:write"]));
    assert_eq!(direct["role_ids"], json!(["member", "viewer"]));
    let sources: Vec<(&Value, &Value)> = direct["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["source"], &one["group_id"]))
        .collect();
    assert_eq!(sources, [(&json!("direct"), &json!(null)), (&json!("group"), &json!(g))]);
    let through = row(&plant, &sa, &k2).await.unwrap();
    assert_eq!((&through["source"], &through["group_id"]), (&json!("group"), &json!(g)));
    assert_eq!(
        (&through["editable"], &through["from_resource_id"]),
        (&json!(false), &json!(plant.root))
    );
    let path = plant.s(&sa, &format!("/access/{k2}"));
    plant
        .patch(&path, json!({"role_id": "viewer"}))
        .await
        .assert_problem(409, "access_is_inherited");

    let list = plant.get(&plant.s(&sa, "/groups?page_size=1&count=true")).await;
    assert_eq!(list.number("/total"), 2);
    assert!([&g, &h].contains(&&list.text("/items/0/id")), "{}", list.text);
    let members = plant.o(&format!("/groups/{g}/members"));
    assert_eq!(plant.get(&members).await.text("/items/0/principal/id"), sa);
    let filtered = plant.get(&plant.o(&format!("/service-accounts?group_id={g}"))).await;
    assert_eq!(filtered.text("/items/0/id"), sa);

    assert_eq!(plant.delete(&plant.s(&sa, &format!("/groups/{g}"))).await.status, 200);
    assert_eq!(row(&plant, &sa, &k1).await.unwrap()["permissions"], json!(["*:read"]));
    assert!(row(&plant, &sa, &k2).await.is_none());
    plant.delete(&plant.s(&sa, &format!("/groups/{g}"))).await.assert_problem(404, "not_found");
    // The whole list in one PATCH, and by the group's own collection.
    let patched = plant.patch(&plant.s(&sa, ""), json!({"group_ids": [g]})).await;
    assert_eq!(patched.status, 200, "{}", patched.text);
    let list = plant.get(&plant.s(&sa, "/groups")).await;
    assert_eq!(list.body["items"], json!([{"id": g, "name": "g", "kind": "custom"}]));
    assert_eq!(plant.delete(&format!("{members}/{sa}")).await.status, 200);
    assert_eq!(plant.get(&plant.s(&sa, "/groups")).await.body["items"], json!([]));
}

#[tokio::test]
async fn unknown_and_foreign_groups_and_members_are_named() {
    let plant = Plant::start().await;
    let body = json!({"name": "other", "owner": {"username": "root"}});
    let made = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let foreign = made.send().await.text("/organization/owner_group_id");
    let sa = plant.account(json!({"username": "ci"})).await;
    let g = group(&plant, "g").await;
    for id in ["none", foreign.as_str()] {
        let body = json!({"group_ids": [g, id]});
        plant
            .post(&plant.s(&sa, "/groups:assign"), body.clone())
            .await
            .assert_faults(&[("group_ids[1]", "unknown_reference")]);
        let body = json!({"username": "x", "group_ids": [id]});
        plant
            .post(&plant.o("/service-accounts"), body)
            .await
            .assert_faults(&[("group_ids[0]", "unknown_reference")]);
        plant.get(&plant.o(&format!("/groups/{id}"))).await.assert_problem(404, "not_found");
        bind(&plant, "viewer", id, &plant.root)
            .await
            .assert_faults(&[("subject.id", "unknown_reference")]);
    }
    // All or nothing.
    assert_eq!(plant.get(&plant.s(&sa, "/groups")).await.body["items"], json!([]));
    join(&plant, &g, "service_account", "none")
        .await
        .assert_faults(&[("principal.id", "unknown_reference")]);
    join(&plant, &g, "group", &g).await.assert_faults(&[("principal.kind", "bad_format")]);
    plant
        .post(&plant.s(&sa, "/groups:assign"), json!({"group_ids": []}))
        .await
        .assert_faults(&[("group_ids", "out_of_range")]);
}

/// P-9, I-12, vector 14: by no way, and if it was in before the policy forbade it, without effect.
#[tokio::test]
async fn no_account_gets_into_a_forbidden_group() {
    let plant = Plant::start().await;
    let owners = owner_group(&plant).await;
    let (early, _, value) = plant.agent("early", None).await;
    assert_eq!(join(&plant, &owners, "service_account", &early).await.status, 201);
    assert_eq!(plant.accepts(&value).await, 200);
    let explain = async || {
        let body = json!({"service_account_id": early, "permission": "organization:update"});
        plant.post(&plant.o(":explain"), body).await
    };
    assert_eq!(explain().await.body["allowed"], true);
    plant.patch(&plant.o("/policy"), json!({"sa_forbidden_groups": ["owner"]})).await;
    let after = explain().await;
    assert_eq!(after.body["allowed"], false);
    assert_eq!(after.text("/contributions/0/excluded"), "forbidden");
    assert!(row(&plant, &early, &plant.root).await.is_none());

    let sa = plant.account(json!({"username": "late"})).await;
    join(&plant, &owners, "service_account", &sa).await.assert_problem(409, "policy_forbids");
    let body = json!({"group_ids": [owners]});
    plant
        .post(&plant.s(&sa, "/groups:assign"), body.clone())
        .await
        .assert_problem(409, "policy_forbids");
    plant.patch(&plant.s(&sa, ""), body).await.assert_problem(409, "policy_forbids");
    let body = json!({"username": "x", "group_ids": [owners]});
    let refused = plant.post(&plant.o("/service-accounts"), body).await;
    refused.assert_problem(409, "policy_forbids");
    // A user may be in it, and any group can be forbidden by its id.
    let user = json!({"username": "ann", "email": "a@b.c", "group_ids": [owners]});
    assert_eq!(plant.post(&plant.o("/users"), user).await.status, 201);
    let g = group(&plant, "g").await;
    plant.patch(&plant.o("/policy"), json!({"sa_forbidden_groups": [g]})).await;
    join(&plant, &g, "service_account", &sa).await.assert_problem(409, "policy_forbids");
    assert_eq!(explain().await.body["allowed"], true);
}

#[tokio::test]
async fn nobody_hands_out_a_group_that_has_more_than_they_do() {
    let plant = Plant::start().await;
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let (owners, weak) = (owner_group(&plant).await, group(&plant, "weak").await);
    bind(&plant, "viewer", &weak, &plant.root).await;
    let sa = plant.account(json!({"username": "ci"})).await;
    let ask = |method: Method, path: String, body: Value| {
        plant.ask(method, &path).token(&admin).json(body).send()
    };
    let principal = json!({"principal": {"kind": "service_account", "id": sa}});
    let members = |group: &str| plant.o(&format!("/groups/{group}/members"));
    ask(Method::POST, members(&owners), principal.clone())
        .await
        .assert_problem(403, "privilege_escalation");
    ask(Method::POST, plant.s(&sa, "/groups:assign"), json!({"group_ids": [owners]}))
        .await
        .assert_problem(403, "privilege_escalation");
    assert_eq!(ask(Method::POST, members(&weak), principal).await.status, 201);
    // Nor may a group with members get more than its giver has.
    let subject = json!({"kind": "group", "id": weak});
    let body = json!({"role_id": "owner", "subject": subject, "resource_id": plant.root});
    ask(Method::POST, plant.o("/role-bindings"), body)
        .await
        .assert_problem(403, "privilege_escalation");
}

#[tokio::test]
async fn deleting_a_group_takes_its_members_and_bindings_with_it() {
    let plant = Plant::start().await;
    let g = group(&plant, "g").await;
    bind(&plant, "member", &g, &plant.root).await;
    let (sa, key, _) = plant.agent("ci", None).await;
    join(&plant, &g, "service_account", &sa).await;
    let allowed = async || {
        let body = json!({"key_id": key, "permission": "cluster:write"});
        plant.post(&plant.o(":explain"), body).await.body["allowed"].clone()
    };
    assert_eq!(allowed().await, true);
    plant.delete(&plant.o(&format!("/groups/{g}"))).await;
    assert_eq!(allowed().await, false);
    let left = plant.get(&plant.o(&format!("/role-bindings?subject_id={g}&count=true"))).await;
    assert_eq!(left.number("/total"), 0);
    assert_eq!(plant.get(&plant.s(&sa, "/groups")).await.body["items"], json!([]));
}

#[tokio::test]
async fn deleting_an_account_or_a_user_ends_its_memberships() {
    let plant = Plant::start().await;
    let g = group(&plant, "g").await;
    let sa = plant.account(json!({"username": "ci", "group_ids": [g]})).await;
    let user = json!({"username": "ann", "email": "a@b.c", "group_ids": [g]});
    let user = plant.post(&plant.o("/users"), user).await.text("/user/id");
    let count = async || plant.get(&plant.o(&format!("/groups/{g}"))).await.number("/member_count");
    assert_eq!(count().await, 2);
    plant.delete(&plant.s(&sa, "")).await;
    plant.delete(&plant.o(&format!("/users/{user}"))).await;
    assert_eq!(count().await, 0);
}

/// I-20, also through the owner group and its policy.
#[tokio::test]
async fn the_last_human_owner_stays_whichever_way_they_own() {
    let plant = Plant::start().await;
    let (_, _, robot) = plant.agent("robot", Some("owner")).await;
    let ask = |method: Method, path: String| plant.ask(method, &path).token(&robot).send();
    let owners = owner_group(&plant).await;
    let first = plant.get("/v1/whoami").await.text("/principal/id");
    let bindings = plant.get(&plant.o(&format!("/role-bindings?subject_id={first}"))).await;
    let direct = plant.o(&format!("/role-bindings/{}", bindings.text("/items/0/id")));
    let policies = plant.get(&plant.o("/security-policies?kind=default")).await;
    let policy = plant.o(&format!("/security-policies/{}", policies.text("/items/0/id")));
    ask(Method::DELETE, direct.clone()).await.assert_problem(409, "last_owner");
    // A service account in the owner group is no owner.
    let (robot_two, _, _) = plant.agent("r2", None).await;
    join(&plant, &owners, "service_account", &robot_two).await;
    ask(Method::DELETE, direct.clone()).await.assert_problem(409, "last_owner");
    let user = json!({"username": "ann", "email": "a@b.c", "group_ids": [owners]});
    let ann = plant.post(&plant.o("/users"), user).await.text("/user/id");
    assert_eq!(ask(Method::DELETE, direct).await.status, 200);
    let member = plant.o(&format!("/groups/{owners}/members/{ann}"));
    ask(Method::DELETE, member.clone()).await.assert_problem(409, "last_owner");
    ask(Method::DELETE, plant.o(&format!("/users/{ann}"))).await.assert_problem(409, "last_owner");
    ask(Method::POST, format!("{policy}:disable")).await.assert_problem(409, "last_owner");
    let user = json!({"username": "bob", "email": "a@b.c", "group_ids": [owners]});
    let made = plant.ask(Method::POST, &plant.o("/users")).token(&robot).json(user).send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(ask(Method::DELETE, member).await.status, 200);
}
