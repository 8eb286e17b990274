//! Keys and accounts through their whole life, proven where it counts: at the running gateway, with
//! the very next request after the admin API's answer.

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::stage::Stage;
use crate::support::wait::{self, Stopwatch};

/// The answer names the gateways that have applied the change, and none that has not.
#[track_caller]
fn assert_applied(body: &Value) {
    assert!(body["seq"].is_u64(), "{body}");
    assert_eq!(body["gateways"]["pending"], json!([]), "{body}");
    assert_eq!(body["gateways"]["applied"].as_array().map(Vec::len), Some(1), "{body}");
}

#[test]
fn a_new_key_works_as_soon_as_its_creation_is_answered() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    for round in 0..20 {
        let key = stage.owner.key(&account, &format!("key {round}"));
        stage.ask(&key.value).expect_status(200);
    }
}

#[test]
fn a_secret_is_shown_once_and_never_again() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "only");
    let tail = &key.value[key.value.len() - 49..];
    for path in [key.path.clone(), format!("{}/keys", account.path), account.path.clone()] {
        let answer = stage.owner.call("GET", &path, None).expect_status(200);
        assert!(!answer.text().contains(tail), "{path} shows the secret");
        assert!(!answer.text().contains("pepper"), "{path} shows the pepper");
    }
    let shown = stage.owner.call("GET", &key.path, None).json();
    let hint = shown.pointer("/key/hint").or_else(|| shown.pointer("/hint")).expect("a hint");
    assert_eq!(hint["prefix"], format!("ptc_{}", key.id));
    assert_eq!(hint["last4"], key.value[key.value.len() - 4..]);
}

#[test]
fn a_revoked_key_is_refused_by_the_next_request_for_good() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let (doomed, other) = (stage.owner.key(&account, "doomed"), stage.owner.key(&account, "other"));
    stage.ask(&doomed.value).expect_status(200);
    assert_applied(&stage.owner.act(&doomed.path, "revoke"));
    stage.ask(&doomed.value).expect_status(401);
    stage.ask(&other.value).expect_status(200);

    stage.owner.act(&doomed.path, "revoke");
    let refused = stage.owner.call("POST", &format!("{}:activate", doomed.path), Some(&json!({})));
    assert_eq!(refused.expect_status(409).code(), "state_terminal");
    stage.ask(&doomed.value).expect_status(401);
}

#[test]
fn a_deactivated_key_is_refused_at_once_and_works_again_once_activated() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let (key, other) = (stage.owner.key(&account, "one"), stage.owner.key(&account, "two"));
    for _ in 0..3 {
        assert_applied(&stage.owner.act(&key.path, "deactivate"));
        stage.ask(&key.value).expect_status(401);
        stage.ask(&other.value).expect_status(200);
        assert_applied(&stage.owner.act(&key.path, "activate"));
        stage.ask(&key.value).expect_status(200);
    }
}

#[test]
fn a_deleted_key_is_refused_at_once_and_is_gone_from_every_list() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "short-lived");
    assert_applied(&stage.owner.delete(&key.path));
    stage.ask(&key.value).expect_status(401);
    assert_eq!(stage.owner.call("GET", &key.path, None).expect_status(404).code(), "not_found");
    assert_eq!(stage.owner.call("DELETE", &key.path, None).expect_status(404).code(), "not_found");
    let listed = stage.owner.call("GET", &format!("{}/keys", account.path), None).json();
    assert_eq!(listed["items"], json!([]));

    // The name is free again, under another id.
    let next = stage.owner.key(&account, "short-lived");
    assert_ne!(next.id, key.id);
    stage.ask(&next.value).expect_status(200);
    stage.ask(&key.value).expect_status(401);
}

#[test]
fn rotation_without_retention_ends_the_old_secret_at_once_and_keeps_the_id() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let first = stage.owner.key(&account, "rotating");
    stage.ask(&first.value).expect_status(200);
    let second = stage.owner.rotate(&account, &first, &json!({"retain_minutes": 0}));
    assert_eq!(second.id, first.id);
    assert_ne!(second.value, first.value);
    stage.ask(&first.value).expect_status(401);
    stage.ask(&second.value).expect_status(200);
}

#[test]
fn rotation_with_retention_accepts_the_last_two_secrets_and_no_third() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let first = stage.owner.key(&account, "rotating");
    let second = stage.owner.rotate(&account, &first, &json!({"retain_minutes": 60}));
    stage.ask(&first.value).expect_status(200);
    stage.ask(&second.value).expect_status(200);
    let third = stage.owner.rotate(&account, &first, &json!({"retain_minutes": 60}));
    stage.ask(&first.value).expect_status(401);
    stage.ask(&second.value).expect_status(200);
    stage.ask(&third.value).expect_status(200);

    // Deactivating the key stops both secrets.
    stage.owner.act(&first.path, "deactivate");
    stage.ask(&second.value).expect_status(401);
    stage.ask(&third.value).expect_status(401);
}

#[test]
fn a_key_stops_at_its_expiry_without_anybody_doing_anything() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let watch = Stopwatch::start();
    let key = stage.owner.key_from(&account, &json!({"name": "brief", "ttl_seconds": 2}));
    stage.ask(&key.value).expect_status(200);
    wait::until("expiry", || (stage.ask(&key.value).status == 401).then_some(()));
    // The instant is stored in the control plane's clock, which read after our watch was started.
    assert!(watch.elapsed().as_millis() >= 2000, "{:?}", watch.elapsed());
    wait::until("the record of it", || {
        let records = stage.records(2);
        records.iter().any(|record| record["reason"] == "key_expired").then_some(())
    });
}

#[test]
fn an_expiry_moved_into_the_present_ends_the_key_and_its_retained_secret() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let first = stage.owner.key(&account, "rotating");
    let second = stage.owner.rotate(&account, &first, &json!({"retain_minutes": 60}));
    let past = stage.owner.call(
        "PATCH",
        &first.path,
        Some(&json!({"expires_at": "2001-01-01T00:00:00Z"})),
    );
    assert_eq!(past.expect_status(422).code(), "validation_failed");
    stage.owner.patch(&first.path, &json!({"expires_at": "2100-01-01T00:00:00Z"}));
    stage.ask(&first.value).expect_status(200);
    stage.ask(&second.value).expect_status(200);
}

#[test]
fn deactivating_an_account_stops_all_its_keys_and_activating_revives_only_the_active_ones() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let (on, off) = (stage.owner.key(&account, "on"), stage.owner.key(&account, "off"));
    stage.owner.act(&off.path, "deactivate");
    assert_applied(&stage.owner.act(&account.path, "deactivate"));
    stage.ask(&on.value).expect_status(401);

    let refused =
        stage.owner.call("POST", &format!("{}/keys", account.path), Some(&json!({"name": "new"})));
    assert_eq!(refused.expect_status(409).code(), "service_account_inactive");

    assert_applied(&stage.owner.act(&account.path, "activate"));
    stage.ask(&on.value).expect_status(200);
    stage.ask(&off.value).expect_status(401);
}

#[test]
fn revoking_an_account_ends_all_its_keys_and_cannot_be_undone() {
    let stage = Stage::new();
    let (account, bystander) = (stage.owner.account("ci"), stage.owner.account("other"));
    let keys: Vec<_> = (0..5).map(|n| stage.owner.key(&account, &format!("key {n}"))).collect();
    let unharmed = stage.owner.key(&bystander, "key");
    assert_applied(&stage.owner.act(&account.path, "revoke"));
    for key in &keys {
        stage.ask(&key.value).expect_status(401);
    }
    stage.ask(&unharmed.value).expect_status(200);
    let refused = stage.owner.call("POST", &format!("{}:activate", account.path), Some(&json!({})));
    assert_eq!(refused.expect_status(409).code(), "state_terminal");
}

#[test]
fn deleting_an_account_ends_all_its_keys_and_leaves_a_tombstone() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    assert_applied(&stage.owner.delete(&account.path));
    stage.ask(&key.value).expect_status(401);
    assert_eq!(stage.owner.call("GET", &account.path, None).expect_status(404).code(), "not_found");
    let with_deleted = format!("{}?include_deleted=true", account.path);
    let tombstone = stage.owner.call("GET", &with_deleted, None).expect_status(200).json();
    assert!(tombstone.to_string().contains("deleted_at"), "{tombstone}");
}

/// A route that needs `cluster:read` on one cluster and one that needs `cluster:write`.
const CLUSTER_ROUTES: &str = r#"
[[routes]]
name = "read"
path = "/clusters/{cluster}"
methods = ["GET"]
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
[[routes]]
name = "write"
path = "/clusters/{cluster}"
methods = ["POST"]
upstream = "app"
require = { permission = "cluster:write", resource = "cluster/{cluster}" }
"#;

#[test]
fn access_follows_bindings_and_their_removal_with_the_next_request() {
    let stage = Stage::with(crate::support::upstream::Upstream::nginx(), CLUSTER_ROUTES);
    let (east, west) =
        (stage.owner.resource("cluster", "east"), stage.owner.resource("cluster", "west"));
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let status = |method: &str, cluster: &str| {
        let request = Request::new(method, &format!("/clusters/{cluster}")).bearer(&key.value);
        stage.send(&request).status
    };
    let seen = || ["east", "west"].map(|cluster| (status("GET", cluster), status("POST", cluster)));

    assert_eq!(seen(), [(403, 403), (403, 403)], "no role gives nothing");
    let viewer = stage.owner.bind(&account, "viewer", &stage.owner.root());
    assert_eq!(seen(), [(200, 403), (200, 403)], "viewer on the organization reads everywhere");
    let member = stage.owner.bind(&account, "member", &east);
    assert_eq!(seen(), [(200, 200), (200, 403)], "member on one cluster writes there");
    assert_applied(&stage.owner.delete(&viewer));
    assert_eq!(seen(), [(200, 200), (403, 403)], "the direct role survives");
    assert_applied(&stage.owner.patch(&member, &json!({"role_id": "viewer"})));
    assert_eq!(seen(), [(200, 403), (403, 403)], "a changed role counts at once");
    assert_applied(&stage.owner.delete(&member));
    assert_eq!(seen(), [(403, 403), (403, 403)], "and so does its removal");

    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let north = stage.owner.resource("cluster", "north");
    assert_eq!(status("GET", "north"), 200, "a new resource is covered by its ancestors' bindings");
    let archived = format!("{}/resources/{north}", stage.owner.organization);
    stage.owner.bind(&account, "owner", &north);
    assert_eq!(status("POST", "north"), 200);
    stage.owner.act(&archived, "archive");
    assert_eq!(
        (status("GET", "north"), status("POST", "north")),
        (200, 403),
        "an archived resource is only read"
    );
    assert_ne!(west, east);
}

#[test]
fn a_key_restriction_only_narrows() {
    let stage = Stage::with(crate::support::upstream::Upstream::nginx(), CLUSTER_ROUTES);
    let east = stage.owner.resource("cluster", "east");
    stage.owner.resource("cluster", "west");
    let account = stage.owner.account("ci");
    stage.owner.bind(&account, "member", &stage.owner.root());
    let restriction = json!({"permissions": ["*:read"], "resource_ids": [east]});
    let key =
        stage.owner.key_from(&account, &json!({"name": "narrow", "restriction": restriction}));
    let status = |method: &str, cluster: &str| {
        let request = Request::new(method, &format!("/clusters/{cluster}")).bearer(&key.value);
        stage.send(&request).status
    };
    assert_eq!(status("GET", "east"), 200);
    assert_eq!(status("POST", "east"), 403);
    assert_eq!(status("GET", "west"), 403);
}

#[test]
fn an_account_created_in_one_call_has_its_role_and_its_key() {
    let stage = Stage::with(crate::support::upstream::Upstream::nginx(), CLUSTER_ROUTES);
    stage.owner.resource("cluster", "east");
    let body = json!({"username": "ci", "role_id": "viewer", "create_key": {"name": "first"}});
    let created = stage.owner.post("/service-accounts", &body).expect_status(201);
    assert_eq!(created.header("cache-control"), Some("no-store"));
    assert!(created.header("location").is_some());
    let created = created.json();
    let value = created["value"].as_str().expect("the secret, once");
    assert_eq!(created["secret"].as_str(), Some(&value[value.len() - 49..]));
    stage.send(&Request::get("/clusters/east").bearer(value)).expect_status(200);
}

#[test]
fn changes_of_labels_do_not_wait_and_repeated_verbs_change_nothing() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let first = stage.owner.act(&key.path, "deactivate");
    let again = stage.owner.act(&key.path, "deactivate");
    assert_eq!(first["seq"], again["seq"], "a repeated verb commits nothing");
    assert_eq!(first["key"]["version"], again["key"]["version"]);
    let renamed = stage.owner.patch(&key.path, &json!({"name": "renamed"}));
    assert_eq!(renamed["key"]["name"], "renamed");
}
