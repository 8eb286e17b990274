//! The README's promises, run as they are written: the tour's commands in their order, each
//! compared with the output printed below it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::http::Request;
use crate::support::portcullis::{Home, PROGRAM, command};

const README: &str = include_str!("../README.md");

/// A block of commands and, if the README prints one, the output it promises.
struct Scene<'r> {
    commands: &'r str,
    promised: Option<&'r str>,
}

/// The blocks between ```` ```sh tour ```` fences, each with the ```` ```text ```` block that
/// follows it.
fn scenes() -> Vec<Scene<'static>> {
    let mut scenes: Vec<Scene<'static>> = Vec::new();
    let mut rest = README;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (fence, after) = after.split_once('\n').expect("a fence ends its line");
        let (block, after) = after.split_once("\n```").expect("a block ends");
        match fence {
            "sh tour" => scenes.push(Scene { commands: block, promised: None }),
            "text" => scenes.last_mut().expect("output follows commands").promised = Some(block),
            _ => {}
        }
        rest = after;
    }
    scenes
}

/// Whether `line` is `pattern`, in which `…` stands for anything.
fn matches(line: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn the_five_minute_tour_works_as_it_is_written() {
    let home = Home::new();
    let demo = home
        .start(&[
            "up",
            "--demo",
            "--data",
            "portcullis-data",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ])
        .ready();
    let address = |port: &str| format!("http://127.0.0.1:{port}");
    let mut script = "set -e\n".to_owned();
    let scenes = scenes();
    assert!(scenes.len() >= 8, "the tour is in the README");
    for (number, scene) in scenes.iter().enumerate() {
        script += &format!("{}\necho '::end of scene {number}'\n", scene.commands);
    }
    // Tests run beside each other, so the program is on free ports instead of its usual ones.
    let script = script
        .replace(&address("8080"), &format!("http://{}", demo.gateway()))
        .replace(&address("9901"), &format!("http://{}", demo.admin_listener()));

    // `target/release` of the tour is a directory with the program under test.
    std::fs::create_dir_all(home.path("target/release")).unwrap();
    std::os::unix::fs::symlink(PROGRAM, home.path("target/release/portcullis")).unwrap();
    let output = Command::new("bash")
        .args(["-c", &format!("exec 2>&1; {script}")])
        .current_dir(home.path(""))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("PORTCULLIS_SERVER", format!("http://{}", demo.control()))
        .env("PORTCULLIS_GATEWAY", format!("http://{}", demo.admin_listener()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let mut rest = said.as_ref();
    for (number, scene) in scenes.iter().enumerate() {
        let (heard, after) =
            rest.split_once(&format!("::end of scene {number}\n")).expect("every scene ends");
        rest = after;
        let mut lines = heard.lines();
        for promised in scene.promised.into_iter().flat_map(str::lines) {
            let found = lines.any(|line| matches(line.trim(), promised));
            assert!(
                found,
                "after\n{}\nthe README promises\n{promised}\nbut heard\n{heard}",
                scene.commands
            );
        }
    }
    let mode = std::fs::metadata(home.path("ci.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_demos_curl_line_works_and_a_second_start_gives_a_new_key() {
    let home = Home::new();
    let up = [
        "up",
        "--demo",
        "--data",
        "DATA",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    let mut keys = Vec::new();
    for _ in 0..2 {
        let demo = home.start(&up).ready();
        let start = demo.output().into_iter().next().expect("a start line");
        let start: serde_json::Value = serde_json::from_str(&start).unwrap();
        let curl = start
            .pointer("/demo/curl")
            .and_then(|curl| curl.as_str())
            .expect("a curl line")
            .to_owned();
        let output = Command::new("bash").args(["-c", &format!("{curl} -s -f")]).output().unwrap();
        assert!(output.status.success(), "{curl}");
        assert!(!output.stdout.is_empty());
        keys.push(
            start.pointer("/demo/key").and_then(|key| key.as_str()).expect("a key").to_owned(),
        );
        assert_eq!(demo.interrupt().code(), Some(0));
    }
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn the_demo_offers_every_operation_and_starts_again_after_any_of_them() {
    let home = Home::new();
    let ports = ["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let up = [&["up", "--demo", "--data", "DATA"][..], &ports].concat();
    for (object, verb) in [
        ("key", "deactivate"),
        ("key", "revoke"),
        ("key", "delete"),
        ("account", "deactivate"),
        ("account", "revoke"),
        ("account", "delete"),
    ] {
        let demo = home.start(&up).ready();
        let start = demo.output().into_iter().next().expect("a start line");
        let start: serde_json::Value = serde_json::from_str(&start).unwrap();
        let key = start["demo"]["key"].as_str().expect("a key").to_owned();
        let ask = || Request::get("/hello").bearer(&key).send(demo.gateway()).status;
        assert_eq!(ask(), 200, "before {object} {verb}");
        let subject = if object == "key" { &key[4..15] } else { "demo-app" };
        let output = command(&[object, verb, subject, "--yes"])
            .env("PORTCULLIS_SERVER", format!("http://{}", demo.control()))
            .env("PORTCULLIS_TOKEN_FILE", home.data().join("demo-admin-token"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{object} {verb}: {said}");
        assert_eq!(ask(), 401, "after {object} {verb}");
        assert_eq!(demo.interrupt().code(), Some(0));
    }
}

#[test]
fn the_two_commands_of_the_readme_exist_and_ci_runs_the_second() {
    assert!(README.contains("\n```sh\ncargo run --release -- up --demo\n```\n"));
    assert!(README.contains("\n```sh\nscripts/test\n```\n"));
    let ci = include_str!("../.ci/run");
    assert!(ci.lines().any(|line| line == "exec scripts/test"));
}

#[test]
fn promised_output_is_compared_with_gaps() {
    assert!(
        matches("abc", "abc")
            && matches("abc", "a…")
            && matches("abc", "…c")
            && matches("abc", "a…c")
    );
    assert!(
        matches("a-b-c", "a…b…c")
            && !matches("abc", "ab")
            && !matches("abc", "a…d")
            && !matches("abc", "b…")
    );
}
