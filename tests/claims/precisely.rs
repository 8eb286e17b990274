//! Claims P and PA.

use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Product, assert_shown_once, items};
use crate::support::http::Request;

#[test]
fn p_01_an_account_replaces_personal_credentials_for_the_api() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "owner");
    let holder = product.as_holder(&key);
    let whoami = holder.call("GET", "/v1/whoami", None).expect_status(200).json();
    assert_eq!(whoami["principal"]["id"], account.id);
    holder.account("made with an account's key");
    assert_eq!(product.verbs(&key.value, "").len(), 4);
}

#[test]
fn p_02_every_access_is_attributable_by_one_record_with_account_and_key() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "owner");
    assert!(product.accepts(&key.value));
    product.at("GET", "/cluster/none", &key.value);
    let records = product.stage.records(2);
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!((&record["account"], &record["key"]), (&json!(account.id), &json!(key.id)));
        assert!(record["request_id"].as_str().is_some_and(|id| id.len() == 32));
    }
}

#[test]
fn p_03_permissions_come_through_groups() {
    let product = Product::new("precisely");
    let group = product.group("analysts");
    let role =
        product.role(&json!({"name": "analysis", "permissions": ["data:read", "data:execute"]}));
    product.bind_group(&group, &role, &product.root);
    let (account, key) = product.caller("finance team", "");
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    product.assign(&account, &[&group]);
    assert_eq!(product.verbs(&key.value, ""), ["read", "execute"]);
}

#[test]
fn p_04_an_account_without_any_grant_can_do_nothing() {
    let product = Product::new("precisely");
    product.owner.resource("cluster", "k1");
    let (_, key) = product.caller("finance team", "");
    for place in ["", "cluster/k1"] {
        assert_eq!(product.verbs(&key.value, place), [""; 0]);
    }
    let holder = product.as_holder(&key);
    assert_eq!(holder.get("/service-accounts").expect_status(403).code(), "permission_denied");
}

#[test]
fn p_06_the_username_is_required_and_may_contain_a_blank() {
    let product = Product::new("precisely");
    let account = product.owner.account("finance team");
    assert_eq!(product.shown(&account)["username"], "finance team");
    let nameless = product.owner.post("/service-accounts", &json!({"description": "x"}));
    assert_eq!(nameless.expect_status(422).code(), "validation_failed");
    let named = product.owner.account_from(&json!({"display_name": "Audit Team"}));
    assert_eq!(product.shown(&named)["username"], "Audit Team");
}

#[test]
fn p_07_the_description_is_optional() {
    let product = Product::new("precisely");
    let without = product.owner.account("one");
    let with = product.owner.account_from(&json!({"username": "two", "description": "why"}));
    assert_eq!(product.shown(&without)["description"], json!(null));
    assert_eq!(product.shown(&with)["description"], "why");
}

#[test]
fn p_08_groups_are_optional_at_creation() {
    let product = Product::new("precisely");
    let group = product.group("analysts");
    product.bind_group(&group, "viewer", &product.root);
    let body = json!({"username": "with", "group_ids": [group], "create_key": {"name": "key"}});
    let created = product.owner.post("/service-accounts", &body).expect_status(201).json();
    assert_eq!(product.verbs(created["value"].as_str().unwrap(), ""), ["read"]);
    let without = product.owner.account("without");
    let groups = product.owner.call("GET", &format!("{}/groups", without.path), None);
    assert!(items(&groups).is_empty());
}

#[test]
fn p_09_an_account_cannot_be_put_into_the_owner_group_by_any_path() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    let groups = items(&product.owner.get("/groups?kind=owner"));
    let owners = groups[0]["id"].as_str().expect("an owner group").to_owned();
    let in_creation = json!({"username": "other", "group_ids": [owners]});
    assert_eq!(
        product.owner.post("/service-accounts", &in_creation).expect_status(409).code(),
        "policy_forbids"
    );
    let paths = [
        ("POST", format!("{}/groups:assign", account.path), json!({"group_ids": [owners]})),
        (
            "POST",
            format!("{}/groups/{owners}/members", product.owner.organization),
            json!({"principal": {"kind": "service_account", "id": account.id}}),
        ),
        ("PATCH", account.path.clone(), json!({"group_ids": [owners]})),
    ];
    for (method, path, body) in paths {
        assert_eq!(product.refused(409, method, &path, &body), "policy_forbids", "{method} {path}");
    }
    let in_batch = product.owner.call("GET", &format!("{}/groups", account.path), None);
    assert!(items(&in_batch).is_empty());
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
}

#[test]
fn p_11_the_accounts_permissions_decide_what_is_reachable() {
    let product = Product::new("precisely");
    let (one, _) =
        (product.owner.resource("cluster", "k1"), product.owner.resource("cluster", "k2"));
    let (account, key) = product.caller("finance team", "");
    product.owner.bind(&account, "member", &one);
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
    assert_eq!(product.verbs(&key.value, "cluster/k2"), [""; 0]);
}

#[test]
fn p_12_all_keys_inherit_the_permissions() {
    let product = Product::new("precisely");
    let (account, first) = product.caller("finance team", "member");
    let second = product.owner.key(&account, "second");
    for key in [&first, &second] {
        assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
    }
}

#[test]
fn p_13_changes_of_permission_apply_to_all_keys_at_once() {
    let product = Product::new("precisely");
    let role = product.role(&json!({"name": "changing", "permissions": ["data:read"]}));
    let group = product.group("analysts");
    product.bind_group(&group, &role, &product.root);
    let (account, first) = product.caller("finance team", "");
    let second = product.owner.key(&account, "second");
    product.assign(&account, &[&group]);
    let path = format!("{}/roles/{role}", product.owner.organization);
    for (permissions, verbs) in [
        (json!(["data:read", "data:write"]), vec!["read", "write"]),
        (json!(["data:execute"]), vec!["execute"]),
    ] {
        product.owner.patch(&path, &json!({"permissions": permissions}));
        for key in [&first, &second] {
            assert_eq!(product.verbs(&key.value, ""), verbs);
        }
    }
}

#[test]
fn p_14_details_groups_roles_and_security_policies_can_be_edited() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    let group = product.group("analysts");
    product.owner.patch(&account.path, &json!({"description": "new", "group_ids": [group]}));
    assert_eq!(product.shown(&account)["description"], "new");
    let policy = json!({
        "name": "reading", "enabled": true,
        "bindings": [{
            "role_id": "viewer", "resource_id": product.root,
            "subject": {"kind": "group", "id": group},
        }],
    });
    let policy = product.owner.post("/security-policies", &policy).expect_status(201).json();
    assert_eq!(product.verbs(&key.value, ""), ["read"]);
    let id = policy["security_policy"]["id"].as_str().expect("an id");
    let path = format!("{}/security-policies/{id}", product.owner.organization);
    product.owner.patch(&path, &json!({"name": "renamed"}));
    product.owner.bind(&account, "member", &product.root);
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
    product.owner.patch(&account.path, &json!({"group_ids": []}));
    product.owner.patch(
        &format!("{}/access/{}", account.path, product.root),
        &json!({"role_id": "executor"}),
    );
    assert_eq!(product.verbs(&key.value, ""), ["read", "execute"]);
}

#[test]
fn p_15_an_existing_key_can_be_regenerated_or_deleted() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    assert!(product.accepts(&fresh.value));
    product.owner.delete(&fresh.path);
    assert!(!product.accepts(&fresh.value));
    assert_eq!(
        product.refused(404, "POST", &format!("{}:rotate", key.path), &json!({})),
        "not_found"
    );
}

#[test]
fn p_16_regenerating_keeps_the_id_and_replaces_only_the_secret() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    let before = product.shown_key(&key);
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    assert_eq!(fresh.id, key.id);
    assert_ne!(fresh.value, key.value);
    let after = product.shown_key(&key);
    for member in ["id", "uid", "name", "description", "expires_at", "created_at", "restriction"] {
        assert_eq!(before[member], after[member], "{member}");
    }
}

#[test]
fn p_17_the_old_secret_stops_at_once() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    assert!(product.accepts(&key.value));
    product.owner.rotate(&account, &key, &json!({}));
    assert!(!product.accepts(&key.value));
}

#[test]
fn p_18_the_secret_is_shown_once_and_cannot_be_had_again() {
    let product = Product::new("precisely");
    let (account, key) = product.caller("finance team", "");
    assert_shown_once(&product, &account, &key);
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    assert_shown_once(&product, &account, &fresh);
}

#[test]
fn p_19_edits_take_effect_with_one_explicit_save_or_not_at_all() {
    let product = Product::new("precisely");
    let group = product.group("analysts");
    product.bind_group(&group, "viewer", &product.root);
    let (account, key) = product.caller("finance team", "");
    let broken = json!({"description": "half", "group_ids": [group], "username": "\u{7}"});
    product.owner.call("PATCH", &account.path, Some(&broken)).expect_status(422);
    assert_eq!(product.shown(&account)["description"], json!(null));
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    let whole = json!({"description": "all", "group_ids": [group], "username": "finance"});
    product.owner.patch(&account.path, &whole);
    let shown = product.shown(&account);
    assert_eq!((&shown["description"], &shown["username"]), (&json!("all"), &json!("finance")));
    assert_eq!(product.verbs(&key.value, ""), ["read"]);
}

#[test]
fn p_20_two_keys_at_most() {
    let product = Product::new("precisely");
    let (account, first) = product.caller("finance team", "");
    product.owner.key(&account, "second");
    let path = format!("{}/keys", account.path);
    assert_eq!(product.refused(409, "POST", &path, &json!({"name": "third"})), "key_limit_reached");
    assert_eq!(product.keys(&account).len(), 2);
    product.owner.delete(&first.path);
    let third = product.owner.key(&account, "third");
    assert!(product.accepts(&third.value));
}

#[test]
fn p_21_two_keys_can_be_used_side_by_side() {
    let product = Product::new("precisely");
    let (account, first) = product.caller("finance team", "");
    let second = product.owner.key(&account, "second");
    for key in [&first, &second, &first] {
        assert!(product.accepts(&key.value));
    }
    let fresh = product.owner.rotate(&account, &first, &json!({}));
    assert!(product.accepts(&second.value) && product.accepts(&fresh.value));
}

#[test]
fn p_22_both_keys_have_all_permissions_of_the_account() {
    let product = Product::new("precisely");
    product.owner.resource("cluster", "k1");
    let (account, first) = product.caller("finance team", "owner");
    let second = product.owner.key(&account, "second");
    for place in ["", "cluster/k1"] {
        assert_eq!(product.verbs(&first.value, place).len(), 4);
        assert_eq!(product.verbs(&second.value, place).len(), 4);
    }
}

#[test]
fn p_23_a_key_takes_a_name() {
    let product = Product::new("precisely");
    let account = product.owner.account("finance team");
    let key = product.owner.key(&account, "ledger import");
    assert_eq!(product.shown_key(&key)["name"], "ledger import");
    let path = format!("{}/keys", account.path);
    assert_eq!(product.refused(422, "POST", &path, &json!({})), "validation_failed");
}

#[test]
fn p_24_a_new_key_works_as_soon_as_the_call_returns() {
    let product = Product::new("precisely");
    for index in 0..10 {
        let (_, key) = product.caller(&format!("team {index}"), "");
        assert!(product.accepts(&key.value));
    }
}

#[test]
fn p_25_of_two_creations_for_the_last_free_slot_exactly_one_succeeds() {
    let product = Product::new("precisely");
    for round in 0..5 {
        let (account, _) = product.caller(&format!("team {round}"), "");
        let path = format!("{}/keys", account.path);
        let owner = &product.owner;
        let statuses: Vec<u16> = thread::scope(|scope| {
            let racers: Vec<_> = (0..6)
                .map(|racer| {
                    let path = &path;
                    scope.spawn(move || {
                        let body = json!({"name": format!("racer {racer}")});
                        owner.call("POST", path, Some(&body)).status
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("an answer")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 5, "{statuses:?}");
        assert_eq!(product.keys(&account).len(), 2);
    }
}

#[test]
fn pa_01_the_feature_can_be_limited_to_some_organizations() {
    let product = Product::new("precisely");
    let other = product.other("precisely");
    let body = json!({"entitlements": {"service_accounts": false}});
    product.operator().call("PATCH", &other.organization, &body).expect_status(200);
    let wanted = json!({"username": "finance team"});
    assert_eq!(
        other.post("/service-accounts", &wanted).expect_status(402).code(),
        "entitlement_required"
    );
    product.owner.post("/service-accounts", &wanted).expect_status(201);
}

#[test]
fn pa_02_groups_get_roles_by_policies_that_can_be_switched_and_default_ones_stay() {
    let product = Product::new("precisely");
    let group = product.group("analysts");
    let (account, key) = product.caller("finance team", "");
    product.assign(&account, &[&group]);
    let body = json!({
        "name": "analysis", "enabled": true,
        "bindings": [{
            "role_id": "viewer", "resource_id": product.root,
            "subject": {"kind": "group", "id": group},
        }],
    });
    let made = product.owner.post("/security-policies", &body).expect_status(201).json();
    let id = made["security_policy"]["id"].as_str().expect("an id");
    let path = format!("{}/security-policies/{id}", product.owner.organization);
    for _ in 0..2 {
        assert_eq!(product.verbs(&key.value, ""), ["read"]);
        product.owner.act(&path, "disable");
        assert_eq!(product.verbs(&key.value, ""), [""; 0]);
        product.owner.act(&path, "enable");
    }
    for kind in ["default", "owner"] {
        let groups = items(&product.owner.get(&format!("/groups?kind={kind}")));
        let id = groups[0]["id"].as_str().expect("a group of this kind");
        let path = format!("{}/groups/{id}", product.owner.organization);
        assert_eq!(
            product.owner.call("DELETE", &path, None).expect_status(409).code(),
            "immutable_object"
        );
    }
    let policies = items(&product.owner.get("/security-policies"));
    let default =
        policies.iter().find(|policy| policy["kind"] == "default").expect("a default one");
    let path = format!(
        "{}/security-policies/{}",
        product.owner.organization,
        default["id"].as_str().unwrap()
    );
    assert_eq!(
        product.owner.call("DELETE", &path, None).expect_status(409).code(),
        "immutable_object"
    );
}

#[test]
fn pa_03_id_and_secret_are_accepted_as_basic_and_exchanged_tokens_live_an_hour() {
    let product = Product::new("precisely");
    let (_, key) = product.caller("finance team", "owner");
    let tail = &key.value[key.value.len() - 49..];
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{tail}", key.id)));
    let control = product.stage.program.control();
    let whoami = Request::get("/v1/whoami").header("Authorization", &basic).send(control);
    assert_eq!(whoami.expect_status(200).json()["key_id"], key.id);
    let answer = Request::new("POST", "/oauth/token")
        .header("Authorization", &basic)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials")
        .send(control)
        .expect_status(200)
        .json();
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 3600);
    let token = answer["access_token"].as_str().expect("a token");
    for _ in 0..3 {
        assert!(product.accepts(token));
    }
    product.owner.delete(&key.path);
    assert!(!product.accepts(token), "a bound token dies with its key");
}
