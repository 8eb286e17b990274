//! Export and import: everything comes back as it was, in an empty installation, or nothing does.

use std::io::Cursor;
use std::sync::Arc;

use portcullis_control::{FeedSigner, ImportError, Imported, Settings, Started};
use portcullis_core::feed::Kind;
use portcullis_core::key::{Pepper, PepperRing};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::Gateway;

/// An installation with something of everything; the values of keys that work.
async fn filled() -> (Plant, Vec<String>) {
    let plant = Plant::start().await;
    let cluster = plant.resource("cluster", "k1").await;
    let project = json!({"kind": "project", "name": "p1", "parent_id": cluster});
    let project = plant.post(&plant.o("/resources"), project).await.text("/resource/id");
    // Older than its parent: order by age would put the child first.
    let late = plant.resource("workspace", "w1").await;
    let moved = plant.o(&format!("/resources/{cluster}"));
    assert_eq!(plant.patch(&moved, json!({"parent_id": late})).await.status, 200);
    let (ci, key, first) = plant.agent("ci", Some("viewer")).await;
    let grant = json!({"resource_ids": [project], "role_id": "member"});
    plant.post(&plant.s(&ci, "/access:grant"), grant).await;
    let rotate = plant.s(&ci, &format!("/keys/{key}:rotate"));
    let second = plant.post(&rotate, json!({"retain_minutes": 600})).await.text("/value");
    let narrow = json!({"name": "narrow", "restriction": {"resource_ids": [project]}});
    let narrow = plant.post(&plant.s(&ci, "/keys"), narrow).await.text("/value");
    let (gone, ..) = plant.agent("gone", None).await;
    plant.delete(&plant.s(&gone, "")).await;
    let (ended, ..) = plant.agent("ended", None).await;
    plant.post(&plant.s(&ended, ":revoke"), json!({})).await;
    let ann = json!({"username": "ann", "email": "a@example.org", "role_id": "admin"});
    let ann = plant.post(&plant.o("/users"), ann).await.text("/user/id");
    let keys = plant.o(&format!("/users/{ann}/keys"));
    let anns = plant.post(&keys, json!({"name": "laptop"})).await.text("/value");
    let team = plant.post(&plant.o("/groups"), json!({"name": "team"})).await.text("/group/id");
    for (kind, id) in [("service_account", &ci), ("user", &ann)] {
        let member = json!({"principal": {"kind": kind, "id": id}});
        let joined = plant.post(&plant.o(&format!("/groups/{team}/members")), member).await;
        assert_eq!(joined.status, 201, "{}", joined.text);
    }
    let acme = json!({"name": "acme", "profile": "zenml", "owner": {"username": "root"}});
    let acme = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(acme);
    let root = acme.send().await.text("/value");
    let values = vec![plant.admin.clone(), first, second, narrow, anns, root];
    (plant, values)
}

async fn export(plant: &Plant, path: &str, token: &str) -> Answer {
    let export = plant.ask(Method::GET, path).token(token).send().await;
    assert_eq!(export.status, 200, "{}", export.text);
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    assert_eq!(export.header("cache-control"), "no-store");
    export
}

/// A new data directory without anything, and what importing into it came to.
async fn import(
    plant: &mut Plant,
    text: &str,
) -> (Result<Imported, ImportError>, Option<(String, String)>) {
    plant.move_to_a_new_directory().await;
    import_with(plant, text, vec![Pepper::new(1, [7; 32])]).await
}

async fn import_with(
    plant: &Plant,
    text: &str,
    peppers: Vec<Pepper>,
) -> (Result<Imported, ImportError>, Option<(String, String)>) {
    let settings = Settings {
        peppers: Arc::new(PepperRing::new(peppers).unwrap()),
        signer: FeedSigner::from_seed(&[9; 32]),
        ..Plant::settings(&plant.database(), Settings::CHANGE_LOG_LENGTH)
    };
    let control = portcullis_control::open(settings, plant.clock.clone(), plant.entropy(77));
    let control = control.await.unwrap();
    let (mut tokens, mut lines) = (None, 0);
    let outcome = control
        .import(
            Cursor::new(text.as_bytes().to_vec()),
            true,
            |line| lines = line,
            |fresh| {
                let plain = |key: &portcullis_core::key::PlainKey| key.expose().to_owned();
                tokens = Some((plain(&fresh.operator), plain(&fresh.gateway)));
                Ok(())
            },
        )
        .await;
    if let Ok(imported) = &outcome {
        assert_eq!(lines, imported.rows + 1, "progress was told");
    }
    control.close().await;
    (outcome, tokens)
}

/// Everything that the admin API shows of the default organization.
async fn shown(plant: &Plant) -> Vec<Value> {
    let mut all = Vec::new();
    for list in [
        "",
        "/policy",
        "/resources",
        "/users",
        "/users?state=removed",
        "/keys",
        "/role-bindings",
        "/groups",
        "/service-accounts?include_deleted=true",
    ] {
        let read = plant.get(&plant.o(list)).await;
        assert_eq!(read.status, 200, "{list}: {}", read.text);
        all.push(without_usage(read.body));
    }
    all
}

/// What else counts uses.
const USE_COUNTS: [&str; 2] = ["denied_count", "use_count"];

/// Looking at something is a use of the key at hand, so usage differs by when it was written.
fn without_usage(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(without_usage).collect(),
        Value::Object(members) => members
            .into_iter()
            .filter(|(name, _)| !name.contains("_used") && !USE_COUNTS.contains(&name.as_str()))
            .map(|(name, value)| (name, without_usage(value)))
            .collect(),
        other => other,
    }
}

#[tokio::test]
async fn an_installation_comes_back_as_it_was_and_gateways_start_over() {
    let (mut plant, values) = filled().await;
    let before = shown(&plant).await;
    let state = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    let operator = plant.operator.clone();
    let export = export(&plant, "/v1/export", &operator).await;
    for value in &values {
        assert!(!export.text.contains(&value[16..]), "no secret is in an export");
    }
    let events = plant.get(&plant.o("/audit-events?page_size=200")).await.body;

    let (outcome, tokens) = import(&mut plant, &export.text).await;
    let imported = outcome.unwrap();
    assert_eq!(imported.rows, export.text.lines().count() as u64 - 2);
    assert!(imported.broken_audit_logs.is_empty());
    assert_eq!(plant.restart().await, Started::Existing);
    assert_eq!(shown(&plant).await, before);
    for value in &values {
        assert_eq!(plant.accepts(value).await, 200);
    }
    let (new_operator, new_gateway) = tokens.unwrap();
    for token in [&operator, &new_operator] {
        assert_eq!(plant.accepts(token).await, 200, "the old and the new operator's key work");
    }
    assert_eq!(plant.get(&plant.o("/audit-events?page_size=200")).await.body, events);
    let verdict = plant.get(&plant.o("/audit-events:verify")).await;
    assert_eq!(verdict.body["ok"], true);

    // The same records in the next epoch: a gateway of the old installation starts over.
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let changes = gateway.changes(state.position).await;
    assert_eq!(changes.status(), 410);
    let after = gateway.snapshot().await;
    assert_eq!(after.records, state.records);
    assert_eq!(after.position.epoch, state.position.epoch + 1);
    assert!(after.position > state.position);
    plant.gateway_token = new_gateway;
    Gateway { plant: &plant, id: "gw-2" }.snapshot().await;
    // Life goes on.
    plant.account(json!({"username": "new"})).await;
}

#[tokio::test]
async fn one_organization_comes_alone_with_its_audit_log() {
    let (mut plant, values) = filled().await;
    let before = shown(&plant).await;
    let token = plant.admin.clone();
    let export = export(&plant, &plant.o("/export"), &token).await;
    assert!(!export.text.contains("acme"), "nothing of another organization");
    assert!(!export.text.contains("installation_keys"));
    let event = plant.last_event().await;
    assert_eq!(event["action"], "organization.export");

    let (outcome, tokens) = import(&mut plant, &export.text).await;
    outcome.unwrap();
    // The audit events of the other organization stayed behind, its positions did not.
    plant.tampered = true;
    plant.restart().await;
    let old_operator = std::mem::replace(&mut plant.operator, tokens.unwrap().0);
    assert_eq!(plant.accepts(&old_operator).await, 401);
    assert_eq!(shown(&plant).await, before);
    let (last, mine) = values.split_last().unwrap();
    for value in mine {
        assert_eq!(plant.accepts(value).await, 200);
    }
    assert_eq!(plant.accepts(last).await, 401, "the other organization stayed behind");
    assert_eq!(plant.last_event().await["action"], "organization.import");
    let verdict = plant.get(&plant.o("/audit-events:verify")).await;
    assert_eq!(verdict.body["ok"], true);
    let all = plant.ask(Method::GET, "/v1/organizations?count=true").token(&plant.operator);
    assert_eq!(all.send().await.number("/total"), 1);
}

#[tokio::test]
async fn who_may_not_see_everything_gets_no_export() {
    let plant = Plant::start().await;
    let (_, _, admin) = plant.agent("admin", Some("admin")).await;
    for path in ["/v1/export".to_owned(), plant.o("/export")] {
        let ask = plant.ask(Method::GET, &path).token(&admin);
        ask.send().await.assert_problem(403, "permission_denied");
    }
    plant.get("/v1/export").await.assert_problem(403, "permission_denied");
    let foreign = plant.get("/v1/organizations/nobody/export").await;
    foreign.assert_problem(404, "not_found");
    let operator = plant.ask(Method::GET, &plant.o("/export")).token(&plant.operator);
    assert_eq!(operator.send().await.status, 200);
}

#[tokio::test]
async fn a_filled_installation_takes_no_import() {
    let (mut plant, _) = filled().await;
    let token = plant.operator.clone();
    let export = export(&plant, "/v1/export", &token).await;
    plant.stop().await;
    let (outcome, tokens) = import_with(&plant, &export.text, vec![Pepper::new(1, [7; 32])]).await;
    assert!(matches!(outcome, Err(ImportError::NotEmpty)), "{outcome:?}");
    assert!(tokens.is_none());
    plant.restart().await;
    assert_eq!(plant.accepts(&plant.admin).await, 200);
}

#[tokio::test]
async fn another_pepper_is_noticed_before_anything_is_imported() {
    let (mut plant, _) = filled().await;
    let token = plant.operator.clone();
    let export = export(&plant, "/v1/export", &token).await;
    plant.move_to_a_new_directory().await;
    for peppers in [vec![Pepper::new(1, [8; 32])], vec![Pepper::new(2, [7; 32])]] {
        let (outcome, _) = import_with(&plant, &export.text, peppers).await;
        assert!(matches!(outcome, Err(ImportError::WrongPepper(1))), "{outcome:?}");
    }
    let both = vec![Pepper::new(2, [8; 32]), Pepper::new(1, [7; 32])];
    assert!(import_with(&plant, &export.text, both).await.0.is_ok());
}

#[tokio::test]
async fn a_damaged_or_cut_file_is_refused_with_its_line_and_nothing_is_imported() {
    let (mut plant, _) = filled().await;
    let token = plant.operator.clone();
    let text = export(&plant, "/v1/export", &token).await.text;
    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let changed = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        joined(&lines)
    };
    let digit = lines[7].replacen("\"version\":1", "\"version\":9", 1);
    assert_ne!(digit, lines[7]);
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    plant.move_to_a_new_directory().await;
    let last = lines.len() as u64;
    for (what, text, line) in [
        ("nothing", String::new(), Some(0)),
        ("no export", "{\"hello\": 1}\n".to_owned(), Some(1)),
        ("a changed digit", changed(7, &digit), Some(8)),
        ("a missing line", joined(&[&lines[..3], &lines[4..]].concat()), Some(4)),
        ("swapped lines", joined(&swapped), Some(5)),
        ("a line twice", joined(&[&lines[..4], &lines[3..]].concat()), Some(5)),
        ("no last line", joined(&lines[..lines.len() - 1]), Some(last - 1)),
        ("half a line", text[..text.len() - 9].to_owned(), Some(last)),
        ("something after it", format!("{text}{}\n", lines[0]), Some(last + 1)),
    ] {
        let (outcome, tokens) = import_with(&plant, &text, vec![Pepper::new(1, [7; 32])]).await;
        let found = match &outcome {
            Err(ImportError::Line { line, .. }) | Err(ImportError::Truncated(line)) => Some(*line),
            _ => None,
        };
        assert_eq!(found, line, "{what}: {outcome:?}");
        assert!(tokens.is_none(), "{what}");
    }
    let (outcome, _) = import_with(&plant, &text, vec![Pepper::new(1, [7; 32])]).await;
    assert!(outcome.is_ok(), "the damaged ones left nothing behind: {outcome:?}");
}

#[tokio::test]
async fn no_tombstone_is_forgotten_by_moving_house() {
    let (mut plant, _) = filled().await;
    let token = plant.operator.clone();
    let text = export(&plant, "/v1/export", &token).await.text;
    import(&mut plant, &text).await.0.unwrap();
    plant.restart().await;
    plant.patch(&plant.o("/policy"), json!({"username_reuse_after_delete": false})).await;
    let again = plant.post(&plant.o("/service-accounts"), json!({"username": "gone"})).await;
    again.assert_problem(409, "username_taken");
    let state = Gateway { plant: &plant, id: "gw-1" }.snapshot().await;
    let accounts = state.records.keys().filter(|(kind, _)| *kind == Kind::Account).count();
    assert_eq!(accounts, 4, "admin, ann, root and ci; nobody who is gone");
}

#[tokio::test]
async fn exports_that_nobody_reads_leave_the_database_to_everybody_else() {
    let plant = Plant::start().await;
    // More than the sockets and buffers between there and here can hold.
    for n in 0..100 {
        let long = "x".repeat(65_000);
        plant.account(json!({"username": format!("ci-{n}"), "description": long})).await;
    }
    let path = plant.o("/export");
    let begin = async |path: &str, token: &str| {
        let url = format!("{}{path}", plant.base);
        plant.client.get(url).bearer_auth(token).send().await.unwrap()
    };
    let mut begun = Vec::new();
    for _ in 0..4 {
        begun.push(begin(&path, &plant.admin).await);
    }
    assert_eq!(plant.accepts(&plant.admin).await, 200, "somebody else is served");
    let statuses: Vec<u16> = begun.iter().map(|export| export.status().as_u16()).collect();
    assert_eq!(statuses, [200, 503, 503, 503], "one of an organization at a time");
    let refused = plant.get(&path).await;
    refused.assert_problem(503, "unavailable");
    assert_ne!(refused.header("retry-after"), "");
    let exported = plant.get(&plant.o("/audit-events?action=organization.export&count=true")).await;
    assert_eq!(exported.number("/total"), 1, "what was refused was not taken");

    // Of all exports, two at a time.
    begun.push(begin("/v1/export", &plant.operator).await);
    assert_eq!(begun[4].status(), 200);
    let acme = json!({"name": "acme", "profile": "zenml", "owner": {"username": "root"}});
    let acme = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(acme);
    let acme = acme.send().await;
    let theirs = format!("/v1/organizations/{}/export", acme.text("/organization/id"));
    let asked = async || plant.ask(Method::GET, &theirs).token(&acme.text("/value")).send().await;
    asked().await.assert_problem(503, "unavailable");
    assert_eq!(plant.accepts(&plant.admin).await, 200);

    // The end of one makes room, however it ends.
    drop(begun);
    while asked().await.status != 200 {}
    while plant.get(&path).await.status != 200 {}
}
