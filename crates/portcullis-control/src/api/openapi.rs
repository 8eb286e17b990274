//! The OpenAPI 3.1 document, made from the table of operations. Nothing in it is written twice:
//! bodies and parameters describe themselves, answers are named in the table.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::admission::{Need, Wait, Who};
use super::fields::{Faults, Fields};
use super::list::Paging;
use super::oauth::{self, ENDPOINTS};
use super::operation::{Answer, Envelope, Operation, Verb};
use super::problem::Code;
use super::query::Query;
use super::schemas::{OBJECTS, closed, list, nullable, reference};
use super::v1::OPERATIONS;

/// What a client must know to read a list to its end.
const NEXT_CURSOR: &str = "Null at the end of the list. A page can be short, or empty, before the \
                           end: a search looks at a limited number of objects for each.";

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations() {
        let path = paths.entry(operation.path).or_default();
        path.insert(method(operation.method).to_owned(), described(operation));
        let parameters = path_parameters(operation.path);
        if !parameters.is_empty() {
            path.insert("parameters".to_owned(), Value::Array(parameters));
        }
    }
    for endpoint in ENDPOINTS {
        let path = paths.entry(endpoint.path).or_default();
        path.insert(method(endpoint.verb).to_owned(), endpoint.described());
    }
    for (path, summary, answer) in [
        ("/healthz", "The process answers", json!({"status": "ok"})),
        ("/openapi.json", "This document", json!({"openapi": "3.1.0"})),
        (
            "/readyz",
            "The database answers; the newest committed position",
            json!({"status": "ready", "epoch": 1, "seq": 17}),
        ),
    ] {
        paths.entry(path).or_default().insert("get".to_owned(), open(path, summary, &answer));
    }
    let schemas: Map<String, Value> =
        OBJECTS.iter().map(|(name, schema)| ((*name).to_owned(), schema())).collect();
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Portcullis admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The control plane's listener."}],
        "security": [{"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": headers(),
            "responses": common_refusals(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The value of an API key, or a session token.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The id of an API key and the 49 characters of its secret.",
                },
            },
        },
    })
}

/// Both tables of operations: the admin API's, and those in another vendor's words.
fn operations() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS.iter().chain(oauth::OPERATIONS)
}

const DESCRIPTION: &str = "Accounts, keys, roles and bindings of Portcullis. Unknown fields and \
    parameters are refused. PATCH is JSON Merge Patch: null clears what can be cleared. Lists have \
    cursors that are bound to their filters. Objects carry a version, which ETag and If-Match speak \
    of. Every POST takes an Idempotency-Key. Refusals are problems (RFC 9457) with a stable code. \
    Checks come in this order: 401, 404 of a foreign organization, 402, 403, 400, 413, 415, 422, \
    404 of the object, 412, 428, 409.";

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
        Verb::Put => "put",
    }
}

/// An operation without a credential.
fn open(path: &str, summary: &str, example: &Value) -> Value {
    json!({
        "operationId": path.trim_matches('/').replace('.', "_"),
        "summary": summary,
        "tags": ["process"],
        "security": [],
        "responses": {
            "200": {
                "description": summary,
                "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
                "content": {"application/json": {
                    "schema": {"type": "object"}, "example": example,
                }},
            },
            "503": {"$ref": "#/components/responses/503"},
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| _ = members.insert(name.to_owned(), value);
    put("operationId", json!(operation.id()));
    put("summary", json!(operation.summary));
    put("description", json!(described_need(operation)));
    put("tags", json!([tag(operation)]));
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        put("parameters", Value::Array(parameters));
    }
    if let Some(body) = operation.body {
        let schema = (body.read)(Fields::describing()).and_then(Faults::into_schema);
        let example: Value = serde_json::from_str(body.example).unwrap_or_default();
        let required = schema.as_ref().is_some_and(|schema| schema.get("required").is_some());
        let content = json!({"schema": schema, "example": example});
        let kinds: &[&str] = match operation.method {
            Verb::Patch => &["application/json", "application/merge-patch+json"],
            Verb::Get | Verb::Post | Verb::Delete | Verb::Put => &["application/json"],
        };
        let content: Map<String, Value> =
            kinds.iter().map(|kind| ((*kind).to_owned(), content.clone())).collect();
        put("requestBody", json!({"required": required, "content": content}));
    }
    put("responses", Value::Object(responses(operation)));
    let Need { permission, who, .. } = operation.need;
    if who != Who::Anybody && !permission.is_empty() {
        put("x-permission", json!(permission));
    }
    Value::Object(members)
}

fn described_need(operation: &Operation) -> String {
    let Need { permission, who, entitlement, .. } = operation.need;
    let mut text = String::from(operation.notes);
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(&match who {
        Who::Anybody => "Everybody whose credential is accepted may call it.".to_owned(),
        Who::Member if permission.is_empty() => String::new(),
        Who::Member => format!("Needs `{permission}`."),
        Who::MemberOrOperator | Who::OwnMemberOrOperator => {
            format!("Needs `{permission}`; the installation operator may call it, too.")
        }
        Who::Operator => "The installation operator alone may call it.".to_owned(),
    });
    if operation.need.or_self {
        text.push_str(" The user of the path may call it without.");
    }
    if entitlement {
        text.push_str(" The plan must include service accounts.");
    }
    text
}

/// What the path is about: its last word that is no parameter.
fn tag(operation: &Operation) -> &'static str {
    if !operation.path.starts_with("/v1/") {
        return "zenml";
    }
    let words = operation.path.split('/').skip(2).filter(|word| !word.starts_with('{'));
    words.last().map_or("process", |word| word.split(':').next().unwrap_or(word))
}

fn path_parameters(path: &str) -> Vec<Value> {
    names(path)
        .map(|name| {
            let schema = match name {
                "seq" => json!({"type": "integer", "minimum": 0}),
                _ => json!({"type": "string", "minLength": 1, "maxLength": 64}),
            };
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect()
}

/// The names of the parameters in a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut described = Query::describe(|query| {
        match operation.answer {
            Answer::Page(_) => drop(Paging::read(query)),
            Answer::Mutation(_) => _ = Wait::read(query),
            Answer::Lines | Answer::Object(_) | Answer::Plain(_) => {}
        }
        if let Some(filters) = operation.filters {
            filters(query);
        }
    });
    described.dedup_by_key(|(name, _)| *name);
    let mut parameters: Vec<Value> = described
        .into_iter()
        .map(|(name, schema)| json!({"name": name, "in": "query", "schema": schema}))
        .collect();
    let mut header = |name: &str, schema: Value, description: &str| {
        parameters.push(json!({
            "name": name, "in": "header", "schema": schema, "description": description,
        }));
    };
    let tag = json!({"type": "string", "example": "\"3\""});
    if matches!(operation.answer, Answer::Object(_)) {
        header("If-None-Match", tag.clone(), "Answered with 304 if the version is this one.");
    }
    if is_guarded(operation) {
        header("If-Match", tag, "Refused with 412 unless the version is this one.");
    }
    if operation.method == Verb::Post {
        let schema = json!({
            "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$",
        });
        let description = "The same key and body within 24 hours get the first answer again, \
                           and nothing happens twice.";
        header("Idempotency-Key", schema, description);
    }
    parameters
}

/// Whether it changes an object whose version can be asked for.
pub(crate) fn is_guarded(operation: &Operation) -> bool {
    match operation.answer {
        Answer::Mutation(Envelope { creates, unversioned, .. }) => !creates && !unversioned,
        Answer::Lines | Answer::Object(_) | Answer::Page(_) | Answer::Plain(_) => false,
    }
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let mut responses = refusals(operation);
    let mut put = |status: &str, response: Value| _ = responses.insert(status.to_owned(), response);
    match operation.answer {
        Answer::Lines => {
            let mut lines = success(operation, &json!({"type": "string"}), &["Cache-Control"]);
            if let Some(content) = lines["content"].as_object_mut() {
                let schema = content.remove("application/json").unwrap_or_default();
                content.insert("application/x-ndjson".to_owned(), schema);
            }
            put("200", lines);
        }
        Answer::Plain(name) => put("200", success(operation, &object(name), &[])),
        Answer::Object(name) => {
            put("200", success(operation, &object(name), &["ETag"]));
            put(
                "304",
                json!({
                    "description": "The version is the one of If-None-Match.",
                    "headers": header_references(&["ETag", "X-Request-Id"]),
                }),
            );
        }
        Answer::Page(name) => {
            let page = closed(&[
                ("items", list(object(name))),
                ("next_cursor", nullable(json!({"type": "string", "description": NEXT_CURSOR}))),
                ("total?", json!({"type": "integer", "minimum": 0})),
            ]);
            put("200", success(operation, &page, &[]));
        }
        Answer::Mutation(envelope) => {
            let body = mutation(&envelope);
            let mut headers = Vec::new();
            if !envelope.unversioned {
                headers.push("ETag");
            }
            if operation.method == Verb::Post {
                headers.push("Idempotency-Replayed");
            }
            if envelope.secret {
                headers.push("Cache-Control");
            }
            match envelope.creates {
                true => {
                    headers.push("Location");
                    put("201", success(operation, &body, &headers));
                }
                false => put("200", success(operation, &body, &headers)),
            }
            if envelope.narrows {
                put("202", success(operation, &body, &headers));
            }
        }
    }
    responses
}

/// An object by name; with `?` after it, it may be null.
fn object(name: &str) -> Value {
    match name.strip_suffix('?') {
        Some(name) => nullable(reference(name)),
        None => reference(name),
    }
}

fn mutation(envelope: &Envelope) -> Value {
    let number = json!({"type": "integer", "minimum": 0});
    let mut members = vec![
        (envelope.member.to_owned(), object(envelope.object)),
        ("epoch".to_owned(), number.clone()),
        ("seq".to_owned(), number),
        ("gateways".to_owned(), reference("Spread")),
        ("warnings".to_owned(), list(reference("Warning"))),
    ];
    for (name, schema) in envelope.more {
        members.push(((*name).to_owned(), object(schema)));
    }
    if envelope.secret {
        let secret = nullable(json!({"type": "string"}));
        members.push(("value?".to_owned(), secret.clone()));
        members.push(("secret?".to_owned(), secret));
        members.push(("value_withheld?".to_owned(), json!({"type": "boolean"})));
    }
    let members: Vec<(&str, Value)> =
        members.iter().map(|(name, schema)| (name.as_str(), schema.clone())).collect();
    closed(&members)
}

fn success(operation: &Operation, schema: &Value, headers: &[&str]) -> Value {
    let mut names = headers.to_vec();
    names.push("X-Request-Id");
    let mut response = json!({
        "description": operation.summary,
        "headers": header_references(&names),
        "content": {"application/json": {"schema": schema}},
    });
    for form in operation.forms {
        response["content"][*form] = json!({"schema": {}});
    }
    let links = links(operation);
    if !links.is_empty() {
        response["links"] = Value::Object(links);
    }
    response
}

/// From something new to every operation on it, and on the lists below it.
fn links(operation: &Operation) -> Map<String, Value> {
    let Answer::Mutation(Envelope { member, creates: true, .. }) = operation.answer else {
        return Map::new();
    };
    let below = format!("{}/{{", operation.path);
    let mut links = Map::new();
    for other in OPERATIONS {
        let rest = other.route().strip_prefix(&below).and_then(|rest| rest.split_once('}'));
        let Some((last, further)) = rest else { continue };
        if further.contains('{') {
            continue;
        }
        let mut parameters: Map<String, Value> = names(operation.path)
            .map(|name| (format!("path.{name}"), json!(format!("$request.path.{name}"))))
            .collect();
        parameters.insert(format!("path.{last}"), json!(format!("$response.body#/{member}/id")));
        let link = json!({"operationId": other.id(), "parameters": parameters});
        links.insert(other.id(), link);
    }
    links
}

fn header_references(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")})))
        .collect()
}

fn headers() -> Value {
    let text =
        |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "Allow": text("The methods that are allowed here."),
        "Cache-Control": text("`no-store`: the answer can hold a secret."),
        "ETag": {
            "description": "The object's version, quoted.",
            "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"},
        },
        "Idempotency-Replayed": {
            "description": "Present if this is the answer to an earlier call.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "Location": text("The path of what was made."),
        "Retry-After": {
            "description": "Seconds after which the same call may work.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "WWW-Authenticate": text("How to present a credential (RFC 6750)."),
        "X-Request-Id": text("The id of this call, in our log and in the audit log."),
    })
}

/// The statuses that an operation can refuse with. Those that all of its kind share are referred to.
fn refusals(operation: &Operation) -> Map<String, Value> {
    let mut codes: BTreeMap<u16, BTreeSet<&'static str>> = BTreeMap::new();
    let mut add = |code: Code| _ = codes.entry(code.status()).or_default().insert(code.label());
    for code in ALWAYS {
        add(*code);
    }
    let Need { who, entitlement, .. } = operation.need;
    if who != Who::Anybody {
        add(Code::PermissionDenied);
    }
    if operation.path.contains('{') {
        add(Code::NotFound);
    }
    if entitlement {
        add(Code::EntitlementRequired);
    }
    if matches!(operation.answer, Answer::Page(_)) {
        add(Code::InvalidCursor);
    }
    if operation.method != Verb::Get {
        add(Code::BodyTooLarge);
        add(Code::UnsupportedMediaType);
    }
    if is_guarded(operation) {
        add(Code::PreconditionFailed);
        if matches!(operation.method, Verb::Patch | Verb::Delete) {
            add(Code::PreconditionRequired);
        }
    }
    if operation.method == Verb::Post {
        add(Code::IdempotencyInProgress);
        add(Code::IdempotencyKeyReused);
        add(Code::IdempotencyOutcomeUnknown);
    }
    for code in operation.codes {
        add(*code);
    }
    codes
        .into_iter()
        .map(|(status, codes)| {
            let common: BTreeSet<&str> = common_codes(status).collect();
            let response = match codes == common {
                true => json!({"$ref": format!("#/components/responses/{status}")}),
                false => refusal(status, &codes),
            };
            (status.to_string(), response)
        })
        .collect()
}

/// What every operation can refuse with.
const ALWAYS: &[Code] = &[
    Code::Internal,
    Code::InvalidRequest,
    Code::InvalidToken,
    Code::MalformedRequest,
    Code::Unauthenticated,
    Code::Unavailable,
    Code::ValidationFailed,
];
/// What most operations of a kind can refuse with besides.
const OFTEN: &[Code] = &[
    Code::BodyTooLarge,
    Code::EntitlementRequired,
    Code::NotFound,
    Code::PermissionDenied,
    Code::PreconditionFailed,
    Code::PreconditionRequired,
    Code::UnsupportedMediaType,
];

fn common_codes(status: u16) -> impl Iterator<Item = &'static str> {
    let known = ALWAYS.iter().chain(OFTEN);
    known.filter(move |code| code.status() == status).map(|code| code.label())
}

fn common_refusals() -> Value {
    let statuses: BTreeSet<u16> = ALWAYS.iter().chain(OFTEN).map(|code| code.status()).collect();
    statuses
        .into_iter()
        .map(|status| (status.to_string(), refusal(status, &common_codes(status).collect())))
        .collect()
}

fn refusal(status: u16, codes: &BTreeSet<&str>) -> Value {
    let titles: Vec<&str> = Code::ALL
        .iter()
        .filter(|code| codes.contains(code.label()))
        .map(|code| code.title())
        .collect();
    let mut names = vec!["X-Request-Id"];
    names.extend(match status {
        401 => Some("WWW-Authenticate"),
        405 => Some("Allow"),
        503 => Some("Retry-After"),
        _ => None,
    });
    json!({
        "description": format!("{}.", titles.join("; or: ")),
        "headers": header_references(&names),
        "content": {"application/problem+json": {"schema": {"allOf": [
            reference("Problem"),
            {"properties": {"status": {"const": status}, "code": {"enum": codes}}},
        ]}}},
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{document, operations};
    use crate::api::fields::{Faults, Fields};
    use crate::api::oauth::ENDPOINTS;
    use crate::api::operation::{Answer, Operation};
    use crate::api::schemas::OBJECTS;

    fn objects_of(operation: &Operation) -> Vec<&'static str> {
        match operation.answer {
            Answer::Lines => Vec::new(),
            Answer::Object(name) | Answer::Page(name) | Answer::Plain(name) => vec![name],
            Answer::Mutation(envelope) => {
                let more = envelope.more.iter().map(|(_, name)| *name);
                std::iter::once(envelope.object).chain(more).collect()
            }
        }
    }

    #[test]
    fn every_operation_is_named_once_and_says_what_it_answers() {
        let mut actions = BTreeSet::new();
        let mut places = BTreeSet::new();
        for operation in operations() {
            let action = operation.id();
            assert!(actions.insert(action.clone()), "{action} is there twice");
            assert!(places.insert((operation.path, operation.method)), "{}", operation.path);
            for name in objects_of(operation) {
                let known = OBJECTS.iter().any(|(known, _)| *known == name.trim_end_matches('?'));
                assert!(known, "{action} answers with {name}, which schemas.rs does not know");
            }
        }
        for endpoint in ENDPOINTS {
            assert!(places.insert((endpoint.path, endpoint.verb)), "{}", endpoint.path);
            for name in endpoint.objects() {
                assert!(OBJECTS.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
    }

    #[test]
    fn every_example_is_accepted_and_every_member_described() {
        for operation in operations() {
            let action = operation.need.action;
            let Some(body) = operation.body else { continue };
            let example: Value = serde_json::from_str(body.example).expect(action);
            let Value::Object(members) = example else { panic!("{action}: an object") };
            let refused = (body.read)(Fields::new(members));
            assert!(refused.is_none(), "{action}: {refused:?}");
            let schema = (body.read)(Fields::describing()).and_then(Faults::into_schema);
            let schema = schema.expect(action);
            for (name, member) in schema["properties"].as_object().expect(action) {
                let told = ["type", "anyOf", "enum"].iter().any(|key| member.get(key).is_some());
                assert!(told, "{action}: {name} is not described: {member}");
            }
        }
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn walk(document: &Value, part: &Value, found: &mut usize) {
            match part {
                Value::Object(members) => {
                    if let Some(Value::String(target)) = members.get("$ref") {
                        *found += 1;
                        let pointer = target.strip_prefix('#').expect("a reference within");
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    members.values().for_each(|member| walk(document, member, found));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(document, item, found)),
                _ => {}
            }
        }
        let document = document();
        let mut found = 0;
        walk(&document, &document, &mut found);
        assert!(found > 100);
    }
}
