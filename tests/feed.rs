//! The feed between the two halves: what is on the wire, who may follow it, and that nothing
//! acknowledged as gone is ever accepted again, on any worker of any gateway.

use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_core::feed::{Kind, Line, RecordSum, StateDigest, parse_line};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::support::http::{Answer, Connection, Request};
use crate::support::portcullis::Home;
use crate::support::stage::{CONTROL_ARGS, FILE_ARGS, OPEN_ROUTE, SplitStage, Stage};
use crate::support::upstream::Upstream;
use crate::support::wait::{self, Stopwatch};

fn follow(stage: &SplitStage, path: &str) -> Answer {
    let token = stage.control_home.token("gateway-token");
    let request = Request::get(path).bearer(&token);
    request
        .header("Portcullis-Gateway", "onlooker")
        .header("Portcullis-Feed", "1")
        .send(stage.control.control())
}

#[test]
fn a_snapshot_is_complete_counted_digested_and_signed() {
    let stage = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.owner.resource("cluster", "c1");
    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let answer = follow(&stage, "/feed/v1/snapshot").expect_status(200);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let text = answer.text();
    let lines: Vec<&str> = text.lines().collect();
    let parsed: Vec<Line> =
        lines.iter().map(|line| parse_line(line.as_bytes()).expect("a line")).collect();
    let (Some(Line::Header(header)), Some(Line::End(end))) = (parsed.first(), parsed.last()) else {
        panic!("no header or no end: {text}");
    };
    assert_eq!(header.position, end.position);
    let mut digest = StateDigest::default();
    let mut kinds = Vec::new();
    for line in &parsed[1..parsed.len() - 1] {
        let Line::Record { kind, id, record } = line else { panic!("not a record: {line:?}") };
        digest.add(RecordSum::of(*kind, id, record));
        kinds.push((*kind, id.as_str()));
    }
    assert_eq!(end.count, kinds.len() as u64);
    assert_eq!(end.digest, digest);
    let before = &text[..text.len() - lines[lines.len() - 1].len() - 1];
    let sha256: String = Sha256::digest(before).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(end.sha256, sha256);
    assert!(end.sig.is_some());
    assert!(kinds.contains(&(Kind::Key, key.id.as_str())));
    assert!(kinds.contains(&(Kind::Account, account.id.as_str())));
    assert!(kinds.contains(&(Kind::Role, "viewer")));
    assert!(kinds.iter().any(|(kind, id)| *kind == Kind::Resource && id.ends_with(":cluster/c1")));
    assert!(!text.contains(&key.value[16..]), "digests, never keys");
}

#[test]
fn the_stream_resumes_where_it_was_told_and_refuses_what_it_cannot_continue() {
    let stage = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let revoked = stage.owner.act(&key.path, "revoke");
    let seq = revoked["seq"].as_u64().expect("a sequence number");
    let token = stage.control_home.token("gateway-token");

    let mut connection = Connection::open(stage.control.control());
    connection.write(
        format!(
            "GET /feed/v1/changes?after={}&epoch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Portcullis-Gateway: onlooker\r\nPortcullis-Feed: 1\r\n\r\n",
            seq - 1
        )
        .as_bytes(),
    );
    connection.read_head().unwrap().expect("a head").expect_status(200);
    let chunk = connection.read_chunk().expect("a line");
    let first = chunk.lines().next().expect("a line").to_owned();
    let Ok(Line::Txn(txn)) = parse_line(first.as_bytes()) else {
        panic!("not a transaction: {first}")
    };
    assert_eq!(txn.position.seq, seq);
    assert!(first.contains(r#""op":"revoke""#) && first.contains(&key.id), "{first}");
    assert!(txn.sig.is_some());

    assert_eq!(follow(&stage, "/feed/v1/changes?after=0&epoch=0").status, 410, "another history");
    let ahead = follow(&stage, &format!("/feed/v1/changes?after={}&epoch=1", seq + 1000));
    assert_eq!(ahead.status, 409, "we are behind the gateway");
    assert_eq!(ahead.json(), json!({"epoch": 1, "seq": seq}));
    assert_eq!(follow(&stage, "/feed/v1/changes?after=x&epoch=1").status, 400);
    let request =
        Request::get("/feed/v1/snapshot").bearer(&token).header("Portcullis-Gateway", "onlooker");
    assert_eq!(request.header("Portcullis-Feed", "2").send(stage.control.control()).status, 406);
}

#[test]
fn a_gateway_with_the_wrong_secret_is_never_ready_and_says_which() {
    let upstream = Upstream::nginx();
    let control_home = Home::new();
    let control = control_home.start(&CONTROL_ARGS);
    let data = control_home.data();
    let other_token = control_home.data().join("admin-token");
    let zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let right_key = std::fs::read_to_string(data.join("feed-signing.pub")).unwrap();
    for (what, token_file, verify_key, word) in [
        ("a token of somebody else", &other_token, right_key.trim(), "401"),
        ("a verify key of somebody else", &data.join("gateway-token"), zeros, "sign"),
    ] {
        let home = Home::new();
        let config = format!(
            "[gateway]\nid = \"gw-1\"\n[feed]\nmode = \"pull\"\nurl = \"http://{}\"\ntoken_file = \"{}\"\nverify_key = \"{verify_key}\"\n\
             [keys]\npeppers = [{{ id = 1, file = \"{}\" }}]\n{OPEN_ROUTE}",
            control.control(),
            token_file.display(),
            data.join("pepper.1").display(),
        );
        home.write("portcullis.toml", &crate::support::stage::complete(&config, &upstream));
        let Ok(gateway) = home.try_start(&FILE_ARGS) else { continue };
        wait::until(&format!("a word about {what}"), || gateway.log().contains(word).then_some(()));
        assert_eq!(Request::get("/readyz").send(gateway.admin_listener()).status, 503, "{what}");
        let answer =
            Request::get("/").bearer(&control_home.token("admin-token")).send(gateway.gateway());
        assert_eq!(answer.status, 503, "{what}");
    }
}

#[test]
fn two_gateways_confirm_a_revocation_by_name_and_every_worker_has_it() {
    let SplitStage { gateway: first, control, owner, control_home, gateway_home, upstream } =
        SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let second_home = Home::new();
    let config = std::fs::read_to_string(gateway_home.path("portcullis.toml")).unwrap();
    second_home.write("portcullis.toml", &config.replace("\"gw-1\"", "\"gw-2\"\nworkers = 4"));
    let second = second_home.start(&FILE_ARGS).ready();
    let account = owner.account("ci");
    for round in 0..10 {
        let key = owner.key(&account, &format!("key {round}"));
        for gateway in [&first, &second] {
            Request::get("/").bearer(&key.value).send(gateway.gateway()).expect_status(200);
        }
        let revoked = owner.act(&key.path, "revoke");
        let mut applied: Vec<&str> = revoked["gateways"]["applied"]
            .as_array()
            .expect("names")
            .iter()
            .filter_map(|name| name.as_str())
            .collect();
        applied.sort_unstable();
        assert_eq!(applied, ["gw-1", "gw-2"]);
        for probe in 0..12 {
            let gateway = if probe % 2 == 0 { &first } else { &second };
            let answer = Request::get("/").bearer(&key.value).send(gateway.gateway());
            assert_eq!(answer.status, 401, "round {round}, probe {probe}");
        }
    }
    drop((control, control_home, upstream));
}

#[test]
fn under_load_no_request_sent_after_the_acknowledgement_is_accepted() {
    // Its callers insist on refused keys: that is what the limit on failures is there to end.
    let stage = Stage::with(Upstream::nginx(), &format!("{OPEN_ROUTE}[failures]\nrate = 0\n"));
    let account = stage.owner.account("ci");
    let gateway = stage.program.gateway();
    for round in 0..5 {
        let key = stage.owner.key(&account, &format!("key {round}"));
        let acknowledged = AtomicBool::new(false);
        let late_accepts = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = Connection::open(gateway);
                        let (mut accepted, mut late, mut after) = (0, 0, 0);
                        while after < 20 {
                            let sent_after = acknowledged.load(Ordering::SeqCst);
                            let status =
                                connection.exchange(&Request::get("/").bearer(&key.value)).status;
                            accepted += u64::from(status == 200);
                            late += u64::from(sent_after && status == 200);
                            after += u64::from(sent_after);
                        }
                        (accepted, late)
                    })
                })
                .collect();
            let watch = Stopwatch::start();
            wait::until("some traffic", || (watch.elapsed().as_millis() > 50).then_some(()));
            stage.owner.act(&key.path, "revoke");
            acknowledged.store(true, Ordering::SeqCst);
            callers
                .into_iter()
                .map(|caller| caller.join().expect("a caller"))
                .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        });
        assert!(late_accepts.0 > 0, "there was traffic before");
        assert_eq!(late_accepts.1, 0, "requests accepted after the acknowledgement");
    }
}
