//! The operator's command line against a running installation.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::operator::Operator;
use crate::support::portcullis::command;
use crate::support::stage::Stage;
use crate::support::upstream::Upstream;

const ROUTES: &str = r#"
[[routes]]
name = "read"
path = "/clusters/{cluster}"
methods = ["GET"]
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
"#;

#[test]
fn an_operator_gives_access_by_roles_groups_and_policies() {
    let stage = Stage::with(Upstream::nginx(), ROUTES);
    let operator = Operator(&stage);
    operator.run(&["resource", "create", "c1", "--kind", "cluster"]);
    operator.run(&["account", "create", "ci", "--key", "k", "--secret-file", "ci.key"]);
    let key = std::fs::read_to_string(stage.home.path("ci.key")).unwrap().trim().to_owned();
    let ask = || {
        let request = crate::support::http::Request::get("/clusters/c1").bearer(&key);
        stage.send(&request).status
    };
    operator.run(&["role", "create", "Reader", "--permission", "cluster:read", "--level", "15"]);
    operator.run(&["group", "create", "team", "--description", "who reads"]);
    operator.run(&["group", "add", "team", "--account", "ci"]);
    operator.run(&["policy", "create", "reading"]);
    assert_eq!(ask(), 403);
    let binding = operator
        .json(&["binding", "create", "--group", "team", "--role", "reader", "--policy", "reading"]);
    let binding = binding["role_binding"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(ask(), 200);

    // Each of them takes effect at the gateway before the command ends.
    operator.run(&["policy", "disable", "reading", "--yes"]);
    assert_eq!(ask(), 403);
    operator.run(&["policy", "enable", "reading"]);
    assert_eq!(ask(), 200);
    operator.run(&["role", "update", "Reader", "--permission", "cluster:write"]);
    assert_eq!(ask(), 403);
    operator.run(&["role", "update", "Reader", "--permission", "cluster:*"]);
    assert_eq!(ask(), 200);
    operator.run(&["binding", "update", &binding, "--propagate", "false"]);
    assert_eq!(ask(), 403);
    operator.run(&["binding", "update", &binding, "--propagate", "true"]);
    assert_eq!(ask(), 200);

    let members = operator.run(&["group", "members", "team"]);
    assert!(members.contains("ci"), "{members}");
    let groups = operator.run(&["account", "groups", "ci"]);
    assert!(groups.contains("NAME") && groups.contains("team"), "{groups}");
    let groups = operator.json(&["account", "groups", "ci"]);
    assert_eq!((&groups[0]["name"], &groups[0]["kind"]), (&"team".into(), &"custom".into()));
    let listed = operator.run(&["binding", "list", "--policy", "reading"]);
    for name in ["Reader", "team", "org", "reading"] {
        assert!(listed.contains(name), "{listed}");
    }
    let policies = operator.json(&["policy", "list"]);
    let ours = policies.as_array().unwrap().iter().find(|one| one["name"] == "reading").unwrap();
    assert_eq!((&ours["group_count"], &ours["enabled"]), (&1.into(), &true.into()));
    let refused = operator.try_run(&["role", "delete", "Reader", "--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("role_in_use"));
    let nothing = operator.try_run(&["role", "update", "Reader"]);
    assert_eq!(nothing.status.code(), Some(2));
    let unknown = operator.try_run(&["group", "show", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("`portcullis group list`"));

    operator.run(&["group", "remove", "team", "--account", "ci", "--yes"]);
    assert_eq!(operator.json(&["account", "groups", "ci"]), serde_json::json!([]));
    assert_eq!(ask(), 403);
    operator.run(&["policy", "delete", "reading", "--yes"]);
    operator.run(&["group", "delete", "team", "--yes"]);
    operator.run(&["role", "delete", "Reader", "--yes"]);
    assert_eq!(operator.json(&["role", "list", "--kind", "custom"]), serde_json::json!([]));
}

#[test]
fn an_operator_takes_a_key_through_its_life() {
    let stage = Stage::with(Upstream::nginx(), ROUTES);
    let operator = Operator(&stage);
    operator.run(&["resource", "create", "c1", "--kind", "cluster"]);
    operator.run(&["account", "create", "ci", "--description", "builds"]);
    operator.run(&["key", "create", "ci", "--name", "first", "--secret-file", "ci.key"]);
    let file = stage.home.path("ci.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let first = secret();
    let id = &first[4..15];
    let ask = |key: &str| {
        let request = crate::support::http::Request::get("/clusters/c1").bearer(key);
        stage.send(&request).status
    };
    assert_eq!(ask(&first), 403);
    operator.run(&[
        "binding",
        "create",
        "--account",
        "ci",
        "--role",
        "viewer",
        "--resource",
        "cluster/c1",
    ]);
    assert_eq!(ask(&first), 200);

    std::fs::remove_file(&file).unwrap();
    operator.run(&["key", "rotate", id, "--retain-minutes", "5", "--secret-file", "ci.key"]);
    let second = secret();
    assert_ne!(second, first);
    assert_eq!((ask(&first), ask(&second)), (200, 200));

    operator.run(&["key", "deactivate", id, "--yes"]);
    assert_eq!((ask(&first), ask(&second)), (401, 401));
    operator.run(&["key", "activate", id]);
    assert_eq!(ask(&second), 200);

    let bindings = operator.json(&["binding", "list", "--account", "ci"]);
    let binding = bindings[0]["id"].as_str().expect("a binding").to_owned();
    operator.run(&["binding", "delete", &binding, "--yes"]);
    assert_eq!(ask(&second), 403);

    let listed = operator.json(&["key", "list", "ci"]);
    assert_eq!(listed[0]["id"], id);
    let table = operator.run(&["key", "list", "ci"]);
    assert!(table.contains(id) && table.contains("first"), "{table}");
    assert!(!table.contains(&second[16..]), "never the secret");

    operator.run(&["key", "revoke", id, "--yes"]);
    assert_eq!(ask(&second), 401);
    operator.run(&["account", "delete", "ci", "--yes"]);
    let gone = operator.try_run(&["account", "show", "ci"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("ci"));
}

#[test]
fn an_account_is_updated_and_its_keys_work_on() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let updated = operator.json(&[
        "account",
        "update",
        "ci",
        "--username",
        "build",
        "--display-name",
        "Builds",
        "--description",
        "nightly",
        "--owning-team",
        "platform",
    ]);
    let shown = |of: &Value| {
        let names = ["id", "username", "display_name", "description", "owning_team"];
        names.map(|name| of[name].as_str().unwrap_or_default().to_owned())
    };
    let expected = [&account.id, "build", "Builds", "nightly", "platform"];
    assert_eq!(shown(&updated["service_account"]), expected);
    assert_eq!(shown(&operator.json(&["account", "show", "build"])), expected);
    stage.ask(&key.value).expect_status(200);

    // What is not named stays, and an empty text clears what may be absent.
    operator.run(&["account", "update", &account.id, "--description", "", "--owning-team", "core"]);
    let cleared = operator.json(&["account", "show", "build"]);
    assert_eq!(cleared["description"], Value::Null);
    assert_eq!(shown(&cleared), [&account.id, "build", "Builds", "", "core"]);

    let nothing = operator.try_run(&["account", "update", "build"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("--display-name"));
    let refused = operator.try_run(&["account", "update", "build", "--username", ""]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("username"));
    let gone = operator.try_run(&["account", "update", "ci", "--description", "x"]);
    assert_eq!(gone.status.code(), Some(1), "its former name");
}

#[test]
fn explain_tells_the_chain_of_decisions_and_answers_with_its_exit_code() {
    let stage = Stage::with(Upstream::nginx(), ROUTES);
    let operator = Operator(&stage);
    stage.owner.resource("cluster", "c1");
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let explain = |args: &[&str]| operator.try_run(&[&["explain", &key.id][..], args].concat());

    let refused = explain(&["--path", "/clusters/c1"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("missing_permission") || said.contains("cluster:read"), "{said}");

    let binding = stage.owner.bind(&account, "viewer", &stage.owner.root());
    let allowed = explain(&[
        "--path",
        "/clusters/c1",
        "--permission",
        "cluster:read",
        "--resource",
        "cluster/c1",
    ]);
    assert_eq!(allowed.status.code(), Some(0), "{}", String::from_utf8_lossy(&allowed.stdout));
    stage.owner.delete(&binding);
    stage.owner.act(&key.path, "revoke");
    let revoked = explain(&["--path", "/clusters/c1", "--json"]);
    assert_eq!(revoked.status.code(), Some(1));
    let said = String::from_utf8_lossy(&revoked.stdout);
    assert!(said.contains("revoked"), "{said}");
    serde_json::from_str::<Value>(&said).expect("JSON for scripts");
}

#[test]
fn organizations_roles_and_access_can_be_listed() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let roles = operator.json(&["role", "list"]);
    let mut ids: Vec<&str> =
        roles.as_array().expect("a list").iter().filter_map(|role| role["id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["admin", "analyst", "executor", "manager", "member", "org_member", "owner", "viewer"]
    );
    assert!(operator.run(&["role", "show", "viewer"]).contains("*:read"));
    assert_eq!(operator.json(&["org", "list"])[0]["name"], "default");
    let token = stage.home.data().join("operator-token");
    let created = operator.json(&[
        "org",
        "create",
        "second",
        "--owner",
        "eve",
        "--email",
        "eve@example.com",
        "--secret-file",
        "eve.key",
        "--token-file",
        token.to_str().unwrap(),
    ]);
    assert!(created.to_string().contains("second"), "{created}");
    let secret = stage.home.path("eve.key");
    let seen = operator.json(&["org", "list", "--token-file", secret.to_str().unwrap()]);
    assert_eq!(seen.as_array().map(Vec::len), Some(1));
    assert_eq!(seen[0]["name"], "second");
}

#[test]
fn destructive_commands_ask_and_without_a_terminal_refuse() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    for args in [
        ["key", "revoke", &key.id],
        ["key", "delete", &key.id],
        ["account", "revoke", "ci"],
        ["account", "delete", "ci"],
    ] {
        let output = operator.try_run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"), "{args:?}");
    }
    stage.ask(&key.value).expect_status(200);
}

#[test]
fn the_effective_configuration_can_be_shown_and_is_a_configuration_again() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let shown = operator.run(&[
        "config",
        "show",
        "--config",
        stage.home.path("portcullis.toml").to_str().unwrap(),
    ]);
    assert!(shown.contains("head_bytes"), "{shown}");
    let again = stage.home.write("again.toml", &shown);
    operator.run(&["config", "check", again.to_str().unwrap()]);
    let reference = operator.run(&["config", "reference"]);
    let committed =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/portcullis.toml"))
            .unwrap();
    assert_eq!(
        reference, committed,
        "config/portcullis.toml is what `portcullis config reference` prints"
    );
}

#[test]
fn a_token_may_come_from_the_environment_but_the_wrong_one_says_what_to_do() {
    let stage = Stage::new();
    let server = format!("http://{}", stage.program.control());
    let run = |token: &str| {
        command(&["account", "list", "--server", &server])
            .env("PORTCULLIS_TOKEN", token)
            .output()
            .expect("the program runs")
    };
    assert!(run(&stage.home.token("admin-token")).status.success());
    let refused = run("ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("token"), "{said}");
    assert!(!said.contains("003aUlTJC7"), "{said}");
}

#[test]
fn a_whole_key_in_place_of_its_id_is_refused_and_not_repeated() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let secret = &key.value[16..];
    for args in [
        &["key", "show", &key.value][..],
        &["key", "revoke", &key.value, "--yes"],
        &["key", "rotate", &key.value, "--yes"],
        &["key", "update", &key.value, "--name", "x"],
        &["key", "parse", &key.value],
        &["explain", &key.value],
    ] {
        let output = operator.try_run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("never"), "{said}");
        assert!(!said.contains(secret), "the secret is repeated");
    }
    stage.ask(&key.value).expect_status(200);
}

#[test]
fn a_server_that_is_no_control_plane_is_named_with_the_cause() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let said = |server: &str| {
        let output = operator.try_run(&["account", "list", "--server", server]);
        assert_eq!(output.status.code(), Some(1), "{server}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nobody = said("http://127.0.0.1:1");
    assert!(nobody.contains("Connection refused") && nobody.contains("--server"), "{nobody}");
    let gateway = said(&format!("http://{}", stage.program.gateway()));
    assert!(gateway.contains("control plane") || gateway.contains("401"), "{gateway}");
}

#[test]
fn an_organization_is_shown_by_name_with_its_policy_in_lines() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let shown = operator.run(&["org", "show", "default"]);
    assert!(shown.contains("policy: on stale"), "{shown}");
    assert!(!shown.contains('{'), "{shown}");
    let refused = operator.try_run(&["org", "show", "nobody"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this token sees: default"));
}

#[test]
fn every_command_has_a_man_page_and_a_completion_from_the_one_definition() {
    let directory = tempfile::tempdir().unwrap();
    let to = directory.path().to_str().unwrap();
    let output = command(&["man", "--to", to]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    assert!(page("portcullis.1").contains("Exit codes"));
    assert!(page("portcullis-key-rotate.1").contains("retain\\-minutes"));
    let completions = command(&["completions", "bash"]).output().unwrap();
    let completions = String::from_utf8(completions.stdout).unwrap();
    let pages = std::fs::read_dir(directory.path()).unwrap();
    for file in pages.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        let last = file.trim_end_matches(".1").rsplit('-').next().unwrap().to_owned();
        assert!(completions.contains(&last), "{file} has no completion");
    }
    let unwritable = command(&["man", "--to", "/dev/null/pages"]).output().unwrap();
    assert_eq!(unwritable.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unwritable.stderr).contains("/dev/null/pages"));
}
