//! What all operations share: credentials, order of checks, bodies, versions, methods.

use reqwest::Method;
use serde_json::json;

use crate::harness::Plant;

#[tokio::test]
async fn every_refusal_of_a_credential_looks_the_same() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", None).await;
    let path = plant.s(&id, &format!("/keys/{key}"));
    let mut answers = Vec::new();
    let unknown = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    for value in ["nonsense", unknown] {
        answers.push(plant.ask(Method::GET, "/v1/whoami").token(value).send().await);
    }
    let rotated = plant.post(&format!("{path}:rotate"), json!({})).await;
    answers.push(plant.ask(Method::GET, "/v1/whoami").token(&value).send().await);
    let value = rotated.text("/value");
    plant.post(&format!("{path}:deactivate"), json!({})).await;
    answers.push(plant.ask(Method::GET, "/v1/whoami").token(&value).send().await);
    plant.post(&format!("{path}:revoke"), json!({})).await;
    answers.push(plant.ask(Method::GET, "/v1/whoami").token(&value).send().await);
    for answer in answers {
        answer.assert_problem(401, "invalid_token");
        assert_eq!(
            answer.header("www-authenticate"),
            r#"Bearer realm="portcullis", error="invalid_token""#
        );
        assert_eq!(answer.text("/detail"), "The credential is not valid.");
    }
    let none = plant.ask(Method::GET, "/v1/whoami").anonymous().send().await;
    none.assert_problem(401, "unauthenticated");
    assert_eq!(none.header("www-authenticate"), r#"Bearer realm="portcullis""#);
    let two = plant.ask(Method::GET, "/v1/whoami");
    let two = two.second_header("authorization", &format!("Bearer {}", plant.admin)).send().await;
    two.assert_problem(400, "invalid_request");
}

#[tokio::test]
async fn foreign_organizations_answer_like_missing_ones() {
    let plant = Plant::start().await;
    let (_, _, agent) = plant.agent("ci", Some("owner")).await;
    let body = json!({"name": "other", "owner": {"username": "root"}});
    let other = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let other = other.send().await;
    let theirs = other.text("/organization/id");
    let ids = [theirs.as_str(), "01900000-0000-7000-8000-000000000000", "x"];
    let mut texts = Vec::new();
    for id in ids {
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "/service-accounts"),
            (Method::POST, "/service-accounts"),
            (Method::PATCH, ""),
            (Method::GET, "/audit-events"),
        ] {
            let path = format!("/v1/organizations/{id}{rest}");
            let answer = plant.ask(method, &path).token(&agent).raw("not json").send().await;
            answer.assert_problem(404, "not_found");
            texts.push((answer.text("/title"), answer.text("/detail")));
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    // The operator has no access inside an organization.
    let path = plant.o("/service-accounts");
    plant
        .ask(Method::GET, &path)
        .token(&plant.operator)
        .send()
        .await
        .assert_problem(404, "not_found");
    // Their account is unknown in our organization, in a path as in a body.
    let theirs_account = plant
        .ask(Method::POST, &format!("/v1/organizations/{theirs}/service-accounts"))
        .token(&other.text("/value"))
        .json(json!({"username": "t"}))
        .send()
        .await
        .text("/service_account/id");
    plant.get(&plant.s(&theirs_account, "")).await.assert_problem(404, "not_found");
    let body = json!({
        "role_id": "viewer", "resource_id": plant.root,
        "subject": {"kind": "service_account", "id": theirs_account},
    });
    plant
        .post(&plant.o("/role-bindings"), body)
        .await
        .assert_faults(&[("subject.id", "unknown_reference")]);
    let body = json!({
        "username": "y",
        "bindings": [{"role_id": "viewer", "resource_id": other.text("/organization/root_resource_id")}],
    });
    plant.post(&plant.o("/service-accounts"), body).await.assert_problem(403, "permission_denied");
}

#[tokio::test]
async fn checks_come_in_their_order() {
    let plant = Plant::start().await;
    let (_, _, viewer) = plant.agent("viewer", Some("viewer")).await;
    let path = plant.s("missing", "/keys");
    // 403 before 415, 422 and 404 of the object.
    let denied = plant.ask(Method::POST, &path).token(&viewer).raw("{").send().await;
    denied.assert_problem(403, "permission_denied");
    assert_eq!(denied.text("/required_permission"), "api_key:create");
    // 415, 400 and 422 before 404 of the object.
    plant
        .ask(Method::POST, &path)
        .raw("{")
        .send()
        .await
        .assert_problem(415, "unsupported_media_type");
    let json = |body: &str| {
        plant.ask(Method::POST, &path).raw(body).header("content-type", "application/json").send()
    };
    json("{").await.assert_problem(400, "malformed_request");
    json(r#"{"name":"a","name":"b"}"#).await.assert_problem(400, "malformed_request");
    json("[]").await.assert_problem(400, "malformed_request");
    json(r#"{"name":7}"#).await.assert_faults(&[("name", "bad_format")]);
    json(r#"{"name":"a"}"#).await.assert_problem(404, "not_found");
    let huge = format!(r#"{{"name":"{}"}}"#, "a".repeat(1024 * 1024));
    json(&huge).await.assert_problem(413, "body_too_large");
    plant.get(&plant.o("/roles?colour=red")).await.assert_faults(&[("colour", "unknown_field")]);
    plant
        .post(&plant.o("/service-accounts?wait=maybe&wait_timeout_ms=30001"), json!({}))
        .await
        .assert_faults(&[("wait", "bad_format"), ("wait_timeout_ms", "out_of_range")]);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_never_quoted() {
    let plant = Plant::start().await;
    let body = r#"{"value": "ptc_secret", "value": 1}"#;
    let ask = plant.ask(Method::POST, &plant.o(":diagnose")).raw(body);
    let answer = ask.header("content-type", "application/json").send().await;
    answer.assert_problem(400, "malformed_request");
    assert!(!answer.text.contains("ptc_secret"));
}

#[tokio::test]
async fn versions_guard_against_lost_updates() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let path = plant.s(&id, "");
    let read = plant.get(&path).await;
    assert_eq!(read.header("etag"), "\"1\"");
    let known = plant.ask(Method::GET, &path).header("if-none-match", "\"1\"").send().await;
    assert_eq!((known.status.as_u16(), known.text.as_str()), (304, ""));
    let patch = |tag: &str| {
        plant
            .ask(Method::PATCH, &path)
            .header("if-match", tag)
            .json(json!({"owning_team": "a"}))
            .send()
    };
    assert_eq!(patch("\"1\"").await.status, 200);
    patch("\"1\"").await.assert_problem(412, "precondition_failed");
    assert_eq!(patch("\"1\", \"2\"").await.status, 200);
    let stale = plant.ask(Method::DELETE, &path).header("if-match", "\"1\"").send().await;
    stale.assert_problem(412, "precondition_failed");
}

#[tokio::test]
async fn methods_and_verbs_that_do_not_exist_are_told_apart() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let account = plant.s(&id, "");
    for (method, path, allow) in [
        (Method::PUT, &account, "GET, HEAD, PATCH, DELETE"),
        (Method::POST, &account, "GET, HEAD, PATCH, DELETE"),
        (Method::GET, &plant.s(&id, ":activate"), "POST"),
        (Method::DELETE, &plant.o("/service-accounts"), "GET, HEAD, POST"),
    ] {
        let answer = plant.ask(method, path).send().await;
        answer.assert_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    plant.post(&plant.s(&id, ":explode"), json!({})).await.assert_problem(404, "not_found");
    plant.get("/v1/nothing").await.assert_problem(404, "not_found");
    plant.get(&plant.o("/teams")).await.assert_problem(404, "not_found");
    let healthz = plant.ask(Method::GET, "/healthz").anonymous().send().await;
    assert_eq!(healthz.status, 200);
    let readyz = plant.ask(Method::GET, "/readyz").anonymous().send().await;
    assert_eq!((readyz.status.as_u16(), readyz.number("/seq")), (200, 2));
}

#[tokio::test]
async fn roles_are_built_in() {
    let plant = Plant::start().await;
    let list = plant.get(&plant.o("/roles?count=true")).await;
    assert_eq!(list.number("/total"), 8);
    let owner = plant.get(&plant.o("/roles/owner")).await;
    assert_eq!(owner.body["permissions"], json!(["**"]));
    assert_eq!(owner.body["sticky"], true);
    plant.get(&plant.o("/roles/king")).await.assert_problem(404, "not_found");
    let custom = plant.get(&plant.o("/roles?kind=custom")).await;
    assert_eq!(custom.body["items"], json!([]));
}
