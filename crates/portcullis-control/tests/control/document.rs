//! The OpenAPI document as the tests use it: every answer that any test gets is held against it.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(portcullis_control::openapi);

/// An operation of the document.
#[derive(Copy, Clone)]
pub(crate) struct Described {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) operation: &'static Value,
}

/// All of them.
pub(crate) fn operations() -> Vec<Described> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let of_path = |(path, members): (&'static String, &'static Value)| {
        let members = members.as_object().unwrap().iter();
        members
            .filter(|(name, _)| *name != "parameters")
            .map(move |(method, operation)| Described { method, path, operation })
    };
    paths.iter().flat_map(of_path).collect()
}

impl Described {
    pub(crate) fn id(&self) -> &'static str {
        self.operation["operationId"].as_str().unwrap()
    }

    pub(crate) fn answers(&self, status: u16) -> bool {
        self.operation["responses"].get(status.to_string()).is_some()
    }

    /// Schema and example of the body.
    pub(crate) fn body(&self) -> Option<(&'static Value, &'static Value)> {
        let content = self.operation.pointer("/requestBody/content/application~1json")?;
        Some((&content["schema"], &content["example"]))
    }

    /// The parameters of the query, by name.
    pub(crate) fn has_parameter(&self, name: &str) -> bool {
        let parameters = self.operation["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|one| one["name"] == name))
    }
}

/// Holds an answer against the document; a path that it does not have is none of its business.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, status: u16, content_type: &str, body: &Value) {
    let path = path.split('?').next().unwrap();
    let method = if method == "HEAD" { "GET" } else { method };
    let found = operations().into_iter().find(|described| {
        described.method.eq_ignore_ascii_case(method) && matches(described.path, path)
    });
    let (Some(found), false) = (found, status == 405) else { return };
    let what = format!("{} answered {status} {content_type}: {body}", found.id());
    let response = &found.operation["responses"][status.to_string()];
    assert!(!response.is_null(), "the document knows no such status: {what}");
    let response = resolved(response);
    let kind = content_type.split(';').next().unwrap();
    match response.get("content") {
        None => assert_eq!(kind, "", "{what}"),
        Some(_) if method == "GET" && body.is_null() => {}
        Some(content) => {
            let schema = &content[kind]["schema"];
            assert!(!schema.is_null(), "the document knows no such content: {what}");
            if kind.ends_with("json")
                && let Err(fault) = valid(schema, body)
            {
                panic!("{fault}; {what}");
            }
        }
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(wanted, given)| match wanted.split_once('}') {
            Some((_, "")) => !given.contains(':'),
            Some((_, verb)) => given.ends_with(verb),
            None => wanted == given,
        })
}

fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(target) => resolved(DOCUMENT.pointer(target.trim_start_matches('#')).unwrap()),
        None => schema,
    }
}

/// As much of JSON schema as the document uses.
pub(crate) fn valid(schema: &'static Value, value: &Value) -> Result<(), String> {
    let schema = resolved(schema);
    let wrong = |what: &str| Err(format!("{value} is not {what}: {schema}"));
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Number(_) => "integer",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    };
    let number = kind == "integer" && types.contains(&"number");
    if !types.is_empty() && !types.contains(&kind) && !number {
        return wrong("of the type");
    }
    if schema.get("enum").and_then(Value::as_array).is_some_and(|all| !all.contains(value)) {
        return wrong("one of the words");
    }
    if schema.get("const").is_some_and(|one| one != value) {
        return wrong("the constant");
    }
    let under = |value: &Value| value.as_f64().unwrap_or(0.0);
    if value.is_number() && schema.get("minimum").is_some_and(|least| under(value) < under(least)) {
        return wrong("large enough");
    }
    if let Some(all) = schema["allOf"].as_array() {
        all.iter().try_for_each(|one| valid(one, value))?;
    }
    if let Some(any) = schema["anyOf"].as_array()
        && !any.iter().any(|one| valid(one, value).is_ok())
    {
        return wrong("any of these");
    }
    if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
        values.iter().try_for_each(|one| valid(items, one))?;
    }
    let Value::Object(members) = value else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return wrong(&format!("complete without {name}"));
        }
    }
    for (name, member) in members {
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(schema), _) => {
                valid(schema, member).map_err(|fault| format!("{name}: {fault}"))?;
            }
            (None, Some(Value::Bool(false))) => return wrong(&format!("without {name}")),
            (None, Some(schema @ Value::Object(_))) => valid(schema, member)?,
            (None, _) => {}
        }
    }
    Ok(())
}

#[test]
fn the_committed_document_is_the_one_that_the_code_makes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed = std::fs::read_to_string(file).unwrap();
    assert!(
        committed == portcullis_control::openapi_text(),
        "docs/openapi.json is behind; make it anew: cargo run -- openapi > docs/openapi.json"
    );
}
