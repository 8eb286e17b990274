//! Requests that the gateway answers itself.

use std::time::Duration;

use super::{Answer, OK, Script, Stage};
use crate::{Access, CredentialSource, Route};

fn stage() -> Stage {
    Stage::set(Script::fixed(OK).address, |_| {})
}

/// What may differ between two answers to strangers.
fn masked(answer: &Answer) -> String {
    let lines = answer
        .head
        .lines()
        .filter(|line| !line.starts_with("date:") && !line.starts_with("portcullis-request-id:"));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        + &super::text(&answer.body)
}

#[test]
fn whoever_does_not_prove_possession_gets_one_and_the_same_answer() {
    let stage = stage();
    let ask = |value: &str| {
        let answer =
            stage.ask(&format!("GET /a HTTP/1.1\r\nhost: api\r\nauthorization: {value}\r\n\r\n"));
        assert_eq!(answer.code(), "invalid_token", "{value}");
        masked(&answer)
    };
    let unknown = portcullis_core::key::mint(
        &portcullis_core::key::Prefix::default(),
        &super::Counting(900.into()),
    );
    let first = ask(&format!("Bearer {}", unknown.unwrap().expose()));
    assert_eq!(
        first,
        "HTTP/1.1 401 Unauthorized\ncontent-type: application/problem+json\n\
         content-length: 146\ncache-control: no-store\n\
         www-authenticate: Bearer realm=\"portcullis\", error=\"invalid_token\"\
         {\"type\":\"urn:portcullis:problem:invalid_token\",\"title\":\"Unauthorized\",\
         \"status\":401,\"code\":\"invalid_token\",\"detail\":\"The credential is not valid.\"}"
    );
    for other in
        ["Bearer short", "Bearer", "Basic abc", "Digest x=\"y\"", &format!("bearer {}x", stage.key)]
    {
        assert_eq!(ask(other), first, "{other}");
    }
}

#[test]
fn without_a_credential_there_is_a_bare_challenge() {
    let answer = stage().ask("GET /a HTTP/1.1\r\nhost: api\r\n\r\n");
    assert_eq!((answer.status(), answer.code()), (401, "unauthenticated".to_owned()));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"portcullis\""));
}

#[test]
fn without_usable_state_the_answer_is_503_even_to_nothing() {
    let stage = Stage::set_empty(Script::fixed(OK).address, |_| {});
    for line in ["", "authorization: Bearer x\r\n"] {
        let answer = stage.ask(&format!("GET /a HTTP/1.1\r\nhost: api\r\n{line}\r\n"));
        assert_eq!((answer.status(), answer.code()), (503, "unavailable".to_owned()));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert!(!stage.running.handle().status().ready);
}

#[test]
fn a_missing_permission_is_named_and_an_unknown_resource_looks_the_same() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        let mut write = Route::new("write", "/w/{cluster}", "main");
        write.access = Access::Require {
            permission: "cluster:write".to_owned(),
            resource: Some("cluster/{cluster}".to_owned()),
        };
        settings.routes.push(write);
    });
    let known = stage.get("/w/c1");
    assert_eq!((known.status(), known.code()), (403, "insufficient_scope".to_owned()));
    let body: serde_json::Value = serde_json::from_slice(&known.body).unwrap();
    assert_eq!(body["required_permission"], "cluster:write");
    assert_eq!(
        known.header("www-authenticate"),
        Some("Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"cluster:write\"")
    );
    assert_eq!(masked(&stage.get("/w/c9")), masked(&known));
}

#[test]
fn paths_and_heads_that_break_a_rule_are_refused_with_a_body_of_ours() {
    let stage = stage();
    let key = &stage.key;
    for (request, status, code) in [
        ("GET /a//b HTTP/1.1\r\nhost: api\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /a%2fb HTTP/1.1\r\nhost: api\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /a HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /a HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /a HTTP/1.1\r\nhost: api\r\nx_y: 1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /a HTTP/1.1\r\nhost: api\r\nconnection: host\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            "GET /a HTTP/1.1\r\nhost: api\r\nconnection: x-auth-org\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        ("GET /a HTTP/1.1\r\nhost: api\r\nexpect: 200-ok\r\n\r\n".to_owned(), 417, "expectation"),
        ("CONNECT api:443 HTTP/1.1\r\nhost: api\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        ("BREW /a HTTP/1.1\r\nhost: api\r\n\r\n".to_owned(), 405, "method_not_allowed"),
        (
            format!("GET /{} HTTP/1.1\r\nhost: api\r\n\r\n", "a".repeat(9000)),
            414,
            "target_too_long",
        ),
        (
            format!("GET /{} HTTP/1.1\r\nhost: api\r\n\r\n", "a".repeat(30_000)),
            414,
            "target_too_long",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: api\r\nx: {}\r\n\r\n", "a".repeat(17_000)),
            431,
            "head_too_large",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: api\r\nx: {}\r\n\r\n", "a".repeat(99_000)),
            431,
            "head_too_large",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: api\r\n{}\r\n", "x: 1\r\n".repeat(101)),
            431,
            "head_too_large",
        ),
        ("GET / HTTP/1.1\r\nhost : api\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/3.0\r\nhost: api\r\n\r\n".to_owned(), 505, "version"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "version"),
        (
            "GET / HTTP/1.1\r\nhost: api\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            format!(
                "GET /a HTTP/1.1\r\nhost: api\r\nauthorization: Bearer {key}, Bearer {key}\r\n\r\n"
            ),
            400,
            "invalid_request",
        ),
    ] {
        let mut caller = stage.connect();
        let answer = caller.ask(&request);
        let shown = request.get(..request.len().min(80));
        assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{shown:?}");
        assert!(answer.header("portcullis-request-id").is_some(), "{shown:?}");
        if code != "method_not_allowed" {
            assert_eq!(answer.header("connection"), Some("close"), "{shown:?}");
            assert!(caller.is_closed(), "{shown:?}");
        }
    }
    assert_eq!(stage.records(20).len(), 20);
}

#[test]
fn a_head_that_trickles_ends_with_408() {
    let stage = stage();
    let mut caller = stage.connect();
    caller.send(b"GET / HTTP/1.1\r\nhost:");
    stage.wait("the first byte is seen", || stage.running.handle().status().alive);
    let mut other = stage.connect();
    assert_eq!(other.ask(&stage.request("GET", "/a", "")).status(), 200);
    stage.clock.advance(Duration::from_secs(11));
    let answer = caller.read(false);
    assert_eq!((answer.status(), answer.code()), (408, "head_timeout".to_owned()));
    assert!(caller.is_closed());
}

#[test]
fn a_head_request_is_refused_without_a_body() {
    let mut caller = stage().connect();
    let answer = caller.ask("HEAD /a HTTP/1.1\r\nhost: api\r\n\r\n");
    assert_eq!((answer.status(), answer.header("content-length")), (401, Some("147")));
}

#[test]
fn a_body_larger_than_its_route_allows_is_refused_announced_or_not() {
    let stage = Stage::set(Script::run(|_, _| true).address, |settings| {
        settings.routes.first_mut().unwrap().body_bytes = 10;
    });
    let mut caller = stage.connect();
    let answer = caller.ask(&stage.request("POST", "/a", "content-length: 11\r\n"));
    assert_eq!((answer.status(), answer.code()), (413, "body_too_large".to_owned()));
    let mut caller = stage.connect();
    caller.send(stage.request("POST", "/a", "transfer-encoding: chunked\r\n").as_bytes());
    caller.send(b"8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n");
    assert_eq!(caller.read(false).code(), "body_too_large");
}

#[test]
fn options_on_the_server_itself_is_answered_here() {
    let answer = stage().ask("OPTIONS * HTTP/1.1\r\nhost: api\r\n\r\n");
    assert_eq!(answer.status(), 204);
}

#[test]
fn a_listener_that_requires_tls_refuses_plain_requests() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        settings.listeners.first_mut().unwrap().require_tls = true;
    });
    assert_eq!(stage.get("/a").code(), "https_required");
}

#[test]
fn grpc_callers_get_their_status_in_headers() {
    let answer = stage()
        .ask("POST /a HTTP/1.1\r\nhost: api\r\ncontent-type: application/grpc+proto\r\n\r\n");
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("16")));
    assert_eq!(answer.header("grpc-message"), Some("unauthenticated"));
}

#[test]
fn a_form_that_does_not_come_ends_with_its_route_s_time_or_as_a_body_that_is_too_slow() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        let route = settings.routes.first_mut().unwrap();
        route.credentials = vec![CredentialSource::Form("k".to_owned())];
        route.timeout = Duration::from_secs(5);
        let mut patient = route.clone();
        (patient.name, patient.path) = ("patient".to_owned(), "/patient".to_owned());
        patient.timeout = Duration::ZERO;
        settings.routes.push(patient);
    });
    let begin = |path: &str| {
        let mut caller = stage.connect();
        let kind = "content-type: application/x-www-form-urlencoded";
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: api\r\n{kind}\r\ncontent-length: 9\r\n\r\n");
        caller.send(head.as_bytes());
        caller.send(b"k=");
        caller
    };
    let (mut timed, mut patient) = (begin("/a"), begin("/patient"));
    stage.wait("both are being read", || stage.running.handle().status().in_flight == 2);
    stage.clock.advance(Duration::from_secs(6));
    let answer = timed.read(false);
    assert_eq!((answer.status(), answer.code()), (504, "upstream_timeout".to_owned()));
    assert!(timed.is_closed());
    stage.clock.advance(Duration::from_secs(11));
    assert!(patient.is_closed(), "slower than 500 bytes a second for 10 seconds");
}
