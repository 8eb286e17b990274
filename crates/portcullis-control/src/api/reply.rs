//! Answers: an object with its version, and the envelope of a mutation with what gateways know of
//! it (service-accounts.md 9.2, 9.5).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use portcullis_core::feed::Position;
use serde_json::{Map, Value, json};

use super::admission::{Admitted, Wait, names_version};
use super::call::Call;
use super::problem::Problem;
use super::work::Conclusion;
use crate::domain::Effect;
use crate::domain::secrets::Shown;
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
    conclusion: Conclusion,
    effect: Effect,
    members: Map<String, Value>,
    version: Option<i64>,
    location: Option<String>,
}

impl Mutation {
    /// About the object called `name`, in the state after the mutation.
    pub(crate) fn of(
        conclusion: impl Into<Conclusion>,
        effect: Effect,
        name: &str,
        object: Value,
    ) -> Mutation {
        let version = object.get("version").and_then(Value::as_i64);
        let members = Map::from_iter([
            (name.to_owned(), object),
            ("warnings".to_owned(), Value::Array(Vec::new())),
        ]);
        Mutation { conclusion: conclusion.into(), effect, members, version, location: None }
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
    pub(crate) fn with_secret(self, shown: &Shown) -> Mutation {
        self.with("value", json!(*shown.value)).with("secret", json!(*shown.tail))
    }

    /// Something that the caller should look at.
    pub(crate) fn warn(self, code: &str, detail: &str) -> Mutation {
        self.with("warnings", json!([{"code": code, "detail": detail}]))
    }

    /// Makes the change durable, and with it the answer if the call is idempotent; then waits for
    /// gateways as asked and answers.
    pub(crate) async fn send(self, admitted: &Admitted, wait: Wait) -> Reply {
        let Mutation { conclusion, effect, members, version, location } = self;
        let mut envelope = Envelope {
            members,
            version,
            location,
            narrowing: effect == Effect::Narrowing,
            position: Position::default(),
        };
        let Committed { position, reaches_gateways } = match conclusion {
            Conclusion::Committed(committed) => committed,
            // Whoever takes away again what is gone is told whether gateways know it by now.
            Conclusion::Open { work, change: None } => {
                Committed { reaches_gateways: effect == Effect::Narrowing, ..work.unit.unchanged() }
            }
            Conclusion::Open { mut work, change: Some((org_id, happening)) } => {
                if let Some(once) = &admitted.once {
                    envelope.position = work.unit.next_position();
                    envelope.narrowing &= work.unit.has_changes();
                    once.answer(&work.app, work.unit.conn(), &envelope).await?;
                }
                work.commit_answered(&org_id, happening).await?
            }
        };
        envelope.position = position;
        envelope.narrowing &= reaches_gateways;
        let waits = wait.applied.unwrap_or(effect != Effect::Label) && reaches_gateways;
        Ok(envelope.send(admitted, if waits { wait.timeout_ms } else { 0 }).await)
    }
}

/// What a mutation says, except which gateways have applied it.
pub(super) struct Envelope {
    pub(super) members: Map<String, Value>,
    pub(super) version: Option<i64>,
    pub(super) location: Option<String>,
    /// Whether it takes something away at gateways.
    pub(super) narrowing: bool,
    pub(super) position: Position,
}

impl Envelope {
    /// The status if no gateway is behind.
    pub(super) fn status(&self) -> StatusCode {
        if self.location.is_some() { StatusCode::CREATED } else { StatusCode::OK }
    }

    pub(super) async fn send(mut self, admitted: &Admitted, timeout_ms: u64) -> Response {
        let spread = admitted.app().publisher.wait_applied(self.position, timeout_ms).await;
        let incomplete = self.narrowing && !spread.pending.is_empty();
        let status = match (self.status(), incomplete) {
            (StatusCode::OK, true) => StatusCode::ACCEPTED,
            (status, _) => status,
        };
        self.members.insert("epoch".to_owned(), json!(self.position.epoch));
        self.members.insert("seq".to_owned(), json!(self.position.seq));
        self.members.insert("gateways".to_owned(), json!(spread));
        let body = Value::Object(self.members);
        let mut response = (status, Json(&body)).into_response();
        if let Some(version) = self.version {
            set_etag(&mut response, version);
        }
        let location = self.location.and_then(|path| HeaderValue::from_str(&path).ok());
        if let Some(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        forbid_storing(&mut response, &body);
        response
    }
}

/// An answer that can hold a secret is kept by no cache, also where the secret is withheld.
pub(super) fn forbid_storing(response: &mut Response, body: &Value) {
    let rows = body.get("results").and_then(Value::as_array).into_iter().flatten();
    if std::iter::once(body).chain(rows).any(|place| place.get("secret").is_some()) {
        let never = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, never);
    }
}

pub(super) fn set_etag(response: &mut Response, version: i64) {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
}
