//! Claims Z and ZA.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Product, assert_shown_once, items};
use crate::support::admin::{Account, Key};

use crate::support::portcullis::command;
use crate::support::wait;

#[test]
fn z_01_accounts_belong_to_the_organization_and_are_the_same_in_all_workspaces() {
    let product = Product::new("zenml");
    for name in ["w1", "w2"] {
        product.owner.resource("workspace", name);
    }
    let (account, key) = product.caller("pipelines", "member");
    for name in ["w1", "w2"] {
        let answer =
            product.at("GET", &format!("/workspace/{name}"), &key.value).expect_status(200);
        assert!(answer.json()["headers"].to_string().contains(&account.id), "the same subject");
    }
}

#[test]
fn z_03_creation_takes_name_username_description_and_the_first_organization_role() {
    let product = Product::new("zenml");
    let body = json!({
        "display_name": "Pipelines", "username": "pipelines", "description": "runs", "role_id": "org_member",
    });
    let account = product.owner.account_from(&body);
    let shown = product.shown(&account);
    for member in ["display_name", "username", "description"] {
        assert_eq!(shown[member], body[member]);
    }
    let row = product.row(&account, &product.root).expect("the organization's row");
    assert_eq!(row["role_ids"], json!(["org_member"]));
    let nameless = product.owner.post("/service-accounts", &json!({"description": "x"}));
    nameless.expect_status(422);
}

#[test]
fn z_04_usernames_are_unique_among_accounts_and_a_person_may_have_the_same() {
    let product = Product::new("zenml");
    product.owner.account("sam\u{e9}");
    for name in ["sam\u{e9}", "SAM\u{c9}", " sam\u{e9} ", "same\u{301}"] {
        let answer = product.owner.post("/service-accounts", &json!({"username": name}));
        assert_eq!(answer.expect_status(409).code(), "username_taken", "{name:?}");
    }
    product.person("sam\u{e9}", None);
    product.owner.account("olivia");
}

#[test]
fn z_05_creation_makes_a_default_key_only_if_asked() {
    let product = Product::new("zenml");
    let plain = product.owner.post("/service-accounts", &json!({"username": "plain"}));
    assert_eq!(plain.expect_status(201).json()["service_account"]["key_count"], 0);
    let body = json!({"username": "keyed", "create_key": {"name": "default"}});
    let keyed = product.owner.post("/service-accounts", &body).expect_status(201).json();
    assert_eq!(keyed["key"]["name"], "default");
    assert!(product.accepts(keyed["value"].as_str().expect("a value")));
}

#[test]
fn z_06_the_default_keys_value_is_shown_once_only() {
    let product = Product::new("zenml");
    let body = json!({"username": "keyed", "create_key": {"name": "default"}});
    let created = product.owner.post("/service-accounts", &body).expect_status(201);
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let created = created.json();
    let id = created["service_account"]["id"].as_str().expect("an id").to_owned();
    let account =
        Account { path: format!("{}/service-accounts/{id}", product.owner.organization), id };
    let key_id = created["key"]["id"].as_str().expect("an id").to_owned();
    let key = Key {
        path: format!("{}/keys/{key_id}", account.path),
        id: key_id,
        value: created["secret"].as_str().expect("the tail").to_owned(),
    };
    assert_shown_once(&product, &account, &key);
}

#[test]
fn z_07_an_account_can_hold_organization_workspace_and_project_roles() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let project = json!({"name": "p1", "kind": "project", "parent_id": workspace});
    let project = product.owner.post("/resources", &project).expect_status(201).json();
    let project = project["resource"]["id"].as_str().expect("an id").to_owned();
    let (account, key) = product.caller("pipelines", "org_member");
    product.owner.bind(&account, "viewer", &workspace);
    product.owner.bind(&account, "member", &project);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    assert_eq!(product.verbs(&key.value, "workspace/w1"), ["read"]);
    assert_eq!(product.verbs(&key.value, "project/p1"), ["read", "write"]);
}

#[test]
fn z_08_an_account_can_be_in_teams() {
    let product = Product::new("zenml");
    let team = product.group("team");
    let workspace = product.owner.resource("workspace", "w1");
    product.bind_group(&team, "manager", &workspace);
    let (account, key) = product.caller("pipelines", "org_member");
    product.assign(&account, &[&team]);
    assert_eq!(product.verbs(&key.value, "workspace/w1").len(), 4);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
}

#[test]
fn z_09_accounts_are_marked_as_non_human() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    assert_eq!(product.shown(&account)["is_bot"], true);
    let (_, person) = product.person("pat", None);
    let whoami = product.as_holder(&person).call("GET", "/v1/whoami", None).json();
    assert_eq!(whoami["principal"]["kind"], "user");
}

#[test]
fn z_11_deactivating_the_account_stops_all_its_keys_at_once() {
    let product = Product::new("zenml");
    let (account, first) = product.caller("pipelines", "");
    let second = product.owner.key(&account, "second");
    product.owner.act(&account.path, "deactivate");
    assert!(!product.accepts(&first.value) && !product.accepts(&second.value));
}

#[test]
fn z_14_activation_brings_back_the_account_and_its_active_keys_at_once() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    let (off, gone) = (product.owner.key(&account, "off"), product.owner.key(&account, "gone"));
    product.owner.act(&off.path, "deactivate");
    product.owner.delete(&gone.path);
    product.owner.act(&account.path, "deactivate");
    product.owner.act(&account.path, "activate");
    assert!(product.accepts(&key.value));
    assert!(!product.accepts(&off.value) && !product.accepts(&gone.value));
}

#[test]
fn z_17_deleting_an_account_removes_it_and_all_its_keys_for_good() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    product.owner.delete(&account.path);
    assert!(!product.accepts(&key.value));
    product.owner.call("GET", &account.path, None).expect_status(404);
    assert!(items(&product.owner.get("/service-accounts")).is_empty());
    assert!(items(&product.owner.get("/keys?owner_kind=service_account")).is_empty());
}

#[test]
fn z_20_a_key_authenticates_as_its_account_which_can_have_several() {
    let product = Product::new("zenml");
    let (account, first) = product.caller("pipelines", "");
    let second = product.owner.key(&account, "second");
    for key in [&first, &second] {
        let whoami =
            product.as_holder(key).call("GET", "/v1/whoami", None).expect_status(200).json();
        assert_eq!(whoami["principal"]["id"], account.id);
        assert_eq!(whoami["key_id"], key.id);
    }
}

#[test]
fn z_22_a_key_takes_a_name_and_an_optional_description() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    let plain = product.owner.key(&account, "plain");
    assert_eq!(product.shown_key(&plain)["description"], json!(null));
    let told = product.owner.key_from(&account, &json!({"name": "told", "description": "why"}));
    assert_eq!(product.shown_key(&told)["description"], "why");
}

#[test]
fn z_23_the_value_is_shown_once_and_if_lost_a_rotation_or_another_key_helps() {
    let product = Product::new("zenml");
    let (account, lost) = product.caller("pipelines", "");
    assert_shown_once(&product, &account, &lost);
    let rotated = product.owner.rotate(&account, &lost, &json!({}));
    let other = product.owner.key(&account, "other");
    assert!(product.accepts(&rotated.value) && product.accepts(&other.value));
}

#[test]
fn z_24_keys_are_switched_independently_of_the_account() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    product.owner.act(&key.path, "deactivate");
    assert_eq!(product.shown(&account)["state"], "active");
    product.owner.act(&account.path, "deactivate");
    product.owner.act(&key.path, "activate");
    assert_eq!(product.shown(&account)["state"], "inactive");
    assert!(!product.accepts(&key.value));
    product.owner.act(&account.path, "activate");
    assert!(product.accepts(&key.value));
}

#[test]
fn z_26_an_activated_key_works_at_once_if_the_account_is_active() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    let key = product.owner.key_from(&account, &json!({"name": "later", "active": false}));
    assert!(!product.accepts(&key.value));
    product.owner.act(&key.path, "activate");
    assert!(product.accepts(&key.value));
}

#[test]
fn z_28_rotation_issues_a_new_value_and_may_keep_the_old_one_for_a_while() {
    let product = Product::new("zenml");
    let (account, first) = product.caller("pipelines", "");
    let second = product.owner.rotate(&account, &first, &json!({"retain_minutes": 60}));
    assert_ne!(first.value, second.value);
    assert!(product.accepts(&first.value) && product.accepts(&second.value));
    let third = product.owner.rotate(&account, &first, &json!({"retain_minutes": 60}));
    assert!(!product.accepts(&first.value), "the second rotation ends the oldest secret");
    assert!(product.accepts(&second.value) && product.accepts(&third.value));
}

#[test]
fn z_29_the_retention_is_given_in_minutes() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    product.owner.rotate(&account, &key, &json!({"retain_minutes": 525_600}));
    let until = product.shown_key(&key)["previous"]["retained_until"].clone();
    let rotated = product.shown_key(&key)["last_rotated_at"].clone();
    let year =
        |stamp: &Value| stamp.as_str().expect("a stamp")[..4].parse::<u32>().expect("a year");
    assert_eq!(year(&until), year(&rotated) + 1);
    let path = format!("{}:rotate", key.path);
    for wrong in [json!(-1), json!(525_601), json!(1.5), json!("60")] {
        let answer = product.owner.call("POST", &path, Some(&json!({"retain_minutes": wrong})));
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {}", answer.text());
    }
}

#[test]
fn z_30_without_retention_the_old_value_stops_at_once() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    product.owner.rotate(&account, &key, &json!({}));
    assert!(!product.accepts(&key.value));
}

#[test]
fn z_31_the_new_value_is_shown_once() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    let fresh = product.owner.rotate(&account, &key, &json!({"retain_minutes": 5}));
    assert_shown_once(&product, &account, &fresh);
}

#[test]
fn z_32_the_old_value_works_during_the_retention_and_stops_at_its_end() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    // An old secret is never retained beyond the key's own expiry.
    let key = product.owner.key_from(&account, &json!({"name": "nightly", "ttl_seconds": 2}));
    let body = json!({"retain_minutes": 60, "expires": "never"});
    let fresh = product.owner.rotate(&account, &key, &body);
    assert!(product.accepts(&key.value));
    wait::until("the end of the retention", || (!product.accepts(&key.value)).then_some(()));
    assert!(product.accepts(&fresh.value));
}

#[test]
fn z_33_id_name_and_description_stay_and_the_rotations_time_is_set() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    let key = product.owner.key_from(&account, &json!({"name": "nightly", "description": "runs"}));
    let before = product.shown_key(&key);
    assert_eq!(before["last_rotated_at"], json!(null));
    product.owner.rotate(&account, &key, &json!({}));
    let after = product.shown_key(&key);
    for member in ["id", "uid", "name", "description"] {
        assert_eq!(before[member], after[member]);
    }
    assert!(after["last_rotated_at"].as_str() >= before["created_at"].as_str());
}

#[test]
fn z_34_a_deleted_key_is_revoked_at_once_and_cannot_be_recovered() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    product.owner.delete(&key.path);
    assert!(!product.accepts(&key.value));
    assert_eq!(
        product.refused(404, "POST", &format!("{}:activate", key.path), &json!({})),
        "not_found"
    );
    assert!(!product.accepts(&key.value));
}

#[test]
fn z_36_keys_older_than_the_policy_says_are_flagged_and_work_on() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let policy = format!("{}/policy", product.owner.organization);
    let shown = product.owner.call("GET", &policy, None).expect_status(200).json();
    assert_eq!(shown["retire_after_days"], 90);
    assert_eq!(product.shown_key(&key)["stale"], false);
    product.owner.patch(&policy, &json!({"retire_after_days": 0}));
    assert_eq!(product.shown_key(&key)["stale"], true);
    assert!(product.accepts(&key.value), "a flag and nothing more");
}

#[test]
fn z_37_keys_show_when_they_were_last_used() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    let idle = product.owner.key(&account, "idle");
    assert!(product.accepts(&key.value));
    wait::until("the last use", || {
        product.shown_key(&key)["last_used_at"].is_string().then_some(())
    });
    assert_eq!(product.shown_key(&idle)["last_used_at"], json!(null));
}

#[test]
fn z_38_accounts_and_keys_can_be_filtered_by_when_they_were_last_used() {
    let product = Product::new("zenml");
    let (used, key) = product.caller("used", "");
    let (unused, idle) = product.caller("unused", "");
    assert!(product.accepts(&key.value));
    wait::until("the last use", || {
        product.shown_key(&key)["last_used_at"].is_string().then_some(())
    });
    let names = |path: &str| -> Vec<Value> {
        items(&product.owner.get(path)).iter().map(|one| one["id"].clone()).collect()
    };
    let since = "unused_since=2020-01-01T00:00:00Z";
    let later = "unused_since=2999-01-01T00:00:00Z";
    assert_eq!(names(&format!("/service-accounts?{since}")), [json!(unused.id)]);
    assert_eq!(names(&format!("/service-accounts?{later}")), [json!(used.id), json!(unused.id)]);
    assert_eq!(names(&format!("/keys?owner_kind=service_account&{since}")), [json!(idle.id)]);
}

#[test]
fn z_39_keys_can_be_rotated_or_deactivated_in_bulk() {
    let product = Product::new("zenml");
    let (account, first) = product.caller("pipelines", "");
    let second = product.owner.key(&account, "second");
    let path = format!("{}/keys:batch", account.path);
    let rotate = json!({"action": "rotate", "ids": [first.id, second.id]});
    let rotated = product.owner.call("POST", &path, Some(&rotate)).expect_status(200).json();
    assert!(!product.accepts(&first.value) && !product.accepts(&second.value));
    let values: Vec<String> = rotated["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|one| one["value"].as_str().expect("a value").to_owned())
        .collect();
    assert!(values.iter().all(|value| product.accepts(value)));
    let body = json!({"action": "deactivate", "all": true});
    product.owner.call("POST", &path, Some(&body)).expect_status(200);
    assert!(values.iter().all(|value| !product.accepts(value)));
}

#[test]
fn z_40_one_key_works_for_the_control_plane_and_for_all_workspaces() {
    let product = Product::new("zenml");
    for name in ["w1", "w2"] {
        product.owner.resource("workspace", name);
    }
    let (_, key) = product.caller("pipelines", "admin");
    product.as_holder(&key).get("/service-accounts").expect_status(200);
    for name in ["w1", "w2"] {
        product.at("GET", &format!("/workspace/{name}"), &key.value).expect_status(200);
    }
}

#[test]
fn z_49_clients_need_a_server_url_and_a_key_whatever_the_base_url() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "admin");
    let output = cli(&product, &key.value, &["account", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(listed.to_string().contains(&account.id));
}

#[test]
fn z_50_the_command_lines_login_with_a_typed_in_key_works() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "admin");
    let home = tempfile::tempdir().expect("a directory");
    let server = format!("http://{}", product.stage.program.control());
    let run = |args: &[&str], input: &str| {
        let mut child = command(args)
            .env("PORTCULLIS_SERVER", &server)
            .env("XDG_CONFIG_HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that refuses at once may be gone already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("an end")
    };
    let wrong =
        run(&["login"], "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr\n");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!home.path().join("portcullis/token").exists());
    let login = run(&["login"], &format!("{}\n", key.value));
    let told = [login.stdout.clone(), login.stderr.clone()].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(login.status.success() && told.contains("pipelines"), "{told}");
    assert!(!told.contains(&key.value[key.value.len() - 40..]), "the key is not repeated");
    let kept = std::fs::metadata(home.path().join("portcullis/token")).expect("the kept key");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let listed = run(&["account", "list", "--json"], "");
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&account.id));
    assert!(run(&["logout"], "").status.success());
    assert_eq!(run(&["account", "list"], "").status.code(), Some(1), "nobody is logged in");
}

#[test]
fn z_53_organization_member_and_workspace_admin_equal_a_legacy_account_and_less_can_be_given() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    product.owner.resource("workspace", "w2");
    let (account, key) = product.caller("pipelines", "org_member");
    product.owner.bind(&account, "manager", &workspace);
    assert_eq!(product.verbs(&key.value, "workspace/w1").len(), 4);
    assert_eq!(product.verbs(&key.value, "workspace/w2"), [""; 0]);
    let (less, less_key) = product.caller("less", "org_member");
    product.owner.bind(&less, "viewer", &workspace);
    assert_eq!(product.verbs(&less_key.value, "workspace/w1"), ["read"]);
}

#[test]
fn z_55_diagnosis_tells_which_check_fails() {
    let product = Product::new("zenml");
    let failing = |body: &Value| -> (Value, Vec<String>) {
        let answer = product.owner.call(
            "POST",
            &format!("{}:diagnose", product.owner.organization),
            Some(body),
        );
        let answer = answer.expect_status(200).json();
        let checks = answer["checks"].as_array().expect("checks").clone();
        let failed = checks.iter().filter(|check| check["ok"] == false);
        (
            answer["reason"].clone(),
            failed.map(|check| check["check"].as_str().unwrap().to_owned()).collect(),
        )
    };
    let (account, key) = product.caller("pipelines", "viewer");
    let presented = json!({"value": key.value});
    assert_eq!(failing(&presented), (json!(null), vec![]));
    product.owner.act(&account.path, "deactivate");
    assert_eq!(failing(&presented).1, ["owner_state"]);
    product.owner.act(&account.path, "activate");
    product.owner.act(&key.path, "deactivate");
    assert_eq!(failing(&presented).1, ["key_state"]);
    product.owner.act(&key.path, "activate");
    product.owner.rotate(&account, &key, &json!({}));
    assert!(failing(&presented).1.contains(&"secret".to_owned()));
    let broken = json!({"value": "ptc_063UfDVRKBz_00"});
    assert_eq!(failing(&broken).1, ["format"]);
    let other = product.other("zenml");
    let foreign = other.key(&other.account("theirs"), "key");
    assert_eq!(failing(&json!({"value": foreign.value})).0, "unknown_key");
}

#[test]
fn z_56_deleting_an_account_without_the_permission_is_refused() {
    let product = Product::new("zenml");
    let target = product.owner.account("target");
    let (_, key) = product.caller("lesser", "member");
    let answer = product.as_holder(&key).call("DELETE", &target.path, None).expect_status(403);
    assert_eq!(answer.code(), "permission_denied");
    assert_eq!(answer.json()["required_permission"], "service_account:delete");
    assert_eq!(product.shown(&target)["state"], "active");
}

#[test]
fn z_57_making_a_key_without_the_permission_is_refused() {
    let product = Product::new("zenml");
    let target = product.owner.account("target");
    let (_, key) = product.caller("lesser", "member");
    let path = format!("{}/keys", target.path);
    let answer = product.as_holder(&key).call("POST", &path, Some(&json!({"name": "key"})));
    assert_eq!(answer.expect_status(403).code(), "permission_denied");
    assert!(product.keys(&target).is_empty());
}

#[test]
fn z_58_making_a_key_for_an_inactive_account_is_a_conflict() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    product.owner.act(&account.path, "deactivate");
    let path = format!("{}/keys", account.path);
    assert_eq!(
        product.refused(409, "POST", &path, &json!({"name": "key"})),
        "service_account_inactive"
    );
    assert!(product.keys(&account).is_empty());
}

#[test]
fn z_59_a_name_that_the_account_already_uses_for_a_key_is_a_conflict() {
    let product = Product::new("zenml");
    let (account, _) = product.caller("pipelines", "");
    let path = format!("{}/keys", account.path);
    assert_eq!(product.refused(409, "POST", &path, &json!({"name": "key"})), "name_taken");
    let other = product.owner.account("other");
    product.owner.key(&other, "key");
}

/// The command line with this key as its token.
#[track_caller]
fn cli(product: &Product, key: &str, args: &[&str]) -> std::process::Output {
    let server = format!("http://{}", product.stage.program.control());
    let output = command(args)
        .env("PORTCULLIS_SERVER", server)
        .env("PORTCULLIS_TOKEN", key)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
