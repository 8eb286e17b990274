//! Denials that are about who asks.

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::Kind;
use portcullis_core::key::{PlainKey, Prefix, mint, mint_for};
use serde_json::json;

use super::{ROUTES, assert_denied, body_of, masked};
use crate::support::http::{Connection, Request};
use crate::support::snapshot::{Snapshot, digest_of};
use crate::support::stage::{FileStage, OPEN_ROUTE, Stage, reasons};
use crate::support::upstream::Upstream;

struct Counting(std::sync::atomic::AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for byte in out {
            *byte = (self.0.fetch_add(73, std::sync::atomic::Ordering::Relaxed) % 251) as u8;
        }
        Ok(())
    }
}

fn other_entropy() -> Counting {
    Counting(std::sync::atomic::AtomicU64::new(5))
}

/// A different secret under the same id.
fn another_secret(key: &PlainKey) -> PlainKey {
    mint_for(key.id(), &Prefix::default(), &other_entropy()).expect("counting does not fail")
}

/// Every way in which a credential can be no good, with the reason in the record.
fn bad_credentials(snapshot: &mut Snapshot) -> Vec<(&'static str, String)> {
    let text = |key: &PlainKey| key.expose().to_owned();
    snapshot.account("good");
    let good = snapshot.key("good");
    let stranger = mint(&Prefix::default(), &other_entropy()).expect("counting does not fail");

    let rotated = snapshot.key("good");
    let newer = another_secret(&rotated);
    let previous = json!({"alg": "b3", "pepper": 1, "digest": digest_of(&rotated)["digest"], "retained_until_ms": 1});
    let record = json!({"account": "good", "state": "active", "generation": 2, "current": digest_of(&newer), "previous": previous});
    snapshot.put(Kind::Key, &rotated.id().to_string(), record);

    snapshot.put(Kind::Org, "o2", json!({"state": "suspended"}));
    snapshot.account_with("suspended", &json!({"org": "o2"}));
    snapshot.account_with("inactive", &json!({"state": "inactive"}));
    let blocked = snapshot.key("good");
    snapshot.put(Kind::Block, "b1", json!({"match": {"key": blocked.id().to_string()}}));
    let bound = json!({"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}});

    let mut flipped = text(&good).into_bytes();
    let last = flipped.len() - 1;
    flipped[last] = if flipped[last] == b'0' { b'1' } else { b'0' };
    vec![
        ("malformed", "not-a-key-but-long-enough".to_owned()),
        ("malformed", String::from_utf8(flipped).unwrap()),
        ("malformed", format!("{}0", text(&good))),
        ("malformed", text(&good).replacen("ptc_", "x_", 1)),
        ("unknown_key", text(&stranger)),
        ("bad_secret", text(&another_secret(&good))),
        ("retention_over", text(&rotated)),
        ("blocked", text(&blocked)),
        ("key_inactive", text(&snapshot.key_with("good", &json!({"state": "inactive"})))),
        (
            "not_yet_valid",
            text(&snapshot.key_with("good", &json!({"not_before_ms": 9_000_000_000_000_u64}))),
        ),
        ("key_expired", text(&snapshot.key_with("good", &json!({"expires_at_ms": 1})))),
        ("sa_inactive", text(&snapshot.key("inactive"))),
        ("sa_inactive", text(&snapshot.key("nobody"))),
        ("org_suspended", text(&snapshot.key("suspended"))),
        ("binding_mismatch", text(&snapshot.key_with("good", &bound))),
    ]
}

#[test]
fn strangers_cannot_tell_one_bad_credential_from_another() {
    let mut snapshot = Snapshot::new();
    let cases = bad_credentials(&mut snapshot);
    let config = format!("{OPEN_ROUTE}[log]\nrecords = \"file:records.log\"\n");
    let stage = FileStage::with(Upstream::nginx(), &config, &snapshot);
    let mut first = None;
    let mut connection = Connection::open(stage.program.gateway());
    for (reason, credential) in &cases {
        let answer = connection.exchange(&Request::get("/").bearer(credential));
        assert_denied(&answer, 401, "invalid_token");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="portcullis", error="invalid_token""#),
            "{reason}"
        );
        let masked = masked(&answer);
        assert_eq!(first.get_or_insert_with(|| masked.clone()), &masked, "{reason}");
    }
    let reasons: Vec<String> = stage
        .records(cases.len())
        .iter()
        .map(|record| record["reason"].as_str().unwrap_or("none").to_owned())
        .collect();
    let wanted: Vec<&str> = cases.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(reasons, wanted);
    assert_eq!(stage.upstream.access_log(), "", "nothing of it reached the upstream");
}

#[test]
fn a_proven_caller_is_told_what_it_lacks() {
    let mut snapshot = Snapshot::new();
    snapshot.put(Kind::Resource, "o1:cluster/c1", json!({"parent": "org"}));
    snapshot.account("reader");
    snapshot.account_with("nothing", &json!({"grants": []}));
    let reader = snapshot.key("reader");
    let nothing = snapshot.key("nothing");
    let restricted =
        snapshot.key_with("reader", &json!({"restrict": {"permissions": ["node:read"]}}));
    let get_only = snapshot.key_with("reader", &json!({"restrict": {"methods": ["GET"]}}));
    let elsewhere = snapshot.key_with("reader", &json!({"sources": ["10.0.0.0/8"]}));
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);

    let cluster = |key: &PlainKey| Request::get("/clusters/c1").bearer(key.expose());
    stage.send(&cluster(&reader)).expect_status(200);
    stage.send(&cluster(&get_only)).expect_status(200);
    let delete = Request::new("DELETE", "/clusters/c1").bearer(get_only.expose());
    let unknown = Request::get("/clusters/c2").bearer(reader.expose());
    let foreign = Request::get("/other-org").bearer(reader.expose());
    let cases = [
        ("missing_permission", cluster(&nothing)),
        ("unknown_resource", unknown),
        ("wrong_org", foreign),
        ("restricted", cluster(&restricted)),
        ("restricted", delete),
    ];
    for (reason, request) in &cases {
        let answer = stage.send(request);
        assert_denied(&answer, 403, "insufficient_scope");
        let challenge =
            r#"Bearer realm="portcullis", error="insufficient_scope", scope="cluster:read""#;
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{reason}");
    }
    let answer = stage.send(&Request::get("/open").bearer(elsewhere.expose()));
    assert_denied(&answer, 403, "source_not_allowed");
    assert_eq!(answer.header("www-authenticate"), None);

    let records = stage.records(2 + cases.len() + 1);
    let mut reasons: Vec<&str> =
        records.iter().filter_map(|record| record["reason"].as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            "missing_permission",
            "restricted",
            "restricted",
            "source_not_allowed",
            "unknown_resource",
            "wrong_org"
        ]
    );
}

#[test]
fn no_credential_is_asked_for_and_two_are_refused() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    for request in [Request::get("/open"), Request::get("/open").header("Authorization", "")] {
        let answer = stage.send(&request);
        if answer.text() == body_of("unauthenticated") {
            assert_denied(&answer, 401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="portcullis""#));
        } else {
            assert_denied(&answer, 401, "invalid_token");
        }
    }
    assert_denied(&stage.send(&Request::get("/open")), 401, "unauthenticated");

    let twice = Request::get("/open").bearer(key.expose()).bearer(key.expose());
    let listed = Request::get("/open")
        .header("Authorization", &format!("Bearer {0}, Bearer {0}", key.expose()));
    for request in [twice, listed] {
        let mut connection = Connection::open(stage.program.gateway());
        let answer = connection.exchange(&request);
        assert_denied(&answer, 400, "invalid_request");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="portcullis", error="invalid_request""#)
        );
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.is_closed_by_peer());
    }
    let recorded = reasons(&stage.home, 5);
    assert_eq!(recorded.iter().filter(|reason| *reason == "duplicate_credential").count(), 2);
    // A public route looks at no credential, however odd.
    stage.send(&Request::get("/public").bearer("nonsense")).expect_status(200);
    stage.send(&Request::get("/public")).expect_status(200);
}

#[test]
fn a_bearer_credential_has_one_strict_form() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let stage = FileStage::with(Upstream::nginx(), ROUTES, &snapshot);
    let key = key.expose();
    for (value, status) in [
        (format!("Bearer {key}"), 200),
        (format!("bearer {key}"), 200),
        (format!("BEARER {key}"), 200),
        (format!("Bearer  {key}"), 401),
        (format!("Bearer\t{key}"), 400),
        (format!("Bearer{key}"), 401),
        (format!("Token {key}"), 401),
        (key.to_owned(), 401),
        ("Bearer".to_owned(), 401),
        (format!("Bearer {key}="), 401),
        (format!("Bearer {}", "a".repeat(19)), 401),
        (format!("Bearer {}", "a".repeat(257)), 401),
        (format!("Bearer {}\u{e9}", &key[..64]), 400),
    ] {
        let answer = stage.send(&Request::get("/open").header("Authorization", &value));
        assert_eq!(answer.status, status, "{value:?}: {}", answer.text());
    }
}

#[test]
fn what_the_control_plane_ended_is_refused_like_everything_else() {
    let stage = Stage::new();
    let stranger = stage.ask("ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr");
    assert_denied(&stranger, 401, "invalid_token");
    let account = stage.owner.account("kept");
    let (revoked, deleted) = (stage.owner.key(&account, "a"), stage.owner.key(&account, "b"));
    stage.owner.act(&revoked.path, "revoke");
    stage.owner.delete(&deleted.path);
    let mut refused = vec![("key_revoked", revoked), ("key_revoked", deleted)];
    for verb in ["revoke", "delete"] {
        let account = stage.owner.account(&format!("to {verb}"));
        let key = stage.owner.key(&account, "key");
        match verb {
            "revoke" => stage.owner.act(&account.path, "revoke"),
            _ => stage.owner.delete(&account.path),
        };
        refused.push(("key_revoked", key));
    }
    for (_, key) in &refused {
        assert_eq!(masked(&stage.ask(&key.value)), masked(&stranger));
    }
    let mut reasons: Vec<String> = stage
        .records(1 + refused.len())
        .iter()
        .map(|record| record["reason"].as_str().unwrap_or("none").to_owned())
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons[reasons.len() - 1], "unknown_key");
    for reason in &reasons[..reasons.len() - 1] {
        assert!(["key_revoked", "sa_revoked"].contains(&reason.as_str()), "{reason}");
    }
}
