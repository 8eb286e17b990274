//! Large organizations: how lists search, and that their statements follow indexes.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Connection as _;

use crate::harness::Plant;

/// An organization with 25,000 more accounts, every 5,000th of them called needle.
async fn with_many_accounts() -> Plant {
    let mut plant = Plant::start().await;
    plant.agent("template", Some("viewer")).await;
    plant.stop().await;
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let statement = "INSERT INTO service_accounts (id, org_id, username, username_key,
             display_name, state, author, managed_by, external_refs, created_ms, updated_ms, version)
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 25000)
         SELECT printf('%08d', n), org_id,
             iif(n % 5000 = 0, 'needle-', 'straw-') || n, iif(n % 5000 = 0, 'needle-', 'straw-') || n,
             display_name, state, author, managed_by, external_refs, created_ms + n / 3, updated_ms, 1
         FROM numbers, service_accounts WHERE username = 'template'";
    sqlx::query(statement).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    plant.restart().await;
    plant
}

#[tokio::test]
async fn a_search_stops_at_its_horizon_and_its_cursor_leads_on_to_everything() {
    let plant = with_many_accounts().await;
    for order in ["created_at", "-created_at"] {
        let start = plant.o(&format!("/service-accounts?q=needle&page_size=2&order_by={order}"));
        let (mut path, mut found, mut pages) = (start.clone(), Vec::new(), 0);
        loop {
            let page = plant.get(&path).await;
            assert_eq!(page.status, 200, "{}", page.text);
            let items = page.body["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            found.extend(items.iter().map(|item| item["username"].as_str().unwrap().to_owned()));
            pages += 1;
            match page.body["next_cursor"].as_str() {
                Some(cursor) => path = format!("{start}&cursor={cursor}"),
                None => break,
            }
        }
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!((found.len(), distinct.len()), (5, 5), "each exactly once: {found:?}");
        // 25,001 rows at 10,000 to a page, or 2 needles to a page.
        assert!((3..=6).contains(&pages), "{pages} pages");
    }
    let counted = plant.get(&plant.o("/service-accounts?q=needle&count=true&page_size=1")).await;
    assert_eq!(counted.number("/total"), 5);
    let nothing = plant.get(&plant.o("/service-accounts?q=nothing")).await;
    assert_eq!(nothing.body["items"], json!([]));
    assert!(nothing.body["next_cursor"].is_string(), "the search goes on");
}

/// Of each statement the index it must follow, in the order that it gives.
#[tokio::test]
async fn lists_follow_an_index_that_gives_their_order() {
    let mut plant = Plant::start().await;
    plant.stop().await;
    let url = format!("sqlite://{}", plant.database().display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let members = "id IN (SELECT principal_id FROM memberships WHERE group_id = 'g')";
    let sql = format!(
        "EXPLAIN QUERY PLAN SELECT * FROM service_accounts WHERE COALESCE(org_id, '') = 'o'
             AND {members} AND state <> 'deleted' ORDER BY created_ms, id LIMIT 101"
    );
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
    assert!(steps.iter().any(|step| step.3.contains("(id=?)")), "{steps:?}");
    let ordered = "ORDER BY created_ms, id LIMIT 101";
    let after = format!("AND (created_ms, id) > (1, 'x') {ordered}");
    for (table, conditions, index) in [
        ("service_accounts", "org_id = 'o' AND state <> 'deleted'", "service_accounts_by_org"),
        ("service_accounts", "org_id = 'o' AND state = 's'", "service_accounts_by_state"),
        ("service_accounts", "org_id = 'o' AND username_key = 'n'", "service_accounts_by_name"),
        ("service_accounts", "org_id = 'o' AND managed_by = 'm'", "service_accounts_by_manager"),
        ("api_keys", "org_id = 'o' AND state <> 'deleted'", "api_keys_by_org"),
        ("api_keys", "org_id = 'o' AND state <> 'deleted' AND state = 's'", "api_keys_by_state"),
        ("api_keys", "org_id = 'o' AND owner_id = 'a' AND state <> 'deleted'", "api_keys_by_owner"),
        ("api_keys", "org_id = 'o' AND owner_kind = 'user'", "api_keys_by_owner_kind"),
        ("resources", "org_id = 'o' AND parent_id = 'p'", "resources_by_parent"),
        ("memberships", "group_id = 'g' AND principal_kind = 'user'", "memberships_by_kind"),
        ("role_bindings", "org_id = 'o' AND role_id = 'r'", "role_bindings_by_role"),
        ("role_bindings", "org_id = 'o' AND subject_id = 's'", "role_bindings_by_subject"),
        ("role_bindings", "org_id = 'o' AND subject_kind = 'k'", "role_bindings_by_subject_kind"),
        ("role_bindings", "org_id = 'o' AND resource_id = 'r'", "role_bindings_by_resource"),
    ] {
        for rest in [ordered, after.as_str()] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {conditions} {rest}");
            let steps: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut conn).await.unwrap();
            let plan: Vec<&str> = steps.iter().map(|step| step.3.as_str()).collect();
            assert_eq!(plan.len(), 1, "no sorting: {conditions}: {plan:?}");
            let wanted = format!("USING INDEX {index} (");
            assert!(plan.iter().all(|step| step.contains(&wanted)), "{conditions}: {plan:?}");
        }
    }
}
