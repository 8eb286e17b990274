//! What holds for every operation there is, made from the document: the order of checks, and the
//! limits of every field. A new operation is tested here without a line of its own.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::document::{Described, operations};
use crate::harness::{Answer, Plant};

/// An id that nothing has.
const MISSING: &str = "01900000-0000-7000-8000-000000000000";

/// The operations that need a credential, with their paths in the default organization and for
/// objects that do not exist.
fn guarded(plant: &Plant) -> Vec<(Described, Method, String)> {
    let all = operations().into_iter();
    all.filter(|described| described.operation.get("security").is_none())
        .map(|described| {
            let method = described.method.to_uppercase().parse().unwrap();
            (described, method, filled(described.path, &plant.org))
        })
        .collect()
}

fn filled(template: &str, org: &str) -> String {
    let mut path = template.replace("{org}", org).replace("{seq}", "999999");
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, MISSING);
    }
    path
}

/// The token of whoever may call it.
fn rightful<'p>(plant: &'p Plant, described: &Described) -> &'p str {
    let operator = described.operation["x-permission"] == "operator";
    if operator { &plant.operator } else { &plant.admin }
}

async fn raw(plant: &Plant, token: &str, method: &Method, path: &str, body: &str) -> Answer {
    let ask = plant.ask(method.clone(), path).token(token).raw(body);
    ask.header("content-type", "application/json").send().await
}

#[tokio::test]
async fn nobody_without_a_credential_learns_anything() {
    let plant = Plant::start().await;
    for (described, method, path) in guarded(&plant) {
        let path = format!("{path}?colour=red");
        let ask = plant.ask(method, &path).anonymous().raw("{").send().await;
        assert_eq!(
            (ask.status.as_u16(), ask.body["code"].as_str()),
            (401, Some("unauthenticated")),
            "{}",
            described.id()
        );
    }
}

#[tokio::test]
async fn foreign_organizations_come_before_everything_else_and_look_missing() {
    let plant = Plant::start().await;
    let body = json!({"name": "other", "owner": {"username": "root"}});
    let other = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
    let stranger = other.send().await.text("/value");
    for (described, method, path) in guarded(&plant) {
        if !described.path.contains("{org}") || rightful(&plant, &described) == plant.operator {
            continue;
        }
        let missing = filled(described.path, MISSING);
        let foreign = raw(&plant, &stranger, &method, &path, "{").await;
        let none = raw(&plant, &stranger, &method, &missing, "{").await;
        foreign.assert_problem(404, "not_found");
        none.assert_problem(404, "not_found");
        assert_eq!(foreign.body["detail"], none.body["detail"], "{}", described.id());
    }
}

#[tokio::test]
async fn a_plan_comes_before_permissions_and_permissions_before_the_request() {
    let plant = Plant::start().await;
    let (_, _, nobody) = plant.agent("nobody", None).await;
    let mut denied = 0;
    for (described, method, path) in guarded(&plant) {
        let Some(permission) = described.operation["x-permission"].as_str() else { continue };
        if permission.is_empty() {
            continue;
        }
        let answer = raw(&plant, &nobody, &method, &format!("{path}?colour=red"), "{").await;
        assert_eq!(answer.status, 403, "{}: {}", described.id(), answer.text);
        assert_eq!(answer.body["required_permission"], permission, "{}", described.id());
        denied += 1;
    }
    assert!(denied > 40);
    let plan = json!({"entitlements": {"service_accounts": false}});
    let ask = plant.ask(Method::PATCH, &plant.o("")).token(&plant.operator);
    assert_eq!(ask.json(plan).send().await.status, 200);
    for (described, method, path) in guarded(&plant) {
        if described.answers(402) {
            let answer = raw(&plant, &plant.admin, &method, &path, "{").await;
            answer.assert_problem(402, "entitlement_required");
        }
    }
}

#[tokio::test]
async fn the_request_is_read_before_objects_are_looked_up() {
    let plant = Plant::start().await;
    let seq = plant.ask(Method::GET, "/readyz").send().await.number("/seq");
    for (described, method, path) in guarded(&plant) {
        let (id, token) = (described.id(), rightful(&plant, &described));
        let unknown = raw(&plant, token, &method, &format!("{path}?colour=red"), "").await;
        assert_eq!(unknown.status, 422, "{id}: {}", unknown.text);
        assert_eq!(unknown.text("/errors/0/field"), "colour", "{id}");
        for (name, wrong) in
            [("wait", "maybe"), ("page_size", "0"), ("page_size", "201"), ("count", "2")]
        {
            if described.has_parameter(name) {
                let answer =
                    raw(&plant, token, &method, &format!("{path}?{name}={wrong}"), "").await;
                assert_eq!(
                    (answer.status.as_u16(), answer.text("/errors/0/field")),
                    (422, name.to_owned()),
                    "{id}"
                );
            }
        }
        if described.has_parameter("cursor") {
            let answer = raw(&plant, token, &method, &format!("{path}?cursor=AAAA"), "").await;
            assert_eq!(
                (answer.status.as_u16(), answer.text("/code")),
                (400, "invalid_cursor".to_owned()),
                "{id}"
            );
        }
        if method == Method::GET {
            continue;
        }
        let huge = format!(r#"{{"a":"{}"}}"#, "a".repeat(1024 * 1024));
        for (body, status, code) in [
            ("{", 400, "malformed_request"),
            ("[]", 400, "malformed_request"),
            (r#"{"a":1,"a":2}"#, 400, "malformed_request"),
            (&huge, 413, "body_too_large"),
        ] {
            let answer = raw(&plant, token, &method, &path, body).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text("/code")),
                (status, code.to_owned()),
                "{id}: {}",
                answer.text
            );
        }
        let plain = plant.ask(method.clone(), &path).token(token).raw("x");
        let plain = plain.header("content-type", "text/plain").send().await;
        assert_eq!(plain.status, 415, "{id}: {}", plain.text);
        let mut members = example(&described);
        members.insert("colour".to_owned(), json!("red"));
        let answer = raw(&plant, token, &method, &path, &Value::Object(members).to_string()).await;
        assert_eq!(answer.status, 422, "{id}: {}", answer.text);
        assert!(faulty(&answer, "colour"), "{id}: {}", answer.text);
    }
    let after = plant.ask(Method::GET, "/readyz").send().await.number("/seq");
    assert_eq!(after, seq, "nothing was changed");
}

/// A body that is right.
fn example(described: &Described) -> Map<String, Value> {
    let example = described.body().map(|(_, example)| example.clone());
    example.and_then(|example| example.as_object().cloned()).unwrap_or_default()
}

/// Whether a problem names this field, or one within it.
fn faulty(answer: &Answer, field: &str) -> bool {
    answer.body["errors"].as_array().into_iter().flatten().any(|fault| {
        let rest = fault["field"].as_str().unwrap().strip_prefix(field);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[tokio::test]
async fn objects_that_do_not_exist_are_missing_for_every_operation_on_them() {
    let plant = Plant::start().await;
    for (described, method, path) in guarded(&plant) {
        let on_something = described.path.replace("{org}", "").contains('{');
        if !on_something {
            continue;
        }
        let (id, token) = (described.id(), rightful(&plant, &described));
        let body = match described.body() {
            Some((_, example)) => example.to_string(),
            None => String::new(),
        };
        let answer = raw(&plant, token, &method, &path, &body).await;
        let unknown = answer.body["errors"][0]["code"] == "unknown_reference";
        assert!(answer.status == 404 || unknown, "{id}: {}", answer.text);
    }
}

#[tokio::test]
async fn head_is_answered_like_get_and_other_methods_name_what_is_allowed() {
    let plant = Plant::start().await;
    for (described, method, path) in guarded(&plant) {
        let token = rightful(&plant, &described);
        if method == Method::GET {
            let get = plant.ask(Method::GET, &path).token(token).send().await;
            let head = plant.ask(Method::HEAD, &path).token(token).send().await;
            assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{}", described.id());
            assert_eq!(head.header("content-type"), get.header("content-type"));
            assert_eq!(head.header("etag"), get.header("etag"));
        }
        for other in [Method::TRACE, Method::OPTIONS] {
            let answer = plant.ask(other, &path).token(token).send().await;
            answer.assert_problem(405, "method_not_allowed");
            let allow = answer.header("allow");
            assert!(allow.split(", ").any(|one| one == method.as_str()), "{path}: {allow}");
        }
    }
}

#[tokio::test]
async fn every_field_has_its_limits_and_a_refusal_names_it_and_changes_nothing() {
    let plant = Plant::start().await;
    let seq = plant.ask(Method::GET, "/readyz").send().await.number("/seq");
    let mut tried = 0;
    for (described, method, path) in guarded(&plant) {
        let Some((schema, _)) = described.body() else { continue };
        let token = rightful(&plant, &described);
        for (name, member) in schema["properties"].as_object().unwrap() {
            for wrong in wrong_values(member) {
                let mut members = example(&described);
                members.insert(name.clone(), wrong.clone());
                let body = Value::Object(members).to_string();
                let answer = raw(&plant, token, &method, &path, &body).await;
                let shown: String = wrong.to_string().chars().take(80).collect();
                let what = format!("{} {name} = {shown}: {}", described.id(), answer.text);
                assert_eq!(answer.status, 422, "{what}");
                assert!(faulty(&answer, name), "{what}");
                tried += 1;
            }
        }
    }
    assert!(tried > 400, "{tried}");
    let after = plant.ask(Method::GET, "/readyz").send().await.number("/seq");
    assert_eq!(after, seq, "nothing was changed");
}

/// Values just outside what the schema takes, and what people try.
fn wrong_values(schema: &Value) -> Vec<Value> {
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return vec![json!({"a": [1]})],
    };
    let mut wrong = Vec::new();
    if !types.contains(&"null") {
        wrong.push(Value::Null);
    }
    if types.contains(&"string") {
        wrong.extend([json!(7), json!(["a"]), json!({"a": 1}), json!(true)]);
        wrong.extend(
            ["a\u{0}b", "a\u{1b}[2J", "a\u{202e}b", "a\u{2066}b", "a\u{200f}"].map(Value::from),
        );
        if let Some(most) = schema["maxLength"].as_u64() {
            wrong.push(json!("a".repeat(usize::try_from(most).unwrap() + 1)));
        }
        // The same limit in bytes, by half as many characters.
        if schema["description"].as_str().is_some_and(|told| told.contains("bytes")) {
            let most = usize::try_from(schema["maxLength"].as_u64().unwrap()).unwrap();
            wrong.push(json!("\u{e4}".repeat(most / 2 + 1)));
        }
        if schema["minLength"] == 1 {
            wrong.push(json!(""));
        }
        if schema.get("enum").is_some() {
            wrong.extend([json!("none of them"), json!("")]);
        }
        if schema["format"] == "date-time" || schema.get("anyOf").is_some() {
            let instants = [
                "",
                "tomorrow",
                "0001-01-01T00:00:00Z",
                "1969-12-31T23:59:59Z",
                "10000-01-01T00:00:00Z",
                "2027-02-30T00:00:00Z",
                "2027-01-01",
            ];
            wrong.extend(instants.map(Value::from));
        }
    }
    if types.contains(&"integer") {
        let (least, most) =
            (schema["minimum"].as_u64().unwrap(), schema["maximum"].as_u64().unwrap());
        wrong.extend([json!(-1), json!(most + 1), json!(u64::MAX), json!(1e30), json!(1.5)]);
        wrong.extend([json!("7"), json!(true)]);
        wrong.extend(least.checked_sub(1).map(Value::from));
    }
    if types.contains(&"boolean") {
        wrong.extend([json!("true"), json!(1)]);
    }
    if types.contains(&"array") {
        wrong.extend([json!("a"), json!({"0": "a"}), json!([[]])]);
        let most = usize::try_from(schema["maxItems"].as_u64().unwrap()).unwrap();
        let item = match schema["items"]["enum"][0].clone() {
            Value::Null => json!("member:read"),
            word => word,
        };
        wrong.push(Value::Array(vec![item; most + 1]));
        wrong.extend(wrong_values(&schema["items"]).into_iter().map(|item| json!([item])));
    }
    if types.contains(&"object") {
        wrong.extend([json!("a"), json!([]), json!({"no such member": 1})]);
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            wrong.extend(wrong_values(member).into_iter().map(|value| json!({name: value})));
        }
    }
    wrong
}
