//! Answers: an object with its version, and the envelope of a mutation with what gateways know of
//! it (service-accounts.md 9.2, 9.5).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_core::key::PlainKey;
use serde_json::{Map, Value, json};

use super::admission::{Admitted, Wait, names_version};
use super::call::Call;
use super::problem::Problem;
use crate::domain::Effect;
use crate::store::Committed;

/// The answer of every operation.
pub(crate) type Reply = Result<Response, Problem>;

/// An object that was read: 200, or 304 if the caller has this version.
pub(crate) fn object(call: &Call, version: i64, body: Value) -> Response {
    let known = call
        .headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tags| names_version(tags.as_bytes(), version));
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Json(body).into_response(),
    };
    set_etag(&mut response, version);
    response
}

/// The answer to a mutation, being put together.
pub(crate) struct Mutation {
    committed: Committed,
    effect: Effect,
    members: Map<String, Value>,
    version: Option<i64>,
    location: Option<String>,
    secret: bool,
}

impl Mutation {
    /// About the object called `name`, in the state after the mutation.
    pub(crate) fn of(committed: Committed, effect: Effect, name: &str, object: Value) -> Mutation {
        let version = object.get("version").and_then(Value::as_i64);
        let members = Map::from_iter([
            (name.to_owned(), object),
            ("warnings".to_owned(), Value::Array(Vec::new())),
        ]);
        Mutation { committed, effect, members, version, location: None, secret: false }
    }

    /// It made the object, which now lives here.
    pub(crate) fn created(mut self, location: String) -> Mutation {
        self.location = Some(location);
        self
    }

    /// Another member of the body.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Mutation {
        self.members.insert(name.to_owned(), value);
        self
    }

    /// The one time that a secret is shown.
    pub(crate) fn with_secret(mut self, plain: &PlainKey) -> Mutation {
        self.secret = true;
        self.with("value", json!(plain.expose())).with("secret", json!(plain.tail()))
    }

    /// Secrets are shown in its members, this one time.
    pub(crate) fn with_secrets(mut self) -> Mutation {
        self.secret = true;
        self
    }

    /// Waits for gateways as asked and answers.
    pub(crate) async fn send(mut self, admitted: &Admitted, wait: Wait) -> Response {
        let Committed { position, reaches_gateways } = self.committed;
        let waits = wait.applied.unwrap_or(self.effect != Effect::Label) && reaches_gateways;
        let timeout_ms = if waits { wait.timeout_ms } else { 0 };
        let spread = admitted.app().publisher.wait_applied(position, timeout_ms).await;
        let incomplete =
            self.effect == Effect::Narrowing && reaches_gateways && !spread.pending.is_empty();
        let status = match (&self.location, incomplete) {
            (Some(_), _) => StatusCode::CREATED,
            (None, true) => StatusCode::ACCEPTED,
            (None, false) => StatusCode::OK,
        };
        self.members.insert("epoch".to_owned(), json!(position.epoch));
        self.members.insert("seq".to_owned(), json!(position.seq));
        self.members.insert("gateways".to_owned(), json!(spread));
        let mut response = (status, Json(Value::Object(self.members))).into_response();
        if let Some(version) = self.version {
            set_etag(&mut response, version);
        }
        let location = self.location.and_then(|path| HeaderValue::from_str(&path).ok());
        if let Some(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if self.secret {
            let never = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, never);
        }
        response
    }
}

fn set_etag(response: &mut Response, version: i64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}
