//! Writes: one at a time, from many clients, and those that touch 100,000 accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::follower::Follower;
use crate::plant::{Plant, Sample};
use crate::report::{self, Bar, ms};

const ONE_BY_ONE: usize = 300;
const CLIENTS: u64 = 32;
const DRIVEN_FOR: Duration = Duration::from_secs(10);

pub(crate) async fn one_at_a_time(plant: &Plant) {
    let known = plant.samples();
    let run = stamp();
    let mut client = plant.client().await;
    let mut samples = Vec::new();
    for number in 0..ONE_BY_ONE {
        let body = json!({"username": format!("bench-{run}-{number}"), "role_id": "viewer", "create_key": {"name": "key"}});
        let path = plant.o("/service-accounts?wait=none");
        samples.push(timed(&mut client, "POST", &path, &body).await);
    }
    report::line("create an account with a role and a key", &mut samples, ms(15));
    let mut samples = Vec::new();
    for Sample { account, .. } in known.iter().take(ONE_BY_ONE) {
        let path = plant.o(&format!("/service-accounts/{account}/keys?wait=none"));
        let body = json!({"name": format!("bench {run}")});
        samples.push(timed(&mut client, "POST", &path, &body).await);
    }
    report::line("create a key", &mut samples, ms(15));
    let mut samples = Vec::new();
    for Sample { account, key } in known.iter().take(ONE_BY_ONE) {
        let path = plant.o(&format!("/service-accounts/{account}/keys/{key}:rotate?wait=none"));
        samples.push(timed(&mut client, "POST", &path, &json!({"retain_minutes": 60})).await);
    }
    report::line("rotate a key", &mut samples, ms(15));
}

async fn timed(client: &mut Client, method: &str, path: &str, body: &Value) -> Duration {
    let started = Instant::now();
    client.ok(method, path, Some(body)).await;
    started.elapsed()
}

/// Creates and rotations, each client on accounts of its own.
pub(crate) async fn from_32_clients(plant: &Plant) {
    let keys = Arc::new(plant.samples());
    for kind in ["create a key", "rotate a key", "create an account, role and key"] {
        let (run, done) = (stamp(), Arc::new(AtomicU64::new(0)));
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (mut client, keys) = (plant.client().await, Arc::clone(&keys));
            let (done, o) = (Arc::clone(&done), plant.organization.clone());
            clients.spawn(async move {
                let mut samples = Vec::new();
                let mine = keys.iter().skip(number as usize).step_by(CLIENTS as usize).cycle();
                for (turn, Sample { account, key }) in mine.enumerate() {
                    if started.elapsed() > DRIVEN_FOR {
                        break;
                    }
                    let (path, body) = match kind {
                        "create a key" => (
                            format!("{o}/service-accounts/{account}/keys?wait=none"),
                            json!({"name": format!("load {run} {turn}")}),
                        ),
                        "rotate a key" => (
                            format!("{o}/service-accounts/{account}/keys/{key}:rotate?wait=none"),
                            json!({}),
                        ),
                        _ => (
                            format!("{o}/service-accounts?wait=none"),
                            json!({"username": format!("load-{run}-{number}-{turn}"), "role_id": "viewer", "create_key": {"name": "key"}}),
                        ),
                    };
                    samples.push(timed(&mut client, "POST", &path, &body).await);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                samples
            });
        }
        let mut samples: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
        let took = started.elapsed().as_secs_f64();
        report::line(&format!("{kind} from {CLIENTS} clients"), &mut samples, Bar::None);
        let rate = done.load(Ordering::Relaxed) as f64 / took;
        let verdict = if rate >= 1000.0 { "met" } else { "MISSED" };
        println!("{kind} from {CLIENTS} clients: {rate:.0} per second, bar 1000: {verdict}");
    }
}

/// Changes at something that 100,000 accounts share, with a gateway that follows.
pub(crate) async fn wide_changes(plant: &Plant) {
    let mut gateway = Follower::start(plant).await;
    println!(
        "gateway loaded {} records in {:.1} s, digest as announced",
        gateway.records,
        gateway.loaded_in.as_secs_f64()
    );
    let (root, group, resource) =
        (plant.id("root"), plant.id("big_group"), plant.id("big_resource"));
    let (role, other) = (plant.id("big_role"), plant.id("other_role"));
    let samples = plant.samples();
    let account = &samples.first().expect("a sample").account;
    let bind = |role: &str| json!({"role_id": role, "resource_id": root, "subject": {"kind": "group", "id": group}});
    let steps: [(&str, &str, String, Value); 8] = [
        ("bind a role to the group of 100,000", "POST", "/role-bindings".into(), bind(other)),
        (
            "change a custom role of 100,000",
            "PATCH",
            format!("/roles/{role}"),
            json!({"permissions": ["*:read", "*:write"]}),
        ),
        ("change it back", "PATCH", format!("/roles/{role}"), json!({"permissions": ["*:read"]})),
        (
            "add an account to the group of 100,000",
            "POST",
            format!("/groups/{group}/members"),
            json!({"principal": {"kind": "service_account", "id": account}}),
        ),
        ("take it out again", "DELETE", format!("/groups/{group}/members/{account}"), json!({})),
        (
            "archive a resource that 100,000 are bound to",
            "POST",
            format!("/resources/{resource}:archive"),
            json!({}),
        ),
        ("unarchive it", "POST", format!("/resources/{resource}:unarchive"), json!({})),
        (
            "bind one more account to that resource",
            "POST",
            "/role-bindings".into(),
            json!({"role_id": "viewer", "resource_id": resource, "subject": {"kind": "service_account", "id": account}}),
        ),
    ];
    let mut client = plant.client().await;
    for (name, method, path, body) in steps {
        let started = Instant::now();
        let path = plant.o(&format!("{path}?wait=applied&wait_timeout_ms=30000"));
        let answer = client.call(method, &path, Some(&body)).await;
        let mut took = [started.elapsed()];
        if !matches!(answer.status, 200..=299) {
            println!(
                "{name:<58} not measured: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            continue;
        }
        report::line(name, &mut took, ms(200));
        let applied = gateway.applied(answer.json()["seq"].as_u64().expect("a seq")).await;
        println!(
            "    {} records in one line of {} bytes; the gateway applied it in {:.2} ms",
            applied.records,
            applied.bytes,
            applied.took.as_secs_f64() * 1000.0
        );
    }
    gateway.stop().await;
}

/// Distinguishes names of one run from those of another.
fn stamp() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis()
}
