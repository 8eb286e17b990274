//! Keys that other systems made: imported by their hashes, accepted in their own spelling, and the
//! ZenML rendering of our own keys.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Answer, Plant};

const TEXT: &str = "sk-live.0123456789+abcdefghijklm/nopqrstuvwxyz==";
const UID: &str = "0190f0a4-7c1e-4000-8000-00000000beef";
/// The 64 hexadecimal characters inside a key of ZenML.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Its hash as libxcrypt makes it.
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuQSLmioUYOEmKTL16wobTks4j4shJ2JG";

fn sha256(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rendered(mark: &str, uid: &str, secret: &str) -> String {
    format!("{mark}{}", STANDARD.encode(json!({"id": uid, "key": secret}).to_string()))
}

async fn import(plant: &Plant, account: &str, body: Value) -> Answer {
    plant.post(&plant.s(account, "/keys:import"), body).await
}

fn opaque(name: &str, text: &str) -> Value {
    json!({"name": name, "style": "opaque", "alg": "sha256", "hash": hex(&sha256(text))})
}

fn zenml(name: &str) -> Value {
    json!({"name": name, "style": "zenml", "uid": UID, "alg": "bcrypt", "hash": BCRYPT})
}

#[tokio::test]
async fn a_key_of_another_system_works_by_its_hash_and_nothing_of_it_is_shown() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    for (name, text, hash) in [
        ("hex", TEXT, hex(&sha256(TEXT))),
        ("base64", "another-key-of-theirs", STANDARD.encode(sha256("another-key-of-theirs"))),
        ("url", "a-third-key-of-theirs", URL_SAFE_NO_PAD.encode(sha256("a-third-key-of-theirs"))),
    ] {
        assert_eq!(plant.accepts(text).await, 401);
        let body = json!({"name": name, "style": "opaque", "alg": "sha256", "hash": hash});
        let made = import(&plant, &id, body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        assert_eq!(made.text("/warnings/0/code"), "unkeyed_hash");
        assert_eq!(
            (made.text("/key/style"), made.text("/key/alg")),
            ("opaque".into(), "sha256".into())
        );
        assert_eq!(made.body["key"]["hint"], json!(null));
        assert!(made.body.get("value").is_none() && !made.text.contains(&hex(&sha256(text))));
        assert_eq!(plant.accepts(text).await, 200);
        let whoami = plant.ask(Method::GET, "/v1/whoami").token(text).send().await;
        assert_eq!(whoami.text("/key_id"), made.text("/key/id"));
        let event = plant.last_event().await;
        assert_eq!(event["action"], "api_key.import");
        assert!(!event.to_string().contains(&hex(&sha256(text))));
    }
}

#[tokio::test]
async fn an_imported_bcrypt_key_is_checked_once_and_rehashed() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let made = import(&plant, &id, zenml("legacy")).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!((made.text("/key/uid"), made.text("/key/alg")), (UID.into(), "bcrypt".into()));
    let path = plant.s(&id, &format!("/keys/{}", made.text("/key/id")));

    let wrong = rendered("ZENKEY_", UID, &SECRET.replace('0', "1"));
    assert_eq!(plant.accepts(&wrong).await, 401);
    assert_eq!(plant.get(&path).await.text("/alg"), "bcrypt", "a failure changes nothing");

    for mark in ["ZENKEY_", "ZENPROKEY_"] {
        assert_eq!(plant.accepts(&rendered(mark, UID, SECRET)).await, 200);
    }
    let after = plant.get(&path).await;
    assert_eq!((after.text("/alg"), after.number("/version")), ("b3".into(), 1));
    let event = plant.last_event().await;
    assert_eq!(
        (event["action"].as_str(), event["actor"]["kind"].as_str()),
        (Some("api_key.rehash"), Some("system"))
    );
    assert_eq!(plant.accepts(&wrong).await, 401);
    // Its id in our own spelling opens nothing.
    let basic = STANDARD.encode(format!("{}:{}", made.text("/key/id"), &SECRET[..49]));
    let ask =
        plant.ask(Method::GET, "/v1/whoami").header("authorization", &format!("Basic {basic}"));
    assert_eq!(ask.send().await.status, 401);
}

#[tokio::test]
async fn a_gateway_s_rehash_replaces_the_slow_hash_and_nothing_else() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let slow = import(&plant, &id, zenml("legacy")).await.text("/key/id");
    let (_, native, value) = plant.agent("other", Some("viewer")).await;
    let digest = "ab".repeat(32);
    let ack = |key: &str, generation: u64, pepper: u64| {
        json!({
            "gateway": "gw-1", "epoch": 1, "applied": 1, "rehash": [{
                "id": key, "generation": generation, "secret": "current", "pepper": pepper,
                "digest": digest,
            }],
        })
    };
    let send = async |body: Value| {
        let ask = plant
            .ask(Method::POST, "/feed/v1/acks")
            .token(&plant.gateway_token)
            .header("portcullis-gateway", "gw-1")
            .header("portcullis-feed", "1")
            .json(body);
        assert_eq!(ask.send().await.status, 204);
    };
    let path = plant.s(&id, &format!("/keys/{slow}"));
    for refused in [ack(&slow, 2, 1), ack(&slow, 1, 9), ack(&native, 1, 1)] {
        send(refused).await;
        assert_eq!(plant.get(&path).await.text("/alg"), "bcrypt");
    }
    assert_eq!(plant.accepts(&value).await, 200, "a native key is never rehashed");
    send(ack(&slow, 1, 1)).await;
    assert_eq!(plant.get(&path).await.text("/alg"), "b3");
    let event = plant.last_event().await;
    assert_eq!(
        (event["action"].as_str(), event["actor"]["id"].as_str()),
        (Some("api_key.rehash"), Some("gw-1"))
    );
    send(ack(&slow, 1, 1)).await;
    assert_eq!(plant.last_event().await["id"], event["id"], "it is taken once");
}

#[tokio::test]
async fn an_imported_key_rotates_into_ours_and_its_old_text_lives_as_long_as_it_is_retained() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let made = import(&plant, &id, opaque("old", TEXT)).await;
    let path = plant.s(&id, &format!("/keys/{}", made.text("/key/id")));
    let rotated = plant.post(&format!("{path}:rotate"), json!({"retain_minutes": 5})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    assert_eq!((rotated.text("/key/alg"), rotated.number("/key/generation")), ("b3".into(), 2));
    let value = rotated.text("/value");
    let both = async || [plant.accepts(&value).await, plant.accepts(TEXT).await];
    assert_eq!(both().await, [200, 200]);
    plant.clock.advance_ms(5 * 60_000);
    assert_eq!(both().await, [200, 401]);
}

#[tokio::test]
async fn a_replaced_secret_can_come_along() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
    let until = "2026-11-22T00:01:00Z";
    let mut body = opaque("pair", TEXT);
    body["previous"] =
        json!({"hash": hex(&sha256("the-text-before-this-one")), "retained_until": until});
    let made = import(&plant, &id, body).await;
    assert_eq!((made.status.as_u16(), made.number("/key/generation")), (201, 2), "{}", made.text);
    assert_eq!(plant.accepts("the-text-before-this-one").await, 200);
    plant.clock.advance_ms(60_000);
    assert_eq!(plant.accepts("the-text-before-this-one").await, 401);
    assert_eq!(plant.accepts(TEXT).await, 200);
}

#[tokio::test]
async fn a_credential_stands_for_one_key_for_ever() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let made = import(&plant, &id, opaque("one", TEXT)).await;
    import(&plant, &id, opaque("two", TEXT)).await.assert_problem(409, "key_taken");
    let path = plant.s(&id, &format!("/keys/{}", made.text("/key/id")));
    assert_eq!(plant.delete(&path).await.status, 200);
    assert_eq!(plant.accepts(TEXT).await, 401);
    // C-10: no call restores a deleted key.
    import(&plant, &id, opaque("one", TEXT)).await.assert_problem(409, "key_taken");
    let slow = import(&plant, &id, zenml("three")).await;
    assert_eq!(slow.status, 201);
    plant.delete(&plant.s(&id, &format!("/keys/{}", slow.text("/key/id")))).await;
    import(&plant, &id, zenml("three")).await.assert_problem(409, "key_taken");
}

#[tokio::test]
async fn imports_count_in_the_limit_and_obey_names_states_and_rights() {
    let mut plant = Plant::start().await;
    plant.change_policy(r#""max_keys_per_sa":null"#, r#""max_keys_per_sa":1"#).await;
    let id = plant.account(json!({"username": "ci", "role_id": "owner"})).await;
    assert_eq!(import(&plant, &id, opaque("one", TEXT)).await.status, 201);
    let more = opaque("two", "another-key-of-theirs");
    import(&plant, &id, more.clone()).await.assert_problem(409, "key_limit_reached");
    let named = opaque("one", "another-key-of-theirs");
    import(&plant, &id, named).await.assert_problem(409, "name_taken");

    let (_, _, manager) = plant.agent("manager", Some("member")).await;
    let by = plant.ask(Method::POST, &plant.s(&id, "/keys:import")).token(&manager);
    by.json(more.clone()).send().await.assert_problem(403, "permission_denied");
    // An administrator must not make itself a key of an owner.
    let (_, _, admin) = plant.agent("admin-agent", Some("admin")).await;
    let by = plant.ask(Method::POST, &plant.s(&id, "/keys:import")).token(&admin);
    by.json(more.clone()).send().await.assert_problem(403, "privilege_escalation");

    let off = plant.account(json!({"username": "off"})).await;
    plant.post(&plant.s(&off, ":deactivate"), json!({})).await;
    import(&plant, &off, more).await.assert_problem(409, "service_account_inactive");
}

#[tokio::test]
async fn what_cannot_be_imported_is_named() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let bad = async |change: Value, faults: &[(&str, &str)]| {
        let mut body = opaque("k", TEXT);
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        import(&plant, &id, body).await.assert_faults(faults);
    };
    bad(json!({"hash": "abc"}), &[("hash", "bad_format")]).await;
    bad(json!({"alg": "md5"}), &[("alg", "bad_format")]).await;
    bad(json!({"alg": "bcrypt", "hash": BCRYPT}), &[("alg", "bad_format")]).await;
    bad(json!({"uid": UID}), &[("uid", "bad_format")]).await;
    bad(json!({"style": "zenml"}), &[("uid", "required")]).await;
    let (_, key, _) = plant.agent("other", None).await;
    let ours = plant.get(&plant.o("/keys")).await.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == *key)
        .map(|item| item["uid"].clone());
    bad(json!({"style": "zenml", "uid": ours}), &[("uid", "bad_format")]).await;
    let costly = BCRYPT.replacen("$04$", "$31$", 1);
    bad(
        json!({"style": "zenml", "uid": UID, "alg": "bcrypt", "hash": costly}),
        &[("hash", "bad_format")],
    )
    .await;
    let past = json!({"hash": hex(&sha256("x")), "retained_until": "2020-01-01T00:00:00Z"});
    bad(json!({"previous": past}), &[("previous.retained_until", "out_of_range")]).await;
    bad(json!({"expires_at": "2020-01-01T00:00:00Z"}), &[("expires_at", "out_of_range")]).await;
    bad(json!({"value": TEXT}), &[("value", "unknown_field")]).await;
    assert_eq!(plant.accepts(TEXT).await, 401);
}

#[tokio::test]
async fn z_45_keys_of_a_zenml_organization_come_in_its_rendering_and_work_in_both() {
    let mut plant = Plant::start().await;
    plant.change_policy(r#""key_render":"native""#, r#""key_render":"zenpro""#).await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let encoded = value.strip_prefix("ZENPROKEY_").expect("the mark");
    let json: Value = serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
    let path = plant.s(&id, &format!("/keys/{key}"));
    assert_eq!(json["id"], plant.get(&path).await.body["uid"]);
    let tail = json["key"].as_str().unwrap();
    assert_eq!(tail.len(), 49);
    assert_eq!(plant.accepts(&value).await, 200);
    assert_eq!(plant.accepts(&format!("ptc_{key}_{tail}")).await, 200);
    assert_eq!(plant.accepts(value.trim_end_matches('=')).await, 200);

    let rotated = plant.post(&format!("{path}:rotate"), json!({})).await;
    assert!(rotated.text("/value").starts_with("ZENPROKEY_"));
    assert_eq!(plant.accepts(&rotated.text("/value")).await, 200);
    assert_eq!(plant.accepts(&value).await, 401);
}

#[tokio::test]
async fn diagnosis_reads_every_spelling() {
    let plant = Plant::start().await;
    let id = plant.account(json!({"username": "ci"})).await;
    let made = import(&plant, &id, zenml("legacy")).await;
    let diagnose =
        async |value: &str| plant.post(&plant.o(":diagnose"), json!({"value": value})).await;
    let good = diagnose(&rendered("ZENKEY_", UID, SECRET)).await;
    assert_eq!(
        (good.body["usable"].as_bool(), good.text("/key_id")),
        (Some(true), made.text("/key/id"))
    );
    let bad = diagnose(&rendered("ZENKEY_", UID, "0123456789")).await;
    assert_eq!(bad.text("/reason"), "bad_secret");
    assert_eq!(diagnose("a-text-that-nobody-imported").await.text("/reason"), "unknown_key");
    assert_eq!(diagnose("ZENPROKEY_e30=").await.text("/reason"), "malformed");

    // A key of another organization is as unknown as one that nobody has.
    let body = json!({"name": "other", "owner": {"username": "root"}});
    let other = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let other = other.send().await;
    let path = format!("/v1/organizations/{}:diagnose", other.text("/organization/id"));
    let ask = async |uid: &str| {
        let body = json!({"value": rendered("ZENKEY_", uid, SECRET)});
        plant.ask(Method::POST, &path).token(&other.text("/value")).json(body).send().await.body
    };
    let nobodys = "00000000-0000-4000-8000-000000000000";
    assert_eq!(ask(UID).await, ask(nobodys).await);
}
