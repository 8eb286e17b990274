//! Claims Z and ZA about logins and session tokens.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Product, items};
use crate::support::admin::Key;
use crate::support::http::{Answer, Request};

#[test]
fn z_02_the_list_has_name_state_last_login_and_number_of_keys() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    product.owner.key(&account, "second");
    let idle = product.owner.account("idle");
    product.owner.act(&idle.path, "deactivate");
    token(&login(&product, &key.value));
    let listed = items(&product.owner.get("/service-accounts"));
    assert_eq!(listed[0]["username"], "pipelines");
    assert_eq!(listed[0]["key_count"], 2);
    assert!(listed[0]["last_login_at"].is_string(), "{}", listed[0]);
    assert_eq!((&listed[0]["state"], &listed[1]["state"]), (&json!("active"), &json!("inactive")));
    assert_eq!(listed[1]["last_login_at"], json!(null));
}

#[test]
fn z_10_the_activation_state_decides_whether_an_account_can_authenticate() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    login(&product, &key.value).expect_status(200);
    product.owner.act(&account.path, "deactivate");
    login(&product, &key.value).expect_status(401);
    assert!(!product.accepts(&key.value));
    product.owner.act(&account.path, "activate");
    login(&product, &key.value).expect_status(200);
    assert!(product.accepts(&key.value));
}

#[test]
fn z_15_deactivation_is_effective_on_every_control_plane_call_at_once() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "admin");
    let holder = product.as_holder(&key);
    let bound = token(&login(&product, &key.value));
    product.owner.act(&account.path, "deactivate");
    for path in ["", "/service-accounts", "/keys", "/audit-events"] {
        assert_eq!(holder.get(path).expect_status(401).code(), "invalid_token");
    }
    me(&product, &bound).expect_status(401);
}

#[test]
fn z_16_detached_tokens_outlive_the_accounts_deactivation_by_an_hour_at_most() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let (account, key) = product.caller("pipelines", "member");
    let claims = claims_of(&detached(&product, &key, &workspace));
    product.owner.act(&account.path, "deactivate");
    assert_delayed(&claims);
    assert_eq!(exchange(&product, &key, &workspace).status, 401, "no further token");
}

#[test]
fn z_19_detached_tokens_outlive_the_accounts_deletion_by_an_hour_at_most() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let (account, key) = product.caller("pipelines", "member");
    let claims = claims_of(&detached(&product, &key, &workspace));
    product.owner.delete(&account.path);
    assert_delayed(&claims);
    assert_eq!(exchange(&product, &key, &workspace).status, 401);
}

#[test]
fn z_21_the_list_of_keys_has_name_description_last_login_last_rotation_and_state() {
    let product = Product::new("zenml");
    let account = product.owner.account("pipelines");
    let key = product.owner.key_from(&account, &json!({"name": "nightly", "description": "runs"}));
    let fresh = product.owner.rotate(&account, &key, &json!({}));
    token(&login(&product, &fresh.value));
    let listed = &product.keys(&account)[0];
    assert_eq!((&listed["name"], &listed["description"]), (&json!("nightly"), &json!("runs")));
    assert_eq!(listed["state"], "active");
    assert!(listed["last_login_at"].is_string() && listed["last_rotated_at"].is_string());
}

#[test]
fn z_25_a_deactivated_key_stops_at_once() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let bound = token(&login(&product, &key.value));
    assert!(product.accepts(&key.value) && product.accepts(&bound));
    product.owner.act(&key.path, "deactivate");
    assert!(!product.accepts(&key.value) && !product.accepts(&bound));
}

#[test]
fn z_27_detached_tokens_outlive_the_keys_deactivation_by_an_hour_at_most() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let (_, key) = product.caller("pipelines", "member");
    let claims = claims_of(&detached(&product, &key, &workspace));
    product.owner.act(&key.path, "deactivate");
    assert_delayed(&claims);
    assert_eq!(exchange(&product, &key, &workspace).status, 401);
}

#[test]
fn z_35_detached_tokens_outlive_the_keys_deletion_by_an_hour_at_most() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let (_, key) = product.caller("pipelines", "member");
    let claims = claims_of(&detached(&product, &key, &workspace));
    product.owner.delete(&key.path);
    assert_delayed(&claims);
    assert_eq!(exchange(&product, &key, &workspace).status, 401);
}

#[test]
fn z_41_a_login_with_nothing_but_the_key_returns_a_session_token() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "member");
    let token = token(&login(&product, &key.value));
    assert_eq!(product.verbs(&token, ""), ["read", "write"]);
}

#[test]
fn z_42_the_session_token_lives_an_hour() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let answer = login(&product, &key.value).expect_status(200).json();
    assert_eq!(answer["expires_in"], 3600);
    let claims = claims_of(answer["access_token"].as_str().expect("a token"));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
}

#[test]
fn z_43_each_login_returns_a_new_token() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let tokens: std::collections::BTreeSet<String> =
        (0..5).map(|_| token(&login(&product, &key.value))).collect();
    assert_eq!(tokens.len(), 5);
    assert!(tokens.iter().all(|token| product.accepts(token)));
}

#[test]
fn z_44_the_answer_has_exactly_five_members() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let answer = login(&product, &key.value).expect_status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.json();
    let mut members: Vec<&String> = answer.as_object().expect("an object").keys().collect();
    members.sort();
    assert_eq!(
        members,
        ["access_token", "device_id", "device_metadata", "expires_in", "token_type"]
    );
    assert_eq!(answer["token_type"], "bearer");
    assert_eq!((&answer["device_id"], &answer["device_metadata"]), (&json!(null), &json!(null)));
}

#[test]
fn z_45_keys_are_rendered_with_the_products_prefix_and_base64_json() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let text = key.value.strip_prefix("ZENPROKEY_").expect("the product's prefix");
    let json: Value =
        serde_json::from_slice(&STANDARD.decode(text).expect("base64")).expect("JSON");
    assert_eq!(json["id"], product.shown_key(&key)["uid"]);
    let native = format!("ptc_{}_{}", key.id, json["key"].as_str().expect("a secret"));
    assert!(product.accepts(&key.value) && product.accepts(&native));
}

#[test]
fn z_46_the_token_shows_the_account_at_users_me() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    let bound = token(&login(&product, &key.value));
    for credential in [&bound, &key.value] {
        let shown = me(&product, credential).expect_status(200).json();
        assert_eq!(shown["id"], account.id);
        assert_eq!(shown["username"], "pipelines");
        assert_eq!(shown["email"], "pipelines");
        for (member, value) in [
            ("is_service_account", json!(true)),
            ("is_superuser", json!(false)),
            ("is_active", json!(true)),
            ("password", json!(null)),
            ("metadata", json!({})),
        ] {
            assert_eq!(shown[member], value, "{member}");
        }
    }
    product.owner.act(&key.path, "deactivate");
    me(&product, &bound).expect_status(401);
}

#[test]
fn z_47_a_login_from_the_explorer_keeps_the_token_as_a_cookie() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "");
    let answer = explorer_login(&product, &key.value).expect_status(200);
    let cookie = session_cookie(&answer);
    for attribute in ["HttpOnly", "SameSite=Lax", "Max-Age=3600"] {
        assert!(cookie.contains(attribute), "{attribute} in {}", cookie.split('=').next().unwrap());
    }
    assert!(login_with_bearer(&product, &key.value).headers_named("set-cookie").is_empty());
}

#[test]
fn z_48_with_the_cookie_the_consoles_calls_work_as_the_account() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "admin");
    let answer = explorer_login(&product, &key.value).expect_status(200);
    let cookie = session_cookie(&answer);
    let pair = cookie.split(';').next().expect("a pair");
    let read = |path: &str| {
        Request::get(path).header("Cookie", pair).send(product.stage.program.control())
    };
    let whoami = read("/v1/whoami").expect_status(200).json();
    assert_eq!(whoami["principal"]["id"], account.id);
    read(&format!("{}/service-accounts", product.owner.organization)).expect_status(200);
    let path = format!("{}/service-accounts", product.owner.organization);
    let forged = Request::new("POST", &path)
        .header("Cookie", pair)
        .json(&json!({"username": "forged"}))
        .send(product.stage.program.control());
    assert!(matches!(forged.status, 401 | 403), "a change by cookie alone: {}", forged.status);
}

#[test]
fn za_01_a_key_is_accepted_directly_as_well_as_in_exchange_for_a_token() {
    let product = Product::new("zenml");
    let (_, key) = product.caller("pipelines", "member");
    let bound = token(&login(&product, &key.value));
    for credential in [&key.value, &bound] {
        assert_eq!(product.verbs(credential, ""), ["read", "write"]);
    }
}

#[test]
fn za_03_detached_tokens_carry_the_delay_and_nothing_else_does() {
    let product = Product::new("zenml");
    let workspace = product.owner.resource("workspace", "w1");
    let (account, key) = product.caller("pipelines", "member");
    let outside = detached(&product, &key, &workspace);
    assert!(!product.accepts(&outside), "gateways check live keys and take no detached token");
    let bound = token(&login(&product, &key.value));
    assert_eq!(claims_of(&bound)["mode"], "bound");
    product.owner.act(&account.path, "deactivate");
    assert!(!product.accepts(&bound) && !product.accepts(&key.value));
}

#[test]
fn za_04_bound_tokens_are_checked_again_on_each_request() {
    let product = Product::new("zenml");
    let (account, key) = product.caller("pipelines", "");
    let first = token(&login(&product, &key.value));
    let rotated = product.owner.rotate(&account, &key, &json!({"retain_minutes": 60}));
    assert!(product.accepts(&first), "a token of the retained generation lives on");
    product.owner.rotate(&account, &key, &json!({"retain_minutes": 60}));
    assert!(!product.accepts(&first), "after two rotations it is dead");
    let second = token(&login(&product, &rotated.value));
    product.owner.act(&account.path, "deactivate");
    assert!(!product.accepts(&second));
    product.owner.act(&account.path, "activate");
    assert!(product.accepts(&second));
}

const FORM: &str = "application/x-www-form-urlencoded";

/// The login of the product's own clients.
#[track_caller]
fn login(product: &Product, key: &str) -> Answer {
    Request::new("POST", "/auth/login")
        .header("Content-Type", FORM)
        .body(format!("password={}", key.replace('=', "%3D")))
        .send(product.stage.program.control())
}

#[track_caller]
fn login_with_bearer(product: &Product, key: &str) -> Answer {
    Request::new("POST", "/auth/login")
        .header("Content-Type", FORM)
        .bearer(key)
        .body(format!("password={}", key.replace('=', "%3D")))
        .send(product.stage.program.control())
}

/// The login of an API explorer in a browser.
#[track_caller]
fn explorer_login(product: &Product, key: &str) -> Answer {
    Request::new("POST", "/auth/login")
        .header("Content-Type", FORM)
        .header("Authorization", "Basic Og==")
        .body(format!("grant_type=password&username=&password={}", key.replace('=', "%3D")))
        .send(product.stage.program.control())
}

/// The cookie that scripts cannot read.
#[track_caller]
fn session_cookie(answer: &Answer) -> &str {
    let cookies = answer.headers_named("set-cookie");
    cookies.into_iter().find(|cookie| cookie.contains("HttpOnly")).expect("a session's cookie")
}

#[track_caller]
fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access_token"].as_str().expect("a token").to_owned()
}

#[track_caller]
fn me(product: &Product, credential: &str) -> Answer {
    Request::get("/users/me").bearer(credential).send(product.stage.program.control())
}

/// The answer to an exchange of a key for a token that is meant for one workspace.
#[track_caller]
fn exchange(product: &Product, key: &Key, workspace: &str) -> Answer {
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&audience={workspace}",
        key.id,
        key.value.replace('=', "%3D"),
    );
    Request::new("POST", "/oauth2/token")
        .header("Content-Type", FORM)
        .body(body)
        .send(product.stage.program.control())
}

#[track_caller]
fn detached(product: &Product, key: &Key, workspace: &str) -> String {
    let token = token(&exchange(product, key, workspace));
    assert_eq!(claims_of(&token)["mode"], "detached");
    token
}

/// What a token says of itself.
#[track_caller]
fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// A token that is checked offline ends by itself, an hour after its issue at the latest.
#[track_caller]
fn assert_delayed(claims: &Value) {
    let instant = |name: &str| claims[name].as_u64().unwrap_or_else(|| panic!("{name}"));
    assert!((60..=3600).contains(&(instant("exp") - instant("iat"))));
}
