//! What crosses the gateway, in both directions.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::json;

use super::{OK, Script, Stage, lines_named};
use crate::{Access, CredentialSource, Underscore};

#[test]
fn an_allowed_request_reaches_the_upstream_without_its_key_and_with_its_identity() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |settings| {
        let route = settings.routes.first_mut().unwrap();
        route.path = "/clusters/{cluster}".to_owned();
        route.access = Access::Require {
            permission: "cluster:read".to_owned(),
            resource: Some("cluster/{cluster}".to_owned()),
        };
    });
    let spoofed = "x-auth-org: evil\r\nX-Auth.Subject: evil\r\nconnection: x-drop\r\nx-drop: 1\r\n\
                   x-forwarded-for: 6.6.6.6\r\nproxy-authorization: secret\r\nx-keep: yes\r\n";
    let answer = stage.ask(&stage.request("GET", "/clusters/c1?q=%20a", spoofed));
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.body, b"hi");
    assert_eq!(answer.header("x-up"), Some("1"));
    assert_eq!(answer.header("via"), Some("1.1 portcullis"));

    let head = upstream.head();
    assert!(head.starts_with("GET /clusters/c1?q=%20a HTTP/1.1\r\n"), "{head}");
    let one = |name: &str| {
        let values: Vec<_> = lines_named(&head, name).collect();
        assert!(values.len() <= 1, "{name} twice: {head}");
        values.first().map(|value| (*value).to_owned())
    };
    for (name, value) in [
        ("host", "api"),
        ("x-auth-subject", "sa1"),
        ("x-auth-org", "o1"),
        ("x-auth-key-id", &stage.key_id),
        ("x-auth-username", "ci%20bot"),
        ("x-auth-scopes", "cluster:read"),
        ("x-auth-resource", "cluster/c1"),
        ("x-auth-method", "key"),
        ("x-auth-seq", "1.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api"),
        ("forwarded", "for=127.0.0.1;host=api;proto=http"),
        ("via", "1.1 portcullis"),
        ("x-keep", "yes"),
    ] {
        assert_eq!(one(name).as_deref(), Some(value), "{name} in {head}");
    }
    assert_eq!(one("portcullis-request-id").unwrap().len(), 32);
    for gone in ["authorization", "x-drop", "proxy-authorization", "x-auth.subject", "connection"] {
        assert_eq!(one(gone), None, "{head}");
    }
    assert!(!head.contains(stage.key.get(20..60).unwrap()), "{head}");
}

#[test]
fn every_request_has_one_record_and_one_count() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    assert_eq!(stage.get("/a?secret=1").status(), 200);
    assert_eq!(stage.ask("GET /b HTTP/1.1\r\nhost: api\r\n\r\n").status(), 401);
    let records = stage.records(2);
    assert_eq!(records.len(), 2);
    let (allowed, denied) = (&records[0], &records[1]);
    assert_eq!(allowed["outcome"], "allowed");
    assert_eq!(allowed["path"], "/a");
    assert_eq!(allowed["key"], json!(stage.key_id));
    assert_eq!(allowed["account"], "sa1");
    assert_eq!(allowed["upstream_status"], 200);
    assert_eq!(allowed["bytes_out"], 2);
    assert_eq!((&denied["reason"], &denied["status"]), (&json!("missing"), &json!(401)));
    let name = "portcullis_requests_total";
    assert_eq!(stage.counter(name, &[("route", "all"), ("outcome", "allowed")]), 1);
    assert_eq!(stage.counter(name, &[("route", "all"), ("outcome", "missing")]), 1);
}

#[test]
fn bodies_of_known_and_unknown_length_pass_in_both_directions() {
    let upstream = Script::run(|head, socket| {
        let mut body = Vec::new();
        let mut piece = [0; 65536];
        if let Some(length) = lines_named(head, "content-length").next() {
            let length: usize = length.parse().unwrap();
            while body.len() < length {
                let count = socket.read(&mut piece).unwrap();
                body.extend_from_slice(&piece[..count]);
            }
        } else {
            assert_eq!(lines_named(head, "transfer-encoding").next(), Some("chunked"));
            while !body.ends_with(b"0\r\n\r\n") {
                let count = socket.read(&mut piece).unwrap();
                body.extend_from_slice(&piece[..count]);
            }
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-got: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        for piece in body.chunks(50_000) {
            socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            socket.write_all(piece).unwrap();
            socket.write_all(b"\r\n").unwrap();
        }
        socket.write_all(b"0\r\n\r\n").is_ok()
    });
    let stage = Stage::set(upstream.address, |_| {});
    let body = vec![b'x'; 1_000_000];
    let mut caller = stage.connect();
    for _ in 0..2 {
        caller.send(stage.request("POST", "/a", "content-length: 1000000\r\n").as_bytes());
        caller.send(&body);
        let answer = caller.read(false);
        assert_eq!((answer.status(), answer.body == body), (200, true));
    }
    caller.send(stage.request("POST", "/a", "transfer-encoding: chunked\r\n").as_bytes());
    caller.send(b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n");
    let answer = caller.read(false);
    assert_eq!(answer.status(), 200);
    // Two frames re-chunked by the gateway: extensions do not survive.
    assert!(!super::text(&answer.body).contains("x=y"));
    assert_eq!(stage.records(3).len(), 3);
}

#[test]
fn an_upload_goes_on_while_its_response_is_not_being_read() {
    // The upstream answers with more than any buffer holds before it has read the body.
    let upstream = Script::run(|head, socket| {
        let length: usize = lines_named(head, "content-length").next().unwrap().parse().unwrap();
        let mut writer = socket.socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n").unwrap();
            writer.write_all(&vec![b'y'; 20_000_000]).is_ok()
        });
        let (mut piece, mut read) = (vec![0; 65536], 0);
        while read < length {
            read += socket.read(&mut piece).unwrap();
        }
        writing.join().unwrap()
    });
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    caller.send(stage.request("POST", "/a", "content-length: 20000000\r\n").as_bytes());
    caller.send(&vec![b'x'; 20_000_000]);
    let answer = caller.read(false);
    assert_eq!((answer.status(), answer.body.len()), (200, 20_000_000));
}

#[test]
fn a_key_may_stand_in_a_header_a_query_or_a_cookie_and_leaves_it() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |settings| {
        let route = settings.routes.first_mut().unwrap();
        route.credentials = ["header:x-api-key", "query:api_key", "cookie:session", "basic"]
            .iter()
            .map(|text| text.parse::<CredentialSource>().unwrap())
            .collect();
    });
    let key = &stage.key;
    let ask = |target: &str, line: &str| {
        let answer = stage.ask(&format!("GET {target} HTTP/1.1\r\nhost: api\r\n{line}\r\n"));
        assert_eq!(answer.status(), 200, "{target} {line} {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        upstream.head()
    };
    let head = ask("/a", &format!("x-api-key: {key}\r\n"));
    assert!(!head.contains("x-api-key"), "{head}");
    let head = ask(&format!("/a?x=1&api_key={key}&y=2"), "referer: http://a/?api_key=k\r\n");
    assert!(head.starts_with("GET /a?x=1&y=2 HTTP/1.1"), "{head}");
    assert!(!head.contains("referer"), "{head}");
    let head = ask(&format!("/a?api_key={key}"), "");
    assert!(head.starts_with("GET /a HTTP/1.1"), "{head}");
    let head = ask("/a", &format!("cookie: a=1; session={key}; b=2\r\n"));
    assert_eq!(lines_named(&head, "cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{}:{}", stage.key_id, key.get(key.len() - 49..).unwrap()),
    );
    let head = ask("/a", &format!("authorization: Basic {basic}\r\n"));
    assert!(!head.contains("authorization"), "{head}");

    let twice = format!("GET /a?api_key={key} HTTP/1.1\r\nhost: api\r\nx-api-key: {key}\r\n\r\n");
    let answer = stage.ask(&twice);
    assert_eq!((answer.status(), answer.code()), (400, "invalid_request".to_owned()));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn names_with_an_underscore_may_be_dropped() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |settings| {
        settings.headers.underscore = Underscore::Drop;
    });
    let answer = stage.ask(&stage.request("GET", "/a", "x_auth_org: evil\r\nx_other: 1\r\n"));
    assert_eq!(answer.status(), 200);
    let head = upstream.head();
    assert!(!head.contains("evil") && !head.contains("x_other"), "{head}");
}

#[test]
fn a_trusted_proxy_s_word_is_appended_to() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |settings| {
        let listener = settings.listeners.first_mut().unwrap();
        listener.trusted_proxies = vec!["127.0.0.0/8".to_owned(), "10.0.0.0/8".to_owned()];
    });
    let mut records = stage.usual_records();
    records.last_mut().unwrap().2["sources"] = json!(["192.0.2.7/32"]);
    stage.publish(2, records);
    stage.wait("the snapshot", || stage.running.handle().status().feed.seq == 2);
    let chain = "x-forwarded-for: 6.6.6.6, 192.0.2.7\r\nx-forwarded-for: 10.0.0.9\r\n\
                 x-forwarded-proto: https\r\n";
    assert_eq!(stage.ask(&stage.request("GET", "/a", chain)).status(), 200);
    let head = upstream.head();
    let hops: Vec<_> = lines_named(&head, "x-forwarded-for").collect();
    assert_eq!(hops, ["6.6.6.6, 192.0.2.7, 10.0.0.9, 127.0.0.1"]);
    assert_eq!(lines_named(&head, "x-forwarded-proto").next(), Some("https"));
    assert_eq!(stage.get("/a").code(), "source_not_allowed");
}

#[test]
fn the_record_of_a_public_route_has_the_client_that_a_trusted_proxy_names() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        settings.listeners.first_mut().unwrap().trusted_proxies = vec!["127.0.0.0/8".to_owned()];
        settings.routes.first_mut().unwrap().access = Access::Public;
    });
    let request = "GET /a HTTP/1.1\r\nhost: api\r\nx-forwarded-for: 6.6.6.6, 192.0.2.7\r\n\r\n";
    assert_eq!(stage.ask(request).status(), 200);
    let record = &stage.records(1)[0];
    assert_eq!((&record["outcome"], &record["client"]), (&"public".into(), &"192.0.2.7".into()));
}

#[test]
fn a_client_cannot_crowd_out_what_its_proxy_appends() {
    let stage = Stage::set(Script::fixed(OK).address, |settings| {
        settings.listeners.first_mut().unwrap().trusted_proxies = vec!["127.0.0.0/8".to_owned()];
        settings.routes.first_mut().unwrap().access = Access::Public;
    });
    let invented = "x-forwarded-for: 6.6.6.6\r\n".repeat(16);
    let appended = "x-forwarded-for: 192.0.2.7\r\n";
    let request = format!("GET /a HTTP/1.1\r\nhost: api\r\n{invented}{appended}\r\n");
    assert_eq!(stage.ask(&request).status(), 200);
    assert_eq!(stage.records(1)[0]["client"], "192.0.2.7");
}

#[test]
fn a_revoked_key_is_refused_as_soon_as_the_feed_says_so() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    assert_eq!(caller.ask(&stage.request("GET", "/a", "")).status(), 200);
    let mut records = stage.usual_records();
    records.last_mut().unwrap().2["state"] = json!("inactive");
    stage.publish(2, records);
    stage.wait("the change", || stage.running.handle().status().feed.seq == 2);
    assert_eq!(caller.ask(&stage.request("GET", "/a", "")).code(), "invalid_token");
    // A lower position never comes back.
    stage.publish(1, stage.usual_records());
    stage.wait("the refusal", || stage.running.handle().status().feed.last_fault.is_some());
    assert_eq!(caller.ask(&stage.request("GET", "/a", "")).status(), 401);
}

#[test]
fn a_request_without_a_body_keeps_its_zero_length() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    assert_eq!(stage.ask(&stage.request("POST", "/a", "content-length: 0\r\n")).status(), 200);
    let head = upstream.head();
    assert_eq!(lines_named(&head, "content-length").collect::<Vec<_>>(), ["0"]);
    assert_eq!(stage.get("/a").status(), 200);
    assert_eq!(lines_named(&upstream.head(), "content-length").next(), None);
}

#[test]
fn connections_are_kept_for_the_next_request_on_both_sides() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    let mut caller = stage.connect();
    for _ in 0..20 {
        assert_eq!(caller.ask(&stage.request("GET", "/a", "")).status(), 200);
    }
    let name = "portcullis_upstream_attempts_total";
    assert_eq!(stage.counter(name, &[("upstream", "main"), ("result", "ok")]), 20);
    stage.clock.advance(Duration::from_secs(61));
    assert!(caller.is_closed());
}
