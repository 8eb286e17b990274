//! Denials in the shapes that foreign clients know, and in the operator's own.

use serde_json::{Value, json};

use super::{assert_denied, masked};
use crate::support::http::{Answer, Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::FileStage;
use crate::support::upstream::Upstream;

const SHAPES: [&str; 9] =
    ["aihub", "castai", "grpc", "kitaru", "oauth", "openai", "problem", "unkey", "zenml"];

const OWN: &str = r#"
[[routes]]
name = "own"
path = "/own"
upstream = "app"
require = { permission = "cluster:write" }
error_template = "zenml"
[routes.errors.invalid_token]
content_type = "text/html; charset=utf-8"
body = "<p class={x }>{status} {title}: {code} ({request_id})</p>"
[routes.errors.insufficient_scope]
body = '{"lacks":"{permission}","status":{status},"again":{retry_after}}'
"#;

fn stage() -> (FileStage, String, String) {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader").expose().to_owned();
    let expired = snapshot.key_with("reader", &json!({"expires_at_ms": 1})).expose().to_owned();
    let route = |shape: &str| {
        format!(
            "[[routes]]\nname = \"{shape}\"\npath = \"/{shape}\"\nupstream = \"app\"\n\
             require = {{ permission = \"cluster:write\" }}\nerror_template = \"{shape}\"\n"
        )
    };
    let config = SHAPES.map(route).concat() + OWN;
    (FileStage::with(Upstream::nginx(), &config, &snapshot), key, expired)
}

/// What every denial has, whatever its shape.
#[track_caller]
fn body(answer: &Answer, status: u16, content_type: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("portcullis-request-id").is_some());
    answer.json()
}

#[test]
fn each_shape_is_the_one_its_clients_read_with_challenge_and_status() {
    let (stage, key, expired) = stage();
    let (invalid, lacking) =
        ("The credential is not valid.", "The credential does not give the required permission.");
    for (shape, unauthorized, forbidden) in [
        ("aihub", json!({"message": invalid}), json!({"message": lacking})),
        (
            "castai",
            json!({"message": "Unauthorized", "fieldViolations": []}),
            json!({"message": "Forbidden", "fieldViolations": []}),
        ),
        ("kitaru", json!({"detail": invalid}), json!({"detail": lacking})),
        (
            "oauth",
            json!({"error": "invalid_token", "error_description": invalid}),
            json!({"error": "insufficient_scope", "error_description": lacking}),
        ),
        (
            "openai",
            json!({"error": {"message": invalid, "type": "invalid_request_error", "param": null, "code": "invalid_api_key"}}),
            json!({"error": {"message": lacking, "type": "invalid_request_error", "param": null, "code": "insufficient_scope"}}),
        ),
        (
            "zenml",
            json!({"detail": ["CredentialsNotValid", invalid]}),
            json!({"detail": ["IllegalOperationError", lacking]}),
        ),
    ] {
        let path = format!("/{shape}");
        let answer = stage.send(&Request::get(&path).bearer(&expired));
        assert_eq!(body(&answer, 401, "application/json"), unauthorized, "{shape}");
        let challenge = r#"Bearer realm="portcullis", error="invalid_token""#;
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{shape}");
        let answer = stage.send(&Request::get(&path).bearer(&key));
        assert_eq!(body(&answer, 403, "application/json"), forbidden, "{shape}");
        let head = stage.send(&Request::new("HEAD", &path).bearer(&key));
        assert_eq!(head.header("content-length"), answer.header("content-length"), "{shape}");
    }
    let answer = stage.send(&Request::get("/unkey").bearer(&expired));
    let unkey = body(&answer, 401, "application/json");
    let id = answer.header("portcullis-request-id").unwrap();
    assert_eq!(unkey["meta"], json!({"requestId": id}));
    assert_eq!(unkey["error"]["detail"], invalid);
    assert_eq!(unkey["error"]["status"], 401);
    assert_denied(&stage.send(&Request::get("/problem").bearer(&expired)), 401, "invalid_token");
    assert_eq!(stage.upstream.access_log(), "", "nothing of it reached the upstream");
}

#[test]
fn a_grpc_answer_is_a_head_with_the_status_in_it() {
    let (stage, key, expired) = stage();
    let mut connection = Connection::open(stage.program.gateway());
    for (credential, status, message) in
        [(&expired, "16", "invalid_token"), (&key, "7", "insufficient_scope")]
    {
        for request in [
            Request::get("/grpc"),
            Request::get("/zenml").header("Content-Type", "application/grpc+proto"),
            Request::get("/own").header("Content-Type", "application/grpc"),
        ] {
            let answer = connection.exchange(&request.bearer(credential)).expect_status(200);
            assert_eq!(answer.header("content-type"), Some("application/grpc"));
            assert_eq!(answer.header("grpc-status"), Some(status));
            assert_eq!(answer.header("grpc-message"), Some(message));
            assert_eq!((answer.header("www-authenticate"), answer.text()), (None, ""));
        }
    }
}

#[test]
fn an_own_answer_is_chosen_by_code_and_cannot_tell_reasons_apart() {
    let (stage, key, expired) = stage();
    let ask = |key: &str| stage.send(&Request::get("/own").bearer(key));
    let answer = ask(&expired).expect_status(401);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let id = answer.header("portcullis-request-id").unwrap();
    assert_eq!(
        answer.text(),
        format!("<p class={{x }}>401 Unauthorized: invalid_token ({id})</p>")
    );
    let hidden = |answer: &Answer| {
        let id = answer.header("portcullis-request-id").unwrap().to_owned();
        masked(answer).replace(&id, "")
    };
    for other in ["nonsense", "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr"] {
        assert_eq!(hidden(&ask(other)), hidden(&answer));
    }
    let lacking = body(&ask(&key), 403, "application/json");
    assert_eq!(lacking, json!({"lacks": "cluster:write", "status": 403, "again": 0}));
    let none = stage.send(&Request::get("/own"));
    let class = json!({"detail": ["CredentialsNotValid", "A credential is required."]});
    assert_eq!(body(&none, 401, "application/json"), class, "other codes keep the template");
}

#[test]
fn a_bearer_challenge_says_where_the_resource_describes_itself() {
    let routes = r#"
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
credentials = ["bearer", "header:x-api-key"]
[[routes]]
name = "mcp"
path = "/mcp"
upstream = "app"
authenticated_only = true
resource_metadata = "https://api.example.com/.well-known/oauth-protected-resource/mcp"
[identity]
resource_metadata = "https://api.example.com/.well-known/oauth-protected-resource"
"#;
    let stage = FileStage::with(Upstream::nginx(), routes, &Snapshot::new());
    let url = "https://api.example.com/.well-known/oauth-protected-resource";
    let answer = stage.send(&Request::get("/"));
    let bearer = format!(r#"Bearer realm="portcullis", resource_metadata="{url}""#);
    let challenges = answer.headers_named("www-authenticate");
    assert_eq!(challenges, [bearer.as_str(), r#"ApiKey realm="portcullis""#]);
    let answer = stage.send(&Request::get("/mcp"));
    let bearer = format!(r#"Bearer realm="portcullis", resource_metadata="{url}/mcp""#);
    assert_eq!(answer.header("www-authenticate"), Some(bearer.as_str()));
    let answer = stage.send(&Request::get("/mcp").bearer("nonsense"));
    let bearer = format!(r#"{bearer}, error="invalid_token""#);
    assert_eq!(answer.header("www-authenticate"), Some(bearer.as_str()));
}
