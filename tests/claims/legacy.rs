//! Claims Z and ZA about accounts that belonged to one workspace only.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Product;
use crate::support::admin::{Account, Key};
use crate::support::http::{Answer, Request};

const WORKSPACES_OWN: &str = "a-key-that-the-workspace-itself-once-made";

/// A workspace, and an account of it from before the organization had accounts.
#[track_caller]
fn legacy(product: &Product) -> (String, Account) {
    let workspace = product.owner.resource("workspace", "w1");
    let body = json!({
        "workspace_id": workspace, "username": "trainer", "legacy_id": "0190f0a4", "role_id": "manager",
    });
    let made = product.owner.post("/service-accounts:import", &body).expect_status(201).json();
    let id = made["service_account"]["id"].as_str().expect("an id").to_owned();
    let path = format!("{}/service-accounts/{id}", product.owner.organization);
    (workspace, Account { id, path })
}

/// Brings a key of the workspace's own along.
#[track_caller]
fn bring_key(product: &Product, account: &Account, active: bool) -> Key {
    let hash: String =
        Sha256::digest(WORKSPACES_OWN).iter().map(|byte| format!("{byte:02x}")).collect();
    let body =
        json!({"name": "old", "style": "opaque", "alg": "sha256", "hash": hash, "active": active});
    let path = format!("{}/keys:import", account.path);
    let brought = product.owner.call("POST", &path, Some(&body)).expect_status(201).json();
    let id = brought["key"]["id"].as_str().expect("an id").to_owned();
    Key { path: format!("{}/keys/{id}", account.path), id, value: WORKSPACES_OWN.to_owned() }
}

/// What a workspace asks when somebody logs in to it.
#[track_caller]
fn enter(product: &Product, key: &Key, workspace: &str) -> Answer {
    Request::get(&format!("/users/authorize_server?server_id={workspace}"))
        .bearer(&key.value)
        .send(product.stage.program.control())
}

#[test]
fn z_51_legacy_accounts_are_imported_and_never_created() {
    let product = Product::new("zenml");
    let (_, account) = legacy(&product);
    assert_eq!(product.shown(&account)["managed_by"], "migration");
    let path = format!("{}/keys", account.path);
    let refused = product.refused(409, "POST", &path, &json!({"name": "new"}));
    assert_eq!(refused, "operation_not_offered");
    let key = bring_key(&product, &account, true);
    product.at("GET", "/workspace/w1", &key.value).expect_status(200);
}

#[test]
fn z_52_a_new_account_with_the_username_of_a_legacy_one_takes_over_its_resources() {
    let product = Product::new("zenml");
    let (workspace, _) = legacy(&product);
    let (account, key) = product.caller("trainer", "org_member");
    assert_eq!(product.verbs(&key.value, "workspace/w1"), [""; 0]);
    let entered = enter(&product, &key, &workspace).expect_status(200).json();
    assert_eq!((&entered["id"], &entered["username"]), (&json!(account.id), &json!("trainer")));
    assert_eq!(product.verbs(&key.value, "workspace/w1").len(), 4);
    let references = &product.shown(&account)["external_refs"];
    assert_eq!(references[0]["legacy_id"], "0190f0a4");
}

#[test]
fn z_54_the_keys_of_a_legacy_account_can_be_deleted_afterwards() {
    let product = Product::new("zenml");
    let (workspace, old) = legacy(&product);
    let brought = bring_key(&product, &old, true);
    let (_, key) = product.caller("trainer", "org_member");
    enter(&product, &key, &workspace).expect_status(200);
    assert!(product.accepts(&brought.value), "the takeover leaves the old keys as they were");
    product.owner.delete(&brought.path);
    assert!(!product.accepts(&brought.value));
    assert_eq!(product.verbs(&key.value, "workspace/w1").len(), 4);
}

#[test]
fn za_02_the_takeover_happens_at_the_first_login_there_and_activates_no_inactive_key() {
    let product = Product::new("zenml");
    let (workspace, old) = legacy(&product);
    let elsewhere = product.owner.resource("workspace", "w2");
    let brought = bring_key(&product, &old, false);
    let (account, key) = product.caller("trainer", "org_member");
    enter(&product, &key, &elsewhere).expect_status(403);
    assert_eq!(product.verbs(&key.value, "workspace/w1"), [""; 0], "another workspace is none");
    enter(&product, &key, &workspace).expect_status(200);
    assert_eq!(product.verbs(&key.value, "workspace/w1").len(), 4);
    let version: Value = product.shown(&account)["version"].clone();
    enter(&product, &key, &workspace).expect_status(200);
    assert_eq!(product.shown(&account)["version"], version, "it happens once");
    assert!(!product.accepts(&brought.value));
    assert_eq!(product.shown_key(&brought)["state"], "inactive");
}
