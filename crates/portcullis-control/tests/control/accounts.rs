//! Service accounts: names, states, and what their end ends.

use reqwest::Method;
use serde_json::json;

use crate::harness::Plant;

#[tokio::test]
async fn an_account_is_created_with_role_and_key_in_one_call() {
    let plant = Plant::start().await;
    let body = json!({
        "username": "ci", "display_name": "CI für Köln", "description": "builds\nand tests",
        "owning_team": "platform", "role_id": "viewer", "create_key": {"name": "first"},
        "external_refs": [{"system": "zenml", "workspace_id": "w1", "legacy_id": "l1"}],
    });
    let made = plant.post(&plant.o("/service-accounts"), body).await;
    assert_eq!(made.status, 201);
    let id = made.text("/service_account/id");
    assert_eq!(made.header("location"), plant.s(&id, ""));
    assert_eq!(made.header("etag"), "\"1\"");
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(made.body["service_account"]["state"], "active");
    assert_eq!(made.body["service_account"]["is_bot"], true);
    assert_eq!(made.body["service_account"]["key_count"], 1);
    assert_eq!(made.body["service_account"]["author"]["kind"], "user");
    assert_eq!(made.body["service_account"]["created_at"], "2026-11-22T00:00:00.000000Z");
    assert_eq!(made.body["gateways"], json!({"applied": [], "pending": [], "fenced": []}));
    assert_eq!(made.body["warnings"], json!([]));
    assert_eq!(plant.accepts(&made.text("/value")).await, 200);
    let whoami = plant.ask(Method::GET, "/v1/whoami").token(&made.text("/value")).send().await;
    assert_eq!(
        whoami.body["principal"],
        json!({"kind": "service_account", "id": id, "username": "ci"})
    );
    assert_eq!(whoami.body["permissions"], json!(["*:read"]));
    assert_eq!(whoami.body["generation"], 1);

    let read = plant.get(&plant.s(&id, "")).await;
    assert_eq!(read.body, made.body["service_account"]);
    assert!(!read.text.contains(&made.text("/secret")));
}

#[tokio::test]
async fn a_failing_part_of_a_create_leaves_nothing_behind() {
    let plant = Plant::start().await;
    let body = json!({
        "username": "ci", "create_key": {"name": "k", "expires_at": "2020-01-01T00:00:00Z"},
    });
    let refused = plant.post(&plant.o("/service-accounts"), body).await;
    refused.assert_faults(&[("create_key.expires_at", "out_of_range")]);
    assert_eq!(plant.get(&plant.o("/service-accounts?count=true")).await.number("/total"), 0);
    plant.account(json!({"username": "ci"})).await;
}

#[tokio::test]
async fn a_username_is_unique_by_case_and_composition_and_free_after_deletion() {
    let plant = Plant::start().await;
    let path = plant.o("/service-accounts");
    let first = plant.account(json!({"username": "K\u{f6}ln"})).await;
    plant
        .post(&path, json!({"username": " KO\u{308}LN "}))
        .await
        .assert_problem(409, "username_taken");
    let other = plant.account(json!({"display_name": "Finance Team (2)"})).await;
    let shown = plant.get(&plant.s(&other, "")).await;
    assert_eq!(shown.text("/username"), "finance-team-2");
    assert_eq!(shown.text("/display_name"), "Finance Team (2)");
    plant
        .patch(&plant.s(&other, ""), json!({"username": "k\u{f6}ln"}))
        .await
        .assert_problem(409, "username_taken");
    assert_eq!(plant.delete(&plant.s(&first, "")).await.status, 200);
    let second = plant.account(json!({"username": "k\u{f6}ln"})).await;
    assert_ne!(first, second);
}

#[tokio::test]
async fn bad_fields_are_named_all_at_once() {
    let plant = Plant::start().await;
    let path = plant.o("/service-accounts");
    plant.post(&path, json!({})).await.assert_faults(&[("username", "required")]);
    let body = json!({
        "username": "a\u{202e}b", "display_name": "", "state": "revoked", "managed_by": "nobody",
        "bindings": [{"role_id": "viewer"}],
    });
    plant.post(&path, body).await.assert_faults(&[
        ("username", "bad_format"),
        ("display_name", "out_of_range"),
        ("managed_by", "bad_format"),
        ("bindings[0].resource_id", "required"),
        ("state", "unknown_field"),
    ]);
    let body = json!({"username": "x", "role_id": "king"});
    plant.post(&path, body).await.assert_faults(&[("role_id", "unknown_reference")]);
    let body = json!({
        "username": "x", "bindings": [{"role_id": "manager", "resource_id": plant.root}],
    });
    plant.post(&path, body).await.assert_faults(&[("bindings[0].role_id", "policy")]);
}

#[tokio::test]
async fn deactivation_stops_all_keys_and_activation_restores_only_active_ones() {
    let plant = Plant::start().await;
    let (id, _, value) = plant.agent("ci", Some("viewer")).await;
    let second = plant.post(&plant.s(&id, "/keys"), json!({"name": "second"})).await;
    let path = plant.s(&id, &format!("/keys/{}:deactivate", second.text("/key/id")));
    assert_eq!(plant.post(&path, json!({})).await.status, 200);

    let off = plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    assert_eq!((off.status.as_u16(), off.number("/deleted_key_count")), (200, 0));
    assert_eq!(off.text("/service_account/state"), "inactive");
    assert_eq!(plant.accepts(&value).await, 401);
    plant
        .post(&plant.s(&id, "/keys"), json!({"name": "third"}))
        .await
        .assert_problem(409, "service_account_inactive");

    let again = plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["service_account"]["version"], off.body["service_account"]["version"]);
    assert_eq!(again.body["seq"], off.body["seq"]);

    assert_eq!(plant.post(&plant.s(&id, ":activate"), json!({})).await.status, 200);
    assert_eq!(plant.accepts(&value).await, 200);
    assert_eq!(plant.accepts(&second.text("/value")).await, 401);
}

#[tokio::test]
async fn revocation_is_final_but_listed_and_deletion_leaves_a_tombstone() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let revoked = plant.post(&plant.s(&id, ":revoke"), json!({})).await;
    assert_eq!(revoked.text("/service_account/state"), "revoked");
    assert_eq!(plant.accepts(&value).await, 401);
    let shown = plant.get(&plant.s(&id, &format!("/keys/{key}"))).await;
    assert_eq!(shown.text("/state"), "revoked");
    assert_eq!(plant.post(&plant.s(&id, ":revoke"), json!({})).await.status, 200);
    plant.post(&plant.s(&id, ":activate"), json!({})).await.assert_problem(409, "state_terminal");
    plant
        .patch(&plant.s(&id, ""), json!({"description": "x"}))
        .await
        .assert_problem(409, "state_terminal");
    plant
        .post(&plant.s(&id, "/keys"), json!({"name": "x"}))
        .await
        .assert_problem(409, "state_terminal");
    plant
        .post(
            &plant.s(&id, "/access:grant"),
            json!({"resource_ids": [plant.root], "role_id": "viewer"}),
        )
        .await
        .assert_problem(409, "state_terminal");

    assert_eq!(plant.delete(&plant.s(&id, "")).await.status, 200);
    plant.delete(&plant.s(&id, "")).await.assert_problem(404, "not_found");
    plant.get(&plant.s(&id, "")).await.assert_problem(404, "not_found");
    plant.get(&plant.s(&id, "/keys")).await.assert_problem(404, "not_found");
    let tombstone = plant.get(&plant.s(&id, "?include_deleted=true")).await;
    assert_eq!(tombstone.text("/state"), "deleted");
    assert_eq!(tombstone.text("/username"), "ci");
    assert_eq!(tombstone.body.get("description"), None);
    let keys = plant.get(&plant.o("/keys?owner_kind=service_account")).await;
    assert_eq!(keys.body["items"], json!([]));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "description": "a", "owning_team": "t"})).await;
    let patched = plant.patch(&plant.s(&id, ""), json!({"description": null})).await;
    assert_eq!(patched.status, 200);
    assert_eq!(patched.header("etag"), "\"2\"");
    assert_eq!(patched.body["service_account"]["description"], json!(null));
    assert_eq!(patched.text("/service_account/owning_team"), "t");
    plant
        .patch(&plant.s(&id, ""), json!({"state": "active", "username": null, "x": 1}))
        .await
        .assert_faults(&[
            ("username", "bad_format"),
            ("state", "read_only"),
            ("x", "unknown_field"),
        ]);
}

#[tokio::test]
async fn lists_filter_page_and_count() {
    let plant = Plant::start().await;
    for n in 0..7 {
        plant.account(json!({"username": format!("bot-{n}"), "managed_by": "terraform"})).await;
        plant.clock.advance_ms(1);
    }
    let odd = plant.account(json!({"username": "odd_one"})).await;
    plant.post(&plant.s(&odd, ":deactivate"), json!({})).await;
    let names = |answer: &crate::harness::Answer| -> Vec<String> {
        let items = answer.body["items"].as_array().unwrap();
        items.iter().map(|item| item["username"].as_str().unwrap().to_owned()).collect()
    };
    let path = plant.o("/service-accounts");
    let inactive = plant.get(&format!("{path}?state=inactive")).await;
    assert_eq!(names(&inactive), ["odd_one"]);
    assert_eq!(names(&plant.get(&format!("{path}?username=ODD_one")).await), ["odd_one"]);
    // `_` stands for itself.
    assert_eq!(names(&plant.get(&format!("{path}?q=t_")).await), Vec::<String>::new());
    assert_eq!(names(&plant.get(&format!("{path}?q=d_o")).await), ["odd_one"]);

    let query = "managed_by=terraform&page_size=3&order_by=-created_at&count=true";
    let first = plant.get(&format!("{path}?{query}")).await;
    assert_eq!(names(&first), ["bot-6", "bot-5", "bot-4"]);
    assert_eq!(first.number("/total"), 7);
    let cursor = first.text("/next_cursor");
    plant.account(json!({"username": "late", "managed_by": "terraform"})).await;
    let second = plant.get(&format!("{path}?{query}&cursor={cursor}")).await;
    assert_eq!(names(&second), ["bot-3", "bot-2", "bot-1"]);
    let third = format!("{path}?{query}&cursor={}", second.text("/next_cursor"));
    let third = plant.get(&third).await;
    assert_eq!(names(&third), ["bot-0"]);
    assert_eq!(third.body["next_cursor"], json!(null));

    plant
        .get(&format!("{path}?page_size=3&cursor={cursor}"))
        .await
        .assert_problem(400, "invalid_cursor");
    plant.get(&format!("{path}?{query}&cursor=AAAA")).await.assert_problem(400, "invalid_cursor");
    plant.get(&format!("{path}?page_size=201&order_by=name&colour=red")).await.assert_faults(&[
        ("page_size", "out_of_range"),
        ("order_by", "bad_format"),
        ("colour", "unknown_field"),
    ]);
}

#[tokio::test]
async fn a_profile_decides_what_is_offered() {
    let plant = Plant::start().await;
    let body = json!({
        "name": "hub", "profile": "aihub", "owner": {"username": "root"},
    });
    let made = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let made = made.send().await;
    assert_eq!(made.status, 201, "{}", made.text);
    let owner = made.text("/value");
    let base = format!("/v1/organizations/{}/service-accounts", made.text("/organization/id"));
    let body = json!({"username": "x", "create_key": {"name": "k"}});
    let agent = plant.ask(Method::POST, &base).token(&owner).json(body).send().await;
    let path = format!("{base}/{}", agent.text("/service_account/id"));
    let post = |rest: &str| {
        plant.ask(Method::POST, &format!("{path}{rest}")).token(&owner).json(json!({})).send()
    };
    post(":revoke").await.assert_problem(409, "operation_not_offered");
    let key = format!("/keys/{}", agent.text("/key/id"));
    post(&format!("{key}:deactivate")).await.assert_problem(409, "operation_not_offered");
    post(&format!("{key}:revoke")).await.assert_problem(409, "operation_not_offered");
    let off = post(":deactivate").await;
    assert_eq!(off.number("/deleted_key_count"), 1);
    assert_eq!(post(":activate").await.status, 200);
    assert_eq!(plant.accepts(&agent.text("/value")).await, 401);
}
