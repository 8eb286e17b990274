//! The database file: restarts, damage, foreign files, and a disk that refuses.

use std::sync::Arc;

use portcullis_control::{OpenError, Settings, Started};
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::{Clock, MonoNs, Now, WallMs};
use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;

use crate::harness::Plant;

struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now { wall: WallMs(1), mono: MonoNs(1) }
    }
}

impl Entropy for Still {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        out.fill(1);
        Ok(())
    }
}

async fn open(database: &std::path::Path) -> OpenError {
    let settings = Plant::settings(database, 10);
    match portcullis_control::open(settings, Arc::new(Still), Arc::new(Still)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let mut plant = Plant::start().await;
    let (id, _, value) = plant.agent("ci", Some("viewer")).await;
    let page = plant.get(&plant.o("/audit-events?page_size=1")).await;
    let cursor = page.text("/next_cursor");
    let seq = plant.get("/readyz").await.number("/seq");
    assert_eq!(plant.restart().await, Started::Existing);
    assert_eq!(plant.get("/readyz").await.number("/seq"), seq);
    assert_eq!(plant.accepts(&value).await, 200);
    assert_eq!(plant.get(&plant.s(&id, "")).await.text("/username"), "ci");
    let next = plant.o(&format!("/audit-events?page_size=1&cursor={cursor}"));
    assert_eq!(plant.get(&next).await.number("/items/0/seq"), 2);
}

#[tokio::test]
async fn files_that_are_no_database_of_ours_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(
        &text,
        "this is not a database, but it is long enough to look like one\n".repeat(20),
    )
    .unwrap();
    let error = open(&text).await;
    assert!(matches!(error, OpenError::NotADatabase(_)), "{error}");
    assert!(error.to_string().contains("notes.txt"), "{error}");

    let missing = dir.path().join("nowhere/portcullis.db");
    let error = open(&missing).await;
    assert!(error.to_string().contains("nowhere/portcullis.db"), "{error}");

    let foreign = dir.path().join("foreign.db");
    let url = format!("sqlite://{}?mode=rwc", foreign.display());
    let mut conn = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE organizations (x)").execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let error = open(&foreign).await;
    assert!(matches!(error, OpenError::Schema { .. }), "{error}");
}

/// A stopped plant that is about to be damaged, and its database.
async fn stopped_with_forty_accounts() -> (Plant, Vec<u8>) {
    let mut plant = Plant::start().await;
    for n in 0..40 {
        plant
            .account(json!({"username": format!("bot-{n}"), "description": "x".repeat(2000)}))
            .await;
    }
    plant.stop().await;
    plant.tampered = true;
    let bytes = std::fs::read(plant.database()).unwrap();
    (plant, bytes)
}

#[tokio::test]
async fn a_damaged_database_is_refused_at_the_start() {
    let (plant, mut bytes) = stopped_with_forty_accounts().await;
    let middle = bytes.len() / 2;
    for page in bytes[middle..].chunks_mut(4096).take(8) {
        page.fill(0xa5);
    }
    std::fs::write(plant.database(), bytes).unwrap();
    let error = open(&plant.database()).await;
    assert!(error.to_string().contains("portcullis.db"), "{error}");
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[tokio::test]
async fn a_database_above_the_size_is_not_searched_for_damage() {
    let (plant, mut bytes) = stopped_with_forty_accounts().await;
    let is_text = |page: &&mut [u8]| page.iter().filter(|byte| **byte == b'x').count() > 1500;
    // Rows of the first accounts, which no start reads.
    bytes.chunks_mut(4096).find(is_text).unwrap().fill(0xa5);
    let size = bytes.len() as u64;
    std::fs::write(plant.database(), bytes).unwrap();
    let opened = |integrity_check_bytes| {
        let settings = Settings {
            integrity_check_bytes,
            ..Plant::settings(&plant.database(), Settings::CHANGE_LOG_LENGTH)
        };
        portcullis_control::open(settings, plant.clock.clone(), plant.entropy(78))
    };
    let refused = opened(size).await.err().expect("a check of the whole file");
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert!(opened(size - 1).await.is_ok(), "what is larger starts at once");
}

#[tokio::test]
async fn a_database_that_needs_another_pepper_is_refused() {
    let mut plant = Plant::start().await;
    plant.stop().await;
    let mut settings = Plant::settings(&plant.database(), 10);
    let other = portcullis_core::key::Pepper::new(2, [1; 32]);
    settings.peppers = Arc::new(portcullis_core::key::PepperRing::new(vec![other]).unwrap());
    let opened = portcullis_control::open(settings, Arc::new(Still), Arc::new(Still)).await;
    let Err(error) = opened else { panic!("it opened") };
    assert!(matches!(error, OpenError::UnknownPepper { version: 1, .. }), "{error}");
}

#[tokio::test]
async fn a_locked_or_full_database_refuses_writes_and_loses_nothing() {
    let plant = Plant::start().await;
    let (_, _, value) = plant.agent("ci", Some("viewer")).await;
    // A full disk, as SQLite reports it: no page may be added.
    let url = format!("sqlite://{}", plant.database().display());
    let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let refused = plant.post(&plant.o("/service-accounts"), json!({"username": "x"})).await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(plant.accepts(&value).await, 200);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let list = plant.get(&plant.o("/service-accounts?count=true")).await;
    assert_eq!(list.number("/total"), 1);
    plant.account(json!({"username": "x"})).await;
    let verify = plant.ask(Method::GET, &plant.o("/audit-events:verify")).send().await;
    assert_eq!(verify.body["ok"], true);
}
