//! Keys in a form: read before the request is decided, gone from the body that is forwarded.

use sha2::{Digest as _, Sha256};

use crate::support::http::{Answer, Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{FileStage, reasons};
use crate::support::upstream::Upstream;

const FORM: &str = "application/x-www-form-urlencoded";

const ROUTES: &str = r#"
[[routes]]
name = "login"
path = "/login"
upstream = "app"
authenticated_only = true
credentials = ["bearer", "form:password"]
[[routes]]
name = "kept"
path = "/kept"
upstream = "app"
authenticated_only = true
credentials = ["form:password"]
forward_credential = true
[[routes]]
name = "small"
path = "/small"
upstream = "app"
authenticated_only = true
credentials = ["form:password"]
body_bytes = 200
[[routes]]
name = "bearer"
path = "/bearer"
upstream = "app"
authenticated_only = true
"#;

fn stage() -> (FileStage, String) {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader").expose().to_owned();
    (FileStage::with(Upstream::uvicorn(), ROUTES, &snapshot), key)
}

fn form(path: &str, body: &str) -> Request {
    Request::new("POST", path).header("Content-Type", FORM).body(body)
}

/// That the upstream read exactly `body`, and was told its length.
#[track_caller]
fn assert_forwarded(answer: Answer, body: &str) {
    let seen = answer.expect_status(200).json();
    let sha256: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(seen["body_length"], body.len(), "{seen}");
    assert_eq!(seen["body_sha256"], sha256, "{seen}");
    let named = |wanted: &str| {
        let lines = seen["headers"].as_array().unwrap().iter();
        lines.filter(|line| line[0] == wanted).map(|line| line[1].clone()).collect::<Vec<_>>()
    };
    assert_eq!(named("content-length"), [body.len().to_string()], "{seen}");
    assert_eq!(named("content-type"), [FORM], "{seen}");
    assert!(named("transfer-encoding").is_empty(), "{seen}");
    assert_eq!(named("x-auth-subject"), ["reader"], "{seen}");
}

#[test]
fn the_field_is_taken_out_and_the_rest_goes_on_byte_for_byte() {
    let (stage, key) = stage();
    let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut connection = Connection::open(stage.program.gateway());
    for (body, rest) in [
        (format!("password={key}"), String::new()),
        (format!("a=%20&password={key}&&b=+&c"), "a=%20&&b=+&c".to_owned()),
        (format!("grant_type=x&pass%77ord={encoded}"), "grant_type=x".to_owned()),
        (format!("Password=1&password={key}&password2=2"), "Password=1&password2=2".to_owned()),
    ] {
        assert_forwarded(connection.exchange(&form("/login", &body)), &rest);
    }
    let typed = Request::new("POST", "/login")
        .header("Content-Type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")
        .body(format!("password={key}"));
    connection.exchange(&typed).expect_status(200);
}

#[test]
fn a_chunked_form_is_read_and_gets_a_length() {
    let (stage, key) = stage();
    let body = format!("a=1&password={key}");
    let (first, second) = body.split_at(20);
    let chunked = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", 20, second.len());
    let request = form("/login", &chunked).header("Transfer-Encoding", "chunked");
    assert_forwarded(stage.send(&request), "a=1");
}

#[test]
fn a_form_that_waits_for_100_continue_is_asked_for() {
    let (stage, key) = stage();
    let body = format!("password={key}");
    let mut connection = Connection::open(stage.program.gateway());
    connection.write(
        format!(
            "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    assert_eq!(connection.read_head().unwrap().expect("a head").status, 100);
    connection.write(body.as_bytes());
    assert_forwarded(connection.read_answer("POST"), "");
}

#[test]
fn a_key_that_is_to_be_forwarded_stays_in_its_form() {
    let (stage, key) = stage();
    let body = format!("a=1&password={key}&b=2");
    assert_forwarded(stage.send(&form("/kept", &body)), &body);
}

#[test]
fn two_keys_are_one_too_many_wherever_they_stand() {
    let (stage, key) = stage();
    let twice = form("/login", &format!("password={key}&password={key}"));
    let spelled = form("/login", &format!("password={key}&%70assword=x"));
    let both = form("/login", &format!("password={key}")).bearer(&key);
    for request in [twice, spelled, both] {
        let mut connection = Connection::open(stage.program.gateway());
        let answer = connection.exchange(&request).expect_status(400);
        assert_eq!(answer.code(), "invalid_request");
        assert_eq!(answer.header("connection"), Some("close"));
        let challenges = answer.headers_named("www-authenticate");
        let error = r#"error="invalid_request""#;
        assert_eq!(
            challenges,
            [
                format!(r#"Bearer realm="portcullis", {error}"#),
                format!(r#"ApiKey realm="portcullis", {error}"#)
            ]
        );
        assert!(connection.is_closed_by_peer());
    }
}

#[test]
fn what_is_in_a_form_and_no_key_is_refused_on_a_connection_that_is_kept() {
    let (stage, key) = stage();
    let mut connection = Connection::open(stage.program.gateway());
    for (body, code) in [
        ("password=nonsense-but-long-enough".to_owned(), "invalid_token"),
        ("password=".to_owned(), "invalid_token"),
        ("password".to_owned(), "invalid_token"),
        (format!("password=%2{key}"), "invalid_token"),
        (format!("Password={key}"), "unauthenticated"),
        ("a=1".to_owned(), "unauthenticated"),
        (String::new(), "unauthenticated"),
    ] {
        let answer = connection.exchange(&form("/login", &body)).expect_status(401);
        assert_eq!((answer.code().as_str(), answer.header("connection")), (code, None), "{body}");
    }
    assert_forwarded(connection.exchange(&form("/login", &format!("password={key}"))), "");
}

#[test]
fn a_body_of_another_kind_is_not_looked_into() {
    let (stage, key) = stage();
    let body = format!("password={key}");
    for kind in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
        let request = Request::new("POST", "/login").header("Content-Type", kind);
        let answer = stage.send(&request.clone().body(body.clone())).expect_status(401);
        assert_eq!(answer.code(), "unauthenticated", "{kind}");
        let big = request.bearer(&key).body(vec![b'x'; 64 * 1024]);
        assert_eq!(stage.send(&big).expect_status(200).json()["body_length"], 64 * 1024);
    }
    stage.send(&form("/bearer", &body)).expect_status(401);
    let other = stage.send(&form("/bearer", &body).bearer(&key)).expect_status(200).json();
    assert_eq!(other["body_length"], body.len(), "a route without a form forwards it as it is");
}

#[test]
fn a_form_whose_meaning_is_in_doubt_is_refused() {
    let (stage, key) = stage();
    let body = format!("password={key}");
    let coded = form("/login", &body).header("Content-Encoding", "gzip");
    let two_kinds = form("/login", &body).header("Content-Type", "text/plain");
    for request in [coded, two_kinds] {
        let answer = stage.send(&request).expect_status(400);
        assert_eq!(answer.code(), "bad_request");
    }
}

#[test]
fn a_form_of_more_than_16_kib_is_refused_announced_or_not() {
    let (stage, key) = stage();
    let at_most = format!("password={key}&a={}", "x".repeat(16 * 1024 - 12 - key.len()));
    assert_eq!(at_most.len(), 16 * 1024);
    let rest = at_most.split_once('&').unwrap().1;
    assert_forwarded(stage.send(&form("/login", &at_most)), rest);
    let beyond = format!("{at_most}x");
    let chunked = format!("{:x}\r\n{beyond}\r\n0\r\n\r\n", beyond.len());
    for request in [
        form("/login", &beyond),
        form("/login", &beyond).bearer(&key),
        form("/login", &chunked).header("Transfer-Encoding", "chunked"),
    ] {
        let answer = stage.send(&request).expect_status(413);
        assert_eq!(answer.code(), "body_too_large");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let small = form("/small", &format!("password={key}&a={}", "x".repeat(200)));
    stage.send(&small).expect_status(413);
    let chunked = format!("{:x}\r\n{beyond:.250}\r\n0\r\n\r\n", 250);
    let small = form("/small", &chunked).header("Transfer-Encoding", "chunked");
    stage.send(&small).expect_status(413);
    // Two workers write records, in no particular order.
    let mut reasons = reasons(&stage.home, 6);
    reasons.sort_unstable();
    assert_eq!(reasons[1..], ["body_too_large"; 5]);
}

#[test]
fn a_form_whose_key_is_gone_by_the_time_it_is_complete_is_refused() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::uvicorn(), ROUTES, &snapshot);
    let body = format!("password={}", key.expose());
    let mut connection = Connection::open(stage.program.gateway());
    connection.write(
        format!(
            "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    connection.write(&body.as_bytes()[..20]);
    snapshot.remove(portcullis_core::feed::Kind::Key, &key.id().to_string());
    snapshot.advance();
    snapshot.write_to(&stage.home);
    crate::support::wait::until("the key to be gone", || {
        (stage.send(&Request::get("/bearer").bearer(key.expose())).status == 401).then_some(())
    });
    connection.write(&body.as_bytes()[20..]);
    assert_eq!(connection.read_answer("POST").expect_status(401).code(), "invalid_token");
}
