//! Accounts of single workspaces, from before the organization had accounts: brought in, taken over
//! by a new account of the same name, and cleaned up afterwards.

use portcullis_core::feed::Kind;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::Connection as _;

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

const THEIRS: &str = "a-key-of-the-workspace";

async fn import(plant: &Plant, body: Value) -> Answer {
    plant.post(&plant.o("/service-accounts:import"), body).await
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(active: bool) -> Value {
    json!({
        "name": "old", "style": "opaque", "alg": "sha256", "hash": sha256(THEIRS), "active": active,
    })
}

/// A workspace with an account of its own that manages it.
async fn legacy(plant: &Plant, workspace: &str) -> String {
    let body = json!({
        "workspace_id": workspace, "username": "trainer", "legacy_id": "0190f0a4",
        "role_id": "manager",
    });
    let made = import(plant, body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    made.text("/service_account/id")
}

/// A login of this account to the workspace, as the workspace's server makes it.
async fn enter(plant: &Plant, value: &str, workspace: &str) -> Answer {
    let path = format!("/users/authorize_server?server_id={workspace}");
    plant.ask(Method::GET, &path).token(value).send().await
}

/// A login with the workspace as audience.
async fn log_in(plant: &Plant, value: &str, workspace: &str) -> Answer {
    let ask = plant
        .ask(Method::POST, "/auth/login")
        .anonymous()
        .raw(format!("password={value}&audience={workspace}"))
        .header("content-type", "application/x-www-form-urlencoded");
    ask.send().await
}

#[tokio::test]
async fn z_51_an_account_of_a_workspace_is_brought_in_and_its_keys_are_never_made() {
    let plant = Plant::start().await;
    let (w1, w2) =
        (plant.resource("workspace", "w1").await, plant.resource("workspace", "w2").await);
    let id = legacy(&plant, &w1).await;
    let shown = plant.get(&plant.s(&id, "")).await;
    assert_eq!(
        (shown.text("/managed_by"), shown.text("/username")),
        ("migration".into(), "trainer".into())
    );
    let reference = json!({"system": "zenml", "workspace_id": w1, "legacy_id": "0190f0a4"});
    assert_eq!(shown.body["external_refs"], json!([reference]));

    let made = plant.post(&plant.s(&id, "/keys"), json!({"name": "new"})).await;
    made.assert_problem(409, "operation_not_offered");
    let brought = plant.post(&plant.s(&id, "/keys:import"), key(true)).await;
    assert_eq!(brought.status, 201, "{}", brought.text);
    assert_eq!(plant.accepts(THEIRS).await, 200);
    let path = plant.s(&id, &format!("/keys/{}:rotate", brought.text("/key/id")));
    plant.post(&path, json!({})).await.assert_problem(409, "operation_not_offered");

    // Its name is its workspace's own: another workspace and the organization have theirs.
    let again = json!({"workspace_id": w1, "username": "trainer"});
    import(&plant, again).await.assert_problem(409, "username_taken");
    assert_eq!(
        import(&plant, json!({"workspace_id": w2, "username": "trainer"})).await.status,
        201
    );
    plant.account(json!({"username": "trainer"})).await;
    let cluster = plant.resource("cluster", "c1").await;
    let wrong = import(&plant, json!({"workspace_id": cluster, "username": "x"})).await;
    wrong.assert_faults(&[("workspace_id", "policy")]);
    let unknown = import(&plant, json!({"workspace_id": "nowhere", "username": "x"})).await;
    unknown.assert_faults(&[("workspace_id", "unknown_reference")]);
}

#[tokio::test]
async fn z_52_and_za_2_a_new_account_of_the_same_name_takes_over_at_its_first_login_there() {
    let plant = Plant::start().await;
    let (w1, w2) =
        (plant.resource("workspace", "w1").await, plant.resource("workspace", "w2").await);
    let old = legacy(&plant, &w1).await;
    let brought = plant.post(&plant.s(&old, "/keys:import"), key(false)).await;
    let (new, _, value) = plant.agent("trainer", Some("org_member")).await;
    let roles = async |id: &str| {
        let rows = plant.get(&plant.o(&format!("/role-bindings?subject_id={id}"))).await;
        let items = rows.body["items"].as_array().unwrap().clone();
        items.iter().filter(|row| row["role_id"] == "manager").count()
    };
    assert_eq!((roles(&old).await, roles(&new).await), (1, 0), "not before the first login");
    enter(&plant, &value, &w2).await.assert_problem(403, "permission_denied");
    assert_eq!(roles(&new).await, 0, "another workspace is another takeover");

    let entered = enter(&plant, &value, &w1).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    assert_eq!((entered.text("/id"), entered.text("/username")), (new.clone(), "trainer".into()));
    assert_eq!(entered.body["is_service_account"], true);
    assert_eq!((roles(&old).await, roles(&new).await), (1, 1));
    let refs = plant.get(&plant.s(&new, "")).await.body["external_refs"].clone();
    assert_eq!(refs[0]["legacy_id"], "0190f0a4");
    let event = plant.last_event().await;
    assert_eq!(event["action"], "service_account.take_over");
    assert_eq!(
        (event["actor"]["id"].as_str(), &event["after"]["taken_over"][0]),
        (Some(&*new), &json!(old))
    );

    assert_eq!(enter(&plant, &value, &w1).await.status, 200);
    assert_eq!(plant.last_event().await["id"], event["id"], "it happens once");
    // Inactive keys of the old account stay so, and can be deleted.
    assert_eq!(plant.accepts(THEIRS).await, 401);
    let path = plant.s(&old, &format!("/keys/{}", brought.text("/key/id")));
    assert_eq!(plant.get(&path).await.text("/state"), "inactive");
    assert_eq!(plant.delete(&path).await.status, 200, "Z-54");
    assert_eq!(plant.delete(&plant.s(&old, "")).await.status, 200);
    assert_eq!(roles(&new).await, 1);
}

#[tokio::test]
async fn a_login_with_the_workspace_as_audience_takes_over_too() {
    let plant = Plant::start().await;
    let w1 = plant.resource("workspace", "w1").await;
    legacy(&plant, &w1).await;
    let (new, _, value) = plant.agent("trainer", None).await;
    assert_eq!(log_in(&plant, &value, &w1).await.status, 200);
    let access = plant.get(&plant.s(&new, "/access")).await;
    assert!(access.text.contains(&w1), "{}", access.text);
}

#[tokio::test]
async fn only_the_same_name_byte_for_byte_takes_over_and_only_by_whoever_could_grant_it() {
    let plant = Plant::start().await;
    let w1 = plant.resource("workspace", "w1").await;
    legacy(&plant, &w1).await;
    let (_, _, other) = plant.agent("Trainer", None).await;
    enter(&plant, &other, &w1).await.assert_problem(403, "permission_denied");

    // Somebody who may make accounts, and has nothing in the workspace.
    let maker = plant.account(json!({"username": "maker"})).await;
    let role = json!({"name": "maker", "permissions": ["service_account:*"]});
    let role = plant.post(&plant.o("/roles"), role).await.text("/role/id");
    let binding = json!({
        "role_id": role, "subject": {"kind": "service_account", "id": maker},
        "resource_id": plant.root,
    });
    assert_eq!(plant.post(&plant.o("/role-bindings"), binding).await.status, 201);
    let value = plant.post(&plant.s(&maker, "/keys"), json!({"name": "k"})).await.text("/value");
    let plain = plant.get(&plant.s(&maker, "")).await;
    assert_eq!(plain.status, 200);
    // The folded name is taken by then, so the one with capitals goes first.
    let rest = plant.get(&plant.o("/service-accounts?username=trainer")).await;
    let id = rest.text("/items/0/id");
    assert_eq!(plant.delete(&plant.s(&id, "")).await.status, 200);
    let make = |name: &str| {
        plant
            .ask(Method::POST, &plant.o("/service-accounts"))
            .token(&value)
            .json(json!({"username": name}))
    };
    make("trainer").send().await.assert_problem(403, "privilege_escalation");
    assert_eq!(make("another").send().await.status, 201);
}

#[tokio::test]
async fn a_takeover_goes_by_the_policy_at_its_turn_and_not_at_its_call() {
    let plant = Plant::start().await;
    let w1 = plant.resource("workspace", "w1").await;
    legacy(&plant, &w1).await;
    let (new, _, value) = plant.agent("trainer", None).await;
    // Somebody else writes, so both calls wait for their turns: the change of the policy first.
    let url = format!("sqlite://{}", plant.database().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    // Each of these goes all the way to the database and back.
    let others = async |count: u32| {
        for _ in 0..count {
            assert_eq!(plant.accepts(&value).await, 200);
        }
    };
    let forbid = async {
        plant.patch(&plant.o("/policy"), json!({"sa_forbidden_roles": ["manager"]})).await
    };
    let login = async {
        others(50).await;
        log_in(&plant, &value, &w1).await
    };
    let release = async {
        others(100).await;
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    };
    let (forbidden, entered, ()) = tokio::join!(forbid, login, release);
    assert_eq!((forbidden.status.as_u16(), entered.status.as_u16()), (200, 200));
    let rows = plant.get(&plant.o(&format!("/role-bindings?subject_id={new}"))).await;
    assert_eq!(rows.text("/items/0/role_id"), "manager", "it took over");
    let told = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    let account = &told.records[&(Kind::Account, new)];
    assert!(!account.to_string().contains("manager"), "{account}");
}
