//! Keys exchanged for session tokens, as ZenML Pro's clients and as OAuth clients do it, and what
//! such a token is worth at the admin API.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis_core::feed::SignerAlg;
use portcullis_core::session::{Claims, Mode, Token, Verifier};
use portcullis_core::time::WallMs;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Ask, ISSUER, Plant, START_MS};

const FORM: &str = "application/x-www-form-urlencoded";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const API_KEY: &str = "urn:portcullis:params:oauth:token-type:api-key";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

fn form<'p>(plant: &'p Plant, path: &str, pairs: &[(&str, &str)]) -> Ask<'p> {
    let escaped = |text: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes()
            .map(|byte| match plain(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    plant.ask(Method::POST, path).anonymous().raw(pairs.join("&")).header("content-type", FORM)
}

async fn login(plant: &Plant, key: &str) -> Answer {
    form(plant, "/auth/login", &[("password", key)]).send().await
}

async fn token(plant: &Plant, key: &str) -> String {
    let answer = login(plant, key).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text("/access_token")
}

/// What the published key says of a token.
async fn claims(plant: &Plant, token: &str, aud: &str) -> Claims {
    let jwks = plant.ask(Method::GET, "/.well-known/jwks.json").anonymous().send().await;
    let record = json!({
        "alg": SignerAlg::EdDsa, "public": jwks.text("/keys/0/x"), "iss": ISSUER, "aud": aud,
    });
    let record = serde_json::from_value(record).unwrap();
    let verifier = Verifier::of_record(&jwks.text("/keys/0/kid"), &record).unwrap();
    Token::parse(token.as_bytes()).unwrap().verify(&verifier, WallMs(START_MS)).unwrap()
}

#[tokio::test]
async fn z_41_to_44_a_key_alone_in_the_form_gives_a_new_session_token_each_time() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let first = login(&plant, &value).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.header("cache-control"), "no-store");
    assert_eq!(first.header("set-cookie"), "", "no cookie for a service account");
    let token = first.text("/access_token");
    let whole = json!({
        "access_token": token, "expires_in": 3600, "token_type": "bearer",
        "device_id": null, "device_metadata": null,
    });
    assert_eq!(first.body, whole, "exactly five members");
    let second = login(&plant, &value).await.text("/access_token");
    assert_ne!(token, second);

    let said = claims(&plant, &token, ISSUER).await;
    assert_eq!((&*said.sub, &*said.org_id, said.key_gen), (&*id, &*plant.org, 1));
    assert_eq!((said.key_id.to_string(), said.mode), (key, Mode::Bound));
    assert_eq!(said.exp_s - said.iat_s, 3600);
}

#[tokio::test]
async fn z_46_the_token_says_who_one_is_in_the_documented_shape() {
    let plant = Plant::start().await;
    let body = json!({
        "username": "ci", "display_name": "The CI", "role_id": "viewer",
        "create_key": {"name": "main"},
    });
    let made = plant.post(&plant.o("/service-accounts"), body).await;
    let (id, value) = (made.text("/service_account/id"), made.text("/value"));
    let session = token(&plant, &value).await;
    for credential in [&value, &session] {
        let me = plant.ask(Method::GET, "/users/me").token(credential).send().await;
        let expected = json!({
            "password": null, "password_expired": false, "name": "The CI", "avatar_url": null,
            "company": null, "job_title": null, "metadata": {}, "id": id, "username": "ci",
            "email": "ci", "oauth_provider": null, "oauth_id": null, "is_active": true,
            "is_superuser": false, "is_service_account": true, "organization_id": plant.org,
        });
        assert_eq!((me.status.as_u16(), me.body), (200, expected));
    }
}

#[tokio::test]
async fn every_form_of_the_login_that_clients_send_is_understood() {
    let plant = Plant::start().await;
    let (_, key, value) = plant.agent("ci", Some("viewer")).await;
    let uid = plant.get(&plant.o("/keys")).await.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["id"] == *key)
        .map(|item| item["uid"].as_str().unwrap().to_owned())
        .unwrap();
    let tail = value.rsplit_once('_').unwrap().1.to_owned();
    let rendered =
        format!("ZENPROKEY_{}", STANDARD.encode(json!({"id": uid, "key": tail}).to_string()));
    for pairs in [
        vec![("password", &*value)],
        vec![("password", &*rendered)],
        vec![("grant_type", "zenml_api_key"), ("password", &*value)],
        vec![("grant_type", "password"), ("username", "anybody"), ("password", &*value)],
        vec![("grant_type", "password"), ("username", ""), ("password", &*value)],
        vec![("grant_type", "client_credentials"), ("client_id", &*uid), ("client_secret", &*tail)],
        vec![
            ("grant_type", "client_credentials"),
            ("client_id", &*uid),
            ("client_secret", &*value),
        ],
        vec![
            ("grant_type", "client_credentials"),
            ("client_id", &*key),
            ("client_secret", &*tail),
            ("audience", ISSUER),
        ],
    ] {
        let answer = form(&plant, "/auth/login", &pairs).send().await;
        assert_eq!(answer.status, 200, "{:?} {}", pairs[0], answer.text);
        assert_eq!(plant.accepts(&answer.text("/access_token")).await, 200);
    }
    // Unescaped padding, a Bearer that repeats the key, the empty Basic of API explorers.
    let raw = plant.ask(Method::POST, "/auth/login").anonymous().header("content-type", FORM);
    assert_eq!(raw.raw(format!("password={rendered}")).send().await.status, 200);
    let pairs = [("password", &*value)];
    let bearer = form(&plant, "/auth/login", &pairs).token(&value);
    assert_eq!(bearer.send().await.status, 200);
    let basic = form(&plant, "/auth/login", &pairs).header("authorization", "Basic Og==");
    assert_eq!(basic.send().await.status, 200);
}

#[tokio::test]
async fn a_login_that_contradicts_itself_or_proves_nothing_is_refused_in_zenml_s_words() {
    let plant = Plant::start().await;
    let (_, key, value) = plant.agent("ci", Some("viewer")).await;
    let (_, _, other) = plant.agent("other", None).await;
    let bad = form(&plant, "/auth/login", &[("password", &value)]).token(&other).send().await;
    assert_eq!((bad.status.as_u16(), bad.text("/0")), (400, "ValueError".into()));
    for pairs in [
        vec![("password", &*value), ("password", &*value)],
        vec![("username", "ci")],
        vec![("grant_type", "refresh_token"), ("password", &*value)],
        vec![("grant_type", "client_credentials"), ("client_id", &*key)],
        vec![
            ("grant_type", "client_credentials"),
            ("client_id", &*key),
            ("client_secret", &*value),
            ("audience", "https://else.example"),
        ],
    ] {
        let answer = form(&plant, "/auth/login", &pairs).send().await;
        assert_eq!((answer.status.as_u16(), answer.text("/0")), (400, "ValueError".into()));
    }
    let mut answers = Vec::new();
    let session = token(&plant, &value).await;
    let wrong = format!("{}0", &value[..value.len() - 1]);
    for password in ["nothing-that-anybody-imported", &wrong, &session, &plant.operator] {
        answers.push(login(&plant, password).await);
    }
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_id", "00000000000"),
        ("client_secret", &*value),
    ];
    answers.push(form(&plant, "/auth/login", &pairs).send().await);
    for answer in answers {
        assert_eq!(answer.status, 401);
        let body = json!({"detail": ["CredentialsNotValid", "The credential is not valid."]});
        assert_eq!(answer.body, body);
    }
}

#[tokio::test]
async fn za_4_a_token_is_checked_against_its_key_on_each_call() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let session = token(&plant, &value).await;
    let path = plant.s(&id, &format!("/keys/{key}"));
    let whoami = plant.ask(Method::GET, "/v1/whoami").token(&session).send().await;
    assert_eq!((whoami.text("/key_id"), whoami.number("/generation")), (key.clone(), 1));

    for (target, off, on) in
        [(path.clone(), ":deactivate", ":activate"), (plant.s(&id, ""), ":deactivate", ":activate")]
    {
        assert_eq!(plant.post(&format!("{target}{off}"), json!({})).await.status, 200);
        assert_eq!(plant.accepts(&session).await, 401);
        plant.post(&format!("{target}{on}"), json!({})).await;
        assert_eq!(plant.accepts(&session).await, 200, "it works again");
    }
    assert_eq!(plant.delete(&path).await.status, 200);
    assert_eq!(plant.accepts(&session).await, 401);
    let denied = plant.last_event().await;
    assert_eq!(
        (denied["action"].as_str(), denied["reason"].as_str()),
        (Some("credential.denied"), Some("key_revoked"))
    );
}

#[tokio::test]
async fn x_11_a_token_lives_through_the_retention_of_its_secret_and_no_second_rotation() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let path = plant.s(&id, &format!("/keys/{key}"));
    let first = token(&plant, &value).await;
    let rotate = async |minutes: u64| {
        let body = json!({"retain_minutes": minutes});
        plant.post(&format!("{path}:rotate"), body).await.text("/value")
    };
    let second_value = rotate(10).await;
    let (old, second) = (token(&plant, &value).await, token(&plant, &second_value).await);
    for session in [&first, &old, &second] {
        assert_eq!(plant.accepts(session).await, 200);
    }
    // A login with the retained secret ends with it.
    assert_eq!(claims(&plant, &old, ISSUER).await.exp_s, START_MS / 1000 + 600);
    rotate(10).await;
    for (session, status) in [(&first, 401), (&old, 401), (&second, 200)] {
        assert_eq!(plant.accepts(session).await, status);
    }
    plant.clock.advance_ms(600_000);
    assert_eq!(plant.accepts(&second).await, 401, "its secret's retention is over");
}

#[tokio::test]
async fn a_token_ends_on_its_second_and_with_its_key() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let long = token(&plant, &value).await;
    let body = json!({"expires_at": "2026-11-22T00:00:30.500Z"});
    assert_eq!(plant.patch(&plant.s(&id, &format!("/keys/{key}")), body).await.status, 200);
    let short = login(&plant, &value).await;
    assert_eq!(short.number("/expires_in"), 30);
    plant.clock.advance_ms(29_999);
    assert_eq!(plant.accepts(&short.text("/access_token")).await, 200);
    plant.clock.advance_ms(1);
    assert_eq!(plant.accepts(&short.text("/access_token")).await, 401);
    assert_eq!(plant.accepts(&long).await, 200);
    plant.clock.advance_ms(500);
    assert_eq!(plant.accepts(&long).await, 401);
}

#[tokio::test]
async fn z_37_a_login_is_remembered_at_key_and_account_and_changes_neither() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", None).await;
    token(&plant, &value).await;
    for path in [plant.s(&id, ""), plant.s(&id, &format!("/keys/{key}"))] {
        let read = plant.get(&path).await;
        assert_eq!(read.text("/last_login_at"), "2026-11-22T00:00:00.000000Z");
        assert_eq!(read.text("/last_used_at"), "2026-11-22T00:00:00.000000Z");
        assert_eq!(read.number("/version"), 1);
    }
}

#[tokio::test]
async fn pa_3_client_credentials_in_either_place_give_an_access_token() {
    let plant = Plant::start().await;
    let (_, key, value) = plant.agent("ci", Some("viewer")).await;
    let tail = value.rsplit_once('_').unwrap().1;
    let grant = ("grant_type", "client_credentials");
    let basic =
        |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let coded: String = value.replace('_', "%5F");
    for path in ["/oauth2/token", "/oauth/token"] {
        for (id, secret) in [(&*key, tail), (&*key, &*value), (&*key, &*coded)] {
            let ask = form(&plant, path, &[grant]).header("authorization", &basic(id, secret));
            let answer = ask.send().await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let token = answer.text("/access_token");
            let whole = json!({
                "access_token": token, "token_type": "Bearer", "expires_in": 3600, "scope": "",
            });
            assert_eq!(answer.body, whole);
            assert_eq!(
                (answer.header("cache-control"), answer.header("pragma")),
                ("no-store", "no-cache")
            );
            assert_eq!(plant.accepts(&token).await, 200);
        }
    }
    let posted = [grant, ("client_id", &*key), ("client_secret", tail)];
    assert_eq!(form(&plant, "/oauth2/token", &posted).send().await.status, 200);
    let both = form(&plant, "/oauth2/token", &posted).header("authorization", &basic(&key, tail));
    assert_eq!(both.send().await.text("/error"), "invalid_request");
    let other = form(&plant, "/oauth2/token", &[grant])
        .header("authorization", &basic("00000000000", &value));
    let refused = other.send().await;
    assert_eq!((refused.status.as_u16(), refused.text("/error")), (401, "invalid_client".into()));
    assert!(refused.header("www-authenticate").starts_with("Basic "));
    for (pairs, error) in [
        (vec![("scope", "x")], "invalid_scope"),
        (
            vec![grant, ("scope", "not a scope"), ("client_id", &*key), ("client_secret", tail)],
            "invalid_scope",
        ),
        (vec![("grant_type", "password"), ("client_id", &*key)], "unsupported_grant_type"),
        (vec![("client_id", &*key)], "invalid_request"),
        (vec![grant, grant], "invalid_request"),
        (
            vec![grant, ("audience", "nowhere"), ("client_id", &*key), ("client_secret", tail)],
            "invalid_target",
        ),
    ] {
        let answer = form(&plant, "/oauth2/token", &pairs).send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.text("/error")),
            (400, error.into()),
            "{pairs:?}"
        );
    }
}

#[tokio::test]
async fn s6_an_exchange_only_narrows_in_scope_and_life() {
    let plant = Plant::start().await;
    let (_, _, value) = plant.agent("ci", Some("admin")).await;
    let exchange = async |subject: &str, kind: &str, scope: &str| {
        let mut pairs = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", kind),
        ];
        if !scope.is_empty() {
            pairs.push(("scope", scope));
        }
        form(&plant, "/oauth2/token", &pairs).send().await
    };
    let wide = exchange(&value, API_KEY, "service_account:* organization:read").await;
    assert_eq!(wide.status, 200, "{}", wide.text);
    assert_eq!(wide.text("/issued_token_type"), ACCESS_TOKEN);
    let wide = wide.text("/access_token");
    let list = async |credential: &str, path: &str| {
        plant.ask(Method::GET, &plant.o(path)).token(credential).send().await.status.as_u16()
    };
    assert_eq!([list(&wide, "/service-accounts").await, list(&wide, "/keys").await], [200, 403]);

    plant.clock.advance_ms(600_000);
    let narrow = exchange(&wide, ACCESS_TOKEN, "service_account:read api_key:read").await;
    assert_eq!(narrow.number("/expires_in"), 3000, "no longer than its parent");
    assert_eq!(narrow.text("/scope"), "service_account:read");
    let narrow = narrow.text("/access_token");
    assert_eq!(
        [list(&narrow, "/service-accounts").await, list(&narrow, "/keys").await],
        [200, 403]
    );
    let create = plant.ask(Method::POST, &plant.o("/service-accounts")).token(&narrow);
    create.json(json!({"username": "x"})).send().await.assert_problem(403, "permission_denied");
    // A key made with a narrow token would be a way out of it.
    let chain = exchange(&narrow, ACCESS_TOKEN, "").await;
    assert_eq!(chain.text("/scope"), "service_account:read");
    let nothing = exchange(&narrow, ACCESS_TOKEN, "api_key:read").await;
    assert_eq!(nothing.text("/error"), "invalid_scope");

    for (subject, kind) in [
        (&*value, ACCESS_TOKEN),
        (&*wide, API_KEY),
        ("ptc_x", API_KEY),
        (&*plant.operator, API_KEY),
    ] {
        let answer = exchange(subject, kind, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.text("/error")),
            (400, "invalid_request".into())
        );
    }
    let acted = [
        ("grant_type", EXCHANGE),
        ("subject_token", &*value),
        ("subject_token_type", API_KEY),
        ("actor_token", &*value),
    ];
    let answer = form(&plant, "/oauth2/token", &acted).send().await;
    assert_eq!(answer.text("/error"), "invalid_request");
}

#[tokio::test]
async fn z_16_tokens_for_an_audience_that_checks_alone_are_detached_and_open_nothing_here() {
    let mut plant = Plant::start().await;
    let mode = r#""session_token_mode":{"workspace":"detached"}"#;
    plant.change_policy(r#""session_token_mode":{}"#, mode).await;
    let workspace = plant.resource("workspace", "w1").await;
    let cluster = plant.resource("cluster", "c1").await;
    let (id, _, value) = plant.agent("ci", Some("viewer")).await;
    let ask = async |audience: &str| {
        let pairs = [
            ("grant_type", EXCHANGE),
            ("subject_token", &*value),
            ("subject_token_type", API_KEY),
            ("audience", audience),
        ];
        form(&plant, "/oauth2/token", &pairs).send().await.text("/access_token")
    };
    for audience in [&*workspace, "workspace/w1"] {
        let detached = ask(audience).await;
        let said = claims(&plant, &detached, &workspace).await;
        assert_eq!((said.mode, said.aud.len(), said.exp_s - said.iat_s), (Mode::Detached, 1, 3600));
        assert_eq!(plant.accepts(&detached).await, 401);
        // It lives on at its audience after the account is switched off: that is what it is for.
        plant.post(&plant.s(&id, ":deactivate"), json!({})).await;
        assert_eq!(claims(&plant, &detached, &workspace).await.mode, Mode::Detached);
        plant.post(&plant.s(&id, ":activate"), json!({})).await;
    }
    let bound = ask(&cluster).await;
    assert_eq!(claims(&plant, &bound, &cluster).await.mode, Mode::Bound);
    assert_eq!(plant.accepts(&bound).await, 200);
    let pairs = [
        ("grant_type", EXCHANGE),
        ("subject_token", &*value),
        ("subject_token_type", API_KEY),
        ("audience", "foreign"),
    ];
    let foreign = form(&plant, "/oauth2/token", &pairs).send().await;
    assert_eq!(foreign.text("/error"), "invalid_target");
}

#[tokio::test]
async fn s6_a_detached_token_is_no_way_out_of_its_keys_restriction() {
    let mut plant = Plant::start().await;
    let mode = r#""session_token_mode":{"workspace":"detached"}"#;
    plant.change_policy(r#""session_token_mode":{}"#, mode).await;
    let workspace = plant.resource("workspace", "w1").await;
    let other = plant.resource("workspace", "w2").await;
    let body = json!({"kind": "project", "name": "p1", "parent_id": workspace});
    let below = plant.post(&plant.o("/resources"), body).await.text("/resource/id");
    let (id, _, _) = plant.agent("ci", Some("viewer")).await;
    let exchange = async |restriction: Value, scope: &str| {
        let name = format!("{restriction}{scope}");
        let body = json!({"name": name, "restriction": restriction});
        let made = plant.post(&plant.s(&id, "/keys"), body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let value = made.text("/value");
        let mut pairs = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", &*value),
            ("subject_token_type", API_KEY),
            ("audience", "workspace/w1"),
        ];
        if !scope.is_empty() {
            pairs.push(("scope", scope));
        }
        let answer = form(&plant, "/oauth2/token", &pairs).send().await;
        let pairs = [("password", &*value), ("audience", "workspace/w1")];
        let login = form(&plant, "/auth/login", &pairs).send().await;
        assert_eq!(login.status, answer.status, "{} {}", answer.text, login.text);
        match answer.status.as_u16() {
            200 => answer.text("/scope"),
            _ => answer.text("/error"),
        }
    };
    for (restriction, scope, found) in [
        (json!({"permissions": ["project:read"]}), "", "project:read"),
        (json!({"permissions": ["project:read"]}), "*:read", "project:read"),
        (json!({"resource_ids": [workspace]}), "", ""),
        (json!({"resource_ids": [other, plant.root]}), "*:read", "*:read"),
        (json!({"resource_ids": [other]}), "", "invalid_target"),
        (json!({"resource_ids": [below]}), "", "invalid_target"),
        (json!({"methods": ["GET"]}), "", "invalid_target"),
    ] {
        assert_eq!(exchange(restriction.clone(), scope).await, found, "{restriction} {scope}");
    }
}

#[tokio::test]
async fn s6_a_token_for_a_resource_opens_that_and_what_is_below_and_nothing_else() {
    let plant = Plant::start().await;
    let one = plant.resource("workspace", "w1").await;
    let two = plant.resource("workspace", "w2").await;
    let below = json!({"kind": "project", "name": "p1", "ref": "p1", "parent_id": one});
    let below = plant.post(&plant.o("/resources"), below).await.text("/resource/id");
    let (_, _, value) = plant.agent("ci", Some("admin")).await;
    let subject = plant.account(json!({"username": "subject"})).await;
    let mut bindings = Vec::new();
    for id in [&one, &below, &two] {
        let body = json!({
            "role_id": "viewer", "resource_id": id,
            "subject": {"kind": "service_account", "id": subject},
        });
        bindings.push(plant.post(&plant.o("/role-bindings"), body).await.text("/role_binding/id"));
    }
    let exchange = async |subject: &str, kind: &str, audience: &str| {
        let mut pairs = vec![
            ("grant_type", EXCHANGE),
            ("subject_token", subject),
            ("subject_token_type", kind),
        ];
        if !audience.is_empty() {
            pairs.push(("audience", audience));
        }
        form(&plant, "/oauth2/token", &pairs).send().await
    };
    let opens = async |credential: &str| {
        let mut found = Vec::new();
        for id in &bindings {
            let path = plant.o(&format!("/role-bindings/{id}"));
            let asked = plant.ask(Method::GET, &path).token(credential).send().await;
            found.push(asked.status.as_u16());
        }
        let root = plant.ask(Method::GET, &plant.o("/service-accounts")).token(credential);
        found.push(root.send().await.status.as_u16());
        found
    };
    let whole = exchange(&value, API_KEY, "").await.text("/access_token");
    assert_eq!(opens(&whole).await, [200, 200, 200, 200]);
    let bound = exchange(&value, API_KEY, "workspace/w1").await.text("/access_token");
    assert_eq!(opens(&bound).await, [200, 200, 403, 403]);
    assert_eq!(plant.accepts(&bound).await, 200, "it still says who one is");

    // Nothing that it is exchanged for leads out of there.
    for audience in ["", ISSUER, &*one] {
        let again = exchange(&bound, ACCESS_TOKEN, audience).await.text("/access_token");
        assert_eq!(opens(&again).await, [200, 200, 403, 403], "{audience}");
    }
    let deeper = exchange(&bound, ACCESS_TOKEN, &below).await.text("/access_token");
    assert_eq!(opens(&deeper).await, [403, 200, 403, 403]);
    for (subject, audience) in [(&bound, &two), (&deeper, &one)] {
        let refused = exchange(subject, ACCESS_TOKEN, audience).await;
        assert_eq!(refused.text("/error"), "invalid_target");
    }

    let diagnose = async |resource: &str| {
        let body =
            json!({"value": bound, "permission": "role_binding:read", "resource_id": resource});
        let answer = plant.post(&plant.o(":diagnose"), body).await;
        (answer.body["usable"].clone(), answer.body["reason"].clone())
    };
    assert_eq!(diagnose(&below).await, (json!(true), Value::Null));
    assert_eq!(diagnose(&two).await, (json!(true), json!("insufficient_scope")));
    plant.clock.advance_ms(3_600_000);
    assert_eq!(diagnose(&below).await, (json!(false), json!("token_expired")));
}

#[tokio::test]
async fn z_47_and_48_where_the_policy_allows_it_a_login_leaves_a_guarded_cookie() {
    let mut plant = Plant::start().await;
    let (_, _, value) = plant.agent("ci", Some("admin")).await;
    assert_eq!(login(&plant, &value).await.headers.get_all("set-cookie").iter().count(), 0);
    plant.change_policy(r#""sa_interactive_login":false"#, r#""sa_interactive_login":true"#).await;
    let bearer = form(&plant, "/auth/login", &[("password", &value)]).token(&value).send().await;
    assert_eq!(bearer.headers.get_all("set-cookie").iter().count(), 0);

    let answer = login(&plant, &value).await;
    let cookies: Vec<String> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|line| line.to_str().unwrap().to_owned())
        .collect();
    let token = answer.text("/access_token");
    assert_eq!(
        cookies[0],
        format!("portcullis_session={token}; HttpOnly; Path=/; SameSite=Lax; Max-Age=3600; Secure")
    );
    let (guard, rest) =
        cookies[1].strip_prefix("portcullis_csrf=").unwrap().split_once(';').unwrap();
    assert_eq!(rest, " Path=/; SameSite=Lax; Max-Age=3600; Secure");

    let cookie = format!("other=1; portcullis_session={token}");
    let by_cookie =
        |method: Method, path: &str| plant.ask(method, path).anonymous().header("cookie", &cookie);
    assert_eq!(by_cookie(Method::GET, "/v1/whoami").send().await.status, 200);
    let path = plant.o("/service-accounts");
    let create = || by_cookie(Method::POST, &path).json(json!({"username": "made-by-cookie"}));
    create().send().await.assert_problem(403, "permission_denied");
    create().header("x-csrf-token", "x").send().await.assert_problem(403, "permission_denied");
    assert_eq!(create().header("x-csrf-token", guard).send().await.status, 201);

    // The same token in both places is one credential, another one is not.
    let both = by_cookie(Method::GET, "/v1/whoami").token(&token).send().await;
    assert_eq!(both.status, 200);
    let two = by_cookie(Method::GET, "/v1/whoami").token(&value).send().await;
    two.assert_problem(400, "invalid_request");
    let twice = plant.ask(Method::GET, "/v1/whoami").anonymous();
    let twice = twice.header("cookie", &format!("{cookie}; portcullis_session=x"));
    twice.send().await.assert_problem(400, "invalid_request");
}

#[tokio::test]
async fn the_metadata_names_every_endpoint_under_the_issuer() {
    let plant = Plant::start().await;
    let path = "/.well-known/oauth-authorization-server";
    let found = plant.ask(Method::GET, path).anonymous().send().await;
    assert_eq!(found.text("/issuer"), ISSUER);
    for (name, path) in [
        ("token_endpoint", "/oauth2/token"),
        ("jwks_uri", "/.well-known/jwks.json"),
        ("introspection_endpoint", "/oauth2/introspect"),
        ("revocation_endpoint", "/oauth2/revoke"),
    ] {
        assert_eq!(found.body[name], format!("{ISSUER}{path}"));
    }
    assert_eq!(found.body["response_types_supported"], json!([]));
    let jwks = plant.ask(Method::GET, "/.well-known/jwks.json").anonymous().send().await;
    let key = jwks.body["keys"][0].as_object().unwrap();
    assert!(!key.contains_key("d") && key["alg"] == "EdDSA" && key["use"] == "sig");
    assert_eq!(URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap().len(), 32);
}

#[tokio::test]
async fn introspection_tells_those_who_may_ask_about_their_own_organization() {
    let plant = Plant::start().await;
    let (_, asker, secret) = plant.agent("resource-server", Some("admin")).await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let (_, _, weak) = plant.agent("weak", None).await;
    let session = token(&plant, &value).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("{asker}:{secret}")));
    let ask = async |text: &str| {
        let pairs = [("token", text), ("token_type_hint", "refresh_token")];
        form(&plant, "/oauth2/introspect", &pairs).header("authorization", &basic).send().await
    };
    let active = ask(&session).await;
    assert_eq!((active.body["active"].as_bool(), active.text("/sub")), (Some(true), id.clone()));
    assert_eq!((active.text("/client_id"), active.text("/username")), (key.clone(), "ci".into()));
    assert_eq!(active.text("/scope"), "*:read");
    assert_eq!(active.number("/exp"), START_MS / 1000 + 3600);
    let of_key = ask(&value).await;
    assert_eq!((of_key.body["active"].as_bool(), of_key.body.get("exp")), (Some(true), None));

    let inactive = json!({"active": false});
    for text in ["rubbish", "ptc_x", &plant.operator] {
        assert_eq!(ask(text).await.body, inactive);
    }
    plant.delete(&plant.s(&id, &format!("/keys/{key}"))).await;
    for text in [&value, &session] {
        assert_eq!(ask(text).await.body, inactive, "at once");
    }
    let nobody = form(&plant, "/oauth2/introspect", &[("token", &value)]).send().await;
    assert_eq!((nobody.status.as_u16(), nobody.text("/error")), (401, "invalid_client".into()));
    let weak = form(&plant, "/oauth2/introspect", &[("token", &value)]).token(&weak).send().await;
    assert_eq!(weak.status, 403);
}

#[tokio::test]
async fn whoever_holds_a_key_can_end_it() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", Some("viewer")).await;
    let (_, _, other) = plant.agent("other", Some("viewer")).await;
    let session = token(&plant, &value).await;
    let revoke = async |text: &str, by: Option<&str>| {
        let ask = form(&plant, "/oauth2/revoke", &[("token", text)]);
        let answer = match by {
            Some(by) => ask.token(by).send().await,
            None => ask.send().await,
        };
        (answer.status.as_u16(), answer.body["error"].clone())
    };
    assert_eq!(revoke(&session, None).await, (400, json!("unsupported_token_type")));
    assert_eq!(revoke(&value, Some(&other)).await, (400, json!("invalid_request")));
    assert_eq!(revoke("rubbish", None).await, (200, Value::Null));
    assert_eq!(plant.accepts(&value).await, 200);
    assert_eq!(revoke(&value, Some(&value)).await, (200, Value::Null));
    assert_eq!((plant.accepts(&value).await, plant.accepts(&session).await).0, 401);
    assert_eq!(plant.accepts(&session).await, 401);
    assert_eq!(revoke(&value, None).await, (200, Value::Null), "a repetition is safe");
    let event = plant.last_event().await;
    assert_eq!(plant.get(&plant.s(&id, &format!("/keys/{key}"))).await.text("/state"), "revoked");
    assert!(["api_key.revoke", "credential.denied"].contains(&event["action"].as_str().unwrap()));
}

#[tokio::test]
async fn whoever_holds_a_key_can_end_it_in_whatever_state_it_is() {
    let plant = Plant::start().await;
    let (_, _, other) = plant.agent("other", Some("viewer")).await;
    let revoke = async |text: &str, by: Option<&str>| {
        let ask = form(&plant, "/oauth2/revoke", &[("token", text)]);
        let ask = if let Some(by) = by { ask.token(by) } else { ask };
        ask.send().await.status.as_u16()
    };
    for state in ["key inactive", "account inactive", "expired", "organization suspended"] {
        let (id, key, value) = plant.agent(state, None).await;
        let path = plant.s(&id, &format!("/keys/{key}"));
        let org = format!("/v1/organizations/{}", plant.org);
        let switch = async |path: &str, token: &str| {
            plant.ask(Method::POST, path).token(token).json(json!({})).send().await
        };
        let done = match state {
            "key inactive" => switch(&format!("{path}:deactivate"), &plant.admin).await,
            "account inactive" => switch(&plant.s(&id, ":deactivate"), &plant.admin).await,
            "expired" => {
                let soon = json!({"expires_at": "2026-11-22T00:01:00Z"});
                let done = plant.patch(&path, soon).await;
                plant.clock.advance_ms(60_000);
                done
            }
            _ => switch(&format!("{org}:suspend"), &plant.operator).await,
        };
        assert_eq!(done.status, 200, "{state}: {}", done.text);
        assert_eq!(plant.accepts(&value).await, 401);
        let stranger = format!("{}{}", &value[..value.len() - 60], &other[other.len() - 60..]);
        assert_eq!(revoke(&stranger, None).await, 200, "whether there is such a key is not told");
        if state != "organization suspended" {
            assert_eq!(revoke(&value, Some(&other)).await, 400, "{state}");
        }
        assert_eq!(revoke(&value, None).await, 200, "{state}");
        assert_eq!(revoke(&value, None).await, 200, "a repetition is safe");
        switch(&format!("{org}:resume"), &plant.operator).await;
        assert_eq!(plant.get(&path).await.text("/state"), "revoked", "{state}");
        let events = plant.o(&format!("/audit-events?target_id={key}&action=api_key.revoke"));
        let events = plant.get(&events).await;
        assert_eq!(events.text("/items/0/actor/id"), id, "{}", events.text);
        assert_eq!(events.body["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn refused_logins_and_clients_are_audited_like_refused_callers() {
    let plant = Plant::start().await;
    let (id, key, value) = plant.agent("ci", None).await;
    let (_, asker, secret) = plant.agent("resource-server", Some("admin")).await;
    assert_eq!(
        plant.post(&plant.s(&id, &format!("/keys/{key}:deactivate")), json!({})).await.status,
        200
    );
    let grant = ("grant_type", "client_credentials");
    let told = plant.o("/audit-events?action=credential.denied&count=true&order_by=-created_at");
    let mut count = 0;
    for (path, pairs) in [
        ("/auth/login", vec![("password", &*value)]),
        ("/oauth2/token", vec![grant, ("client_id", &*key), ("client_secret", &*value)]),
        (
            "/oauth2/token",
            vec![
                ("grant_type", EXCHANGE),
                ("subject_token", &*value),
                ("subject_token_type", API_KEY),
            ],
        ),
        ("/oauth2/introspect", vec![("client_secret", &*value), ("token", "x")]),
        ("/oauth2/revoke", vec![("client_secret", &*value), ("token", "x")]),
    ] {
        plant.clock.advance_ms(60_000);
        for _ in 0..3 {
            let refused = form(&plant, path, &pairs).send().await;
            assert!(matches!(refused.status.as_u16(), 400 | 401), "{path}: {}", refused.text);
        }
        count += 1;
        let list = plant.get(&told).await;
        assert_eq!(list.number("/total"), count, "one per key, reason and minute: {path}");
        assert_eq!(list.text("/items/0/reason"), "key_inactive");
        assert_eq!(list.text("/items/0/target/id"), key);
        assert_eq!(list.text("/items/0/actor/id"), id);
        assert_eq!(list.text("/items/0/ip"), "127.0.0.1");
    }
    // Strangers, and keys that are only asked about, leave nothing.
    let stranger = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    plant.clock.advance_ms(60_000);
    login(&plant, stranger).await;
    let asked = [("client_id", &*asker), ("client_secret", &*secret), ("token", &*value)];
    let asked = form(&plant, "/oauth2/introspect", &asked).send().await;
    assert_eq!(asked.body, json!({"active": false}));
    assert_eq!(plant.get(&told).await.number("/total"), count);
    // A client of one key that shows another one is told apart.
    let pairs = [grant, ("client_id", &*key), ("client_secret", &*secret)];
    assert_eq!(form(&plant, "/oauth2/token", &pairs).send().await.status, 401);
    let list = plant.get(&told).await;
    assert_eq!(
        (list.number("/total"), list.text("/items/0/reason")),
        (count + 1, "client_id".into())
    );

    // Who is known and may not introspect is denied like everywhere.
    let (weak_id, _, weak) = plant.agent("weak", None).await;
    let refused =
        form(&plant, "/oauth2/introspect", &[("token", &value)]).token(&weak).send().await;
    assert_eq!(refused.status, 403);
    let event = plant.last_event().await;
    assert_eq!(
        (&event["action"], &event["reason"], &event["actor"]["id"]),
        (
            &json!("oauth.introspect"),
            &json!("permission_denied credential:verify"),
            &json!(weak_id)
        )
    );
}
