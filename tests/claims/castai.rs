//! Claims C and CA.

use serde_json::json;

use super::{Product, assert_shown_once, items};
use crate::support::admin::Account;

#[test]
fn c_01_only_the_owner_role_may_manage_accounts_keys_access_and_groups() {
    let product = Product::new("castai");
    let (target, key) = product.caller("target", "");
    let group = product.group("group");
    for role in ["member", "analyst", "viewer"] {
        let (_, credential) = product.caller(role, role);
        let lesser = product.as_holder(&credential);
        let calls = [
            ("GET", "/service-accounts".to_owned(), None),
            ("POST", "/service-accounts".to_owned(), Some(json!({"username": "x"}))),
            ("DELETE", format!("/service-accounts/{}", target.id), None),
            ("GET", format!("/service-accounts/{}/keys", target.id), None),
            ("POST", format!("/service-accounts/{}/keys", target.id), Some(json!({"name": "x"}))),
            (
                "POST",
                format!("/service-accounts/{}/keys/{}:deactivate", target.id, key.id),
                Some(json!({})),
            ),
            ("DELETE", format!("/service-accounts/{}/keys/{}", target.id, key.id), None),
            ("GET", format!("/service-accounts/{}/access", target.id), None),
            (
                "POST",
                format!("/service-accounts/{}/access:grant", target.id),
                Some(json!({"resource_ids": [product.root], "role_id": "viewer"})),
            ),
            (
                "POST",
                format!("/service-accounts/{}/groups:assign", target.id),
                Some(json!({"group_ids": [group]})),
            ),
        ];
        for (method, path, body) in calls {
            let path = format!("{}{path}", lesser.organization);
            let answer = lesser.call(method, &path, body.as_ref());
            assert_eq!(
                answer.expect_status(403).code(),
                "permission_denied",
                "{role} {method} {path}"
            );
        }
    }
    assert!(product.accepts(&key.value));
}

#[test]
fn c_03_accounts_are_one_collection_of_the_organization() {
    let product = Product::new("castai");
    for name in ["one", "two", "three"] {
        product.owner.account(name);
    }
    let listed = items(&product.owner.get("/service-accounts"));
    let names: Vec<&str> = listed.iter().filter_map(|one| one["username"].as_str()).collect();
    assert_eq!(names, ["one", "two", "three"]);
}

#[test]
fn c_04_the_keys_of_one_account_can_be_listed() {
    let product = Product::new("castai");
    let (one, other) = (product.owner.account("one"), product.owner.account("other"));
    let first = product.owner.key(&one, "first");
    let second = product.owner.key(&one, "second");
    product.owner.key(&other, "foreign");
    let ids: Vec<String> =
        product.keys(&one).iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [first.id, second.id]);
}

#[test]
fn c_05_a_key_needs_a_name_and_nothing_else() {
    let product = Product::new("castai");
    let account = product.owner.account("ci");
    let key = product.owner.key_from(&account, &json!({"name": "only a name"}));
    assert!(product.accepts(&key.value));
    let path = format!("{}/keys", account.path);
    let answer = product.owner.call("POST", &path, Some(&json!({}))).expect_status(422).json();
    assert_eq!(answer["errors"][0]["field"], "name");
    assert_eq!(answer["errors"][0]["code"], "required");
}

#[test]
fn c_06_the_value_is_in_the_answer_to_the_creation_and_in_none_after_it() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    assert_shown_once(&product, &account, &key);
}

#[test]
fn c_07_further_keys_can_be_made_at_any_time_without_limit() {
    let product = Product::new("castai");
    let account = product.owner.account("ci");
    let keys: Vec<_> =
        (0..25).map(|index| product.owner.key(&account, &format!("key {index}"))).collect();
    assert!(keys.iter().all(|key| product.accepts(&key.value)));
}

#[test]
fn c_08_a_key_can_be_deleted() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    let deleted = product.owner.delete(&key.path);
    assert_eq!(deleted["key"]["state"], "deleted");
    assert!(product.keys(&account).is_empty());
}

#[test]
fn c_09_deleting_a_key_takes_effect_at_once() {
    let product = Product::new("castai");
    let (_, key) = product.caller("ci", "");
    assert!(product.accepts(&key.value));
    product.owner.delete(&key.path);
    assert!(!product.accepts(&key.value));
}

#[test]
fn c_10_nothing_restores_a_deleted_key() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    product.owner.delete(&key.path);
    for verb in ["activate", "deactivate", "rotate", "revoke"] {
        let path = format!("{}:{verb}", key.path);
        assert_eq!(product.refused(404, "POST", &path, &json!({})), "not_found");
    }
    assert_eq!(product.refused(404, "PATCH", &key.path, &json!({"name": "back"})), "not_found");
    let next = product.owner.key(&account, "key");
    assert_ne!(next.id, key.id);
    assert!(!product.accepts(&key.value));
}

#[test]
fn c_12_a_key_can_be_switched_off_and_on_and_its_value_works_again() {
    let product = Product::new("castai");
    let (_, key) = product.caller("ci", "");
    for _ in 0..2 {
        product.owner.act(&key.path, "deactivate");
        assert!(!product.accepts(&key.value));
        product.owner.act(&key.path, "activate");
        assert!(product.accepts(&key.value));
    }
}

#[test]
fn c_13_switching_one_key_leaves_the_account_and_its_other_keys_alone() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    let other = product.owner.key(&account, "other");
    let before = (product.shown(&account), product.shown_key(&other));
    product.owner.act(&key.path, "deactivate");
    assert!(product.accepts(&other.value));
    assert_eq!(
        (product.shown(&account)["version"].clone(), product.shown(&account)["state"].clone()),
        (before.0["version"].clone(), before.0["state"].clone())
    );
    assert_eq!(product.shown_key(&other)["version"], before.1["version"]);
}

#[test]
fn c_14_access_can_be_set_on_the_organization_and_on_a_cluster_at_any_time() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "");
    assert_eq!(product.verbs(&key.value, "cluster/k1"), [""; 0]);
    product.grant(&account, &[&cluster], "viewer");
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    product.grant(&account, &[&product.root], "member");
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
}

#[test]
fn c_15_a_change_of_access_changes_that_of_all_keys_without_new_ones() {
    let product = Product::new("castai");
    let (account, first) = product.caller("ci", "viewer");
    let second = product.owner.key(&account, "second");
    let row = format!("{}/access/{}", account.path, product.root);
    product.owner.patch(&row, &json!({"role_id": "member"}));
    for key in [&first, &second] {
        assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
    }
}

#[test]
fn c_16_the_access_view_lists_each_resource_with_its_role() {
    let product = Product::new("castai");
    let (one, two) =
        (product.owner.resource("cluster", "k1"), product.owner.resource("cluster", "k2"));
    let (account, _) = product.caller("ci", "viewer");
    product.grant(&account, &[&one], "member");
    assert_eq!(product.row(&account, &product.root).unwrap()["role_ids"], json!(["viewer"]));
    assert_eq!(product.row(&account, &one).unwrap()["role_ids"], json!(["member"]));
    let inherited = product.row(&account, &two).expect("a row for each resource");
    assert_eq!(inherited["role_ids"], json!(["viewer"]));
    assert_eq!(inherited["source"], "inherited");
    assert_eq!(inherited["from_resource_id"], product.root);
}

#[test]
fn c_17_a_grant_is_for_the_organization_or_for_certain_clusters() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    product.owner.resource("cluster", "k2");
    let (whole, whole_key) = product.caller("whole", "");
    let (some, some_key) = product.caller("some", "");
    product.grant(&whole, &[&product.root], "viewer");
    product.grant(&some, &[&cluster], "viewer");
    assert_eq!(product.verbs(&whole_key.value, "cluster/k2"), ["read"]);
    assert_eq!(product.verbs(&some_key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&some_key.value, "cluster/k2"), [""; 0]);
}

#[test]
fn c_18_a_grant_on_the_organization_covers_all_resources_and_later_ones() {
    let product = Product::new("castai");
    product.owner.resource("cluster", "k1");
    let (_, key) = product.caller("ci", "member");
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
    product.owner.resource("cluster", "later");
    assert_eq!(product.verbs(&key.value, "cluster/later"), ["read", "write"]);
}

#[test]
fn c_19_one_call_grants_on_several_clusters_or_on_none() {
    let product = Product::new("castai");
    let (one, two) =
        (product.owner.resource("cluster", "k1"), product.owner.resource("cluster", "k2"));
    let (account, key) = product.caller("ci", "");
    let path = format!("{}/access:grant", account.path);
    let missing =
        json!({"resource_ids": [one, "01900000-0000-7000-8000-000000000000"], "role_id": "viewer"});
    assert_eq!(product.refused(422, "POST", &path, &missing), "validation_failed");
    assert_eq!(product.verbs(&key.value, "cluster/k1"), [""; 0]);
    product.grant(&account, &[&one, &two], "viewer");
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, "cluster/k2"), ["read"]);
}

#[test]
fn c_20_a_grant_names_its_role_in_the_same_call() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    let path = format!("{}/access:grant", account.path);
    let answer = product.owner.call("POST", &path, Some(&json!({"resource_ids": [product.root]})));
    assert_eq!(answer.expect_status(422).json()["errors"][0]["field"], "role_id");
    product.grant(&account, &[&product.root], "analyst");
    assert_eq!(product.row(&account, &product.root).unwrap()["role_ids"], json!(["analyst"]));
    assert_eq!(product.verbs(&key.value, ""), ["read"]);
}

#[test]
fn c_21_the_role_of_a_row_can_be_changed_in_place() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "viewer");
    product.grant(&account, &[&cluster], "viewer");
    for resource in [&cluster, &product.root] {
        product
            .owner
            .patch(&format!("{}/access/{resource}", account.path), &json!({"role_id": "member"}));
        assert_eq!(product.row(&account, resource).unwrap()["role_ids"], json!(["member"]));
    }
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
}

#[test]
fn c_22_changes_of_access_take_effect_at_once() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    let row = format!("{}/access/{}", account.path, product.root);
    for _ in 0..5 {
        product.grant(&account, &[&product.root], "viewer");
        assert_eq!(product.verbs(&key.value, ""), ["read"]);
        product.owner.patch(&row, &json!({"role_id": "member"}));
        assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
        product.owner.delete(&row);
        assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    }
}

#[test]
fn c_23_an_inherited_row_cannot_be_edited() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, _) = product.caller("ci", "viewer");
    assert_eq!(product.row(&account, &cluster).unwrap()["editable"], false);
    let path = format!("{}/access/{cluster}", account.path);
    let answer = product.owner.call("PATCH", &path, Some(&json!({"role_id": "member"})));
    let answer = answer.expect_status(409);
    assert_eq!(answer.code(), "access_is_inherited");
    assert_eq!(answer.json()["resource_id"], cluster);
    assert_eq!(
        product.owner.call("DELETE", &path, None).expect_status(409).code(),
        "access_is_inherited"
    );
}

#[test]
fn c_24_a_role_of_a_clusters_own_needs_direct_access_first() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "viewer");
    let path = format!("{}/access/{cluster}", account.path);
    assert_eq!(
        product.refused(409, "PATCH", &path, &json!({"role_id": "member"})),
        "access_is_inherited"
    );
    product.grant(&account, &[&cluster], "viewer");
    product.owner.patch(&path, &json!({"role_id": "member"}));
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
}

#[test]
fn c_25_a_direct_row_can_be_edited_and_differ_from_the_organizations() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "member");
    product.grant(&account, &[&cluster], "viewer");
    let row = product.row(&account, &cluster).unwrap();
    assert_eq!((&row["editable"], &row["source"]), (&json!(true), &json!("direct")));
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
}

#[test]
fn c_26_access_can_be_revoked_on_a_cluster_and_on_the_organization() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "viewer");
    product.grant(&account, &[&cluster], "member");
    product.owner.delete(&format!("{}/access/{cluster}", account.path));
    product.owner.delete(&format!("{}/access/{}", account.path, product.root));
    assert_eq!(product.verbs(&key.value, "cluster/k1"), [""; 0]);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
}

#[test]
fn c_27_revoking_direct_access_inherits_again_and_revoking_the_organization_leaves_direct_rows() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "member");
    product.grant(&account, &[&cluster], "viewer");
    product.owner.delete(&format!("{}/access/{cluster}", account.path));
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
    assert_eq!(product.row(&account, &cluster).unwrap()["source"], "inherited");
    product.grant(&account, &[&cluster], "viewer");
    product.owner.delete(&format!("{}/access/{}", account.path, product.root));
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
}

#[test]
fn c_28_accounts_join_and_leave_existing_groups_like_people() {
    let product = Product::new("castai");
    let group = product.group("operators");
    let account = product.owner.account("ci");
    let (person, _) = product.person("pat", None);
    let members = format!("{}/groups/{group}/members", product.owner.organization);
    for (kind, id) in [("service_account", &account.id), ("user", &person)] {
        let body = json!({"principal": {"kind": kind, "id": id}});
        product.owner.call("POST", &members, Some(&body)).expect_status(201);
    }
    assert_eq!(items(&product.owner.call("GET", &members, None)).len(), 2);
    for id in [&account.id, &person] {
        product.owner.delete(&format!("{members}/{id}"));
    }
    assert!(items(&product.owner.call("GET", &members, None)).is_empty());
    let unknown = json!({"group_ids": ["01900000-0000-7000-8000-000000000000"]});
    let path = format!("{}/groups:assign", account.path);
    let answer = product.owner.call("POST", &path, Some(&unknown)).expect_status(422).json();
    assert_eq!(answer["errors"][0]["code"], "unknown_reference");
}

#[test]
fn c_29_one_call_assigns_an_account_to_several_groups_or_to_none() {
    let product = Product::new("castai");
    let (one, two) = (product.group("one"), product.group("two"));
    let account = product.owner.account("ci");
    let path = format!("{}/groups:assign", account.path);
    let body = json!({"group_ids": [one, "01900000-0000-7000-8000-000000000000"]});
    product.owner.call("POST", &path, Some(&body)).expect_status(422);
    assert!(groups_of(&product, &account).is_empty());
    product.assign(&account, &[&one, &two]);
    assert_eq!(groups_of(&product, &account).len(), 2);
}

#[test]
fn c_30_an_account_has_all_permissions_of_its_groups() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let (account, key) = product.caller("ci", "");
    let (readers, writers) = (product.group("readers"), product.group("writers"));
    product.bind_group(&readers, "viewer", &product.root);
    product.bind_group(&writers, "member", &cluster);
    product.assign(&account, &[&readers, &writers]);
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
    assert_eq!(product.verbs(&key.value, ""), ["read"]);
}

#[test]
fn c_31_keys_gain_what_the_groups_give_whenever_they_were_made() {
    let product = Product::new("castai");
    let group = product.group("readers");
    product.bind_group(&group, "viewer", &product.root);
    let (account, old) = product.caller("ci", "");
    assert_eq!(product.verbs(&old.value, ""), [""; 0]);
    product.assign(&account, &[&group]);
    let new = product.owner.key(&account, "new");
    for key in [&old, &new] {
        assert_eq!(product.verbs(&key.value, ""), ["read"]);
    }
    product.bind_group(&group, "member", &product.owner.resource("cluster", "k1"));
    assert_eq!(product.verbs(&old.value, "cluster/k1"), ["read", "write"]);
}

#[test]
fn c_32_an_account_may_be_in_several_groups_at_once() {
    let product = Product::new("castai");
    let groups: Vec<String> =
        (0..5).map(|index| product.group(&format!("group {index}"))).collect();
    let account = product.owner.account("ci");
    for group in &groups {
        product.assign(&account, &[group]);
    }
    assert_eq!(groups_of(&product, &account).len(), 5);
}

#[test]
fn c_33_an_account_can_be_taken_out_of_one_group() {
    let product = Product::new("castai");
    let (one, two) = (product.group("one"), product.group("two"));
    let account = product.owner.account("ci");
    product.assign(&account, &[&one, &two]);
    product.leave(&account, &one);
    let left = groups_of(&product, &account);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0], two);
}

#[test]
fn c_34_leaving_a_group_takes_effect_at_once() {
    let product = Product::new("castai");
    let group = product.group("readers");
    product.bind_group(&group, "viewer", &product.root);
    let (account, key) = product.caller("ci", "");
    for _ in 0..3 {
        product.assign(&account, &[&group]);
        assert_eq!(product.verbs(&key.value, ""), ["read"]);
        product.leave(&account, &group);
        assert_eq!(product.verbs(&key.value, ""), [""; 0]);
    }
}

#[test]
fn c_35_after_leaving_only_what_came_from_nowhere_else_is_lost() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let group = product.group("members");
    product.bind_group(&group, "member", &product.root);
    let (account, key) = product.caller("ci", "");
    product.grant(&account, &[&cluster], "viewer");
    product.assign(&account, &[&group]);
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read", "write"]);
    product.leave(&account, &group);
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, ""), [""; 0]);
}

#[test]
fn c_36_keys_lose_what_came_from_the_group() {
    let product = Product::new("castai");
    let group = product.group("members");
    let binding = product.bind_group(&group, "member", &product.root);
    let (account, first) = product.caller("ci", "");
    let second = product.owner.key(&account, "second");
    product.assign(&account, &[&group]);
    assert_eq!(product.verbs(&first.value, ""), ["read", "write"]);
    product.owner.delete(&format!("{}/role-bindings/{binding}", product.owner.organization));
    for key in [&first, &second] {
        assert_eq!(product.verbs(&key.value, ""), [""; 0]);
        assert!(product.accepts(&key.value));
    }
}

#[test]
fn c_37_removing_an_account_ends_all_its_access_at_once() {
    let product = Product::new("castai");
    let group = product.group("members");
    product.bind_group(&group, "member", &product.root);
    let (account, key) = product.caller("ci", "viewer");
    product.assign(&account, &[&group]);
    product.owner.delete(&account.path);
    assert_eq!(product.at("GET", "/organization", &key.value).status, 401);
    let filter = format!("/role-bindings?subject_id={}", account.id);
    assert!(items(&product.owner.get(&filter)).is_empty());
    let members = format!("/groups/{group}/members");
    assert!(items(&product.owner.get(&members)).is_empty());
}

#[test]
fn c_38_removing_an_account_invalidates_all_its_keys() {
    let product = Product::new("castai");
    let (account, first) = product.caller("ci", "");
    let second = product.owner.key(&account, "second");
    product.owner.act(&second.path, "deactivate");
    product.owner.delete(&account.path);
    assert!(!product.accepts(&first.value) && !product.accepts(&second.value));
    assert!(items(&product.owner.get("/keys?owner_kind=service_account")).is_empty());
}

#[test]
fn c_39_removing_an_account_cannot_be_undone() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    product.owner.delete(&account.path);
    for verb in ["activate", "deactivate", "revoke"] {
        product
            .owner
            .call("POST", &format!("{}:{verb}", account.path), Some(&json!({})))
            .expect_status(404);
    }
    product.owner.call("DELETE", &account.path, None).expect_status(404);
    let again = product.owner.account("ci");
    assert_ne!(again.id, account.id);
    assert!(!product.accepts(&key.value));
}

#[test]
fn ca_01_creation_takes_name_description_access_and_a_key_all_or_nothing() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let group = product.group("readers");
    product.bind_group(&group, "viewer", &product.root);
    let body = json!({
        "display_name": "Deploy bot", "description": "ships things",
        "bindings": [{"role_id": "member", "resource_id": cluster}],
        "group_ids": [group], "create_key": {"name": "first"},
    });
    let created = product.owner.post("/service-accounts", &body).expect_status(201).json();
    let value = created["value"].as_str().expect("the key's value");
    assert_eq!(created["service_account"]["description"], "ships things");
    assert_eq!(product.verbs(value, "cluster/k1"), ["read", "write"]);
    assert_eq!(product.verbs(value, ""), ["read"]);
    let mut broken = body.clone();
    broken["display_name"] = json!("Other bot");
    broken["group_ids"] = json!(["01900000-0000-7000-8000-000000000000"]);
    product.owner.post("/service-accounts", &broken).expect_status(422);
    assert_eq!(items(&product.owner.get("/service-accounts")).len(), 1);
}

#[test]
fn ca_02_four_built_in_roles_serve_organization_and_cluster_and_only_an_owner_makes_keys() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let account = product.owner.account("target");
    for role in ["owner", "member", "analyst", "viewer"] {
        let (holder, key) = product.caller(role, "");
        product.grant(&holder, &[&cluster], role);
        product.grant(&holder, &[&product.root], role);
        let path = format!("{}/keys", account.path);
        let made = product.as_holder(&key).call("POST", &path, Some(&json!({"name": role})));
        assert_eq!(made.status, if role == "owner" { 201 } else { 403 }, "{role}");
    }
}

#[test]
fn ca_04_keys_and_accounts_show_what_the_product_shows() {
    let product = Product::new("castai");
    let (account, key) = product.caller("ci", "");
    let shown = product.shown_key(&key);
    assert_eq!(shown["expires_at"], json!(null));
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["hint"]["prefix"], format!("ptc_{}", key.id));
    assert!(shown.as_object().unwrap().contains_key("last_used_at"));
    let shown = product.shown(&account);
    assert_eq!(shown["key_count"], 1);
    assert_eq!(shown["author"]["display"], "olivia");
    assert_eq!(shown["managed_by"], "api");
    let other = product.owner.account("other");
    let body = json!({"action": "delete", "ids": [account.id, other.id, "01900000-0000-7000-8000-000000000000"]});
    let results = product.owner.post("/service-accounts:batch", &body).expect_status(200).json();
    let statuses: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
    assert_eq!(statuses, [json!(200), json!(200), json!(404)]);
    assert!(!product.accepts(&key.value));
    let path = format!(
        "{}/service-accounts/01900000-0000-7000-8000-000000000000",
        product.owner.organization
    );
    assert_eq!(product.owner.call("GET", &path, None).expect_status(404).code(), "not_found");
}

#[test]
fn ca_05_bindings_join_role_subject_and_scope_roles_deny_and_propagation_is_reported() {
    let product = Product::new("castai");
    let cluster = product.owner.resource("cluster", "k1");
    let role = product.role(&json!({
        "name": "no writing", "permissions": ["data:read"], "deny": ["data:write"], "level": 5,
    }));
    let (account, key) = product.caller("ci", "member");
    let group = product.group("restricted");
    product.assign(&account, &[&group]);
    let body = json!({
        "role_id": role, "subject": {"kind": "group", "id": group}, "resource_id": cluster,
    });
    let bound = product.owner.post("/role-bindings", &body).expect_status(201).json();
    assert_eq!(product.verbs(&key.value, "cluster/k1"), ["read"]);
    assert_eq!(product.verbs(&key.value, ""), ["read", "write"]);
    let seq = bound["seq"].as_u64().expect("a position");
    let spread =
        product.owner.call("GET", &format!("/v1/propagation/{seq}"), None).expect_status(200);
    assert_eq!(spread.json()["state"], "applied");
}

#[track_caller]
fn groups_of(product: &Product, account: &Account) -> Vec<String> {
    let groups = items(&product.owner.call("GET", &format!("{}/groups", account.path), None));
    groups.iter().map(|group| group["id"].as_str().expect("an id").to_owned()).collect()
}
