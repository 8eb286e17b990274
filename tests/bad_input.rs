//! Every malformed flag, key, value and body gets an answer that names the thing and what is
//! allowed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use crate::support::portcullis::{Home, command, run};

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
