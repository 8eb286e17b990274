//! `Portcullis-Min-Seq`: whoever has just made a key may say so, and is not refused because this
//! gateway has not heard of it yet.

use crate::support::http::{Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{FileStage, OPEN_ROUTE, Stage, reasons};
use crate::support::upstream::Upstream;
use crate::support::wait::{self, Stopwatch};

const UNKNOWN: &str = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";

#[test]
fn a_request_sent_before_its_change_has_arrived_is_decided_after_it() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    // Two cores may need longer than the gateway's patience for one round; no round may refuse.
    wait::until("a change that arrived while its request waited", || {
        let off = stage.owner.act(&key.path, "deactivate");
        let (epoch, seq) = (off["epoch"].as_u64().unwrap_or(1), off["seq"].as_u64().unwrap());
        let mut connection = Connection::open(stage.program.gateway());
        connection.write(
            format!(
                "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
                 Portcullis-Min-Seq: {epoch}.{}\r\n\r\n",
                key.value,
                seq + 1
            )
            .as_bytes(),
        );
        stage.owner.act(&key.path, "activate");
        match connection.read_answer("GET").status {
            200 => Some(()),
            503 => None,
            other => panic!("refused with {other}"),
        }
    });
}

#[test]
fn a_new_key_is_never_unknown_to_whoever_names_its_position() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    for round in 0..20 {
        let made = stage.owner.call(
            "POST",
            &format!("{}/keys?wait=none", account.path),
            Some(&serde_json::json!({"name": format!("key {round}")})),
        );
        let made = made.expect_status(201).json();
        let value = made["value"].as_str().or(made["key"]["value"].as_str()).expect("a value");
        let position = format!("{}.{}", made["epoch"].as_u64().unwrap_or(1), made["seq"]);
        let request = Request::get("/").bearer(value).header("Portcullis-Min-Seq", &position);
        stage.send(&request).expect_status(200);
    }
}

#[test]
fn a_position_that_does_not_come_is_waited_for_and_then_unavailable() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::uvicorn(), OPEN_ROUTE, &snapshot);
    let ask = |key: &str, position: &str| {
        stage.send(&Request::get("/").bearer(key).header("Portcullis-Min-Seq", position))
    };
    for position in ["1.2", "2.0", "1.18446744073709551615"] {
        let watch = Stopwatch::start();
        let answer = ask(UNKNOWN, position).expect_status(503);
        assert!(watch.elapsed().as_millis() >= 200, "{position}: not waited for");
        assert_eq!(
            (answer.code().as_str(), answer.header("retry-after")),
            ("unavailable", Some("1"))
        );
        assert_eq!(answer.header("www-authenticate"), None);
    }
    assert_eq!(reasons(&stage.home, 3), ["behind"; 3]);
    for position in ["1.1", "1.0", "0.9"] {
        assert_eq!(ask(UNKNOWN, position).expect_status(401).code(), "invalid_token", "{position}");
    }
    // What is valid already, or no key at all, waits for nothing.
    let seen = ask(key.expose(), "9.9").expect_status(200);
    assert!(!seen.text().to_lowercase().contains("min-seq"), "{}", seen.text());
    ask("nonsense", "9.9").expect_status(401);
    let none = Request::get("/").header("Portcullis-Min-Seq", "9.9");
    assert_eq!(stage.send(&none).expect_status(401).code(), "unauthenticated");
}

#[test]
fn a_position_that_is_none_is_a_bad_request() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    let ask = || Request::get("/").bearer(key.expose());
    let max = "18446744073709551616";
    for position in
        ["", "1", "1.", ".1", "1.1.1", "+1.1", "1.-1", "a.b", "1 .1", &format!("1.{max}")]
    {
        let answer = stage.send(&ask().header("Portcullis-Min-Seq", position)).expect_status(400);
        assert_eq!(answer.code(), "bad_request", "{position:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let twice = ask().header("Portcullis-Min-Seq", "1.1").header("Portcullis-Min-Seq", "1.1");
    stage.send(&twice).expect_status(400);
    assert_eq!(stage.upstream.access_log(), "", "nothing of it reached the upstream");
}
