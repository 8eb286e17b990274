//! Every reason a request can be denied for, reached at the true gateway: status, code, challenge, exact bytes, and the
//! reason that only the record tells.

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::Kind;
use portcullis_core::key::{PlainKey, Prefix, mint, mint_for};
use serde_json::{Value, json};

use crate::support::http::{Answer, Connection, Request};
use crate::support::snapshot::{Snapshot, digest_of};
use crate::support::stage::{FILE_ARGS, FileStage, OPEN_ROUTE, Stage, file_home};
use crate::support::upstream::Upstream;
use crate::support::wait;

/// The exact body of each code, as the specification prints them.
fn body_of(code: &str) -> &'static str {
    match code {
        "bad_gateway" => {
            r#"{"type":"urn:portcullis:problem:bad_gateway","title":"Bad Gateway","status":502,"code":"bad_gateway","detail":"The service behind the gateway did not answer properly."}"#
        }
        "bad_request" => {
            r#"{"type":"urn:portcullis:problem:bad_request","title":"Bad Request","status":400,"code":"bad_request","detail":"The request is malformed or ambiguous."}"#
        }
        "body_too_large" => {
            r#"{"type":"urn:portcullis:problem:body_too_large","title":"Content Too Large","status":413,"code":"body_too_large","detail":"The request body is larger than allowed."}"#
        }
        "expectation" => {
            r#"{"type":"urn:portcullis:problem:expectation","title":"Expectation Failed","status":417,"code":"expectation","detail":"The expectation cannot be met."}"#
        }
        "head_timeout" => {
            r#"{"type":"urn:portcullis:problem:head_timeout","title":"Request Timeout","status":408,"code":"head_timeout","detail":"The request head did not arrive in time."}"#
        }
        "head_too_large" => {
            r#"{"type":"urn:portcullis:problem:head_too_large","title":"Request Header Fields Too Large","status":431,"code":"head_too_large","detail":"The request head is larger than allowed."}"#
        }
        "https_required" => {
            r#"{"type":"urn:portcullis:problem:https_required","title":"Forbidden","status":403,"code":"https_required","detail":"A credential may be sent over TLS only."}"#
        }
        "insufficient_scope" => {
            r#"{"type":"urn:portcullis:problem:insufficient_scope","title":"Forbidden","status":403,"code":"insufficient_scope","detail":"The credential does not give the required permission.","required_permission":"cluster:read"}"#
        }
        "invalid_request" => {
            r#"{"type":"urn:portcullis:problem:invalid_request","title":"Bad Request","status":400,"code":"invalid_request","detail":"More than one credential was presented."}"#
        }
        "invalid_token" => {
            r#"{"type":"urn:portcullis:problem:invalid_token","title":"Unauthorized","status":401,"code":"invalid_token","detail":"The credential is not valid."}"#
        }
        "method_not_allowed" => {
            r#"{"type":"urn:portcullis:problem:method_not_allowed","title":"Method Not Allowed","status":405,"code":"method_not_allowed","detail":"The method is not allowed on this path."}"#
        }
        "no_route" => {
            r#"{"type":"urn:portcullis:problem:no_route","title":"Not Found","status":404,"code":"no_route","detail":"No route matches the request."}"#
        }
        "source_not_allowed" => {
            r#"{"type":"urn:portcullis:problem:source_not_allowed","title":"Forbidden","status":403,"code":"source_not_allowed","detail":"The credential may not be used from this address."}"#
        }
        "target_too_long" => {
            r#"{"type":"urn:portcullis:problem:target_too_long","title":"URI Too Long","status":414,"code":"target_too_long","detail":"The request target is longer than allowed."}"#
        }
        "unauthenticated" => {
            r#"{"type":"urn:portcullis:problem:unauthenticated","title":"Unauthorized","status":401,"code":"unauthenticated","detail":"A credential is required."}"#
        }
        "unavailable" => {
            r#"{"type":"urn:portcullis:problem:unavailable","title":"Service Unavailable","status":503,"code":"unavailable","detail":"The gateway cannot decide at the moment."}"#
        }
        "upstream_timeout" => {
            r#"{"type":"urn:portcullis:problem:upstream_timeout","title":"Gateway Timeout","status":504,"code":"upstream_timeout","detail":"The service behind the gateway did not answer in time."}"#
        }
        "upstream_unavailable" => {
            r#"{"type":"urn:portcullis:problem:upstream_unavailable","title":"Service Unavailable","status":503,"code":"upstream_unavailable","detail":"The service behind the gateway is not available."}"#
        }
        "version" => {
            r#"{"type":"urn:portcullis:problem:version","title":"HTTP Version Not Supported","status":505,"code":"version","detail":"The HTTP version is not supported."}"#
        }
        other => panic!("no body is written down for {other}"),
    }
}

/// What every denial has in common, and its code's exact bytes.
#[track_caller]
fn assert_denied(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.text(), body_of(code));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let id = answer.header("portcullis-request-id").expect("a request id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

struct Counting(std::sync::atomic::AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for byte in out {
            *byte = (self.0.fetch_add(73, std::sync::atomic::Ordering::Relaxed) % 251) as u8;
        }
        Ok(())
    }
}

fn other_entropy() -> Counting {
    Counting(std::sync::atomic::AtomicU64::new(5))
}

/// A different secret under the same id.
fn another_secret(key: &PlainKey) -> PlainKey {
    mint_for(key.id(), &Prefix::default(), &other_entropy()).expect("counting does not fail")
}

/// Every way in which a credential can be no good, with the reason in the record.
fn bad_credentials(snapshot: &mut Snapshot) -> Vec<(&'static str, String)> {
    let text = |key: &PlainKey| key.expose().to_owned();
    snapshot.account("good");
    let good = snapshot.key("good");
    let stranger = mint(&Prefix::default(), &other_entropy()).expect("counting does not fail");

    let rotated = snapshot.key("good");
    let newer = another_secret(&rotated);
    let previous = json!({"alg": "b3", "pepper": 1, "digest": digest_of(&rotated)["digest"], "retained_until_ms": 1});
    let record = json!({"account": "good", "state": "active", "generation": 2, "current": digest_of(&newer), "previous": previous});
    snapshot.put(Kind::Key, &rotated.id().to_string(), record);

    snapshot.put(Kind::Org, "o2", json!({"state": "suspended"}));
    snapshot.account_with("suspended", &json!({"org": "o2"}));
    snapshot.account_with("inactive", &json!({"state": "inactive"}));
    let blocked = snapshot.key("good");
    snapshot.put(Kind::Block, "b1", json!({"match": {"key": blocked.id().to_string()}}));
    let bound = json!({"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}});

    let mut flipped = text(&good).into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'0' { b'1' } else { b'0' };
    vec![
        ("malformed", "not-a-key-but-long-enough".to_owned()),
        ("malformed", String::from_utf8(flipped).unwrap()),
        ("malformed", format!("{}0", text(&good))),
        ("malformed", text(&good).replacen("ptc_", "x_", 1)),
        ("unknown_key", text(&stranger)),
        ("bad_secret", text(&another_secret(&good))),
        ("retention_over", text(&rotated)),
        ("blocked", text(&blocked)),
        ("key_inactive", text(&snapshot.key_with("good", &json!({"state": "inactive"})))),
        (
            "not_yet_valid",
            text(&snapshot.key_with("good", &json!({"not_before_ms": 9_000_000_000_000_u64}))),
        ),
        ("key_expired", text(&snapshot.key_with("good", &json!({"expires_at_ms": 1})))),
        ("sa_inactive", text(&snapshot.key("inactive"))),
        ("sa_inactive", text(&snapshot.key("nobody"))),
        ("org_suspended", text(&snapshot.key("suspended"))),
        ("binding_mismatch", text(&snapshot.key_with("good", &bound))),
    ]
}

#[test]
fn strangers_cannot_tell_one_bad_credential_from_another() {
    let mut snapshot = Snapshot::new();
    let cases = bad_credentials(&mut snapshot);
    let config = format!("{OPEN_ROUTE}[log]\nrecords = \"file:records.log\"\n");
    let stage = FileStage::with(Upstream::nginx(), &config, &snapshot);
    let mut first = None;
    let mut connection = Connection::open(stage.program.gateway());
    for (reason, credential) in &cases {
        let answer = connection.exchange(&Request::get("/").bearer(credential));
        assert_denied(&answer, 401, "invalid_token");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="portcullis", error="invalid_token""#),
            "{reason}"
        );
        let masked = masked(&answer);
        assert_eq!(first.get_or_insert_with(|| masked.clone()), &masked, "{reason}");
    }
    let reasons: Vec<String> = stage
        .records(cases.len())
        .iter()
        .map(|record| record["reason"].as_str().unwrap_or("none").to_owned())
        .collect();
    let wanted: Vec<&str> = cases.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, wanted);
    assert_eq!(stage.upstream.access_log(), "", "nothing of it reached the upstream");
}

/// Head and body with the two fields masked that differ by nature.
fn masked(answer: &Answer) -> String {
    let lines = answer.head.lines().map(|line| match line.split_once(':') {
        Some((name, _))
            if ["date", "portcullis-request-id"].contains(&name.to_ascii_lowercase().as_str()) =>
        {
            name
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n\n" + answer.text()
}

/// Routes that reach the reasons after verification.
const ROUTES: &str = r#"
[[routes]]
name = "permission"
path = "/clusters/{cluster}"
methods = ["GET", "DELETE"]
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
[[routes]]
name = "other-org"
path = "/other-org"
upstream = "app"
require = { permission = "cluster:read" }
orgs = ["o9"]
[[routes]]
name = "open"
path = "/open"
upstream = "app"
authenticated_only = true
[[routes]]
name = "small"
path = "/small"
upstream = "app"
authenticated_only = true
body_bytes = 10
[[routes]]
name = "public"
path = "/public"
upstream = "app"
auth = "none"
"#;

#[test]
fn a_proven_caller_is_told_what_it_lacks() {
    let mut snapshot = Snapshot::new();
    snapshot.put(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"}));
    snapshot.account("reader");
    snapshot.account_with("nothing", &json!({"grants": []}));
    let reader = snapshot.key("reader");
    let nothing = snapshot.key("nothing");
    let restricted =
        snapshot.key_with("reader", &json!({"restrict": {"permissions": ["node:read"]}}));
    let get_only = snapshot.key_with("reader", &json!({"restrict": {"methods": ["GET"]}}));
    let elsewhere = snapshot.key_with("reader", &json!({"sources": ["10.0.0.0/8"]}));
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);

    let cluster = |key: &PlainKey| Request::get("/clusters/c1").bearer(key.expose());
    stage.send(&cluster(&reader)).expect_status(200);
    stage.send(&cluster(&get_only)).expect_status(200);
    let delete = Request::new("DELETE", "/clusters/c1").bearer(get_only.expose());
    let unknown = Request::get("/clusters/c2").bearer(reader.expose());
    let foreign = Request::get("/other-org").bearer(reader.expose());
    let cases = [
        ("missing_permission", cluster(&nothing)),
        ("unknown_resource", unknown),
        ("wrong_org", foreign),
        ("restricted", cluster(&restricted)),
        ("restricted", delete),
    ];
    for (reason, request) in &cases {
        let answer = stage.send(request);
        assert_denied(&answer, 403, "insufficient_scope");
        let challenge =
            r#"Bearer realm="portcullis", error="insufficient_scope", scope="cluster:read""#;
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{reason}");
    }
    let answer = stage.send(&Request::get("/open").bearer(elsewhere.expose()));
    assert_denied(&answer, 403, "source_not_allowed");
    assert_eq!(answer.header("www-authenticate"), None);

    let records = stage.records(2 + cases.len() + 1);
    let mut reasons: Vec<&str> =
        records.iter().filter_map(|record| record["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "missing_permission",
            "restricted",
            "restricted",
            "source_not_allowed",
            "unknown_resource",
            "wrong_org"
        ]
    );
}

#[test]
fn no_credential_is_asked_for_and_two_are_refused() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    for request in [Request::get("/open"), Request::get("/open").header("Authorization", "")] {
        let answer = stage.send(&request);
        if answer.text() == body_of("unauthenticated") {
            assert_denied(&answer, 401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
        } else {
            assert_denied(&answer, 401, "invalid_token");
        }
    }
    assert_denied(&stage.send(&Request::get("/open")), 401, "unauthenticated");

    let twice = Request::get("/open").bearer(key.expose()).bearer(key.expose());
    let listed = Request::get("/open")
        .header("Authorization", &format!("Bearer {0}, Bearer {0}", key.expose()));
    for request in [twice, listed] {
        let mut connection = Connection::open(stage.program.gateway());
        let answer = connection.exchange(&request);
        assert_denied(&answer, 400, "invalid_request");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="portcullis", error="invalid_request""#)
        );
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.is_closed_by_peer());
    }
    // A public route looks at no credential, however odd.
    stage.send(&Request::get("/public").bearer("nonsense")).expect_status(200);
    stage.send(&Request::get("/public")).expect_status(200);
}

#[test]
fn a_bearer_credential_has_one_strict_form() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    let key = key.expose();
    for (value, status) in [
        (format!("Bearer {key}"), 200),
        (format!("bearer {key}"), 200),
        (format!("BEARER {key}"), 200),
        (format!("Bearer  {key}"), 401),
        (format!("Bearer\t{key}"), 400),
        (format!("Bearer{key}"), 401),
        (format!("Token {key}"), 401),
        (key.to_owned(), 401),
        ("Bearer".to_owned(), 401),
        (format!("Bearer {key}="), 401),
        (format!("Bearer {}", "a".repeat(19)), 401),
        (format!("Bearer {}", "a".repeat(257)), 401),
        (format!("Bearer {}\u{e9}", &key[..64]), 400),
    ] {
        let answer = stage.send(&Request::get("/open").header("Authorization", &value));
        assert_eq!(answer.status, status, "{value:?}: {}", answer.text());
    }
}

#[test]
fn a_miss_in_the_route_table_ends_before_any_credential_is_looked_at() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    for credential in [key.expose(), "nonsense"] {
        let answer = stage.send(&Request::get("/nowhere").bearer(credential));
        assert_denied(&answer, 404, "no_route");
        assert_eq!(answer.header("www-authenticate"), None);
        let answer = stage.send(&Request::new("POST", "/clusters/c1").bearer(credential));
        assert_denied(&answer, 405, "method_not_allowed");
        let mut allowed: Vec<&str> = answer.header("allow").expect("Allow").split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed, ["DELETE", "GET"]);
    }
    for method in ["CONNECT", "TRACE"] {
        let answer = stage.send(&Request::new(method, "/open").bearer(key.expose()));
        assert_eq!(answer.status, 405, "{method}");
    }
}

#[test]
fn requests_beyond_a_limit_or_out_of_protocol_are_refused_and_the_connection_closed() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    let open = || Request::get("/open").bearer(key.expose());
    let many = (0..101).fold(open(), |request, n| request.header(&format!("X-Field-{n}"), "v"));
    let cases = [
        (
            "body_too_large",
            413,
            Request::new("POST", "/small").bearer(key.expose()).body("12345678901"),
        ),
        (
            "target_too_long",
            414,
            Request::get(&format!("/open?{}", "q".repeat(8 * 1024))).bearer(key.expose()),
        ),
        ("expectation", 417, open().header("Expect", "200-ok")),
        ("head_too_large", 431, open().header("X-Long", &"v".repeat(17 * 1024))),
        ("head_too_large", 431, many),
        ("bad_request", 400, open().header("X_Underscore", "v")),
        ("bad_request", 400, Request::get("/open/../open").bearer(key.expose())),
        ("bad_request", 400, open().header("Connection", "x-auth-org")),
    ];
    for (code, status, request) in &cases {
        let mut connection = Connection::open(stage.program.gateway());
        let answer = connection.exchange(request);
        assert_denied(&answer, *status, code);
        assert_eq!(answer.header("connection"), Some("close"), "{code}");
        assert!(connection.is_closed_by_peer(), "{code}");
    }
    assert_eq!(stage.upstream.access_log(), "", "nothing of it reached the upstream");
}

#[test]
fn a_body_that_grows_past_its_limit_is_refused_though_its_length_was_unknown() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::uvicorn(), ROUTES, &snapshot);
    let chunked = |body: &str| {
        Request::new("POST", "/small")
            .bearer(key.expose())
            .header("Transfer-Encoding", "chunked")
            .body(body)
    };
    stage.send(&chunked("a\r\n0123456789\r\n0\r\n\r\n")).expect_status(200);
    let answer = stage.send(&chunked("b\r\n0123456789a\r\n0\r\n\r\n"));
    assert_eq!(answer.status, 413, "{}", answer.text());
}

#[test]
fn without_usable_state_the_answer_is_503_whatever_was_presented() {
    let upstream = Upstream::nginx();
    let home = file_home(&upstream, OPEN_ROUTE);
    let program = home.start(&FILE_ARGS);
    let ready = Request::get("/readyz").send(program.admin_listener());
    assert_eq!(ready.status, 503);
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    for request in [
        Request::get("/"),
        Request::get("/").bearer("nonsense"),
        Request::get("/").bearer(key.expose()),
    ] {
        let answer = request.send(program.gateway());
        assert_denied(&answer, 503, "unavailable");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("www-authenticate"), None);
    }
    snapshot.write_to(&home);
    wait::until("the snapshot to be picked up", || {
        (Request::get("/").bearer(key.expose()).send(program.gateway()).status == 200).then_some(())
    });
}

#[test]
fn a_listener_that_requires_tls_refuses_credentials_in_the_clear() {
    let upstream = Upstream::nginx();
    let config = format!(
        "{OPEN_ROUTE}\n[[listeners]]\nname = \"plain\"\naddress = \"127.0.0.1:0\"\nrequire_tls = true\n"
    );
    let home = file_home(&upstream, &config);
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    snapshot.write_to(&home);
    let program = home.start(&["gateway", "--config", "CONFIG", "--admin", "127.0.0.1:0"]).ready();
    let answer = Request::get("/").bearer(key.expose()).send(program.gateway());
    assert_denied(&answer, 403, "https_required");
    assert_eq!(answer.header("location"), None, "never a redirect");
}

#[test]
fn failures_of_the_upstream_are_told_apart() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let config = r#"
[gateway]
id = "gw"
workers = 1
[feed]
mode = "file"
file = "snapshot.ndjson"
[keys]
peppers = [{ id = 1, file = "pepper.1" }]
[timeouts]
upstream_head = "300ms"
[[upstreams]]
name = "gone"
addresses = [{ host = "127.0.0.1:1" }]
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
[[routes]]
name = "gone"
path = "/gone"
upstream = "gone"
authenticated_only = true
"#;
    for (path, status, code, reason, upstream) in [
        ("/gone", 502, "bad_gateway", "upstream_connect", Upstream::nginx()),
        ("/hangup", 502, "bad_gateway", "upstream_protocol", Upstream::nginx()),
        ("/never", 504, "upstream_timeout", "upstream_timeout", Upstream::uvicorn()),
    ] {
        let home = file_home(&upstream, OPEN_ROUTE);
        home.write("portcullis.toml", &crate::support::stage::complete(config, &upstream));
        snapshot.write_to(&home);
        let program = home.start(&FILE_ARGS).ready();
        let answer = Request::get(path).bearer(key.expose()).send(program.gateway());
        assert_denied(&answer, status, code);
        let record = wait::until("the record", || {
            let text = std::fs::read_to_string(home.path("records.log")).unwrap_or_default();
            text.lines().next().map(|line| serde_json::from_str::<Value>(line).unwrap())
        });
        assert_eq!(record["reason"], reason);
        assert_eq!(record["status"], status);
    }
}

#[test]
fn beyond_its_own_capacity_the_gateway_sheds() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let upstream = Upstream::uvicorn();
    let home = file_home(&upstream, &format!("[limits]\nin_flight_per_worker = 1\n{OPEN_ROUTE}"));
    let config = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    home.write(
        "portcullis.toml",
        &config.replace("id = \"gw-file\"", "id = \"gw-file\"\nworkers = 1"),
    );
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut occupied = Connection::open(program.gateway());
    occupied.write(
        format!("GET /never HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", key.expose())
            .as_bytes(),
    );
    let shed = wait::until("the only place to be taken", || {
        let answer = Request::get("/").bearer(key.expose()).send(program.gateway());
        (answer.status == 503).then_some(answer)
    });
    assert_denied(&shed, 503, "unavailable");
    assert_eq!(shed.header("retry-after"), Some("1"));
    drop(occupied);
    wait::until("the place to be free again", || {
        (Request::get("/").bearer(key.expose()).send(program.gateway()).status == 200).then_some(())
    });
}

#[test]
fn a_head_request_is_denied_without_a_body() {
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &Snapshot::new());
    let mut connection = Connection::open(stage.program.gateway());
    let head = connection.exchange(&Request::new("HEAD", "/open"));
    assert_eq!(head.status, 401);
    let get = connection.exchange(&Request::get("/open"));
    assert_denied(&get, 401, "unauthenticated");
    assert_eq!(head.header("content-length"), get.header("content-length"));
}

#[test]
fn what_the_control_plane_ended_is_refused_like_everything_else() {
    let stage = Stage::new();
    let stranger = stage.ask("ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr");
    assert_denied(&stranger, 401, "invalid_token");
    let account = stage.owner.account("kept");
    let (revoked, deleted) = (stage.owner.key(&account, "a"), stage.owner.key(&account, "b"));
    stage.owner.act(&revoked.path, "revoke");
    stage.owner.delete(&deleted.path);
    let mut refused = vec![("key_revoked", revoked), ("key_revoked", deleted)];
    for verb in ["revoke", "delete"] {
        let account = stage.owner.account(&format!("to {verb}"));
        let key = stage.owner.key(&account, "key");
        match verb {
            "revoke" => stage.owner.act(&account.path, "revoke"),
            _ => stage.owner.delete(&account.path),
        };
        refused.push(("key_revoked", key));
    }
    for (_, key) in &refused {
        assert_eq!(masked(&stage.ask(&key.value)), masked(&stranger));
    }
    let mut reasons: Vec<String> = stage
        .records(1 + refused.len())
        .iter()
        .map(|record| record["reason"].as_str().unwrap_or("none").to_owned())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons[reasons.len() - 1], "unknown_key");
    for reason in &reasons[..reasons.len() - 1] {
        assert!(["key_revoked", "sa_revoked"].contains(&reason.as_str()), "{reason}");
    }
}

#[test]
fn when_every_connection_to_the_upstream_is_busy_the_caller_is_told_so() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let upstream = Upstream::uvicorn();
    let home = file_home(&upstream, OPEN_ROUTE);
    let config = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    let config = config.replace("id = \"gw-file\"", "id = \"gw-file\"\nworkers = 1");
    home.write(
        "portcullis.toml",
        &config.replace("name = \"app\"", "name = \"app\"\nconnections = 1"),
    );
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut occupied = Connection::open(program.gateway());
    let never =
        format!("GET /never HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", key.expose());
    occupied.write(never.as_bytes());
    let refused = wait::until("the only connection to be taken", || {
        let answer = Request::get("/").bearer(key.expose()).send(program.gateway());
        (answer.status == 503).then_some(answer)
    });
    assert_denied(&refused, 503, "upstream_unavailable");
    assert!(refused.header("retry-after").is_some());
}
