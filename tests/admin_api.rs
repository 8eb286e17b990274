//! The admin API's refusals: every malformed body, query and credential has its code and names its
//! field, and nobody gets or gives a right they lack.

use serde_json::json;

use crate::support::http::Request;
use crate::support::stage::Stage;

#[test]
fn admin_api_bodies_are_checked_field_by_field() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let accounts = format!("{}/service-accounts", stage.owner.organization);
    let keys = format!("{}/keys", account.path);
    let nobody = "00000000-0000-7000-8000-000000000000";
    for (method, path, body, status, code, field) in [
        ("POST", &accounts, json!({}), 422, "validation_failed", ""),
        ("POST", &accounts, json!({"username": 7}), 422, "validation_failed", "username"),
        (
            "POST",
            &accounts,
            json!({"username": "x", "colour": "red"}),
            422,
            "validation_failed",
            "colour",
        ),
        ("POST", &accounts, json!({"username": "ci"}), 409, "username_taken", ""),
        ("POST", &accounts, json!({"username": " CI "}), 409, "username_taken", ""),
        (
            "POST",
            &accounts,
            json!({"username": "y", "role_id": "emperor"}),
            422,
            "validation_failed",
            "role_id",
        ),
        ("POST", &keys, json!({}), 422, "validation_failed", "name"),
        ("POST", &keys, json!({"name": ""}), 422, "validation_failed", "name"),
        ("POST", &keys, json!({"name": "x".repeat(256)}), 422, "validation_failed", "name"),
        (
            "POST",
            &keys,
            json!({"name": "k", "expires_at": "yesterday"}),
            422,
            "validation_failed",
            "expires_at",
        ),
        (
            "POST",
            &keys,
            json!({"name": "k", "expires_at": "2001-01-01T00:00:00Z"}),
            422,
            "validation_failed",
            "expires_at",
        ),
        (
            "POST",
            &keys,
            json!({"name": "k", "ttl_seconds": -1}),
            422,
            "validation_failed",
            "ttl_seconds",
        ),
        (
            "POST",
            &keys,
            json!({"name": "k", "expires_at": "2100-01-01T00:00:00Z", "ttl_seconds": 1}),
            422,
            "validation_failed",
            "",
        ),
        ("PATCH", &account.path, json!({"id": nobody}), 422, "validation_failed", "id"),
        ("PATCH", &account.path, json!({"state": "active"}), 422, "validation_failed", "state"),
    ] {
        let answer = stage.owner.call(method, path, Some(&body));
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{body}: {}",
            answer.text()
        );
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
        if !field.is_empty() {
            let errors = problem["errors"].to_string();
            assert!(errors.contains(&format!("\"{field}\"")), "{body}: {problem}");
        }
    }
    for (path, status, code) in [
        (format!("{}/service-accounts/{nobody}", stage.owner.organization), 404, "not_found"),
        (format!("{}/service-accounts/not-an-id", stage.owner.organization), 404, "not_found"),
        (format!("/v1/organizations/{nobody}/service-accounts"), 404, "not_found"),
        (format!("{accounts}?page_size=0"), 422, "validation_failed"),
        (format!("{accounts}?page_size=201"), 422, "validation_failed"),
        (format!("{accounts}?colour=red"), 422, "validation_failed"),
        (format!("{accounts}?cursor=forged"), 400, "invalid_cursor"),
        (format!("{accounts}?state=sleepy"), 422, "validation_failed"),
        ("/v1/nowhere".to_owned(), 404, "not_found"),
    ] {
        let answer = stage.owner.call("GET", &path, None);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{path}: {}",
            answer.text()
        );
    }
}

#[test]
fn admin_api_requests_that_are_no_json_or_no_credential_are_refused() {
    let stage = Stage::new();
    let token = stage.home.token("admin-token");
    let accounts = format!("{}/service-accounts", stage.owner.organization);
    let post = |body: &str, kind: &str| {
        let request =
            Request::new("POST", &accounts).bearer(&token).header("Content-Type", kind).body(body);
        let answer = request.send(stage.program.control());
        (answer.status, answer.code())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(post("{\"username\":", "application/json"), refused(400, "malformed_request"));
    assert_eq!(
        post("{\"username\":\"a\",\"username\":\"b\"}", "application/json"),
        refused(400, "malformed_request")
    );
    assert_eq!(
        post("username=a", "application/x-www-form-urlencoded"),
        refused(415, "unsupported_media_type")
    );
    assert_eq!(
        post(&format!("{{\"username\":\"{}\"}}", "a".repeat(1 << 20)), "application/json"),
        refused(413, "body_too_large")
    );

    let get = |request: Request| {
        let answer = request.send(stage.program.control());
        (answer.status, answer.code())
    };
    assert_eq!(get(Request::get(&accounts)), refused(401, "unauthenticated"));
    assert_eq!(get(Request::get(&accounts).bearer("nonsense")), refused(401, "invalid_token"));
    assert_eq!(
        get(Request::get(&accounts).bearer(&token).bearer(&token)),
        refused(400, "invalid_request")
    );
    assert_eq!(
        get(Request::new("PUT", &accounts).bearer(&token)),
        refused(405, "method_not_allowed")
    );
    // The feed is for gateways only.
    for token in [token.as_str(), &stage.home.token("operator-token"), "nonsense"] {
        let request = Request::get("/feed/v1/snapshot")
            .bearer(token)
            .header("Portcullis-Gateway", "x")
            .header("Portcullis-Feed", "1");
        let status = request.send(stage.program.control()).status;
        assert!(matches!(status, 401 | 403), "{status}");
    }
}

#[test]
fn a_caller_without_the_right_is_told_which_one_it_lacks() {
    let stage = Stage::new();
    let account = stage.owner.account("reader");
    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let key = stage.owner.key(&account, "key");
    let create = Request::new("POST", &format!("{}/service-accounts", stage.owner.organization))
        .bearer(&key.value)
        .json(&json!({"username": "more"}));
    let refused = create.send(stage.program.control()).expect_status(403);
    assert_eq!(refused.code(), "permission_denied");
    assert_eq!(refused.json()["required_permission"], "service_account:create");

    // Nobody gives away more than they have.
    let admin = stage.owner.account("admin");
    stage.owner.bind(&admin, "admin", &stage.owner.root());
    let key = stage.owner.key(&admin, "key");
    let body = json!({"role_id": "owner", "subject": {"kind": "service_account", "id": account.id}, "resource_id": stage.owner.root()});
    let escalate = Request::new("POST", &format!("{}/role-bindings", stage.owner.organization))
        .bearer(&key.value)
        .json(&body);
    assert_eq!(
        escalate.send(stage.program.control()).expect_status(403).code(),
        "privilege_escalation"
    );
}
