//! Claims D and DA.

use serde_json::json;

use super::{Product, assert_shown_once, items};
use crate::support::admin::Key;
use crate::support::http::{Connection, Request};
use crate::support::wait;

#[test]
fn d_01_an_account_stands_for_a_caller_that_is_no_person() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("orchestrator", "executor");
    assert_eq!(product.shown(&account)["is_bot"], true);
    let whoami = product.as_holder(&key).call("GET", "/v1/whoami", None).expect_status(200).json();
    assert_eq!(whoami["principal"]["kind"], "service_account");
    assert_eq!(whoami["principal"]["id"], account.id);
}

#[test]
fn d_02_removing_its_author_changes_nothing_about_an_account() {
    let product = Product::new("dezifi");
    let (user, credential) = product.person("paula", Some("admin"));
    let admin = product.as_holder(&credential);
    let account = admin.account("made by paula");
    admin.bind(&account, "executor", &product.root);
    let key = admin.key(&account, "key");
    let before = product.shown(&account);
    product.owner.delete(&format!("{}/users/{user}", product.owner.organization));
    assert_eq!(product.verbs(&key.value, ""), ["read", "execute"]);
    let after = product.shown(&account);
    assert_eq!((&before["version"], &before["author"]), (&after["version"], &after["author"]));
    assert_eq!(after["author"]["display"], "paula");
}

#[test]
fn d_03_in_the_audit_log_an_account_is_its_own_principal() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("provisioner", "admin");
    product.as_holder(&key).account("made by an account");
    let events = items(&product.owner.get(&format!("/audit-events?actor_id={}", account.id)));
    let event = events.iter().find(|event| event["action"] == "service_account.create");
    let actor = &event.expect("an event of the account's own")["actor"];
    assert_eq!(actor["kind"], "service_account");
    assert_eq!(actor["username"], "provisioner");
    assert_eq!(actor["key_id"], key.id);
}

#[test]
fn d_04_revoking_an_account_affects_no_person() {
    let product = Product::new("dezifi");
    let (_, personal) = product.person("paula", Some("executor"));
    let (account, _) = product.caller("bot", "executor");
    product.owner.act(&account.path, "revoke");
    assert_eq!(product.verbs(&personal.value, ""), ["read", "execute"]);
    assert!(items(&product.owner.get("/users")).iter().all(|user| user["state"] == "active"));
}

#[test]
fn d_05_creation_takes_a_name_and_a_description_naming_the_owning_team() {
    let product = Product::new("dezifi");
    let body = json!({
        "display_name": "Nightly sync", "description": "owned by Platform", "owning_team": "Platform",
    });
    let account = product.owner.account_from(&body);
    let shown = product.shown(&account);
    for member in ["display_name", "description", "owning_team"] {
        assert_eq!(shown[member], body[member]);
    }
}

#[test]
fn d_06_exactly_one_role_per_account_and_resource_built_in_or_custom() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("bot", "executor");
    let custom = product.role(&json!({"name": "reader", "permissions": ["data:read"]}));
    let path = format!("{}/role-bindings", product.owner.organization);
    let second = json!({
        "role_id": custom, "resource_id": product.root,
        "subject": {"kind": "service_account", "id": account.id},
    });
    assert_eq!(product.refused(409, "POST", &path, &second), "role_limit_reached");
    let row = format!("{}/access/{}", account.path, product.root);
    product.owner.patch(&row, &json!({"role_id": custom}));
    assert_eq!(product.verbs(&key.value, ""), ["read"]);
}

#[test]
fn d_07_the_four_verbs_are_separate_and_execute_with_read_is_a_sufficient_role() {
    let product = Product::new("dezifi");
    for verb in ["read", "write", "execute", "delete"] {
        let role = product.role(&json!({"name": verb, "permissions": [format!("data:{verb}")]}));
        let (account, key) = product.caller(verb, "");
        product.owner.bind(&account, &role, &product.root);
        assert_eq!(product.verbs(&key.value, ""), [verb]);
    }
    let role =
        product.role(&json!({"name": "runner", "permissions": ["data:execute", "data:read"]}));
    let (account, key) = product.caller("runner", "");
    product.owner.bind(&account, &role, &product.root);
    assert_eq!(product.verbs(&key.value, ""), ["read", "execute"]);
}

#[test]
fn d_08_a_keys_value_is_shown_once() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("bot", "executor");
    assert_shown_once(&product, &account, &key);
}

#[test]
fn d_09_several_keys_allow_rotation_without_downtime() {
    let product = Product::new("dezifi");
    let (account, old) = product.caller("bot", "executor");
    let new = product.owner.key(&account, "new");
    assert!(product.accepts(&old.value) && product.accepts(&new.value));
    product.owner.act(&old.path, "revoke");
    assert!(!product.accepts(&old.value) && product.accepts(&new.value));
    assert_eq!(
        product.refused(409, "POST", &format!("{}:rotate", new.path), &json!({})),
        "operation_not_offered"
    );
}

#[test]
fn d_10_usage_per_key_shows_when_traffic_has_moved() {
    let product = Product::new("dezifi");
    let (account, old) = product.caller("bot", "executor");
    let new = product.owner.key(&account, "new");
    for _ in 0..3 {
        assert!(product.accepts(&old.value));
    }
    for _ in 0..5 {
        assert!(product.accepts(&new.value));
    }
    assert_eq!(calls(&product, &old, 3), 3);
    assert_eq!(calls(&product, &new, 5), 5);
}

#[test]
fn d_11_a_single_key_can_be_revoked() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("bot", "executor");
    let other = product.owner.key(&account, "other");
    product.owner.act(&key.path, "revoke");
    assert!(!product.accepts(&key.value));
    assert!(product.accepts(&other.value));
    assert_eq!(product.shown_key(&key)["state"], "revoked");
}

#[test]
fn d_13_a_persons_keys_die_with_the_person_and_an_accounts_do_not() {
    let product = Product::new("dezifi");
    let (user, personal) = product.person("paula", Some("admin"));
    let holder = product.as_holder(&personal);
    let account = holder.account("bot");
    let key = holder.key(&account, "key");
    assert!(product.accepts(&personal.value));
    product.owner.delete(&format!("{}/users/{user}", product.owner.organization));
    assert!(!product.accepts(&personal.value));
    assert!(product.accepts(&key.value));
}

#[test]
fn d_14_accounts_take_no_seat() {
    let product = Product::new("dezifi");
    let seats = || product.owner.get("/usage").expect_status(200).json()["seats"].clone();
    let before = seats();
    for index in 0..5 {
        product.owner.account(&format!("bot {index}"));
    }
    assert_eq!(seats(), before);
    product.person("paula", None);
    assert_eq!(seats(), json!(before.as_u64().unwrap() + 1));
}

#[test]
fn d_15_any_number_of_accounts() {
    let product = Product::new("dezifi");
    for index in 0..60 {
        product.owner.account(&format!("bot {index}"));
    }
    let listed = product.owner.get("/service-accounts?count=true&page_size=10").expect_status(200);
    assert_eq!(listed.json()["total"], 60);
}

#[test]
fn d_16_an_admin_role_succeeds_with_a_warning() {
    let product = Product::new("dezifi");
    let created = product
        .owner
        .post("/service-accounts", &json!({"display_name": "Bot", "role_id": "admin"}));
    assert_eq!(created.expect_status(201).json()["warnings"][0]["code"], "admin_role");
    let plain = product
        .owner
        .post("/service-accounts", &json!({"display_name": "Plain", "role_id": "executor"}));
    assert_eq!(plain.expect_status(201).json()["warnings"], json!([]));
}

#[test]
fn d_17_revoking_an_account_is_final() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("bot", "executor");
    product.owner.act(&account.path, "revoke");
    for (method, path, body) in [
        ("PATCH", account.path.clone(), json!({"description": "back"})),
        ("POST", format!("{}/keys", account.path), json!({"name": "new"})),
    ] {
        product.owner.call(method, &path, Some(&body)).expect_status(409);
    }
    let version = product.shown(&account)["version"].clone();
    product.owner.act(&account.path, "revoke");
    assert_eq!(product.shown(&account)["version"], version);
    assert!(!product.accepts(&key.value));
}

#[test]
fn da_01_roles_bundle_verbs_and_restrictions_of_keys_name_them() {
    let product = Product::new("dezifi");
    let role = product.role(&json!({"name": "all but deleting", "permissions": ["data:read", "data:write", "data:execute"]}));
    let (account, whole) = product.caller("bot", "");
    product.owner.bind(&account, &role, &product.root);
    let narrow = product.owner.key_from(
        &account,
        &json!({"name": "narrow", "restriction": {"permissions": ["data:execute", "data:delete"]}}),
    );
    assert_eq!(product.verbs(&whole.value, ""), ["read", "write", "execute"]);
    assert_eq!(product.verbs(&narrow.value, ""), ["execute"]);
}

#[test]
fn da_02_only_the_last_four_characters_are_kept_for_display() {
    let product = Product::new("dezifi");
    let (_, key) = product.caller("bot", "");
    let hint = &product.shown_key(&key)["hint"];
    assert_eq!(hint["last4"], key.value[key.value.len() - 4..]);
    assert_eq!(hint["prefix"], format!("ptc_{}", key.id));
    assert_eq!(hint.as_object().map(serde_json::Map::len), Some(2));
}

#[test]
fn da_03_a_request_in_flight_may_finish_and_the_next_one_fails() {
    let product = Product::new("dezifi");
    let (account, key) = product.caller("bot", "executor");
    let mut connection = Connection::open(product.stage.program.gateway());
    let request = Request::get("/any").bearer(&key.value);
    connection.exchange(&request).expect_status(200);
    product.owner.act(&account.path, "revoke");
    connection.exchange(&request).expect_status(401);
}

#[test]
fn da_04_a_key_shows_total_calls_last_use_its_address_and_calls_per_day() {
    let product = Product::new("dezifi");
    let (_, key) = product.caller("bot", "executor");
    for _ in 0..4 {
        assert!(product.accepts(&key.value));
    }
    assert_eq!(calls(&product, &key, 4), 4);
    let usage = product.owner.call("GET", &format!("{}/usage", key.path), None).json();
    assert_eq!(usage["last_used_ip"], "127.0.0.1");
    assert!(usage["last_used_at"].is_string());
    let days = usage["days"].as_array().expect("days");
    assert_eq!(days.iter().filter_map(|day| day["calls"].as_u64()).sum::<u64>(), 4);
    let shown = product.shown_key(&key);
    assert_eq!(shown["use_count"], 4);
    assert_eq!(shown["last_used_ip"], "127.0.0.1");
}

#[test]
fn da_05_keys_never_rotate_by_themselves() {
    let product = Product::new("dezifi");
    let (_, key) = product.caller("bot", "executor");
    let shown = product.shown_key(&key);
    assert_eq!(shown["generation"], 1);
    assert_eq!(shown["expires_at"], json!(null));
    assert_eq!(shown["last_rotated_at"], json!(null));
    assert_eq!(
        product.refused(409, "POST", &format!("{}:rotate", key.path), &json!({})),
        "operation_not_offered"
    );
    assert_eq!(product.shown_key(&key)["generation"], 1);
}

#[test]
fn d_12_revoking_the_account_stops_every_key_at_once_and_shows_in_the_audit_log() {
    let product = Product::new("dezifi");
    let (account, first) = product.caller("bot", "admin");
    let second = product.owner.key(&account, "second");
    product.as_holder(&first).account("made before");
    product.owner.act(&account.path, "revoke");
    assert!(!product.accepts(&first.value) && !product.accepts(&second.value));
    let events = items(&product.owner.get(&format!("/audit-events?actor_id={}", account.id)));
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event["actor"]["state_now"] == "revoked"), "{events:?}");
}

#[test]
fn da_06_a_key_authenticates_only_in_its_own_organization() {
    let product = Product::new("dezifi");
    let (_, key) = product.caller("bot", "admin");
    let other = product.other("dezifi");
    let foreign = other.account("theirs");
    let holder = product.as_holder(&key);
    for path in [other.organization.clone(), foreign.path] {
        assert_eq!(holder.call("GET", &path, None).expect_status(404).code(), "not_found");
    }
    let theirs = json!({"name": "k1", "kind": "cluster", "parent_id": other.root()});
    other.post("/resources", &theirs).expect_status(201);
    assert_eq!(product.at("GET", "/cluster/k1", &key.value).status, 403);
}

/// The calls counted for a key, as soon as there are `expected` of them.
#[track_caller]
fn calls(product: &Product, key: &Key, expected: u64) -> u64 {
    wait::until("the counted calls", || {
        let usage = product.owner.call("GET", &format!("{}/usage", key.path), None);
        let calls = usage.expect_status(200).json()["total_calls"].as_u64()?;
        (calls >= expected).then_some(calls)
    })
}
