//! Every malformed flag, key, value and body gets an answer that names the thing and what is allowed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::json;

use crate::support::http::Request;
use crate::support::portcullis::{Home, command, run};
use crate::support::stage::Stage;

#[track_caller]
fn assert_refused(args: &[&str], code: i32, words: &[&str]) {
    let output = run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
    }
}

#[test]
fn wrong_flags_are_refused_by_name_with_exit_code_2() {
    for (args, words) in [
        (&["nonsense"][..], &["nonsense"][..]),
        (&["up", "--nonsense"], &["--nonsense"]),
        (&["up", "--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["up", "--listen", "127.0.0.1:65536"], &["--listen"]),
        (&["up", "--control", "localhost"], &["--control"]),
        (&["up", "--upstream", "ftp://x"], &["--upstream", "http://"]),
        (&["up", "--upstream", "http://x/path"], &["--upstream"]),
        (&["up", "--demo", "--upstream", "http://127.0.0.1:1"], &["--demo", "--upstream"]),
        (&["gateway", "--id", "two words"], &["--id"]),
        (&["gateway", "--feed", "carrier-pigeon"], &["--feed"]),
        (&["key", "rotate"], &["required"]),
        (&["key", "rotate", "x", "--retain-minutes", "-1"], &["-1"]),
        (&["account", "create", "x", "--token", "secret"], &["--token"]),
        (&["config", "check"], &["required"]),
    ] {
        assert_refused(args, 2, words);
    }
}

#[test]
fn every_error_of_a_configuration_is_reported_at_once_with_exit_code_78() {
    let home = Home::new();
    let path = home.write(
        "bad.toml",
        r#"
unknown_section = 1
[gateway]
workers = -1
idd = "typo"
[timeouts]
head = "soon"
idle = "1ms"
[limits]
head_bytes = "16 potatoes"
[headers]
underscore = "maybe"
[keys]
prefixes = ["x"]
[[listeners]]
name = "public"
address = "somewhere"
[[upstreams]]
name = "app"
addresses = []
[[routes]]
name = "r1"
path = "no-slash"
upstream = "app"
authenticated_only = true
"#,
    );
    let file = path.to_str().unwrap();
    let words = [
        "unknown_section",
        "gateway.workers",
        "gateway.idd",
        "timeouts.head",
        "timeouts.idle",
        "limits.head_bytes",
        "headers.underscore",
        "\"reject\"",
        "keys.prefixes",
        "listeners",
        "routes",
        "line",
    ];
    assert_refused(&["config", "check", file], 78, &words);
    assert_refused(&["up", "--config", file, "--data", home.data().to_str().unwrap()], 78, &words);
    assert!(!home.data().exists(), "nothing was touched");
}

#[test]
fn routes_that_cannot_be_meant_are_configuration_errors() {
    let upstream = "[[upstreams]]\nname = \"app\"\naddresses = [{ host = \"127.0.0.1:1\" }]\n";
    let route = |members: &str| {
        format!(
            "{upstream}[[routes]]\nname = \"r\"\npath = \"/a/{{x}}\"\nupstream = \"app\"\n{members}\n"
        )
    };
    for (what, text, words) in [
        ("nobody is meant to pass", route(""), &["routes", "require"][..]),
        (
            "two answers",
            route("authenticated_only = true\nrequire = { permission = \"a:b\" }"),
            &["routes"],
        ),
        (
            "public with a permission",
            route("auth = \"none\"\nrequire = { permission = \"a:b\" }"),
            &["routes"],
        ),
        (
            "no such upstream",
            route("authenticated_only = true")
                .replace("upstream = \"app\"", "upstream = \"ghost\""),
            &["ghost"],
        ),
        (
            "no such capture",
            route("require = { permission = \"a:b\", resource = \"cluster/{y}\" }"),
            &["y"],
        ),
        (
            "permission",
            route("require = { permission = \"everything\" }"),
            &["permission", "type:verb"],
        ),
        (
            "tie",
            route("authenticated_only = true")
                + "[[routes]]\nname = \"s\"\npath = \"/a/{y}\"\nupstream = \"app\"\nauthenticated_only = true\n",
            &["r", "s"],
        ),
        (
            "name twice",
            route("authenticated_only = true")
                + "[[routes]]\nname = \"r\"\npath = \"/b\"\nupstream = \"app\"\nauthenticated_only = true\n",
            &["r"],
        ),
        (
            "rest not last",
            route("authenticated_only = true").replace("/a/{x}", "/a/{*x}/b"),
            &["path"],
        ),
        (
            "link-local",
            route("authenticated_only = true").replace("127.0.0.1:1", "169.254.169.254:80"),
            &["169.254.169.254", "link"],
        ),
    ] {
        let home = Home::new();
        let path = home.write("bad.toml", &text);
        let output = run(&["config", "check", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(78), "{what}: {said}");
        for word in words {
            assert!(said.contains(word), "{what} does not say {word:?}: {said}");
        }
    }
}

#[test]
fn files_that_are_missing_or_unreadable_are_named() {
    let home = Home::new();
    assert_refused(
        &["config", "check", "/nowhere/portcullis.toml"],
        78,
        &["/nowhere/portcullis.toml"],
    );
    let not_toml = home.write("x.toml", "[[[[");
    assert_refused(&["config", "check", not_toml.to_str().unwrap()], 78, &["x.toml"]);
    let not_text = home.path("y.toml");
    std::fs::write(&not_text, [0xff, 0xfe, 0]).unwrap();
    assert_refused(&["config", "check", not_text.to_str().unwrap()], 78, &["y.toml"]);
    assert_refused(
        &["account", "list", "--token-file", "/nowhere/token", "--server", "http://127.0.0.1:1"],
        1,
        &["/nowhere/token"],
    );
    let token = home.write("token", "ptc_x");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(
        &["account", "list", "--token-file", token.to_str().unwrap()],
        1,
        &["token", "600"],
    );
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_refused(
        &[
            "account",
            "list",
            "--token-file",
            token.to_str().unwrap(),
            "--server",
            "http://127.0.0.1:1",
        ],
        1,
        &["127.0.0.1:1"],
    );
}

#[test]
fn an_address_in_use_is_named_before_anything_is_served() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--control", "--admin"] {
        let home = Home::new();
        let data = home.data();
        let mut args =
            vec!["up", "--data", data.to_str().unwrap(), "--upstream", "http://127.0.0.1:1"];
        for (name, free) in
            [("--listen", "127.0.0.1:0"), ("--control", "127.0.0.1:0"), ("--admin", "127.0.0.1:0")]
        {
            args.extend([name, if name == flag { &address } else { free }]);
        }
        assert_refused(&args, 1, &[&address]);
    }
}

#[test]
fn key_parse_says_whether_a_text_is_a_key_and_never_repeats_it() {
    let good = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    let typo = good.replace("h0BAr", "h0BAs");
    for (text, code) in [(good, 0), (typo.as_str(), 1), ("hello", 1), ("", 1)] {
        let mut child = command(&["key", "parse"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}: {said}");
        assert!(!said.contains("003aUlTJC7"), "it repeats the secret: {said}");
        assert!(code != 0 || said.contains("063UfDVRKBz"), "{said}");
    }
}

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
