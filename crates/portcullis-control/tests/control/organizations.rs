//! Organizations: the operator's to create, suspend and resume.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;

#[tokio::test]
async fn the_operator_alone_creates_suspends_and_resumes() {
    let plant = Plant::start().await;
    let body = json!({"name": "acme", "owner": {"username": "root", "email": "r@example.org"}});
    plant.post("/v1/organizations", body.clone()).await.assert_problem(403, "permission_denied");
    let operator = |path: &str, body: Value| {
        plant.ask(Method::POST, path).token(&plant.operator).json(body).send()
    };
    let made = operator("/v1/organizations", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.text("/owner/email"), "r@example.org");
    let path = format!("/v1/organizations/{}", made.text("/organization/id"));
    let owner = made.text("/value");
    let acme = plant.ask(Method::GET, &path).token(&owner).send().await;
    assert_eq!((acme.status.as_u16(), acme.text("/name").as_str()), (200, "acme"));
    let theirs = plant.ask(Method::GET, "/v1/organizations?count=true").token(&owner).send().await;
    assert_eq!(theirs.number("/total"), 1);
    let all = plant.ask(Method::GET, "/v1/organizations?count=true").token(&plant.operator);
    assert_eq!(all.send().await.number("/total"), 2);

    let suspended = operator(&format!("{path}:suspend"), json!({})).await;
    assert_eq!(suspended.text("/organization/state"), "suspended");
    assert_eq!(plant.accepts(&owner).await, 401);
    assert_eq!(operator(&format!("{path}:resume"), json!({})).await.status, 200);
    assert_eq!(plant.accepts(&owner).await, 200);
    plant.post(&plant.o(":suspend"), json!({})).await.assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn a_plan_without_service_accounts_is_402_before_403() {
    let plant = Plant::start().await;
    let (_, _, agent) = plant.agent("agent", Some("viewer")).await;
    let invited = json!({"username": "vera", "email": "v@example.org", "role_id": "viewer"});
    let user = plant.post(&plant.o("/users"), invited).await.text("/user/id");
    let key = plant.post(&plant.o(&format!("/users/{user}/keys")), json!({"name": "own"})).await;
    let viewer = key.text("/value");
    let body = json!({"entitlements": {"service_accounts": false}, "plan": "free"});
    plant
        .patch(&plant.o(""), body.clone())
        .await
        .assert_faults(&[("plan", "read_only"), ("entitlements", "read_only")]);
    let patched = plant.ask(Method::PATCH, &plant.o("")).token(&plant.operator).json(body);
    assert_eq!(patched.send().await.text("/organization/plan"), "free");
    for token in [&plant.admin, &viewer] {
        let ask = plant.ask(Method::POST, &plant.o("/service-accounts")).token(token);
        ask.json(json!({})).send().await.assert_problem(402, "entitlement_required");
    }
    // Accounts that were made before are refused; people can still put it right.
    assert_eq!(plant.accepts(&agent).await, 401);
    assert_eq!(plant.accepts(&viewer).await, 200);
    let body = json!({"entitlements": {"service_accounts": true}});
    plant.ask(Method::PATCH, &plant.o("")).token(&plant.operator).json(body).send().await;
    assert_eq!(plant.accepts(&agent).await, 200);
}

#[tokio::test]
async fn an_owner_renames_the_organization() {
    let plant = Plant::start().await;
    let renamed = plant.patch(&plant.o(""), json!({"name": "Acme"})).await;
    assert_eq!(renamed.text("/organization/name"), "Acme");
    assert_eq!(renamed.header("etag"), "\"2\"");
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    let ask = plant.ask(Method::PATCH, &plant.o("")).token(&admin).json(json!({"name": "x"}));
    ask.send().await.assert_problem(403, "permission_denied");
}
