//! Many callers at once: their changes share writes to the disk, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::Plant;

const CLIENTS: u64 = 32;
const EACH: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_32_callers_each_get_a_seq_a_line_and_an_event_of_their_own() {
    let plant = Arc::new(Plant::start().await);
    let (account, _, _) = plant.agent("ci", Some("viewer")).await;
    let before = plant.get("/readyz").await.number("/seq");
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (plant, account) = (Arc::clone(&plant), account.clone());
        clients.spawn(async move {
            let mut made = Vec::new();
            for n in 0..EACH {
                let body = json!({"name": format!("key {client} {n}")});
                let answer = plant.post(&plant.s(&account, "/keys"), body).await;
                assert_eq!(answer.status, 201, "{}", answer.text);
                // Answered means durable: whoever reads now sees it.
                let value = answer.text("/value");
                assert_eq!(plant.accepts(&value).await, StatusCode::OK);
                made.push(answer.number("/seq"));
            }
            made
        });
    }
    let made = clients.join_all().await;
    let seqs: BTreeSet<u64> = made.iter().flatten().copied().collect();
    let expected: BTreeSet<u64> = (before + 1..=before + CLIENTS * EACH).collect();
    assert_eq!(seqs, expected, "no seq is given twice or left out");
    assert!(made.iter().all(|seqs| seqs.is_sorted()), "each caller's changes keep their order");
    let verdict = plant.ask(Method::GET, &plant.o("/audit-events:verify")).send().await;
    assert_eq!(verdict.body["ok"], true, "{}", verdict.text);
    let events = plant.get(&plant.o("/audit-events?action=api_key.create&count=true")).await;
    assert_eq!(events.number("/total"), CLIENTS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_32_callers_who_want_the_same_name_one_gets_it_and_the_others_are_told() {
    let plant = Arc::new(Plant::start().await);
    let (account, _, _) = plant.agent("ci", Some("viewer")).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (plant, account) = (Arc::clone(&plant), account.clone());
        clients.spawn(async move {
            plant.post(&plant.s(&account, "/keys"), json!({"name": "the one"})).await.status
        });
    }
    let mut statuses: Vec<StatusCode> = clients.join_all().await;
    statuses.sort();
    let mut expected = vec![StatusCode::CREATED];
    expected.resize(CLIENTS as usize, StatusCode::CONFLICT);
    assert_eq!(statuses, expected);
}
