//! Claims H and HA.

use serde_json::json;

use super::{Product, assert_shown_once, items};
use crate::support::http::Request;
use crate::support::wait;

#[test]
fn h_01_accounts_exist_only_where_the_plan_includes_them() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "member");
    let entitle = |included: bool| {
        let body = json!({"entitlements": {"service_accounts": included}});
        product.operator().call("PATCH", &product.owner.organization, &body).expect_status(200);
    };
    entitle(false);
    let body = json!({"display_name": "more"});
    assert_eq!(
        product.owner.post("/service-accounts", &body).expect_status(402).code(),
        "entitlement_required"
    );
    let path = format!("{}/keys", account.path);
    assert_eq!(
        product.refused(402, "POST", &path, &json!({"name": "more"})),
        "entitlement_required"
    );
    assert!(!product.accepts(&key.value), "an organization without the feature has no callers");
    entitle(true);
    assert!(product.accepts(&key.value));
    product.owner.post("/service-accounts", &body).expect_status(201);
}

#[test]
fn h_02_accounts_belong_to_no_person_and_cannot_log_in_interactively() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "member");
    assert_eq!(product.shown(&account)["is_bot"], true);
    assert!(
        items(&product.owner.get("/users")).iter().all(|user| user["id"] != account.id.as_str())
    );
    let login = Request::new("POST", "/auth/login")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("grant_type=password&username=&password={}", key.value))
        .send(product.stage.program.control());
    assert_eq!(login.header("set-cookie"), None);
}

#[test]
fn h_03_accounts_hold_group_and_workspace_roles_like_members() {
    let product = Product::new("aihub");
    let workspace = product.owner.resource("workspace", "w1");
    let group = product.group("team");
    product.bind_group(&group, "executor", &product.root);
    let (account, key) = product.caller("ci", "");
    product.assign(&account, &[&group]);
    product.owner.bind(&account, "member", &workspace);
    assert_eq!(product.verbs(&key.value, ""), ["read", "execute"]);
    assert_eq!(product.verbs(&key.value, "workspace/w1"), ["read", "write", "execute"]);
}

#[test]
fn h_04_admins_make_any_number_of_accounts() {
    let product = Product::new("aihub");
    let (_, admin) = product.person("adam", Some("admin"));
    let admin = product.as_holder(&admin);
    for index in 0..30 {
        admin.account(&format!("bot {index}"));
    }
    let (_, member) = product.person("mia", Some("member"));
    let refused = product.as_holder(&member).post("/service-accounts", &json!({"username": "x"}));
    assert_eq!(refused.expect_status(403).code(), "permission_denied");
}

#[test]
fn h_05_creation_takes_a_display_name_and_an_organization_role() {
    let product = Product::new("aihub");
    let body = json!({"display_name": "Invoice bot", "role_id": "member"});
    let account = product.owner.account_from(&body);
    let key = product.owner.key(&account, "token");
    assert_eq!(product.shown(&account)["display_name"], "Invoice bot");
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
}

#[test]
fn h_06_creation_makes_the_first_token_or_skips_it() {
    let product = Product::new("aihub");
    let with = json!({"display_name": "With", "create_key": {"name": "first"}});
    let created = product.owner.post("/service-accounts", &with).expect_status(201).json();
    assert!(product.accepts(created["value"].as_str().expect("a value")));
    let without = product.owner.post("/service-accounts", &json!({"display_name": "Without"}));
    let without = without.expect_status(201).json();
    assert!(without.get("value").is_none_or(serde_json::Value::is_null));
    assert_eq!(without["service_account"]["key_count"], 0);
}

#[test]
fn h_07_the_account_edits_its_organization_role_group_and_workspace_theirs() {
    let product = Product::new("aihub");
    let workspace = product.owner.resource("workspace", "w1");
    let (account, key) = product.caller("ci", "viewer");
    product.owner.bind(&account, "executor", &workspace);
    let row = format!("{}/access/{}", account.path, product.root);
    product.owner.patch(&row, &json!({"role_id": "member"}));
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
    assert_eq!(product.verbs(&key.value, "workspace/w1"), ["read", "execute"]);
}

#[test]
fn h_09_an_account_can_have_several_tokens() {
    let product = Product::new("aihub");
    let (account, first) = product.caller("ci", "");
    let second = product.owner.key(&account, "second");
    assert!(product.accepts(&first.value) && product.accepts(&second.value));
    assert_eq!(product.keys(&account).len(), 2);
}

#[test]
fn h_10_all_tokens_of_an_account_have_the_same_access() {
    let product = Product::new("aihub");
    product.owner.resource("workspace", "w1");
    let (account, first) = product.caller("ci", "executor");
    let second = product.owner.key(&account, "second");
    for place in ["", "workspace/w1"] {
        assert_eq!(product.verbs(&first.value, place), product.verbs(&second.value, place));
        assert_eq!(product.verbs(&first.value, place), ["read", "execute"]);
    }
}

#[test]
fn h_11_a_token_has_a_name_and_a_description() {
    let product = Product::new("aihub");
    let account = product.owner.account("ci");
    let body = json!({"name": "nightly", "description": "for the nightly run"});
    let key = product.owner.key_from(&account, &body);
    let shown = product.shown_key(&key);
    assert_eq!((&shown["name"], &shown["description"]), (&body["name"], &body["description"]));
}

#[test]
fn h_12_expiry_is_a_date_and_by_default_never() {
    let product = Product::new("aihub");
    let account = product.owner.account("ci");
    let never = product.owner.key(&account, "never");
    assert_eq!(product.shown_key(&never)["expires_at"], json!(null));
    let dated = product
        .owner
        .key_from(&account, &json!({"name": "dated", "expires_at": "2999-01-01T00:00:00Z"}));
    assert_eq!(product.shown_key(&dated)["expires_at"], "2999-01-01T00:00:00.000000Z");
    let short = product.owner.key_from(&account, &json!({"name": "short", "ttl_seconds": 1}));
    wait::until("the expiry", || (!product.accepts(&short.value)).then_some(()));
    assert!(product.accepts(&never.value) && product.accepts(&dated.value));
}

#[test]
fn h_13_the_value_can_be_had_once_and_never_again() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    assert_shown_once(&product, &account, &key);
}

#[test]
fn h_14_refreshing_replaces_the_value_of_one_token() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    let other = product.owner.key(&account, "other");
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    assert_ne!(fresh.value, key.value);
    assert!(product.accepts(&fresh.value) && product.accepts(&other.value));
}

#[test]
fn h_15_the_old_value_stops_at_once_and_no_retention_is_offered() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    assert!(product.accepts(&key.value));
    product.owner.rotate(&account, &key, &json!({}));
    assert!(!product.accepts(&key.value));
    let path = format!("{}:rotate", key.path);
    assert_eq!(
        product.refused(422, "POST", &path, &json!({"retain_minutes": 1})),
        "validation_failed"
    );
}

#[test]
fn h_16_refreshing_takes_an_expiry_anew_by_default_never() {
    let product = Product::new("aihub");
    let account = product.owner.account("ci");
    let key = product
        .owner
        .key_from(&account, &json!({"name": "dated", "expires_at": "2999-01-01T00:00:00Z"}));
    product.owner.rotate(&account, &key, &json!({}));
    assert_eq!(product.shown_key(&key)["expires_at"], json!(null));
    product.owner.rotate(&account, &key, &json!({"expires": "2998-01-01T00:00:00Z"}));
    assert_eq!(product.shown_key(&key)["expires_at"], "2998-01-01T00:00:00.000000Z");
}

#[test]
fn h_17_the_refreshed_value_is_shown_once() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    assert_shown_once(&product, &account, &fresh);
}

#[test]
fn h_18_id_name_and_description_survive_a_refresh() {
    let product = Product::new("aihub");
    let account = product.owner.account("ci");
    let key = product.owner.key_from(&account, &json!({"name": "nightly", "description": "runs"}));
    let before = product.shown_key(&key);
    product.owner.rotate(&account, &key, &json!({}));
    let after = product.shown_key(&key);
    for member in ["id", "uid", "name", "description", "created_at", "owner"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert_eq!(after["generation"], 2);
}

#[test]
fn h_20_deleting_a_token_ends_the_access_it_gives() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "member");
    let other = product.owner.key(&account, "other");
    product.owner.delete(&key.path);
    assert!(!product.accepts(&key.value));
    assert_eq!(product.verbs(&other.value, ""), ["read", "write"]);
}

#[test]
fn h_21_one_operation_deletes_all_tokens_of_an_account() {
    let product = Product::new("aihub");
    let (account, first) = product.caller("ci", "");
    let second = product.owner.key(&account, "second");
    let (other, kept) = product.caller("other", "");
    let body = json!({"action": "delete", "all": true});
    let path = format!("{}/keys:batch", account.path);
    let done = product.owner.call("POST", &path, Some(&body)).expect_status(200).json();
    assert_eq!(done["results"].as_array().map(Vec::len), Some(2));
    assert!(!product.accepts(&first.value) && !product.accepts(&second.value));
    assert!(product.accepts(&kept.value));
    assert!(product.keys(&account).is_empty());
    assert_eq!(product.keys(&other).len(), 1);
}

#[test]
fn h_22_disabling_takes_away_access_and_keeps_memberships() {
    let product = Product::new("aihub");
    let group = product.group("team");
    let workspace = product.owner.resource("workspace", "w1");
    let (account, key) = product.caller("ci", "member");
    product.assign(&account, &[&group]);
    product.owner.bind(&account, "viewer", &workspace);
    product.owner.act(&account.path, "deactivate");
    assert!(!product.accepts(&key.value));
    let groups = items(&product.owner.call("GET", &format!("{}/groups", account.path), None));
    assert_eq!(groups.len(), 1);
    let bindings = items(&product.owner.get(&format!("/role-bindings?subject_id={}", account.id)));
    assert_eq!(bindings.len(), 2);
}

#[test]
fn h_23_disabling_deletes_all_tokens_for_good() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    product.owner.key(&account, "second");
    let done = product.owner.act(&account.path, "deactivate");
    assert_eq!(done["deleted_key_count"], 2);
    assert!(product.keys(&account).is_empty());
    product.owner.call("GET", &key.path, None).expect_status(404);
}

#[test]
fn h_24_a_disabled_account_can_be_enabled_and_its_tokens_stay_gone() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "");
    product.owner.act(&account.path, "deactivate");
    product.owner.act(&account.path, "activate");
    assert!(!product.accepts(&key.value));
    assert!(product.keys(&account).is_empty());
    assert_eq!(product.shown(&account)["state"], "active");
}

#[test]
fn h_27_enabled_again_everything_is_as_before_and_a_new_token_has_the_old_permissions() {
    let product = Product::new("aihub");
    let workspace = product.owner.resource("workspace", "w1");
    let group = product.group("team");
    product.bind_group(&group, "executor", &product.root);
    let (account, key) = product.caller("ci", "member");
    product.owner.bind(&account, "viewer", &workspace);
    product.assign(&account, &[&group]);
    let before = (product.verbs(&key.value, ""), product.verbs(&key.value, "workspace/w1"));
    product.owner.act(&account.path, "deactivate");
    product.owner.act(&account.path, "activate");
    let fresh = product.owner.key(&account, "fresh");
    let after = (product.verbs(&fresh.value, ""), product.verbs(&fresh.value, "workspace/w1"));
    assert_eq!(before, after);
}

#[test]
fn h_28_deletion_removes_the_account_and_all_tokens_for_good() {
    let product = Product::new("aihub");
    let (account, key) = product.caller("ci", "member");
    product.owner.delete(&account.path);
    assert!(!product.accepts(&key.value));
    product.owner.call("GET", &account.path, None).expect_status(404);
    product
        .owner
        .call("POST", &format!("{}:activate", account.path), Some(&json!({})))
        .expect_status(404);
    assert!(items(&product.owner.get("/service-accounts")).is_empty());
}

#[test]
fn ha_01_admin_is_inherited_everywhere_and_member_gives_way_to_a_workspace_role() {
    let product = Product::new("aihub");
    let workspace = product.owner.resource("workspace", "w1");
    product.owner.resource("workspace", "w2");
    let (admin, admin_key) = product.caller("admin", "admin");
    let (member, member_key) = product.caller("member", "member");
    for account in [&admin, &member] {
        product.owner.bind(account, "viewer", &workspace);
    }
    let everything = ["read", "write", "execute", "delete"];
    assert_eq!(product.verbs(&admin_key.value, "workspace/w1"), everything);
    assert_eq!(product.verbs(&member_key.value, "workspace/w1"), ["read"]);
    assert_eq!(product.verbs(&member_key.value, "workspace/w2"), ["read", "write"]);
}

#[test]
fn ha_03_audit_entries_carry_time_origin_and_workspace_and_can_be_exported() {
    let product = Product::new("aihub");
    let workspace = product.owner.resource("workspace", "w1");
    let account = product.owner.account("ci");
    product.owner.bind(&account, "viewer", &workspace);
    let events = items(&product.owner.get("/audit-events?action=role_binding.create"));
    let event = events.last().expect("the binding's event");
    assert!(event["ts"].as_str().is_some_and(|ts| ts.ends_with('Z')));
    assert_eq!(event["ip"], "127.0.0.1");
    assert_eq!(event["resource_id"], workspace);
    let path = format!("{}/audit-events", product.owner.organization);
    let token = &product.owner;
    let export = token.call_accepting(&path, "application/x-ndjson").expect_status(200);
    let lines: Vec<serde_json::Value> = export
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    assert!(lines.iter().any(|line| line["id"] == event["id"]));
}

#[test]
fn ha_04_an_account_cannot_log_in_to_the_platform() {
    let product = Product::new("aihub");
    let (_, key) = product.caller("ci", "admin");
    let login = Request::new("POST", "/auth/login")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", "Basic Og==")
        .body(format!("grant_type=password&username=ci&password={}", key.value))
        .send(product.stage.program.control());
    assert_eq!(login.header("set-cookie"), None, "no session of a browser for an account");
}
