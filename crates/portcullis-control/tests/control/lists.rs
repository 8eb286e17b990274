//! Filters of lists and what a key's derived fields say, to the millisecond.

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::harness::{Answer, Plant};

/// The usernames or names in a list, sorted: what was made in one millisecond has no order.
fn names(list: &Answer) -> Vec<String> {
    assert_eq!(list.status, 200, "{}", list.text);
    let items = list.body["items"].as_array().unwrap();
    let name = |item: &Value| {
        item.get("username").or(item.get("name")).and_then(Value::as_str).unwrap().to_owned()
    };
    let mut names: Vec<String> = items.iter().map(name).collect();
    names.sort_unstable();
    names
}

/// Writes when something was last used, as usage reports do.
async fn used(plant: &mut Plant, table: &str, id: &str, at_ms: i64) {
    plant.stop().await;
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let statement = match table {
        "api_keys" => "UPDATE api_keys SET last_used_ms = $1 WHERE id = $2",
        _ => "UPDATE service_accounts SET last_used_ms = $1 WHERE id = $2",
    };
    let done = sqlx::query(statement).bind(at_ms).bind(id).execute(&mut conn).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    conn.close().await.unwrap();
    plant.restart().await;
}

#[tokio::test]
async fn accounts_are_found_by_each_filter() {
    let mut plant = Plant::start().await;
    let terraform = json!({"username": "tf", "managed_by": "terraform", "display_name": "Builder"});
    plant.account(terraform).await;
    let off = plant.account(json!({"username": "Off"})).await;
    plant.post(&plant.s(&off, ":deactivate"), json!({})).await;
    let gone = plant.account(json!({"username": "gone"})).await;
    plant.delete(&plant.s(&gone, "")).await;
    let ended = plant.account(json!({"username": "ended"})).await;
    plant.post(&plant.s(&ended, ":revoke"), json!({})).await;
    let busy = plant.account(json!({"username": "busy"})).await;
    // 2026-11-22T00:00:01Z.
    used(&mut plant, "service_accounts", &busy, 1_795_305_601_000).await;
    for (query, expected) in [
        ("", vec!["Off", "busy", "ended", "tf"]),
        ("state=inactive", vec!["Off"]),
        ("state=revoked", vec!["ended"]),
        ("state=deleted", vec!["gone"]),
        ("include_deleted=true", vec!["Off", "busy", "ended", "gone", "tf"]),
        ("username=OFF", vec!["Off"]),
        ("username=of", vec![]),
        ("q=build", vec!["tf"]),
        ("q=%25", vec![]),
        ("managed_by=terraform", vec!["tf"]),
        // Never used counts as unused.
        ("unused_since=2026-11-22T00:00:01Z", vec!["Off", "ended", "tf"]),
        ("unused_since=2026-11-22T00:00:01.001Z", vec!["Off", "busy", "ended", "tf"]),
        ("unused_since=2026-11-22T00:00:01.001Z&state=active", vec!["busy", "tf"]),
    ] {
        let found = plant.get(&plant.o(&format!("/service-accounts?count=true&{query}"))).await;
        assert_eq!(names(&found), expected, "{query}");
        assert_eq!(found.number("/total"), expected.len() as u64, "{query}");
    }
    for (query, field, code) in [
        ("state=asleep", "state", "bad_format"),
        ("managed_by=me", "managed_by", "bad_format"),
        ("unused_since=yesterday", "unused_since", "bad_format"),
        ("colour=red", "colour", "unknown_field"),
    ] {
        let refused = plant.get(&plant.o(&format!("/service-accounts?{query}"))).await;
        refused.assert_faults(&[(field, code)]);
    }
}

#[tokio::test]
async fn a_tombstone_shows_who_it_was_and_who_deleted_it_and_nothing_else() {
    let plant = Plant::start().await;
    let body = json!({"username": "ci", "description": "secret plans", "owning_team": "t"});
    let id = plant.account(body).await;
    plant.post(&plant.s(&id, "/keys"), json!({"name": "k"})).await;
    plant.delete(&plant.s(&id, "")).await;
    let tombstone = plant.get(&plant.s(&id, "?include_deleted=true")).await;
    let mut members: Vec<&String> = tombstone.body.as_object().unwrap().keys().collect();
    members.sort();
    let expected = [
        "deleted_at",
        "deleted_by",
        "display_name",
        "id",
        "org_id",
        "state",
        "username",
        "version",
    ];
    assert_eq!(members, expected);
    assert_eq!(tombstone.text("/deleted_by/display"), "admin");
    assert_eq!(tombstone.text("/deleted_at"), "2026-11-22T00:00:00.000000Z");
    plant.get(&plant.s(&id, "")).await.assert_problem(404, "not_found");
    plant.get(&plant.s(&id, "/keys")).await.assert_problem(404, "not_found");
    assert!(!plant.get(&plant.o("/keys")).await.text.contains(&id));
}

#[tokio::test]
async fn keys_are_found_by_each_filter() {
    let mut plant = Plant::start().await;
    let (ci, main, _) = plant.agent("ci", None).await;
    let keys = plant.s(&ci, "/keys");
    plant.post(&keys, json!({"name": "short", "ttl_seconds": 60})).await;
    plant.post(&keys, json!({"name": "off", "active": false})).await;
    let ended = plant.post(&keys, json!({"name": "ended"})).await.text("/key/id");
    plant.post(&format!("{keys}/{ended}:revoke"), json!({})).await;
    let gone = plant.post(&keys, json!({"name": "gone"})).await.text("/key/id");
    plant.delete(&format!("{keys}/{gone}")).await;
    // 2026-11-22T00:00:01Z.
    used(&mut plant, "api_keys", &main, 1_795_305_601_000).await;
    plant.clock.advance_ms(60_000);
    let mine = format!("owner_id={ci}");
    for (query, expected) in [
        ("", vec!["ended", "main", "off", "short"]),
        ("state=inactive", vec!["off"]),
        ("state=revoked", vec!["ended"]),
        ("name=main", vec!["main"]),
        ("expired=true", vec!["short"]),
        ("expired=false", vec!["ended", "main", "off"]),
        ("unused_since=2026-11-22T00:00:01Z", vec!["ended", "off", "short"]),
        ("unused_since=2026-11-22T00:00:01.001Z", vec!["ended", "main", "off", "short"]),
    ] {
        let of_account = plant.get(&format!("{keys}?count=true&{query}")).await;
        let of_all = plant.get(&plant.o(&format!("/keys?count=true&{mine}&{query}"))).await;
        for found in [of_account, of_all] {
            assert_eq!(names(&found), expected, "{query}");
            assert_eq!(found.number("/total"), expected.len() as u64, "{query}");
        }
    }
    for (query, expected) in [
        ("", vec!["admin-token", "ended", "main", "off", "short"]),
        ("state=active", vec!["admin-token", "main", "short"]),
        ("state=inactive", vec!["off"]),
        ("owner_kind=user", vec!["admin-token"]),
        ("owner_kind=service_account", vec!["ended", "main", "off", "short"]),
        ("owner_id=nobody", vec![]),
        ("older_than_days=0&owner_kind=user", vec!["admin-token"]),
        ("older_than_days=1&owner_kind=user", vec![]),
    ] {
        let found = plant.get(&plant.o(&format!("/keys?count=true&{query}"))).await;
        assert_eq!(names(&found), expected, "{query}");
        assert_eq!(found.number("/total"), expected.len() as u64, "{query}");
    }
    for (query, field, code) in [
        ("state=deleted", "state", "bad_format"),
        ("expired=maybe", "expired", "bad_format"),
        ("owner_kind=group", "owner_kind", "bad_format"),
        ("older_than_days=-1", "older_than_days", "bad_format"),
        ("stale=1", "stale", "bad_format"),
    ] {
        let refused = plant.get(&plant.o(&format!("/keys?{query}"))).await;
        refused.assert_faults(&[(field, code)]);
    }
}

#[tokio::test]
async fn derived_fields_turn_at_their_millisecond() {
    const DAY_MS: u64 = 86_400_000;
    let plant = Plant::start().await;
    plant.patch(&plant.o("/policy"), json!({"retire_after_days": 2})).await;
    let (id, key, _) = plant.agent("ci", None).await;
    let path = plant.s(&id, &format!("/keys/{key}"));
    let body = json!({"name": "short", "expires_at": "2026-11-23T00:00:00.001Z"});
    let short = plant.post(&plant.s(&id, "/keys"), body).await.text("/key/id");
    let short = plant.s(&id, &format!("/keys/{short}"));
    let derived = async |path: &str| {
        let key = plant.get(path).await.body;
        (
            key["age_days"].as_u64().unwrap(),
            key["stale"] == true,
            key["expired"] == true,
            key["usable"] == true,
        )
    };
    let stale = async || names(&plant.get(&plant.o("/keys?stale=true&name=main")).await).len();
    assert_eq!(derived(&path).await, (0, false, false, true));
    plant.clock.advance_ms(DAY_MS - 1);
    assert_eq!(derived(&path).await, (0, false, false, true));
    plant.clock.advance_ms(1);
    assert_eq!(derived(&path).await, (1, false, false, true));
    assert_eq!(derived(&short).await, (1, false, false, true));
    plant.clock.advance_ms(1);
    assert_eq!(derived(&short).await, (1, false, true, false), "expired at the instant itself");
    plant.clock.advance_ms(DAY_MS - 2);
    assert_eq!((derived(&path).await, stale().await), ((1, false, false, true), 0));
    plant.clock.advance_ms(1);
    assert_eq!((derived(&path).await, stale().await), ((2, true, false, true), 1));
    // Age counts from the last rotation.
    plant.post(&format!("{path}:rotate"), json!({})).await;
    assert_eq!((derived(&path).await, stale().await), ((0, false, false, true), 0));
    plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    assert_eq!(derived(&path).await, (0, false, false, false));
}

#[tokio::test]
async fn the_total_is_that_of_the_whole_list_whatever_came_and_went() {
    let plant = Plant::start().await;
    let (ci, ..) = plant.agent("ci", Some("viewer")).await;
    plant.agent("other", Some("viewer")).await;
    let theirs = plant.get(&plant.o(&format!("/role-bindings?subject_id={ci}"))).await;
    let binding = theirs.text("/items/0/id");
    plant.delete(&plant.o(&format!("/role-bindings/{binding}"))).await;
    for list in ["/role-bindings", "/role-bindings?role_id=viewer", "/audit-events"] {
        let whole = plant.get(&plant.o(list)).await;
        let expected = whole.body["items"].as_array().unwrap().len();
        let and = if list.contains('?') { '&' } else { '?' };
        let one = plant.get(&plant.o(&format!("{list}{and}count=true&page_size=1"))).await;
        assert_eq!(one.number("/total"), expected as u64, "{list}");
    }
}
