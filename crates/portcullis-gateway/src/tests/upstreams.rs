//! Upstreams that misbehave.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{OK, PATIENCE, Script, Stage, lines_named};
use crate::UpstreamAddress;

#[test]
fn a_reused_connection_that_died_is_replaced_once() {
    // Every connection answers one request and dies at the second.
    let upstream = Script::run(|head, socket| {
        if head.contains("/first") {
            return socket.write_all(OK.as_bytes()).is_ok();
        }
        if head.contains("portcullis-request-id") && head.contains("/fresh") {
            return socket.write_all(OK.as_bytes()).is_ok();
        }
        false
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    assert_eq!(caller.ask(&stage.request("GET", "/first", "")).status(), 200);
    // Dies on the used connection, and on the fresh one too: 502 after one retry.
    let answer = caller.ask(&stage.request("GET", "/second", ""));
    assert_eq!((answer.status(), answer.code()), (502, "bad_gateway".to_owned()));
    let name = "portcullis_upstream_attempts_total";
    assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "reused_dead")]), 1);
    assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "protocol")]), 1);
}

/// An upstream that answers the first request, closes at the second without a word, and answers
/// from then on.
fn dying_at_the_second() -> Script {
    let heads = AtomicUsize::new(0);
    Script::run(move |_, socket| {
        heads.fetch_add(1, Ordering::SeqCst) != 1 && socket.write_all(OK.as_bytes()).is_ok()
    })
}

#[test]
fn a_get_whose_reused_connection_died_is_sent_again_over_a_fresh_one() {
    let upstream = dying_at_the_second();
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    for path in ["/first", "/second?q=1", "/third"] {
        let answer = caller.ask(&stage.request("GET", path, "x-mine: 1\r\n"));
        assert_eq!((answer.status(), answer.body), (200, b"hi".to_vec()), "{path}");
    }
    let records = stage.records(3);
    let attempts: Vec<_> = records.iter().map(|record| record["attempts"].clone()).collect();
    assert_eq!(attempts, [1, 2, 1]);
    let heads: Vec<String> = (0..4).map(|_| upstream.head()).collect();
    assert!(heads[1].starts_with("GET /second?q=1 "), "{}", heads[1]);
    assert_eq!(heads[2], heads[1], "the same head twice");
    let name = "portcullis_upstream_attempts_total";
    assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "ok")]), 3);
    assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "reused_dead")]), 1);
}

#[test]
fn a_response_that_nobody_asked_for_answers_nobody() {
    let upstream = Script::run(|head, socket| {
        let poison = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        let more = if head.contains("/first") { poison } else { "" };
        socket.write_all((OK.to_owned() + more).as_bytes()).is_ok()
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    for method in ["GET", "POST"] {
        assert_eq!(caller.ask(&stage.request("GET", "/first", "")).body, b"hi");
        let answer = caller.ask(&stage.request(method, "/second", ""));
        assert_eq!((answer.status(), answer.body), (200, b"hi".to_vec()), "{method}");
    }
}

#[test]
fn a_post_whose_reused_connection_died_is_never_sent_twice() {
    for lines in
        ["content-length: 2\r\n", "content-length: 0\r\n", "transfer-encoding: chunked\r\n"]
    {
        let upstream = dying_at_the_second();
        let stage = Stage::set(upstream.address, |_| {});
        let mut caller = stage.connect();
        assert_eq!(caller.ask(&stage.request("GET", "/first", "")).status(), 200);
        let body = match lines {
            "content-length: 2\r\n" => "hi",
            "content-length: 0\r\n" => "",
            _ => "2\r\nhi\r\n0\r\n\r\n",
        };
        let answer = caller.ask(&(stage.request("POST", "/second", lines) + body));
        assert_eq!((answer.status(), answer.code()), (502, "bad_gateway".to_owned()), "{lines}");
        let records = stage.records(2);
        assert_eq!((&records[1]["method"], &records[1]["attempts"]), (&"POST".into(), &1.into()));
        let posts = upstream.heads.try_iter().filter(|head| head.starts_with("POST ")).count();
        assert_eq!(posts, 1, "{lines}");
        let name = "portcullis_upstream_attempts_total";
        assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "reused_dead")]), 1);
    }
}

#[test]
fn a_post_never_takes_a_connection_that_was_seen_to_close() {
    let (sender, closed) = channel();
    let upstream = Script::run(move |_, socket| {
        // The head promises to stay, and the connection goes all the same.
        socket.write_all(OK.as_bytes()).unwrap();
        socket.socket.shutdown(Shutdown::Both).unwrap();
        sender.send(()).unwrap();
        false
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    for _ in 0..10 {
        let answer = caller.ask(&(stage.request("POST", "/a", "content-length: 2\r\n") + "hi"));
        assert_eq!(answer.status(), 200);
        closed.recv_timeout(PATIENCE).unwrap();
    }
    assert!(stage.records(10).iter().all(|record| record["attempts"] == 1));
}

#[test]
fn a_response_head_may_be_as_long_as_allowed_and_no_longer() {
    const CAP: usize = 8 * 1024;
    let answer_with = |head_bytes: usize| {
        let (sender, ended) = channel();
        let upstream = Script::run(move |_, socket| {
            let frame = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\nx-long: \r\n\r\n";
            let long = "a".repeat(head_bytes - frame.len());
            let head = frame.replace("x-long: ", &format!("x-long: {long}"));
            let _ = socket.write_all(head.as_bytes());
            // The cap is on the head: a body that comes along with it is not counted.
            let _ = socket.write_all(&[b'b'; 100_000]);
            let rest = socket.socket.read(&mut [0; 1]);
            sender.send(rest.is_ok_and(|count| count > 0)).unwrap();
            false
        });
        let stage = Stage::set(upstream.address, |settings| {
            settings.upstreams.first_mut().unwrap().response_head_bytes = CAP;
        });
        (stage.get("/a"), stage, ended)
    };
    let (answer, _stage, _) = answer_with(CAP);
    assert_eq!((answer.status(), answer.body.len()), (200, 100_000));
    for too_long in [CAP + 1, 3 * CAP] {
        let (answer, stage, ended) = answer_with(too_long);
        assert_eq!((answer.status(), answer.code()), (502, "bad_gateway".to_owned()));
        assert!(!ended.recv_timeout(PATIENCE).unwrap(), "closed, and not used again");
        let record = &stage.records(1)[0];
        assert_eq!(
            (&record["reason"], &record["attempts"]),
            (&"upstream_protocol".into(), &1.into())
        );
        let name = "portcullis_upstream_attempts_total";
        assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "protocol")]), 1);
    }
}

#[test]
fn a_refused_connection_is_tried_at_the_next_address_and_then_502() {
    let upstream = Script::fixed(OK);
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let stage = Stage::set(dead, |settings| {
        settings
            .upstreams
            .first_mut()
            .unwrap()
            .addresses
            .push(UpstreamAddress { host: upstream.address.to_string(), weight: 1 });
    });
    for _ in 0..4 {
        assert_eq!(stage.get("/a").status(), 200);
    }
    let stage = Stage::set(dead, |_| {});
    assert_eq!(stage.get("/a").code(), "bad_gateway");
    let records = stage.records(1);
    assert_eq!(records[0]["reason"], "upstream_connect");
    assert_eq!(records[0]["attempts"], 2);
}

#[test]
fn a_response_framed_in_two_ways_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let stage = Stage::set(Script::fixed(answer).address, |_| {});
        let response = stage.get("/a");
        assert_eq!(
            (response.status(), response.code()),
            (502, "bad_gateway".to_owned()),
            "{answer}"
        );
    }
}

#[test]
fn what_an_upstream_says_about_identity_or_its_hop_does_not_come_back() {
    let upstream = Script::fixed(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Auth-Org: evil\r\nPortcullis-Seq: 1\r\n\
         connection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx-fine: 1\r\n\r\nhi",
    );
    let stage = Stage::set(upstream.address, |_| {});
    let answer = stage.get("/a");
    assert_eq!(answer.header("x-fine"), Some("1"));
    for gone in ["x-auth-org", "portcullis-seq", "x-hop", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{answer:?}");
    }
}

#[test]
fn an_upstream_that_gives_no_head_is_504() {
    let stage = Stage::set(Script::run(|_, _| true).address, |_| {});
    let mut caller = stage.connect();
    caller.send(stage.request("GET", "/a", "").as_bytes());
    stage.wait("the request is under way", || stage.running.handle().status().in_flight == 1);
    stage.clock.advance(Duration::from_secs(61));
    let answer = caller.read(false);
    assert_eq!((answer.status(), answer.code()), (504, "upstream_timeout".to_owned()));
}

#[test]
fn a_body_that_stops_is_cut_and_recorded() {
    let upstream = Script::run(|_, socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhi").is_ok()
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    caller.send(stage.request("GET", "/a", "").as_bytes());
    stage.wait("the request is under way", || stage.running.handle().status().in_flight == 1);
    stage.clock.advance(Duration::from_secs(61));
    assert!(!caller.read(false).whole);
    assert_eq!(stage.records(1)[0]["reason"], "upstream_timeout");
}

#[test]
fn a_caller_who_leaves_is_recorded_as_gone() {
    let stage = Stage::set(Script::run(|_, _| true).address, |_| {});
    let mut caller = stage.connect();
    caller.send(stage.request("GET", "/a", "").as_bytes());
    stage.wait("the request is under way", || stage.running.handle().status().in_flight == 1);
    drop(caller);
    let record = &stage.records(1)[0];
    assert_eq!((&record["outcome"], &record["status"]), (&"client_gone".into(), &499.into()));
}

#[test]
fn an_upload_that_is_closed_on_closes_its_upstream_connection() {
    let (sender, ended) = channel();
    let upstream = Script::run(move |_, socket| {
        // Everything there is of the body, up to the end of the connection.
        let _ = std::io::copy(socket, &mut std::io::sink());
        sender.send(()).is_ok()
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    caller.send(stage.request("POST", "/a", "content-length: 100\r\n").as_bytes());
    caller.send(b"hi");
    upstream.head();
    // The rest of the body does not come: slower than any body may be.
    stage.clock.advance(Duration::from_secs(10));
    assert!(caller.is_closed());
    assert!(ended.recv_timeout(PATIENCE).is_ok(), "the upstream connection stays open");
    stage.wait("its place is free", || stage.gauge("upstream_connections", "main") == 0);
}

#[test]
fn there_are_never_more_connections_than_allowed() {
    let upstream = Script::run(|head, socket| {
        // A body that has been promised is waited for.
        let mut body = vec![0; lines_named(head, "content-length").count()];
        socket.read_exact(&mut body).is_ok() && socket.write_all(OK.as_bytes()).is_ok()
    });
    let stage = Stage::set(upstream.address, |settings| {
        settings.upstreams.first_mut().unwrap().connections = 1;
    });
    // Comes free with nobody waiting for it: no promise to whoever comes later.
    assert_eq!(stage.get("/a").status(), 200);
    upstream.head();
    let mut slow = stage.connect();
    slow.send(stage.request("POST", "/slow", "content-length: 1\r\n").as_bytes());
    assert!(upstream.head().starts_with("POST /slow "));
    let answer = stage.get("/b");
    assert_eq!((answer.status(), stage.records(2)[1]["reason"].as_str()), (503, Some("pool_full")));
    slow.send(b"x");
    assert_eq!(slow.read(false).status(), 200);
    assert_eq!(stage.get("/c").status(), 200);
}

#[test]
fn a_connection_that_spoke_http_1_0_is_not_used_again() {
    const OLD: &str = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi";
    let stage = Stage::set(Script::fixed(OLD).address, |_| {});
    let mut caller = stage.connect();
    for number in 1..=3 {
        let answer = caller.ask(&(stage.request("POST", "/a", "content-length: 2\r\n") + "hi"));
        assert_eq!((answer.status(), answer.body), (200, b"hi".to_vec()), "request {number}");
    }
    assert!(stage.records(3).iter().all(|record| record["attempts"] == 1));
}

#[test]
fn a_response_with_more_nominations_than_allowed_is_502() {
    let nominated: Vec<_> = (0..11).map(|number| format!("x-{number}")).collect();
    let answer = |names: &[String]| {
        let names = names.join(", ");
        let text = format!(
            "HTTP/1.1 200 OK\r\nconnection: {names}\r\nx-auth-org: evil\r\nkeep-alive: a\r\n\
             content-length: 2\r\n\r\nhi"
        );
        let upstream = Script::run(move |_, socket| socket.write_all(text.as_bytes()).is_ok());
        Stage::set(upstream.address, |_| {}).get("/a")
    };
    let clean = answer(&nominated[..10]);
    assert_eq!((clean.status(), clean.header("x-auth-org")), (200, None));
    let refused = answer(&nominated);
    assert_eq!((refused.status(), refused.code()), (502, "bad_gateway".to_owned()));
}

#[test]
fn a_caller_who_reads_nothing_is_cut_off_at_the_deadline() {
    let upstream = Script::run(|_, socket| {
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n").unwrap();
        socket.write_all(&vec![b'x'; 100_000_000]).is_ok()
    });
    let stage = Stage::set(upstream.address, |settings| {
        settings.routes.first_mut().unwrap().timeout = Duration::from_secs(1);
    });
    let mut caller = stage.connect();
    caller.send(stage.request("GET", "/a", "").as_bytes());
    caller.socket.read_exact(&mut [0; 100]).unwrap();
    stage.clock.advance(Duration::from_secs(1));
    let record = &stage.records(1)[0];
    assert_eq!((&record["outcome"], &record["status"]), (&"cut".into(), &200.into()));
}

#[test]
fn ten_informational_responses_are_skipped_and_eleven_are_502() {
    let answer = |count: usize| {
        let upstream = Script::run(move |_, socket| {
            let text = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(count) + OK;
            socket.write_all(text.as_bytes()).is_ok()
        });
        Stage::set(upstream.address, |_| {}).get("/a")
    };
    let skipped = answer(10);
    assert_eq!((skipped.status(), skipped.body), (200, b"hi".to_vec()));
    assert_eq!(answer(11).code(), "bad_gateway");
}

#[test]
fn a_body_that_looks_like_responses_is_a_body() {
    let upstream = Script::run(|_, socket| {
        let body = "HTTP/1.1 100 Continue\n".repeat(50);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(body.as_bytes()).is_ok()
    });
    assert_eq!(Stage::set(upstream.address, |_| {}).get("/a").body.len(), 50 * 22);
}
