//! Denials that are about the request, the gateway's own limits, or the upstream.

use serde_json::Value;

use super::{ROUTES, assert_denied};
use crate::support::http::{Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{FILE_ARGS, FileStage, OPEN_ROUTE, complete, file_home, reasons};
use crate::support::upstream::Upstream;
use crate::support::wait;

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
    assert_eq!(reasons(&home, 3), ["no_state", "no_state", "no_state"]);
    snapshot.write_to(&home);
    wait::until("the snapshot to be picked up", || {
        (Request::get("/").bearer(key.expose()).send(program.gateway()).status == 200).then_some(())
    });
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
        home.write("portcullis.toml", &complete(config, &upstream));
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
    assert!(reasons(&home, 1).contains(&"overloaded".to_owned()));
    drop(occupied);
    wait::until("the place to be free again", || {
        (Request::get("/").bearer(key.expose()).send(program.gateway()).status == 200).then_some(())
    });
}

#[test]
fn beyond_its_memory_the_gateway_takes_no_connections_and_refuses_requests() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let upstream = Upstream::nginx();
    let home = file_home(&upstream, OPEN_ROUTE);
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut open = Connection::open(program.gateway());
    let request = Request::get("/").bearer(key.expose());
    open.exchange(&request).expect_status(200);

    let roomy = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    home.write("portcullis.toml", &format!("{roomy}[limits]\nmemory_bytes = \"1MiB\"\n"));
    program.signal(rustix::process::Signal::HUP);
    let refused = wait::until("the limit to be felt", || {
        let answer = open.exchange(&request);
        (answer.status != 200).then_some(answer)
    });
    assert_denied(&refused, 503, "unavailable");
    wait::until("the record", || {
        reasons(&home, 1).contains(&"overloaded".to_owned()).then_some(())
    });
    assert_eq!(request.try_send(program.gateway()), None, "closed at accept");
    let shed = "portcullis_connections_total{listener=\"public\",result=\"shed\"}";
    assert!(program.metric(shed) >= 1.0);

    home.write("portcullis.toml", &roomy);
    program.signal(rustix::process::Signal::HUP);
    wait::until("room again", || {
        request.try_send(program.gateway()).filter(|answer| answer.status == 200)
    });
}

#[test]
fn near_the_limit_of_connections_idle_ones_make_room() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let upstream = Upstream::nginx();
    let home = file_home(&upstream, &format!("[limits]\nconnections = 10\n{OPEN_ROUTE}"));
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let request = Request::get("/").bearer(key.expose());
    // Twice as many as are allowed get their answers, one after the other.
    let mut kept = Vec::new();
    for _ in 0..20 {
        let connection = wait::until("a place", || {
            let mut connection = Connection::try_open(program.gateway())?;
            let head = format!(
                "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                key.expose()
            );
            connection.write(head.as_bytes());
            let answer = connection.try_read_answer("GET").ok().flatten()?;
            (answer.status == 200).then_some(connection)
        });
        kept.push(connection);
    }
    let open = "portcullis_connections{listener=\"public\",protocol=\"h1\"}";
    wait::until("at most nine to be open", || (program.metric(open) <= 9.0).then_some(()));
    request.send(program.gateway()).expect_status(200);
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
    assert!(reasons(&home, 1).contains(&"pool_full".to_owned()));
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
    assert_eq!(reasons(&home, 1), ["plaintext"]);
}
