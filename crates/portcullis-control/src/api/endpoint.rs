//! Endpoints whose requests and answers another standard prescribes: forms instead of JSON, errors in
//! the words of that standard, credentials in places of its own. One table gives the router and the
//! OpenAPI document, as [`super::operation`] does for the admin API.
//!
//! It describes and wires; what an endpoint does and whom it believes is in its own file.

use axum::Router;
use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};

use super::App;
use super::operation::Verb;
use super::schemas::reference;

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) verb: Verb,
    pub(crate) path: &'static str,
    id: &'static str,
    summary: &'static str,
    notes: &'static str,
    tag: &'static str,
    client: bool,
    form: &'static [Parameter],
    /// The parameters of one request that is right.
    example: &'static [(&'static str, &'static str)],
    answers: &'static [(u16, &'static str)],
    route: fn() -> MethodRouter<App>,
}

/// A parameter of a form.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    name: &'static str,
    about: &'static str,
    /// The words that are allowed; empty = any text.
    words: &'static [&'static str],
    required: bool,
}

impl Parameter {
    /// One that may be absent; an empty one is.
    pub(crate) const fn optional(name: &'static str, about: &'static str) -> Parameter {
        Parameter { name, about, words: &[], required: false }
    }

    /// One that must be there.
    pub(crate) const fn required(name: &'static str, about: &'static str) -> Parameter {
        Parameter { required: true, ..Parameter::optional(name, about) }
    }

    /// One of these words.
    pub(crate) const fn of(self, words: &'static [&'static str]) -> Parameter {
        Parameter { words, ..self }
    }
}

impl Endpoint {
    /// Something that everybody may read.
    pub(crate) const fn get(
        path: &'static str,
        (id, tag): (&'static str, &'static str),
        summary: &'static str,
        route: fn() -> MethodRouter<App>,
    ) -> Endpoint {
        Endpoint {
            verb: Verb::Get,
            path,
            id,
            summary,
            notes: "",
            tag,
            client: false,
            form: &[],
            example: &[],
            answers: &[],
            route,
        }
    }

    /// Something that takes a form.
    pub(crate) const fn post(
        path: &'static str,
        named: (&'static str, &'static str),
        summary: &'static str,
        route: fn() -> MethodRouter<App>,
    ) -> Endpoint {
        Endpoint { verb: Verb::Post, ..Endpoint::get(path, named, summary, route) }
    }

    pub(crate) const fn notes(self, notes: &'static str) -> Endpoint {
        Endpoint { notes, ..self }
    }

    /// The same under another address.
    pub(crate) const fn also_at(self, path: &'static str, id: &'static str) -> Endpoint {
        Endpoint { path, id, ..self }
    }

    /// A client may show who it is in the header; otherwise in the form.
    pub(crate) const fn with_client(self) -> Endpoint {
        Endpoint { client: true, ..self }
    }

    pub(crate) const fn reads(
        self,
        form: &'static [Parameter],
        example: &'static [(&'static str, &'static str)],
    ) -> Endpoint {
        Endpoint { form, example, ..self }
    }

    /// Statuses and the objects of `schemas.rs` that come with them; an empty name is an empty body.
    pub(crate) const fn answers(self, answers: &'static [(u16, &'static str)]) -> Endpoint {
        Endpoint { answers, ..self }
    }

    /// The objects it answers with.
    #[cfg(test)]
    pub(super) fn objects(&self) -> impl Iterator<Item = &'static str> {
        self.answers.iter().map(|(_, name)| *name).filter(|name| !name.is_empty())
    }

    /// As the document describes it.
    pub(super) fn described(&self) -> Value {
        let security = match self.client {
            true => json!([{"basic": []}, {"bearer": []}, {}]),
            false => json!([]),
        };
        let mut members = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": self.notes,
            "tags": [self.tag],
            "security": security,
            "responses": self.responses(),
        });
        if self.verb == Verb::Post {
            members["requestBody"] = self.body();
        }
        members
    }

    fn body(&self) -> Value {
        let properties: Map<String, Value> = self
            .form
            .iter()
            .map(|Parameter { name, about, words, .. }| {
                let mut schema = json!({"type": "string", "description": about});
                if !words.is_empty() {
                    schema["enum"] = json!(words);
                }
                ((*name).to_owned(), schema)
            })
            .collect();
        let required: Vec<&str> =
            self.form.iter().filter(|one| one.required).map(|one| one.name).collect();
        let example: Map<String, Value> =
            self.example.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        json!({
            "required": true,
            "content": {"application/x-www-form-urlencoded": {
                "schema": schema, "example": example,
            }},
        })
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        for status in ["500", "503"] {
            let common = json!({"$ref": format!("#/components/responses/{status}")});
            responses.insert(status.to_owned(), common);
        }
        for (status, object) in self.answers {
            let mut headers = vec!["X-Request-Id"];
            if *status == 401 {
                headers.push("WWW-Authenticate");
            }
            if self.verb == Verb::Post && *status == 200 {
                headers.push("Cache-Control");
            }
            let headers: Map<String, Value> = headers
                .iter()
                .map(|name| {
                    let target = format!("#/components/headers/{name}");
                    ((*name).to_owned(), json!({"$ref": target}))
                })
                .collect();
            let description = match status {
                200 => self.summary,
                400 => "The request contradicts itself, cannot be read, or asks for too much.",
                401 => "The credential is not valid.",
                _ => "The credential is valid and not enough.",
            };
            let mut response = json!({"description": description, "headers": headers});
            if !object.is_empty() {
                response["content"] = json!({"application/json": {"schema": reference(object)}});
            }
            responses.insert(status.to_string(), response);
        }
        Value::Object(responses)
    }
}

/// The router of a table.
pub(crate) fn routes(table: &'static [Endpoint]) -> Router<App> {
    table.iter().fold(Router::new(), |router, row| router.route(row.path, (row.route)()))
}
