//! The feed: snapshot, changes, acks, and what `wait=applied` promises.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, SigningKey};
use portcullis_core::feed::{End, Heartbeat, Kind, Line, Position, Txn};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;
use crate::player::{Fold, Gateway};

#[tokio::test]
async fn the_snapshot_is_the_fold_of_all_changes_and_their_digests_agree() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let k = plant.resource("cluster", "k").await;
    let (id, key, _) = plant.agent("ci", Some("member")).await;
    plant.post(&plant.s(&id, &format!("/keys/{key}:rotate")), json!({"retain_minutes": 9})).await;
    plant
        .post(&plant.s(&id, "/access:grant"), json!({"resource_ids": [k], "role_id": "viewer"}))
        .await;
    plant.patch(&plant.s(&id, ""), json!({"description": "only a label"})).await;
    let (gone, _, _) = plant.agent("gone", Some("viewer")).await;
    plant.delete(&plant.s(&gone, "")).await;
    let (revoked, _, _) = plant.agent("revoked", None).await;
    plant.post(&plant.s(&revoked, ":revoke"), json!({})).await;
    plant.post(&plant.o(&format!("/resources/{k}:archive")), json!({})).await;

    let snapshot = gateway.snapshot().await;
    let mut stream = gateway.follow(Position { epoch: 1, seq: 0 }).await;
    let mut fold = Fold::default();
    while fold.position < snapshot.position {
        fold.apply(stream.txn().await);
    }
    assert_eq!(fold.records, snapshot.records);
    let Some(Line::Heartbeat(beat)) = stream.line().await else { panic!("a heartbeat") };
    assert_eq!((beat.position, beat.digest), (fold.position, fold.digest()));

    let account = &fold.records[&(Kind::Account, id.clone())];
    assert_eq!(
        account["grants"],
        json!([
            {"at": "cluster/k", "self": ["@viewer"], "below": ["@viewer"]},
            {"at": "org", "self": ["@member"], "below": ["@member"]},
        ])
    );
    let resource = &fold.records[&(Kind::Resource, format!("{}:cluster/k", plant.org))];
    assert_eq!(*resource, json!({"parent": "org", "archived": true, "crit": ["archived"]}));
    let key = &fold.records[&(Kind::Key, key)];
    assert_eq!((&key["generation"], &key["account"]), (&json!(2), &json!(id)));
    assert_eq!(key["previous"]["retained_until_ms"], 1_795_305_600_000_u64 + 9 * 60_000);
    assert_eq!(
        fold.records[&(Kind::Role, "viewer".to_owned())],
        json!({"permissions": ["*:read"]})
    );
}

#[tokio::test]
async fn concurrent_writers_leave_a_gapless_order() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let mut from = gateway.snapshot().await;
    let mut stream = gateway.follow(from.position).await;
    let path = plant.o("/service-accounts?wait=none");
    let creates = (0..20).map(|n| {
        plant.post(&path, json!({"username": format!("bot-{n}"), "create_key": {"name": "k"}}))
    });
    let answers = futures_util::future::join_all(creates).await;
    let mut seqs: Vec<u64> = answers.iter().map(|answer| answer.number("/seq")).collect();
    seqs.sort_unstable();
    let first = from.position.seq + 1;
    assert_eq!(seqs, (first..first + 20).collect::<Vec<u64>>());
    for _ in 0..20 {
        from.apply(stream.txn().await);
    }
    assert_eq!(from.records, gateway.snapshot().await.records);
}

#[tokio::test]
async fn a_narrowing_change_waits_for_live_gateways_and_names_the_others() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let (id, key, _) = plant.agent("ci", None).await;
    let snapshot = gateway.snapshot().await;
    gateway.ack(snapshot.position, Some(30_000)).await;
    let mut stream = gateway.follow(snapshot.position).await;
    let path = plant.s(&id, &format!("/keys/{key}"));

    // It answers 200 only after the ack.
    let off = format!("{path}:deactivate?wait_timeout_ms=30000");
    let (answer, ()) = tokio::join!(plant.post(&off, json!({})), async {
        let txn = stream.txn().await;
        gateway.ack(txn.position, Some(30_000)).await;
    });
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["gateways"], json!({"applied": ["gw-1"], "pending": [], "fenced": []}));

    // A widening change that is not applied keeps its 200.
    let on = plant.post(&format!("{path}:activate?wait_timeout_ms=0"), json!({})).await;
    assert_eq!(on.status, 200);
    assert_eq!(on.body["gateways"]["pending"], json!(["gw-1"]));
    let seq = on.number("/seq");
    let propagation = plant.get(&format!("/v1/propagation/{seq}")).await;
    assert_eq!(propagation.text("/state"), "pending");

    // A narrowing one does not.
    let off = plant.post(&format!("{path}:deactivate?wait_timeout_ms=0"), json!({})).await;
    assert_eq!(off.status, 202);
    assert_eq!(off.text("/key/state"), "inactive");
    // Nor does its repetition, which changes nothing and is asked to be sure.
    let again = plant.post(&format!("{path}:deactivate?wait_timeout_ms=0"), json!({})).await;
    assert_eq!((again.status.as_u16(), again.number("/seq")), (202, off.number("/seq")));

    // Without an ack for its lease it is lost: still pending, but nobody waits for it.
    plant.clock.advance_ms(5001);
    let revoked = plant.post(&format!("{path}:revoke?wait_timeout_ms=30000"), json!({})).await;
    assert_eq!(
        (revoked.status.as_u16(), &revoked.body["gateways"]["pending"]),
        (202, &json!(["gw-1"]))
    );
    assert_eq!(plant.get("/v1/gateways/gw-1").await.text("/state"), "lost");

    // After its fence it serves no key, which counts as applied.
    drop(stream);
    plant.clock.advance_ms(33_001);
    let gone = plant.delete(&path).await;
    assert_eq!((gone.status.as_u16(), &gone.body["gateways"]["fenced"]), (200, &json!(["gw-1"])));
    assert_eq!(plant.get(&format!("/v1/propagation/{seq}")).await.text("/state"), "applied");
}

#[tokio::test]
async fn gateways_outlive_a_restart_and_are_removed_only_by_the_operator() {
    let mut plant = Plant::start().await;
    let (id, key, _) = plant.agent("ci", None).await;
    {
        let gateway = Gateway { plant: &plant, id: "gw-1" };
        let snapshot = gateway.snapshot().await;
        gateway.ack(snapshot.position, None).await;
    }
    plant.restart().await;
    let shown = plant.get("/v1/gateways/gw-1").await;
    assert_eq!((shown.status.as_u16(), shown.text("/state").as_str()), (200, "live"));
    let path = plant.s(&id, &format!("/keys/{key}:deactivate?wait_timeout_ms=0"));
    let off = plant.post(&path, json!({})).await;
    assert_eq!((off.status.as_u16(), &off.body["gateways"]["pending"]), (202, &json!(["gw-1"])));

    plant.delete("/v1/gateways/gw-1").await.assert_problem(403, "permission_denied");
    let remove = plant.ask(Method::DELETE, "/v1/gateways/gw-1").token(&plant.operator);
    assert_eq!(remove.send().await.status, 200);
    let list = plant.get("/v1/gateways").await;
    assert_eq!(list.body["items"], json!([]));
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let response = gateway.request(Method::GET, "/feed/v1/snapshot").send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn resuming_answers_by_position() {
    let plant = Plant::with_log_length(3).await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let start = gateway.snapshot().await.position;
    for n in 0..4 {
        plant.account(json!({"username": format!("bot-{n}")})).await;
    }
    let head = gateway.snapshot().await.position;
    assert_eq!(head.seq, start.seq + 4);
    assert_eq!(gateway.changes(start).await.status(), 410);
    assert_eq!(gateway.changes(Position { seq: start.seq + 1, ..start }).await.status(), 200);
    let ahead = Position { seq: head.seq + 1, ..head };
    let response = gateway.changes(ahead).await;
    assert_eq!(response.status(), 409);
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body, json!({"epoch": head.epoch, "seq": head.seq}));
    assert_eq!(gateway.changes(Position { epoch: 2, seq: 0 }).await.status(), 409);
    assert_eq!(gateway.changes(Position { epoch: 0, seq: head.seq }).await.status(), 410);
    assert_eq!(gateway.changes(head).await.status(), 200);
    let tag = format!("\"{}-{}\"", head.epoch, head.seq);
    let request = gateway.request(Method::GET, "/feed/v1/snapshot").header("if-none-match", tag);
    assert_eq!(request.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn an_ack_ahead_of_us_counts_for_nothing() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    let (id, key, _) = plant.agent("ci", None).await;
    gateway.snapshot().await;
    gateway.ack(Position { epoch: 1, seq: 1_000_000 }, None).await;
    let path = plant.s(&id, &format!("/keys/{key}:revoke?wait_timeout_ms=0"));
    let revoked = plant.post(&path, json!({})).await;
    assert_eq!(
        (revoked.status.as_u16(), &revoked.body["gateways"]["pending"]),
        (202, &json!(["gw-1"]))
    );
}

#[tokio::test]
async fn the_feed_is_for_gateways_only() {
    let plant = Plant::start().await;
    let url = format!("{}/feed/v1/snapshot", plant.base);
    let send = |token: &str, id: &'static str, version: &'static str| {
        let request = plant.client.get(&url).bearer_auth(token);
        request.header("portcullis-gateway", id).header("portcullis-feed", version).send()
    };
    for token in [&plant.admin, &plant.operator] {
        assert_eq!(send(token, "gw-1", "1").await.unwrap().status(), 401);
    }
    let token = &plant.gateway_token;
    assert_eq!(send(token, "gw-1", "2").await.unwrap().status(), 406);
    assert_eq!(send(token, "gw/1", "1").await.unwrap().status(), 400);
    assert_eq!(send(token, "gw-1", "1").await.unwrap().status(), 200);
    assert_eq!(plant.client.get(&url).send().await.unwrap().status(), 401);
    // The gateway's token opens nothing else.
    assert_eq!(plant.accepts(token).await, 401);
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_streams() {
    let mut plant = Plant::start().await;
    let mut stream = {
        let gateway = Gateway { plant: &plant, id: "gw-1" };
        let position = gateway.snapshot().await.position;
        gateway.follow(position).await
    };
    assert!(matches!(stream.line().await, Some(Line::Heartbeat(_))));
    tokio::time::timeout(Duration::from_secs(10), plant.stop()).await.expect("it stops");
}

#[tokio::test]
async fn every_line_that_says_something_is_signed() {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    plant.resource("cluster", "k").await;
    let public = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let check = |line: &Line| {
        let (Line::End(End { sig, .. })
        | Line::Heartbeat(Heartbeat { sig, .. })
        | Line::Txn(Txn { sig, .. })) = line
        else {
            panic!("{line:?} carries no signature");
        };
        let bytes = URL_SAFE_NO_PAD.decode(sig.as_ref().expect("a signature")).unwrap();
        let signature = Signature::from_slice(&bytes).unwrap();
        public.verify_strict(line.signed_form().as_bytes(), &signature).unwrap();
    };
    check(&Line::End(gateway.snapshot_end().await));
    let mut stream = gateway.follow(Position { epoch: 1, seq: 0 }).await;
    let mut seen = (0, 0);
    while seen.0 == 0 || seen.1 == 0 {
        let line = stream.line().await.unwrap();
        check(&line);
        match line {
            Line::Txn(_) => seen.0 += 1,
            _ => seen.1 += 1,
        }
    }
}
