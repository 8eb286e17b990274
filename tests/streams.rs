//! Bodies as long as disks, heads as slow as glaciers, connections that live and die as the
//! protocol says.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use crate::support::admin::Key;
use crate::support::http::{Connection, Request};
use crate::support::stage::{OPEN_ROUTE, Stage};
use crate::support::upstream::Upstream;
use crate::support::wait::{self, Stopwatch};

const TWO_GIB: u64 = 2 << 30;

/// How much resident memory may grow while two gibibytes pass: buffers of a few connections, not
/// bodies.
const GROWTH_KIB: u64 = 24 * 1024;

fn stage(upstream: Upstream, config: &str) -> (Stage, Key) {
    let stage = Stage::with(upstream, &format!("{config}{OPEN_ROUTE}"));
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.ask(&key.value).expect_status(200);
    (stage, key)
}

#[test]
fn two_gibibytes_down_hold_memory_flat() {
    let (stage, key) = stage(Upstream::nginx(), "");
    // A sparse file: as long as two gibibytes, and no disk is used.
    let file = File::create(stage.upstream.files().join("large")).unwrap();
    file.set_len(TWO_GIB).unwrap();
    let mut connection = Connection::open(stage.program.gateway());
    let head = format!(
        "GET /files/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        key.value
    );
    connection.write(head.as_bytes());
    let answer = connection.read_head().unwrap().expect("a head");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some(TWO_GIB.to_string().as_str()));
    let (mut least, mut most) = (u64::MAX, 0);
    connection.drain_zeros(TWO_GIB, || {
        let resident = stage.program.resident_kib();
        (least, most) = (least.min(resident), most.max(resident));
    });
    println!("resident while 2 GiB came down: {least} to {most} KiB");
    assert!(most - least < GROWTH_KIB, "memory grew from {least} to {most} KiB");
    let again = connection
        .exchange(&Request::get("/files/large").bearer(&key.value).header("Range", "bytes=0-9"));
    assert_eq!((again.status, again.body.len()), (206, 10), "the connection is still good");
}

#[test]
fn two_gibibytes_up_hold_memory_flat() {
    let (stage, key) = stage(Upstream::uvicorn(), "");
    let mut connection = Connection::open(stage.program.gateway());
    let head = format!(
        "POST /sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {TWO_GIB}\r\n\r\n",
        key.value
    );
    connection.write(head.as_bytes());
    let block = vec![0; 1 << 20];
    let (mut least, mut most) = (u64::MAX, 0);
    for sent in 0..TWO_GIB / block.len() as u64 {
        connection.stream.write_all(&block).expect("the body goes on");
        if sent % 64 == 0 {
            let resident = stage.program.resident_kib();
            (least, most) = (least.min(resident), most.max(resident));
        }
    }
    let answer = connection.read_answer("POST").expect_status(200).json();
    println!("resident while 2 GiB went up: {least} to {most} KiB");
    assert_eq!(answer["body_length"], TWO_GIB);
    assert!(most - least < GROWTH_KIB, "memory grew from {least} to {most} KiB");
}

#[test]
fn a_slow_head_is_answered_408_at_its_deadline_however_busily_it_trickles() {
    let (stage, key) = stage(Upstream::nginx(), "[timeouts]\nhead = \"500ms\"\n");
    let mut connection = Connection::open(stage.program.gateway());
    let watch = Stopwatch::start();
    connection.write(
        format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nX-Slow: ", key.value)
            .as_bytes(),
    );
    // Trickle until the server has had enough: its answer arrives although the head never ends.
    connection.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let answer = wait::until("the deadline", || {
        connection.stream.write_all(b"x").ok();
        connection.try_read_answer("GET").ok().flatten()
    });
    assert_eq!(answer.status, 408);
    assert_eq!(answer.code(), "head_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    // Deadlines are kept to within a quarter of a second.
    let (elapsed, quarter) = (watch.elapsed(), Duration::from_millis(250));
    assert!(elapsed >= Duration::from_millis(500) - quarter, "{elapsed:?}");
    assert!(elapsed < Duration::from_millis(500) + 3 * quarter, "{elapsed:?}");
    assert_eq!(stage.upstream.access_log().lines().filter(|line| line.contains("408")).count(), 0);
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_an_answer() {
    let (stage, key) =
        stage(Upstream::nginx(), "[timeouts]\nfirst_byte = \"500ms\"\nidle = \"500ms\"\n");
    let mut silent = Connection::open(stage.program.gateway());
    assert!(silent.is_closed_by_peer(), "before the first byte");
    let mut idle = Connection::open(stage.program.gateway());
    idle.exchange(&Request::get("/").bearer(&key.value)).expect_status(200);
    assert!(idle.is_closed_by_peer(), "between two requests");
}

#[test]
fn a_connection_carries_many_requests_of_many_keys_and_confuses_none() {
    let (stage, _) = stage(Upstream::uvicorn(), "");
    let accounts: Vec<_> = (0..3).map(|n| stage.owner.account(&format!("account-{n}"))).collect();
    let keys: Vec<_> = accounts.iter().map(|account| stage.owner.key(account, "key")).collect();
    let mut connection = Connection::open(stage.program.gateway());
    for round in 0..60 {
        let which = round % 4;
        let request = Request::get(&format!("/{round}"));
        let Some(key) = keys.get(which) else {
            connection.exchange(&request).expect_status(401);
            continue;
        };
        let answer = connection.exchange(&request.bearer(&key.value)).expect_status(200).json();
        assert_eq!(answer["environ"]["HTTP_X_AUTH_SUBJECT"][0], accounts[which].id);
        assert_eq!(answer["environ"]["HTTP_X_AUTH_KEY_ID"][0], key.id);
    }
}

#[test]
fn a_connection_is_closed_after_its_share_of_requests() {
    let (stage, key) = stage(Upstream::nginx(), "[limits]\nrequests_per_connection = 3\n");
    let mut connection = Connection::open(stage.program.gateway());
    for expected in [None, None, Some("close")] {
        let answer = connection.exchange(&Request::get("/").bearer(&key.value)).expect_status(200);
        assert_eq!(answer.header("connection").filter(|value| *value == "close"), expected);
    }
    assert!(connection.is_closed_by_peer());
}

#[test]
fn a_body_that_ends_early_never_looks_whole_to_the_upstream() {
    let (stage, key) = stage(Upstream::uvicorn(), "");
    let auth = format!("Host: x\r\nAuthorization: Bearer {}\r\n", key.value);
    for body in
        ["Content-Length: 1000\r\n\r\nshort", "Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"]
    {
        let mut connection = Connection::open(stage.program.gateway());
        connection.write(format!("POST / HTTP/1.1\r\n{auth}{body}").as_bytes());
        connection.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = connection.try_read_answer("POST").ok().flatten();
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{answer:?}");
    }
    stage.ask(&key.value).expect_status(200);
}

#[test]
fn more_connections_of_one_source_than_allowed_are_closed_at_accept() {
    let (stage, key) = stage(Upstream::nginx(), "[limits]\nconnections_per_source = 4\n");
    let mut held: Vec<Connection> =
        (0..4).map(|_| Connection::open(stage.program.gateway())).collect();
    for connection in &mut held {
        connection.exchange(&Request::get("/").bearer(&key.value)).expect_status(200);
    }
    assert!(Connection::open(stage.program.gateway()).is_closed_by_peer());
    held.pop();
    wait::until("a place to be free again", || {
        Request::get("/")
            .bearer(&key.value)
            .try_send(stage.program.gateway())
            .filter(|answer| answer.status == 200)
    });
}

#[test]
fn a_request_hidden_in_a_body_is_never_seen_by_the_upstream() {
    let (stage, key) = stage(Upstream::nginx(), "");
    let auth = format!("Host: x\r\nAuthorization: Bearer {}\r\n", key.value);
    let hidden = format!("GET /hidden HTTP/1.1\r\n{auth}\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    for (what, bytes) in [
        (
            "the coding counts",
            format!(
                "Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}",
                chunked.len()
            ),
        ),
        (
            "the length counts",
            format!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{chunked}"),
        ),
        (
            "two lengths",
            format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
        ),
        ("a list of codings", format!("Transfer-Encoding: chunked, identity\r\n\r\n{chunked}")),
    ] {
        let mut connection = Connection::open(stage.program.gateway());
        connection.write(format!("POST /outer HTTP/1.1\r\n{auth}{bytes}").as_bytes());
        connection.read_answer("POST");
        assert!(connection.is_closed_by_peer(), "{what}: one answer, then the end");
    }
    assert!(!stage.upstream.access_log().contains("/hidden"), "{}", stage.upstream.access_log());
}

#[test]
fn framing_that_two_parsers_could_read_differently_is_refused_and_closed() {
    let (stage, key) = stage(Upstream::uvicorn(), "");
    let auth = format!("Host: x\r\nAuthorization: Bearer {}\r\n", key.value);
    for (what, status, bytes) in [
        (
            "two lengths",
            400,
            format!(
                "POST / HTTP/1.1\r\n{auth}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
            ),
        ),
        ("signed length", 400, format!("POST / HTTP/1.1\r\n{auth}Content-Length: +5\r\n\r\nhello")),
        (
            "unknown coding",
            400,
            format!("POST / HTTP/1.1\r\n{auth}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ),
        ("version", 505, format!("GET / HTTP/2.0\r\n{auth}\r\n")),
        ("no version", 400, format!("GET /\r\n{auth}\r\n")),
        ("blank before the colon", 400, format!("GET / HTTP/1.1\r\n{auth}X-A : b\r\n\r\n")),
        ("folded line", 400, format!("GET / HTTP/1.1\r\n{auth}X-A: b\r\n c\r\n\r\n")),
        ("control character", 400, format!("GET / HTTP/1.1\r\n{auth}X-A: b\u{0}c\r\n\r\n")),
    ] {
        let mut connection = Connection::open(stage.program.gateway());
        connection.write(bytes.as_bytes());
        let answer = connection.read_answer("GET");
        assert_eq!(answer.status, status, "{what}: {}", answer.head);
        assert!(connection.is_closed_by_peer(), "{what}");
    }
}
