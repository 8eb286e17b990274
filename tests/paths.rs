//! What is matched is what is forwarded: path vectors, and a real upstream that says which bytes it
//! got.

use portcullis_core::feed::Kind;
use serde_json::json;

use crate::support::http::{Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::FileStage;
use crate::support::upstream::Upstream;

/// `/admin` and everything below need a permission nobody has; `/public` and everything below are
/// for everybody.
const ROUTES: &str = r#"
[[routes]]
name = "admin"
path = "/admin/{*rest}"
upstream = "app"
require = { permission = "admin:write" }
[[routes]]
name = "admin-root"
path = "/admin"
upstream = "app"
require = { permission = "admin:write" }
[[routes]]
name = "public"
path = "/public/{*rest}"
upstream = "app"
auth = "none"
[[routes]]
name = "slash"
path = "/files/{name}"
upstream = "app"
auth = "none"
encoded_slash = "keep"
[[routes]]
name = "host"
hosts = ["only.example"]
path = "/by-host"
upstream = "app"
auth = "none"
"#;

fn stage(config: &str) -> FileStage {
    let mut snapshot = Snapshot::new();
    snapshot.put(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"}));
    FileStage::with(Upstream::uvicorn(), config, &snapshot)
}

#[test]
fn a_path_with_two_readings_is_refused_before_anything_else() {
    let stage = stage(ROUTES);
    let mut passed = Vec::new();
    for target in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/./x",
        "/public/%2e/x",
        "//admin",
        "///admin",
        "/public//x",
        "//evil.example/public",
        "/public/a%2Fb",
        "/public/a%2fb",
        "/public/a%5Cb",
        "/public/a%00b",
        "/public/a%0ab",
        "/public/a%7Fb",
        "/public/%61dmin",
        "/public/a%252e",
        "/public/a%25%32%65",
        "/public/%",
        "/public/%z1",
        "/public/%1",
        "/public/a\\b",
        "/public/a\"b",
        "/public/a<b",
        "/public/a^b",
        "/public/a{b}",
        "/public/a`b",
        "/public/a|b",
        "/public/..;/admin",
        "/public/a;x=1",
        "/public/a.",
        "/public/a%20",
        "/public/%c0%ae%c0%ae/admin",
        "/public/%c1%9c",
        "/public/%ff",
        "/public/%u002e",
        "/public/..",
        "/public/.",
        "/public/\u{e9}",
        "/..",
        "/.",
        "*",
        "public/x",
        "/public/x?a b",
        "/public/x?a\"b",
        "/public/x?<",
    ] {
        let answer = Connection::open(stage.program.gateway()).exchange(&Request::get(target));
        if answer.status != 400 || answer.code() != "bad_request" {
            passed.push((target, answer.status));
        }
    }
    assert_eq!(passed, [], "these were not refused");
}

#[test]
fn a_fragment_reaches_nobody() {
    let stage = stage(ROUTES);
    let answer = stage.send(&Request::get("/public/x#/admin"));
    assert!(answer.status == 400 || answer.json()["raw_path"] == "/public/x", "{}", answer.text());
}

#[test]
fn what_passes_arrives_byte_for_byte() {
    let stage = stage(ROUTES);
    for (target, path, query) in [
        ("/public/x", "/public/x", ""),
        ("/public/", "/public/", ""),
        ("/public/a%20b", "/public/a%20b", ""),
        ("/public/%c3%a9", "/public/%C3%A9", ""),
        ("/public/a:b@c!$&'()*+,=~-_", "/public/a:b@c!$&'()*+,=~-_", ""),
        ("/public/x/", "/public/x/", ""),
        ("/public/...x", "/public/...x", ""),
        ("/public/x?", "/public/x", ""),
        ("/public/x?a=%2F..%2f//../;&b=%zz", "/public/x", "a=%2F..%2f//../;&b=%zz"),
        ("/files/a%2Fb", "/files/a%2Fb", ""),
        ("/files/a%2fb", "/files/a%2Fb", ""),
    ] {
        let answer = stage.send(&Request::get(target)).expect_status(200).json();
        assert_eq!(answer["raw_path"], path, "{target}");
        assert_eq!(answer["query"], query, "{target}");
    }
}

#[test]
fn case_slashes_and_longer_names_never_borrow_another_routes_permission() {
    let stage = stage(ROUTES);
    for (target, status) in [
        ("/admin", 401),
        ("/admin/", 401),
        ("/admin/x", 401),
        ("/Admin", 404),
        ("/ADMIN/x", 404),
        ("/administrator", 404),
        ("/publicity/x", 404),
        ("/Public/x", 404),
        ("/", 404),
        ("/files/a/b", 404),
        ("/files/", 404),
    ] {
        assert_eq!(stage.send(&Request::get(target)).status, status, "{target}");
    }
}

#[test]
fn the_host_is_one_name_however_it_is_spelled() {
    let stage = stage(ROUTES);
    let port = stage.program.gateway().port();
    for (host, status) in [
        ("only.example", 200),
        ("ONLY.Example", 200),
        ("only.example.", 200),
        ("only.example:80", 200),
        ("other.example", 404),
        ("only.example.evil", 404),
        ("xonly.example", 404),
        ("user@only.example", 400),
        ("only.example,evil", 400),
        ("only.example/x", 400),
        ("[fe80::1%25eth0]", 400),
        ("\u{fc}nly.example", 400),
        ("only.example:80:80", 400),
        ("only.example:x", 400),
    ] {
        let answer = stage.send(&Request::get("/by-host").header("Host", host));
        assert_eq!(answer.status, status, "{host} (port {port}): {}", answer.text());
    }
    let twice =
        Request::get("/by-host").header("Host", "only.example").header("Host", "only.example");
    assert_eq!(stage.send(&twice).status, 400);
    let mut connection = Connection::open(stage.program.gateway());
    connection.write(b"GET /by-host HTTP/1.1\r\n\r\n");
    assert_eq!(connection.read_answer("GET").status, 400, "no Host at all");
}

#[test]
fn absolute_form_must_agree_with_host() {
    let stage = stage(ROUTES);
    let absolute =
        |target: &str, host: &str| stage.send(&Request::get(target).header("Host", host)).status;
    assert_eq!(absolute("http://only.example/by-host", "only.example"), 200);
    assert_eq!(absolute("http://evil.example/by-host", "only.example"), 400);
    assert_eq!(absolute("https://only.example/by-host", "only.example"), 400);
    assert_eq!(absolute("http://only.example/public/../admin", "only.example"), 400);
    let mut connection = Connection::open(stage.program.gateway());
    let options = connection.exchange(&Request::new("OPTIONS", "*"));
    assert_eq!(options.status, 204);
}

#[test]
fn ambiguous_paths_can_be_redirected_or_repaired() {
    let redirecting = stage(&format!("[paths]\nambiguous = \"redirect\"\n{ROUTES}"));
    let answer = redirecting.send(&Request::get("/public/a/../b?q=1")).expect_status(308);
    assert_eq!(answer.header("location"), Some("/public/b?q=1"));
    let post = Request::new("POST", "/public/a/../b");
    assert_eq!(redirecting.send(&post).status, 400, "only GET and HEAD are redirected");

    let repairing =
        stage(&format!("[paths]\nambiguous = \"canonicalise\"\nodd_segments = \"keep\"\n{ROUTES}"));
    for (target, arrives) in [
        ("/public/a/../b", "/public/b"),
        ("/public//b", "/public/b"),
        ("/public/%62", "/public/b"),
        ("/public/./b", "/public/b"),
        ("/public/b;x=1", "/public/b;x=1"),
    ] {
        let answer = repairing.send(&Request::get(target)).expect_status(200).json();
        assert_eq!(answer["raw_path"], arrives, "{target}");
    }
    // What is repaired is matched again: no way from the public side into the protected one.
    assert_eq!(repairing.send(&Request::get("/public/../admin")).status, 401);
    assert_eq!(repairing.send(&Request::get("//admin")).status, 401);
}
