//! Every request leaves exactly one record and one increment of one outcome, and no secret
//! anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::http::{Connection, Request};
use crate::support::stage::Stage;
use crate::support::upstream::Upstream;
use crate::support::wait;

const ROUTES: &str = r#"
[log]
level = "trace"
records = "file:records.log"
[[routes]]
name = "public"
path = "/public"
upstream = "app"
auth = "none"
[[routes]]
name = "clusters"
path = "/clusters/{cluster}"
methods = ["GET"]
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
[[routes]]
name = "all"
path = "/open/{*rest}"
upstream = "app"
authenticated_only = true
"#;

/// `portcullis_requests_total` by outcome, over all routes.
fn outcomes(stage: &Stage) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for line in stage.program.metrics().lines() {
        let Some(rest) = line.strip_prefix("portcullis_requests_total{") else { continue };
        let (labels, value) = rest.rsplit_once("} ").expect("labels and a value");
        let outcome = labels
            .split(',')
            .find_map(|label| label.strip_prefix("outcome=\""))
            .expect("an outcome");
        let count: f64 = value.parse().expect("a count");
        if count > 0.0 {
            *totals.entry(outcome.trim_end_matches('"').to_owned()).or_default() += count as u64;
        }
    }
    totals
}

#[test]
fn every_request_has_one_record_and_one_outcome() {
    let stage = Stage::with(Upstream::nginx(), ROUTES);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let open = |path: &str| Request::get(path).bearer(&key.value);
    let mut connection = Connection::open(stage.program.gateway());
    let requests: Vec<(&str, u16, Request)> = vec![
        ("allowed", 200, open("/open/a")),
        ("allowed", 200, open("/open/a")),
        ("public", 200, Request::get("/public")),
        ("missing", 401, Request::get("/open/a")),
        ("malformed", 401, Request::get("/open/a").bearer("nonsense-nonsense-nonsense")),
        ("missing_permission", 403, open("/clusters/c1")),
        ("no_route", 404, open("/nowhere")),
        ("method_not_allowed", 405, Request::new("POST", "/clusters/c1")),
        ("allowed", 418, open("/open/../teapot")),
    ];
    // The last one is a path the gateway refuses; it must count as that, though the upstream would
    // have answered 418.
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (outcome, status, request) in &requests[..requests.len() - 1] {
        let answer = connection.exchange(request);
        // An unknown resource and a missing permission are one answer; the reason depends on what
        // is known.
        assert_eq!(answer.status, *status, "{outcome}");
        *expected.entry((*outcome).to_owned()).or_default() += 1;
    }
    connection.exchange(&requests[requests.len() - 1].2).expect_status(400);
    expected.insert("ambiguous_path".to_owned(), 1);

    // A caller that leaves in the middle of its own body is counted too.
    let mut leaving = Connection::open(stage.program.gateway());
    leaving.write(
        format!("POST /open/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\nabc", key.value)
            .as_bytes(),
    );
    drop(leaving);

    let records = stage.records(requests.len() + 1);
    assert_eq!(records.len(), requests.len() + 1);
    let totals = wait::until("all outcomes", || {
        let totals = outcomes(&stage);
        (totals.values().sum::<u64>() == records.len() as u64).then_some(totals)
    });
    let mut by_record: BTreeMap<String, u64> = BTreeMap::new();
    for record in &records {
        let outcome = match record["reason"].as_str() {
            Some(reason) => reason,
            None => record["outcome"].as_str().expect("an outcome"),
        };
        *by_record.entry(outcome.to_owned()).or_default() += 1;
    }
    assert_eq!(by_record, totals, "records and metrics tell the same story");
    let unknown = totals.get("unknown_resource").copied().unwrap_or(0)
        + totals.get("missing_permission").copied().unwrap_or(0);
    assert_eq!(unknown, 1);
    for outcome in [
        "allowed",
        "public",
        "missing",
        "malformed",
        "no_route",
        "method_not_allowed",
        "ambiguous_path",
    ] {
        let slack = u64::from(outcome == "allowed"); // the leaving caller, if the upstream answered before its body
        let (want, got) = (expected[outcome], totals.get(outcome).copied().unwrap_or(0));
        assert!(got == want || got == want + slack, "{outcome}: {got} of {want}; {totals:?}");
    }
}

#[test]
fn a_record_says_who_did_what_and_when_and_how_long_it_took() {
    let stage = Stage::with(Upstream::nginx(), ROUTES);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let request = Request::get("/open/a%20b?secret=query")
        .bearer(&key.value)
        .header("Host", "API.example.com");
    let answer = stage.send(&request).expect_status(200);
    let record = stage.records(1).remove(0);
    for (member, value) in [
        ("listener", "public"),
        ("protocol", "h1"),
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "api.example.com"),
        ("path", "/open/a%20b"),
        ("route", "all"),
        ("outcome", "allowed"),
        ("account", &account.id),
        ("key", &key.id),
        ("auth", "key"),
        ("upstream", "app"),
    ] {
        assert_eq!(record[member], value, "{member} in {record}");
    }
    assert_eq!(record["status"], 200);
    assert_eq!(record["upstream_status"], 200);
    assert_eq!(record["bytes_out"], answer.body.len());
    assert!(record["decision_ns"].as_u64().is_some_and(|ns| ns > 0), "{record}");
    assert_eq!(record["request_id"].as_str().map(str::len), Some(32));
    assert!(!record.to_string().contains("secret=query"), "no query in a record");

    // Of a key that was not proven, only the claimed id is said.
    let (id, forged) = (&key.value[4..15], format!("{}x", &key.value[..64]));
    stage.send(&Request::get("/open/a").bearer(&forged));
    let records = stage.records(2);
    let refused = &records[1];
    assert!(refused["key"].is_null() && refused["account"].is_null(), "{refused}");
    assert!(refused["key_claimed"].is_null() || refused["key_claimed"] == id, "{refused}");
}

#[test]
fn no_secret_is_found_anywhere_at_the_most_talkative_level() {
    let stage = Stage::with(Upstream::uvicorn(), ROUTES);
    let account = stage.owner.account("ci");
    let first = stage.owner.key(&account, "key");
    let second = stage.owner.rotate(&account, &first, &serde_json::json!({"retain_minutes": 5}));
    let mut echoed = String::new();
    for key in [&first, &second] {
        echoed += stage.send(&Request::get("/open/a").bearer(&key.value)).expect_status(200).text();
        stage.send(&Request::get("/nowhere").bearer(&key.value));
        stage.send(&Request::get("/open/../a").bearer(&key.value));
    }
    stage.owner.act(&first.path, "revoke");
    stage.send(&Request::get("/open/a").bearer(&second.value)).expect_status(401);
    stage.records(7);
    let metrics = stage.program.metrics();
    let log = stage.program.log();
    let said = stage.program.output().join("\n");
    let pepper = fs::read(stage.home.data().join("pepper.1")).unwrap();
    let tokens =
        ["admin-token", "operator-token", "gateway-token"].map(|name| stage.home.token(name));
    let mut secrets: Vec<&[u8]> = vec![&pepper];
    for text in tokens.iter().chain([&first.value, &second.value]) {
        secrets.push(text.as_bytes()[16..].as_ref());
    }
    for (place, text) in [
        ("the log", &log),
        ("metrics", &metrics),
        ("standard output", &said),
        ("the upstream", &echoed),
    ] {
        for secret in &secrets {
            assert!(!contains(text.as_bytes(), secret), "a secret is in {place}");
        }
    }
    let own = ["admin-token", "operator-token", "gateway-token", "pepper.1"];
    for file in files_below(&stage.home.path("")) {
        if own.iter().any(|name| file.ends_with(name)) {
            continue;
        }
        let bytes = fs::read(&file).unwrap_or_default();
        for secret in &secrets {
            assert!(!contains(&bytes, secret), "a secret is in {}", file.display());
        }
    }
    for place in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{place}", stage.program.pid())).unwrap();
        assert!(secrets.iter().all(|secret| !contains(&bytes, secret)), "a secret is in {place}");
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    haystack
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == first && haystack[at..].starts_with(needle))
}

fn files_below(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn the_operators_listener_answers_and_keeps_strangers_out() {
    let stage = Stage::new();
    let admin = stage.program.admin_listener();
    Request::get("/livez").send(admin).expect_status(200);
    Request::get("/readyz").send(admin).expect_status(200);
    // A family of counters is shown from its first count on: one request and one change.
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.ask(&key.value).expect_status(200);
    stage.owner.act(&key.path, "revoke");
    let metrics = wait::until("the counters", || {
        let metrics = stage.program.metrics();
        metrics.contains("portcullis_requests_total{").then_some(metrics)
    });
    for name in [
        "portcullis_requests_total",
        "portcullis_responses_total",
        "portcullis_decision_seconds",
        "portcullis_request_seconds",
        "portcullis_upstream_seconds",
        "portcullis_upstream_attempts_total",
        "portcullis_upstream_connections",
        "portcullis_connections",
        "portcullis_connections_total",
        "portcullis_open_streams",
        "portcullis_directory_records",
        "portcullis_tombstones",
        "portcullis_feed_connected",
        "portcullis_feed_epoch",
        "portcullis_feed_seq",
        "portcullis_feed_staleness_seconds",
        "portcullis_feed_changes_total",
        "portcullis_feed_resyncs_total",
        "portcullis_feed_apply_seconds",
        "portcullis_revocation_propagation_seconds",
        "portcullis_records_dropped_total",
        "portcullis_panics_total",
        "portcullis_worker_stall_seconds",
        "portcullis_build_info",
    ] {
        assert!(metrics.contains(&format!("# TYPE {name} ")), "{name} is missing");
    }
    let manual = include_str!("../docs/operations.md");
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE portcullis_")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(manual.contains(&format!("`{name}`")), "docs/operations.md lacks {name}");
    }
    let token = stage.home.token("operator-token");
    Request::get("/admin/v1/status").send(admin).expect_status(401);
    Request::get("/admin/v1/status").bearer("wrong").send(admin).expect_status(401);
    let status =
        Request::get("/admin/v1/status").bearer(&token).send(admin).expect_status(200).json();
    assert_eq!(
        status.pointer("/gateway/feed/connected").and_then(serde_json::Value::as_bool),
        Some(true),
        "{status}"
    );
    Request::get("/nowhere").send(admin).expect_status(404);
    // The gateway's own listener knows nothing of all this.
    for path in ["/livez", "/metrics", "/admin/v1/status", "/v1/organizations", "/feed/v1/snapshot"]
    {
        assert_eq!(stage.send(&Request::get(path)).status, 401, "{path} is the upstream's");
    }
    Request::new("POST", "/admin/v1/drain").bearer(&token).send(admin).expect_status(202);
    let mut stage = stage;
    assert_eq!(stage.program.wait().code(), Some(0));
}
