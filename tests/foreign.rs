//! Credentials that are not native keys, proven at the running gateway: keys imported from other
//! systems, the ZenML renderings, session tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::admin::Account;
use crate::support::http::{Answer, Request};
use crate::support::portcullis::{Home, Portcullis};
use crate::support::stage::{OPEN_ROUTE, Stage, reasons};
use crate::support::upstream::Upstream;
use crate::support::wait;

const TEXT: &str = "sk-live.0123456789+abcdefghijklm/nopqrstuvwxyz==";
const UID: &str = "0190f0a4-7c1e-4000-8000-00000000beef";
/// What a key of ZenML holds, and its hash as libxcrypt makes it.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuuQSLmioUYOEmKTL16wobTks4j4shJ2JG";

/// One worker, so that records come in the order of the requests.
const FOREIGN: &str = "[gateway]\nworkers = 1\n[keys]\nimported = true\nsessions = true\n\
                       renderings = [\"zenpro\", \"zen\"]\n";

/// A route that needs a permission on the root.
const GUARDED_ROUTE: &str = r#"
[[routes]]
name = "guarded"
path = "/guarded"
upstream = "app"
require = { permission = "file:read" }

[[routes]]
name = "workspace"
path = "/workspaces/{workspace}"
upstream = "app"
require = { permission = "file:read", resource = "workspace/{workspace}" }

[[routes]]
name = "project"
path = "/projects/{project}"
upstream = "app"
require = { permission = "file:read", resource = "project/{project}" }
"#;

fn stage() -> Stage {
    Stage::with(Upstream::nginx(), &format!("{OPEN_ROUTE}{GUARDED_ROUTE}{FOREIGN}"))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rendered(mark: &str, uid: &str, secret: &str) -> String {
    format!("{mark}{}", STANDARD.encode(json!({"id": uid, "key": secret}).to_string()))
}

#[track_caller]
fn import(stage: &Stage, account: &Account, body: &Value) -> Value {
    let path = format!("{}/keys:import", account.path);
    stage.owner.call("POST", &path, Some(body)).expect_status(201).json()
}

fn opaque(name: &str, text: &str) -> Value {
    json!({"name": name, "style": "opaque", "alg": "sha256", "hash": sha256(text)})
}

fn zenml(name: &str) -> Value {
    json!({"name": name, "style": "zenml", "uid": UID, "alg": "bcrypt", "hash": BCRYPT})
}

fn form(stage: &Stage, path: &str, body: &str) -> Answer {
    Request::new("POST", path)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
        .send(stage.program.control())
}

#[track_caller]
fn login(stage: &Stage, key: &str) -> String {
    let answer = form(stage, "/auth/login", &format!("password={key}")).expect_status(200);
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

#[test]
fn an_imported_key_passes_by_its_text_until_it_is_deleted() {
    let stage = stage();
    let account = stage.owner.account("ci");
    stage.ask(TEXT).expect_status(401);
    let made = import(&stage, &account, &opaque("theirs", TEXT));
    stage.ask(TEXT).expect_status(200);
    let path = format!("{}/keys/{}", account.path, made["key"]["id"].as_str().expect("an id"));
    stage.owner.act(&path, "deactivate");
    stage.ask(TEXT).expect_status(401);
    stage.owner.act(&path, "activate");
    stage.ask(TEXT).expect_status(200);
    let rotated =
        stage.owner.call("POST", &format!("{path}:rotate"), Some(&json!({"retain_minutes": 5})));
    let value = rotated.expect_status(200).json()["value"].as_str().expect("a value").to_owned();
    stage.ask(TEXT).expect_status(200);
    stage.ask(&value).expect_status(200);
    stage.owner.delete(&path);
    stage.ask(TEXT).expect_status(401);
    stage.ask(&value).expect_status(401);
    let wanted = ["unknown_key", "", "key_inactive", "", "", "", "key_revoked", "key_revoked"];
    assert_eq!(reasons(&stage.home, 8), wanted);
    let records = stage.records(8);
    assert_eq!(records[1]["auth"], "imported");
    assert_eq!(records[5]["auth"], "key");
    let all = std::fs::read_to_string(stage.home.path("records.log")).expect("records");
    assert!(
        !all.contains(TEXT) && !stage.program.log().contains(TEXT),
        "no credential is recorded"
    );
}

#[test]
fn every_refusal_of_a_foreign_key_looks_the_same() {
    let stage = stage();
    let account = stage.owner.account("ci");
    import(&stage, &account, &opaque("theirs", TEXT));
    let mut off = opaque("off", "another-text-of-theirs");
    off["active"] = json!(false);
    import(&stage, &account, &off);
    import(&stage, &account, &zenml("legacy"));
    let masked = |answer: &Answer| {
        let id = answer.header("portcullis-request-id").expect("an id").to_owned();
        let date = answer.header("date").expect("a date").to_owned();
        (answer.head.replace(&id, "ID").replace(&date, "DATE"), answer.text().replace(&id, "ID"))
    };
    let first = masked(&stage.ask("a-text-that-nobody-imported").expect_status(401));
    for credential in [
        "another-text-of-theirs".to_owned(),
        rendered("ZENKEY_", UID, &SECRET.replace('0', "f")),
        rendered("ZENKEY_", "0190f0a4-7c1e-4000-8000-00000000dead", SECRET),
        "ZENPROKEY_e30=".to_owned(),
        "eyJhbGciOiJub25lIn0.e30.".to_owned(),
        "short".to_owned(),
    ] {
        assert_eq!(masked(&stage.ask(&credential).expect_status(401)), first, "{credential}");
    }
    let wanted = [
        "unknown_key",
        "key_inactive",
        "bad_secret",
        "unknown_key",
        "malformed",
        "malformed",
        "malformed",
    ];
    assert_eq!(reasons(&stage.home, 7), wanted);
}

#[test]
fn what_is_not_switched_on_is_malformed() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    import(&stage, &account, &opaque("theirs", TEXT));
    import(&stage, &account, &zenml("legacy"));
    let key = stage.owner.key(&account, "ours");
    let token = login(&stage, &key.value);
    for credential in [TEXT, &rendered("ZENKEY_", UID, SECRET), &token] {
        stage.ask(credential).expect_status(401);
    }
    assert_eq!(reasons(&stage.home, 3), ["malformed"; 3]);
}

#[test]
fn a17_a_bcrypt_key_is_hashed_once_off_the_workers_and_fast_from_then_on() {
    let stage = stage();
    let account = stage.owner.account("legacy");
    let made = import(&stage, &account, &zenml("legacy"));
    let path = format!("{}/keys/{}", account.path, made["key"]["id"].as_str().expect("an id"));
    let credential = rendered("ZENKEY_", UID, SECRET);
    stage.ask(&credential).expect_status(200);
    wait::until("the control plane has the fast digest", || {
        let key = stage.owner.call("GET", &path, None).json();
        (key["alg"] == "b3").then_some(())
    });
    for mark in ["ZENKEY_", "ZENPROKEY_"] {
        stage.ask(&rendered(mark, UID, SECRET)).expect_status(200);
    }
    stage.ask(&rendered("ZENKEY_", UID, &SECRET.replace('0', "1"))).expect_status(401);
    let events = stage.owner.get("/audit-events?action=api_key.rehash").expect_status(200).json();
    assert_eq!(events["items"][0]["actor"]["kind"], "gateway");
    // Fast digests need no second gateway's hash either: the admin API takes it at once.
    let whoami = Request::get("/v1/whoami").bearer(&credential).send(stage.program.control());
    whoami.expect_status(200);
    stage.owner.delete(&path);
    stage.ask(&credential).expect_status(401);
}

#[test]
fn a17_a_flood_of_slow_hashes_is_told_503_and_does_not_slow_others() {
    let stage = stage();
    let account = stage.owner.account("legacy");
    let costly = BCRYPT.replacen("$04$", "$09$", 1);
    let mut body = zenml("costly");
    body["hash"] = json!(costly);
    import(&stage, &account, &body);
    let fast = stage.owner.key(&account, "fast");
    let wrong = rendered("ZENKEY_", UID, &SECRET.replace('0', "1"));
    let gateway = stage.program.gateway();
    let (told, answers) = std::sync::mpsc::channel();
    let flood: Vec<_> = (0..80)
        .map(|_| {
            let (request, told) = (Request::get("/").bearer(&wrong), told.clone());
            std::thread::spawn(move || {
                let status = request.try_send(gateway).map(|answer| answer.status);
                let _ = told.send(status);
            })
        })
        .collect();
    let busy = answers.iter().take(80).any(|status| status == Some(503));
    assert!(busy, "nobody was told that the queues are full");
    for _ in 0..20 {
        stage.ask(&fast.value).expect_status(200);
    }
    // The program goes, and with it whatever still waits.
    drop(stage);
    for thread in flood {
        let _ = thread.join();
    }
}

#[test]
fn z_45_our_keys_pass_in_the_rendering_of_zenml_pro_too() {
    let stage = stage();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "main");
    let shown = stage.owner.call("GET", &key.path, None).json();
    let uid = shown["uid"].as_str().expect("a uid").to_owned();
    let tail = &key.value[key.value.len() - 49..];
    let value = rendered("ZENPROKEY_", &uid, tail);
    stage.ask(&value).expect_status(200);
    stage.ask(value.trim_end_matches('=')).expect_status(200);
    let basic = STANDARD.encode(format!("anybody:{value}"));
    let asked = Request::get("/").header("Authorization", &format!("Basic {basic}"));
    stage.send(&asked).expect_status(401);
    stage.owner.act(&key.path, "deactivate");
    stage.ask(&value).expect_status(401);
    let wanted = ["", "", "malformed", "key_inactive"];
    assert_eq!(reasons(&stage.home, 4), wanted, "the route lists no Basic");
}

#[test]
fn z_40_and_s5_one_session_token_opens_both_planes_and_dies_with_its_key() {
    let stage = stage();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "main");
    let token = login(&stage, &key.value);
    let me = || Request::get("/users/me").bearer(&token).send(stage.program.control()).status;
    stage.ask(&token).expect_status(200);
    assert_eq!(me(), 200);
    for path in [&key.path, &account.path] {
        stage.owner.act(path, "deactivate");
        stage.ask(&token).expect_status(401);
        assert_eq!(me(), 401, "Z-15: at once");
        stage.owner.act(path, "activate");
        stage.ask(&token).expect_status(200);
    }
    let second = stage.owner.rotate(&account, &key, &json!({"retain_minutes": 10}));
    stage.ask(&token).expect_status(200);
    let newer = login(&stage, &second.value);
    stage.owner.rotate(&account, &key, &json!({"retain_minutes": 10}));
    stage.ask(&token).expect_status(401);
    stage.ask(&newer).expect_status(200);
    stage.owner.delete(&key.path);
    stage.ask(&newer).expect_status(401);
    let wanted =
        ["", "key_inactive", "", "sa_inactive", "", "", "token_generation", "", "key_revoked"];
    assert_eq!(reasons(&stage.home, 9), wanted);
    assert_eq!(stage.records(9)[0]["auth"], "session");
}

#[test]
fn s6_the_scope_of_a_token_narrows_what_its_key_may_do() {
    let stage = stage();
    let account = stage.owner.account("ci");
    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let key = stage.owner.key(&account, "main");
    let guarded =
        |credential: &str| stage.send(&Request::get("/guarded").bearer(credential)).status;
    assert_eq!(guarded(&key.value), 200);
    let ask = |scope: &str| {
        let body = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&scope={scope}",
            key.id, key.value
        );
        let answer = form(&stage, "/oauth2/token", &body).expect_status(200).json();
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    assert_eq!(guarded(&ask("file:read")), 200);
    assert_eq!(guarded(&ask("*:read")), 200);
    assert_eq!(guarded(&ask("cluster:read")), 403);
    let reasons = reasons(&stage.home, 4);
    assert_eq!(reasons, ["", "", "", "missing_permission"]);
}

#[test]
fn s6_a_token_for_a_resource_passes_only_there_and_below() {
    let stage = stage();
    let workspace = stage.owner.resource("workspace", "w1");
    stage.owner.resource("workspace", "w2");
    let below = json!({"kind": "project", "name": "p1", "ref": "p1", "parent_id": workspace});
    let path = format!("{}/resources", stage.owner.organization);
    stage.owner.call("POST", &path, Some(&below)).expect_status(201);
    let account = stage.owner.account("ci");
    stage.owner.bind(&account, "viewer", &stage.owner.root());
    let key = stage.owner.key(&account, "main");
    let ask = |audience: &str| {
        let body = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}{audience}",
            key.id, key.value
        );
        let answer = form(&stage, "/oauth2/token", &body).expect_status(200).json();
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    let opens = |credential: &str| {
        ["/workspaces/w1", "/workspaces/w2", "/projects/p1", "/guarded", "/"]
            .map(|path| stage.send(&Request::get(path).bearer(credential)).status)
    };
    assert_eq!(opens(&ask("")), [200; 5]);
    assert_eq!(opens(&ask("&audience=workspace%2Fw1")), [200, 403, 200, 403, 403]);
    assert_eq!(opens(&ask(&format!("&audience={workspace}"))), [200, 403, 200, 403, 403]);
    assert_eq!(opens(&ask(&format!("&audience={}", stage.owner.root()))), [200; 5]);
    let reasons = reasons(&stage.home, 20);
    assert_eq!(reasons[5..10], ["", "restricted", "", "restricted", "restricted"]);
}

#[test]
fn s1_forged_tokens_and_detached_ones_pass_nothing() {
    let stage = stage();
    let workspace = stage.owner.resource("workspace", "w1");
    stage
        .owner
        .call(
            "PATCH",
            &format!("{}/policy", stage.owner.organization),
            Some(&json!({"session_token_mode": {"workspace": "detached"}})),
        )
        .expect_status(200);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "main");
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&audience={workspace}",
        key.id, key.value
    );
    let detached = form(&stage, "/oauth2/token", &body).expect_status(200).json();
    let detached = detached["access_token"].as_str().expect("a token").to_owned();
    stage.ask(&detached).expect_status(401);

    let token = login(&stage, &key.value);
    let (head, signature) = token.rsplit_once('.').expect("three parts");
    let (header, claims) = head.split_once('.').expect("three parts");
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(r#"{"alg":"none","typ":"at+jwt","kid":"x"}"#);
    let other = login(&stage, &stage.owner.key(&account, "other").value);
    let other_signature = other.rsplit_once('.').expect("three parts").1;
    for forged in [
        format!("{header}.{claims}.{}", "A".repeat(86)),
        format!("{header}.{claims}."),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{claims}.{other_signature}"),
        format!("{token}x"),
        format!("eyJ{}", "a".repeat(5000)),
    ] {
        stage.ask(&forged).expect_status(401);
    }
    stage.ask(&token).expect_status(200);
    let found = reasons(&stage.home, 9);
    assert_eq!(found[0], "audience");
    assert_eq!(found[8], "");
}

#[test]
fn s8_tokens_outlive_the_change_of_the_signing_key_and_not_its_removal() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::nginx();
    let home = Home::new();
    for (name, byte) in [("one.key", 1_u8), ("two.key", 2)] {
        std::fs::write(home.path(name), [byte; 32]).expect("a key");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(home.path(name), mode).expect("its mode");
    }
    let start = |keys: &str| {
        let control = format!(
            "[control]\npublic_url = \"https://control.example.com\"\nsession_keys = [{keys}]\n"
        );
        let config = format!("{control}{OPEN_ROUTE}{FOREIGN}");
        home.up_with(&crate::support::stage::complete(&config, &upstream)).ready()
    };
    let first = start("\"one.key\"");
    let owner = first.owner(&home);
    let key = owner.key(&owner.account("ci"), "main").value;
    let old = log_in(&first, &key);
    assert_eq!(ask(&first, &old), 200);
    first.interrupt();

    let overlap = start("\"two.key\", \"one.key\"");
    let new = log_in(&overlap, &key);
    assert_eq!([ask(&overlap, &old), ask(&overlap, &new)], [200, 200]);
    overlap.interrupt();

    let after = start("\"two.key\"");
    assert_eq!([ask(&after, &old), ask(&after, &new)], [401, 200]);
}

#[test]
fn an_installation_that_signs_with_rs256_brings_its_key_and_keeps_what_was_signed_before() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::nginx();
    let home = Home::new();
    let pem = include_bytes!("../crates/portcullis-core/src/session/test-keys/rs256.pem");
    let short = include_bytes!("../crates/portcullis-core/src/session/test-keys/short.pem");
    for (name, content) in [("rsa.pem", &pem[..]), ("short.pem", &short[..])] {
        std::fs::write(home.path(name), content).expect("a key");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(home.path(name), mode).expect("its mode");
    }
    let own = home.data().join("session-signing.1").display().to_string();
    let configure = |alg: &str, keys: &[&str]| {
        let control = format!(
            "[control]\npublic_url = \"https://control.example.com\"\nsession_alg = \"{alg}\"\n\
             session_keys = {keys:?}\n"
        );
        let config = format!("{control}{OPEN_ROUTE}{FOREIGN}");
        crate::support::stage::complete(&config, &upstream)
    };
    let first = home.up_with(&configure("EdDSA", &[])).ready();
    let owner = first.owner(&home);
    let key = owner.key(&owner.account("ci"), "main").value;
    let old = log_in(&first, &key);
    first.interrupt();

    for (alg, keys, why) in [
        ("RS256", &["short.pem"][..], "2048 to 4096 bits"),
        ("RS256", &[&*own, "rsa.pem"], "no key for RS256"),
        ("EdDSA", &["rsa.pem"], "no key for EdDSA"),
    ] {
        home.write("portcullis.toml", &configure(alg, keys));
        let args = ["up", "--config", "CONFIG", "--data", "DATA"];
        let (_, log) = home.try_start(&args).err().expect("it does not start");
        assert!(log.contains("control.session_keys") && log.contains(why), "{log}");
    }

    let second = home.up_with(&configure("RS256", &["rsa.pem", &own])).ready();
    let new = log_in(&second, &key);
    assert_eq!([ask(&second, &old), ask(&second, &new)], [200, 200]);
    let jwks = Request::get("/.well-known/jwks.json").send(second.control()).json();
    assert_eq!([&jwks["keys"][0]["alg"], &jwks["keys"][1]["alg"]], ["RS256", "EdDSA"]);
    second.interrupt();
}

/// The status that a token gets at the gateway.
fn ask(program: &Portcullis, token: &str) -> u16 {
    Request::get("/").bearer(token).send(program.gateway()).status
}

/// A session token for the key.
fn log_in(program: &Portcullis, key: &str) -> String {
    let answer = Request::new("POST", "/auth/login")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("password={key}"))
        .send(program.control())
        .expect_status(200);
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

#[test]
fn the_installation_chooses_how_tokens_are_signed_and_what_was_signed_before_lives_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let upstream = Upstream::nginx();
    let home = Home::new();
    let start = |alg: &str| {
        let control = format!(
            "[control]\npublic_url = \"https://control.example.com\"\nsession_alg = \"{alg}\"\n"
        );
        let config = format!("{control}{OPEN_ROUTE}{FOREIGN}");
        home.up_with(&crate::support::stage::complete(&config, &upstream)).ready()
    };
    let algs = |program: &Portcullis| -> Vec<String> {
        let jwks = Request::get("/.well-known/jwks.json").send(program.control()).json();
        let keys = jwks["keys"].as_array().expect("keys").iter();
        keys.map(|key| key["alg"].as_str().expect("alg").to_owned()).collect()
    };
    let first = start("EdDSA");
    let owner = first.owner(&home);
    let key = owner.key(&owner.account("ci"), "main").value;
    let old = log_in(&first, &key);
    assert_eq!(ask(&first, &old), 200);
    first.interrupt();

    let second = start("ES256");
    let new = log_in(&second, &key);
    assert_eq!([ask(&second, &old), ask(&second, &new)], [200, 200]);
    assert_eq!(algs(&second), ["ES256", "EdDSA"]);
    second.interrupt();
    let seed = home.data().join("session-signing.es256");
    let mode = std::fs::metadata(&seed).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    std::fs::remove_file(home.data().join("session-signing.1")).expect("the old key goes");
    let third = start("ES256");
    assert_eq!([ask(&third, &old), ask(&third, &new)], [401, 200]);
    assert_eq!(algs(&third), ["ES256"]);
}
