//! One admin call as it arrives: path, query, credential and body, each read in its turn.
//!
//! The order of checks is that of service-accounts.md 9.1: credential, organization, entitlement,
//! permission, body and query, object, version, state. Each step consumes the one before: a
//! [`Call`] becomes an [`Identified`], that an `Admitted` ([`super::admission`]), and that opens a
//! `Work` ([`super::work`]).

use std::collections::HashMap;

use axum::RequestExt as _;
use axum::body::Body;
use axum::extract::{FromRequest, Query as QueryPairs, RawPathParams, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use portcullis_core::feed::parse_distinct;
use portcullis_core::time::WallMs;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::admission::Identified;
use super::body::{MAX_BODY, read_whole, too_large};
use super::fields::Fields;
use super::problem::{Code, Problem};
use super::query::Query;
use super::{App, Framed, credential};
use crate::caller::{self, Caller, Credential, Refused};
use crate::domain::imports;

/// A request that nothing is known about yet.
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) framed: Framed,
    pub(crate) now: WallMs,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    uri: Uri,
    params: HashMap<String, String>,
    verb: Option<String>,
    /// Read once, through `&mut`. The lock is never taken; it makes a call `Sync`, which a body by
    /// itself is not, so that it can be borrowed while the database answers.
    body: Mutex<Body>,
    /// The body, if its digest was asked for first.
    read: Option<Zeroizing<Vec<u8>>>,
}

impl FromRequest<App> for Call {
    type Rejection = Problem;

    /// Splits `{id}:verb` at the colon, which no id contains.
    async fn from_request(mut request: Request, app: &App) -> Result<Call, Problem> {
        let raw = request.extract_parts::<RawPathParams>().await;
        let raw = raw.map_err(|_| Problem::not_found())?;
        let mut params: HashMap<String, String> =
            raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut verb = None;
        for value in params.values_mut() {
            if let Some((id, found)) = value.split_once(':') {
                verb = Some(found.to_owned());
                *value = id.to_owned();
            }
        }
        let framed = request.extensions().get::<Framed>().cloned();
        let framed = framed.ok_or_else(|| Problem::new(Code::Internal, "no frame"))?;
        let (parts, body) = request.into_parts();
        Ok(Call {
            app: app.clone(),
            framed,
            now: app.now(),
            method: parts.method,
            headers: parts.headers,
            uri: parts.uri,
            params,
            verb,
            body: Mutex::new(body),
            read: None,
        })
    }
}

impl Call {
    /// The verb after the colon of the path.
    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The path's parameter, empty if the route has none of this name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The parameters of the query.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        let pairs = QueryPairs::<Vec<(String, String)>>::try_from_uri(&self.uri);
        let pairs =
            pairs.map_err(|_| Problem::new(Code::MalformedRequest, "The query cannot be read."))?;
        Ok(Query::new(pairs.0))
    }

    /// A query of which no parameter is known.
    pub(crate) fn no_query(&self) -> Result<(), Problem> {
        self.query()?.finish()
    }

    /// The body as an object; no body at all is an empty one.
    pub(crate) async fn body(&mut self) -> Result<Fields, Problem> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(Fields::new(Map::new()));
        }
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let essence = content_type.and_then(|it| it.split(';').next()).map(str::trim);
        let json = essence.is_some_and(|essence| {
            essence.eq_ignore_ascii_case("application/json")
                || essence.eq_ignore_ascii_case("application/merge-patch+json")
        });
        if !json {
            let detail = "Use application/json or application/merge-patch+json.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        match parse_distinct(&bytes) {
            Ok(Value::Object(members)) => Ok(Fields::new(members)),
            Ok(_) => Err(Problem::new(Code::MalformedRequest, "The body must be a JSON object.")),
            // The parser's message can quote the body, and a body can hold a key.
            Err(error) => Err(Problem::new(
                Code::MalformedRequest,
                format!(
                    "The body is not JSON as we take it (line {}, column {}): no member twice.",
                    error.line(),
                    error.column()
                ),
            )),
        }
    }

    /// What tells this call from another one with the same `Idempotency-Key`: its body, and its
    /// query but for the waiting.
    pub(super) async fn digest(&mut self) -> Result<String, Problem> {
        let bytes = self.bytes().await?;
        let query = self.uri.query().unwrap_or_default();
        let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("wait")).collect();
        let digest = self.app.sealer.digest(&[query.join("&").as_bytes(), &bytes]);
        self.read = Some(bytes);
        Ok(digest)
    }

    /// The bytes of the body, once.
    async fn bytes(&mut self) -> Result<Zeroizing<Vec<u8>>, Problem> {
        if let Some(bytes) = self.read.take() {
            return Ok(bytes);
        }
        let body = std::mem::take(self.body.get_mut());
        let stated = self.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        if stated.and_then(|text| text.parse::<usize>().ok()).is_some_and(|len| len > MAX_BODY) {
            return Err(too_large());
        }
        read_whole(body).await
    }

    /// A body without members.
    pub(crate) async fn no_body(&mut self) -> Result<(), Problem> {
        self.body().await?.finish()?;
        Ok(())
    }

    /// Finds out who calls.
    pub(crate) async fn identify(self) -> Result<Identified, Problem> {
        let presented = credential::of_call(&self.headers, &self.method, &self.app.prefix)?;
        if let Credential::Foreign(foreign) = &presented {
            imports::settle(&self.app, foreign, &self.framed.origin).await?;
        }
        let mut view = self.app.store.view().await?;
        let (app, as_of) = (&self.app, view.as_of());
        let verdict = caller::verify(view.conn(), &presented, app, as_of, self.now).await?;
        match verdict {
            Ok(caller) => {
                if let Caller::Member(member) = &caller {
                    self.framed.note_use(&member.key_id, Some(member.secret_generation));
                }
                Ok(Identified { call: self, caller, presented })
            }
            Err(refused) => Err(self.refused(refused)),
        }
    }

    /// All refusals look the same; the audit log gets the reason.
    pub(super) fn refused(&self, refused: Refused) -> Problem {
        self.framed.note_refusal(refused);
        Problem::new(Code::InvalidToken, "The credential is not valid.")
    }
}
