//! Lists, objects, and the snapshot.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::plant::{Plant, Sample};
use crate::report::{self, Bar, ms};

const PAGES: usize = 30;

/// Every list with every filter: the first page, and the pages after it.
pub(crate) async fn lists(plant: &Plant) {
    let samples = plant.samples();
    let account = &samples.first().expect("a sample").account;
    let (role, group, resource) =
        (plant.id("big_role"), plant.id("big_group"), plant.id("big_resource"));
    let root = plant.id("root");
    let lists = [
        "/service-accounts".to_owned(),
        "/service-accounts?order_by=-created_at".to_owned(),
        "/service-accounts?state=inactive".to_owned(),
        "/service-accounts?state=revoked".to_owned(),
        "/service-accounts?state=deleted".to_owned(),
        "/service-accounts?username=everywhere-00000500".to_owned(),
        "/service-accounts?q=000500".to_owned(),
        "/service-accounts?q=nothing-like-this".to_owned(),
        "/service-accounts?managed_by=terraform".to_owned(),
        "/service-accounts?unused_since=2024-01-01T00:00:00Z".to_owned(),
        "/service-accounts?include_deleted=true".to_owned(),
        format!("/service-accounts?group_id={group}"),
        format!("/service-accounts/{account}/keys"),
        format!("/service-accounts/{account}/access"),
        format!("/service-accounts/{account}/groups"),
        "/keys".to_owned(),
        "/keys?order_by=-created_at".to_owned(),
        format!("/keys?owner_id={account}"),
        "/keys?owner_kind=user".to_owned(),
        "/keys?state=inactive".to_owned(),
        "/keys?state=revoked".to_owned(),
        "/keys?expired=true".to_owned(),
        "/keys?name=nothing-like-this".to_owned(),
        "/keys?stale=true".to_owned(),
        "/keys?stale=false".to_owned(),
        "/keys?older_than_days=729".to_owned(),
        "/keys?unused_since=2024-01-01T00:00:00Z".to_owned(),
        "/resources".to_owned(),
        format!("/resources?parent_id={root}"),
        "/resources?kind=project".to_owned(),
        "/resources?state=archived".to_owned(),
        "/role-bindings".to_owned(),
        format!("/role-bindings?role_id={role}"),
        "/role-bindings?role_id=admin".to_owned(),
        format!("/role-bindings?subject_id={account}"),
        "/role-bindings?subject_kind=user".to_owned(),
        "/role-bindings?subject_kind=group".to_owned(),
        format!("/role-bindings?resource_id={resource}"),
        "/roles".to_owned(),
        "/groups".to_owned(),
        "/groups?kind=owner".to_owned(),
        format!("/groups/{group}/members"),
        "/security-policies".to_owned(),
        "/users".to_owned(),
        "/audit-events".to_owned(),
        "/audit-events?order_by=-created_at".to_owned(),
        format!("/audit-events?target_id={account}"),
        format!("/audit-events?actor_id={account}"),
        "/audit-events?action=service_account.revoke".to_owned(),
        "/audit-events?action=nothing.like.this".to_owned(),
        "/audit-events?outcome=denied".to_owned(),
        "/audit-events?ip=192.0.2.1".to_owned(),
        "/audit-events?since=2025-01-01T00:00:00Z&until=2025-01-02T00:00:00Z".to_owned(),
        "/audit-events?since=2100-01-01T00:00:00Z".to_owned(),
        "/service-accounts?count=true".to_owned(),
        "/keys?count=true".to_owned(),
        "/role-bindings?count=true".to_owned(),
        "/audit-events?count=true".to_owned(),
    ];
    for list in &lists {
        pages(plant, list).await;
    }
}

async fn pages(plant: &Plant, list: &str) {
    let mut client = plant.client().await;
    let start = match list.contains('?') {
        true => format!("{}&page_size=100", plant.o(list)),
        false => format!("{}?page_size=100", plant.o(list)),
    };
    let mut path = start.clone();
    let (mut samples, mut rows) = (Vec::new(), 0);
    for _ in 0..PAGES {
        let started = Instant::now();
        let answer = client.get(&path).await;
        samples.push(started.elapsed());
        if answer.status != 200 {
            println!("{list:<58} not measured: {}", answer.status);
            return;
        }
        // A list that takes seconds is as well known after a few pages.
        if samples.iter().sum::<Duration>() > Duration::from_secs(5) {
            break;
        }
        let body = answer.json();
        rows = rows.max(body["items"].as_array().map_or(0, Vec::len));
        path = match body["next_cursor"].as_str() {
            Some(cursor) => format!("{start}&cursor={cursor}"),
            None => start.clone(),
        };
    }
    let shown: String = list.chars().take(48).collect();
    report::line(&format!("{shown} ({rows})"), &mut samples, ms(20));
}

pub(crate) async fn objects(plant: &Plant) {
    const MOST: usize = 500;
    let samples = plant.samples();
    let bindings = plant.client().await.get(&plant.o("/role-bindings?page_size=200")).await.json();
    let bindings = bindings["items"].as_array().expect("bindings");
    let binding = |item: &Value| format!("/role-bindings/{}", item["id"].as_str().expect("an id"));
    let account = |sample: &Sample| format!("/service-accounts/{}", sample.account);
    let key = |sample: &Sample| format!("{}/keys/{}", account(sample), sample.key);
    let group = format!("/groups/{}", plant.id("big_group"));
    for (noun, paths) in [
        ("service account", samples.iter().take(MOST).map(account).collect::<Vec<_>>()),
        ("key", samples.iter().take(MOST).map(key).collect()),
        ("role binding", bindings.iter().map(binding).collect()),
        ("group of 100,000", vec![group; 100]),
    ] {
        let mut client = plant.client().await;
        let mut took = Vec::new();
        for path in &paths {
            let started = Instant::now();
            client.ok("GET", &plant.o(path), None).await;
            took.push(started.elapsed());
        }
        report::line(&format!("get a {noun}"), &mut took, ms(2));
    }
}

/// The whole state as a gateway loads it, and what serving it takes in memory.
pub(crate) async fn snapshot(plant: &Plant) {
    let before = plant.resident_mib();
    let started = Instant::now();
    let mut response = reqwest::Client::new()
        .get(format!("http://{}/feed/v1/snapshot", plant.address))
        .bearer_auth(&plant.gateway)
        .header("portcullis-feed", "1")
        .header("portcullis-gateway", "bench-snapshot")
        .send()
        .await
        .expect("a snapshot");
    assert_eq!(response.status(), 200);
    let (mut bytes, mut peak) = (0_u64, before);
    while let Some(piece) = response.chunk().await.expect("a piece") {
        bytes += piece.len() as u64;
        peak = peak.max(plant.resident_mib());
    }
    report::line("snapshot, whole", &mut [started.elapsed()], Bar::None);
    println!(
        "snapshot: {:.0} MB, resident {before:.0} MiB before, at most {peak:.0} MiB while serving",
        bytes as f64 / 1e6
    );
}
