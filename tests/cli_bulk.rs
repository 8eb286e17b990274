//! The command line for people, policies, many objects at once, and moving house, proven at the
//! running gateway.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::http::Request;
use crate::support::operator::Operator;
use crate::support::portcullis::{Home, PROGRAM, command};
use crate::support::stage::{OPEN_ROUTE, Stage, UP_ARGS, complete};

fn secret(stage: &Stage, name: &str) -> String {
    let path = stage.home.path(name);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{name}");
    fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn a_user_is_invited_has_a_key_and_loses_it_with_the_seat() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    operator.run(&["user", "create", "ann", "--email", "ann@example.org", "--role", "viewer"]);
    let table = operator.run(&["user", "list"]);
    assert!(table.contains("ann@example.org") && table.contains("admin"), "{table}");
    operator.run(&["key", "create", "--user", "ann", "--name", "laptop", "--secret-file", "k"]);
    let key = secret(&stage, "k");
    stage.ask(&key).expect_status(200);
    let keys = operator.json(&["key", "list", "--user", "ann"]);
    assert_eq!(keys[0]["name"], "laptop");
    let named = operator.run(&["key", "list", "--owner-kind", "user"]);
    assert!(named.contains("ann"), "the owner's name: {named}");

    let unasked = operator.try_run(&["user", "delete", "ann"]);
    assert_eq!(unasked.status.code(), Some(2));
    operator.run(&["user", "delete", "ann", "--yes"]);
    stage.ask(&key).expect_status(401);
    assert_eq!(operator.json(&["user", "list", "--state", "removed"])[0]["username"], "ann");
    let last = operator.try_run(&["user", "delete", "admin", "--yes"]);
    assert_eq!(last.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&last.stderr).contains("last_owner"));
}

#[test]
fn a_policy_is_shown_and_set_field_by_field_or_by_profile() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    stage.owner.account("ci");
    let shown = operator.run(&["org", "policy", "show"]);
    assert!(shown.contains("max keys per sa") || shown.contains("sa ops"), "{shown}");
    let set = ["org", "policy", "set", "sa_ops=delete", "max_keys_per_sa=1"];
    assert_eq!(operator.try_run(&set).status.code(), Some(2), "it asks");
    operator.run(&[&set[..], &["--yes"]].concat());
    let policy = operator.json(&["org", "policy", "show"]);
    assert_eq!((&policy["sa_ops"], &policy["max_keys_per_sa"]), (&json!(["delete"]), &json!(1)));
    let refused = operator.try_run(&["account", "deactivate", "ci", "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("operation_not_offered") && said.contains("org policy show"), "{said}");
    operator.run(&["org", "policy", "set", "--profile", "zenml", "--yes"]);
    assert_eq!(operator.json(&["org", "policy", "show"])["inheritance"], "union");
    for (wrong, code) in [("sa_ops", 2), ("colour=red", 1), ("session_token_ttl=1", 1)] {
        let output = operator.try_run(&["org", "policy", "set", wrong, "--yes"]);
        assert_eq!(output.status.code(), Some(code), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(wrong.split('=').next().unwrap()));
    }
}

#[test]
fn many_accounts_and_keys_are_changed_in_one_command() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let mut keys = Vec::new();
    for name in ["a", "b"] {
        let account = stage.owner.account(name);
        keys.push(stage.owner.key(&account, "first"));
        keys.push(stage.owner.key(&account, "second"));
    }
    operator.run(&["account", "deactivate", "a", "b", "--yes"]);
    for key in &keys {
        stage.ask(&key.value).expect_status(401);
    }
    operator.run(&["account", "activate", "a", "b"]);
    stage.ask(&keys[3].value).expect_status(200);

    fs::create_dir(stage.home.path("new")).unwrap();
    let ids: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    let rotate = [&["key", "rotate"], &ids[..], &["--secret-dir", "new", "--yes"]].concat();
    let table = operator.run(&rotate);
    for key in &keys {
        let new = secret(&stage, &format!("new/{}.key", key.id));
        assert!(!table.contains(&new), "{table}");
        stage.ask(&key.value).expect_status(401);
        stage.ask(&new).expect_status(200);
    }
    let results = operator.json(&["key", "rotate", "--all", "--account", "a", "--yes"]);
    let shown = results[0]["value"].as_str().expect("the value, once");
    stage.ask(shown).expect_status(200);

    operator.run(&["key", "deactivate", ids[0], "--yes"]);
    let mixed = operator.try_run(&["key", "rotate", ids[0], ids[1], "--yes", "--json"]);
    assert_eq!(mixed.status.code(), Some(1), "one of them failed");
    let said = String::from_utf8_lossy(&mixed.stdout).into_owned();
    assert!(said.contains("key_inactive") && said.contains("value"), "{said}");

    assert_eq!(operator.try_run(&["key", "delete", "--all"]).status.code(), Some(2));
    operator.run(&["key", "delete", "--all", "--account", "a", "--yes"]);
    assert_eq!(operator.json(&["key", "list", "a"]), json!([]));
    stage.ask(shown).expect_status(401);
    assert_eq!(operator.json(&["key", "list", "b"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn lists_are_narrowed_by_flags() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let account = stage.owner.account("ci");
    stage.owner.key(&account, "live");
    let ended = stage.owner.key(&account, "ended");
    stage.owner.act(&ended.path, "revoke");
    let names = |args: &[&str]| {
        let listed = operator.json(args);
        let name = |item: &serde_json::Value| {
            item["name"].as_str().or(item["username"].as_str()).unwrap().to_owned()
        };
        listed.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["key", "list", "ci", "--state", "revoked"]), ["ended"]);
    assert_eq!(names(&["key", "list", "ci", "--name", "live", "--expired", "false"]), ["live"]);
    assert_eq!(names(&["key", "list", "--owner-kind", "user"]), ["admin-token"]);
    assert!(names(&["key", "list", "--stale", "--older-than-days", "1"]).is_empty());
    let unused = ["key", "list", "ci", "--unused-since", "2099-01-01T00:00:00Z"];
    assert_eq!(names(&unused).len(), 2);
    assert_eq!(names(&["account", "list", "--search", "c", "--state", "active"]), ["ci"]);
    stage.owner.delete(&account.path);
    assert!(names(&["account", "list"]).is_empty());
    assert_eq!(names(&["account", "list", "--include-deleted"]), ["ci"]);
    let wrong = operator.try_run(&["account", "list", "--state", "asleep"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("state"));
}

/// Runs a command on a terminal of its own and types `typed`.
fn on_a_terminal(operator: &Operator<'_>, args: &[&str], typed: &str) -> String {
    let words: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    let line = format!("'{PROGRAM}' {}", words.join(" "));
    let template = operator.command(&[]);
    let mut script = Command::new("/usr/bin/script");
    script.args(["-qec", &line, "/dev/null"]).env_clear();
    script.envs(template.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.current_dir(template.get_current_dir().unwrap());
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("script runs");
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_new_key_is_shown_once_or_goes_to_the_file_that_a_person_names() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let create = ["account", "create", "ci", "--key", "first"];
    let said = on_a_terminal(&operator, &create, "ci.key\n");
    assert!(said.contains("File for the key") && said.contains("ci.key"), "{said}");
    let key = secret(&stage, "ci.key");
    assert!(!said.contains(&key[16..]), "it is not shown besides");
    stage.ask(&key).expect_status(200);

    let create = ["key", "create", "ci", "--name", "second"];
    let said = on_a_terminal(&operator, &create, "ci.key\n\n");
    assert!(said.contains("exists"), "a file is never overwritten: {said}");
    let start = said.find("ptc_").map(|at| said[at..].split_whitespace().next().unwrap());
    let shown = said.split_whitespace().find(|word| word.len() == 65 && word.starts_with("ptc_"));
    stage.ask(shown.or(start).expect("the key is shown")).expect_status(200);

    let plain = operator.run(&["key", "create", "ci", "--name", "third"]);
    assert!(plain.contains("ptc_"), "without a terminal nobody is asked: {plain}");
    let delete = on_a_terminal(&operator, &["account", "delete", "ci"], "n\n");
    assert!(delete.contains("nothing was changed"), "{delete}");
    stage.ask(&key).expect_status(200);
    on_a_terminal(&operator, &["account", "delete", "ci"], "y\n");
    stage.ask(&key).expect_status(401);
}

#[test]
fn an_installation_moves_house_and_its_keys_work_at_the_new_gateway() {
    let stage = Stage::new();
    let operator = Operator(&stage);
    let account = stage.owner.account_from(&json!({"username": "ci", "role_id": "viewer"}));
    let key = stage.owner.key(&account, "k");
    let revoked = stage.owner.key(&account, "revoked");
    stage.owner.act(&revoked.path, "revoke");
    let token = stage.home.data().join("operator-token");
    let token = token.to_str().unwrap();
    let said = operator.try_run(&["export", "house.ndjson", "--all", "--token-file", token]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let text = secret(&stage, "house.ndjson");
    assert!(!text.contains(&key.value[16..59]), "no secret is in it");
    let again = operator.try_run(&["export", "house.ndjson"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists"));
    let denied = operator.try_run(&["export", "other.ndjson", "--all"]);
    assert!(String::from_utf8_lossy(&denied.stderr).contains("operator-token"));
    assert!(!stage.home.path("other.ndjson").exists());
    assert!(!stage.home.path("other.ndjson.partial").exists());

    let house = stage.home.path("house.ndjson");
    let new = Home::new();
    let import = |file: &std::path::Path| {
        let data = new.data();
        let args = ["import", file.to_str().unwrap(), "--data", data.to_str().unwrap()];
        command(&args).output().unwrap()
    };
    let no_pepper = import(&house);
    assert_eq!(no_pepper.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&no_pepper.stderr).contains("pepper"));
    for file in ["pepper.1", "feed-signing.key", "operator-token"] {
        let to = new.data().join(file);
        let _ = fs::remove_file(&to);
        fs::copy(stage.home.data().join(file), &to).unwrap();
    }
    let damaged = new.write("damaged", &text.replacen("\"ci\"", "\"cj\"", 1));
    let refused = import(&damaged);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("line ") && said.contains("nothing was imported"), "{said}");
    let imported = import(&house);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let twice = import(&house);
    assert!(String::from_utf8_lossy(&twice.stderr).contains("not empty"));

    assert_eq!(new.token("operator-token"), stage.home.token("operator-token"));
    new.write("portcullis.toml", &complete(OPEN_ROUTE, &stage.upstream));
    let program = new.start(&UP_ARGS).ready();
    let ask = |key: &str| Request::get("/").bearer(key).send(program.gateway()).status;
    assert_eq!((ask(&key.value), ask(&revoked.value)), (200, 401));
    let admin =
        crate::support::admin::Admin::new(program.control(), stage.home.token("admin-token"));
    admin.act(&key.path, "deactivate");
    assert_eq!(ask(&key.value), 401, "the new gateway follows the new control plane");
    stage.ask(&key.value).expect_status(200);
}
