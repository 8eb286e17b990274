//! `POST /oauth2/revoke` (RFC 7009): whoever holds a key may end it. Session tokens cannot be taken
//! back one by one: they end with their key, or by themselves within the hour.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use portcullis_core::account::KeyState;
use std::sync::Arc;

use super::answer::OauthError;
use super::client;
use super::form::Form;
use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::problem::{Code, Problem};
use crate::api::work::{Happening, Work};
use crate::api::{App, Framed, credential};
use crate::caller::{self, Caller, Credential};
use crate::domain::imports;
use crate::domain::keys::{KeySwitch, switch};
use crate::policy::KeyOp;
use crate::store::Unit;
use crate::store::audit::Target;
use crate::store::keys::{self, KeyRow};

/// How long gateways are waited for.
const PATIENCE_MS: u64 = 2000;

pub(super) const ENDPOINT: Endpoint = Endpoint::post(
    "/oauth2/revoke",
    ("oauth.revoke", "oauth"),
    "End a key",
    || post(run),
)
.notes(
    "RFC 7009. Whoever holds a key may end it; a client that identifies itself must be its owner. \
     200 also if there is no such key. 503 if a gateway has not applied it in time: a repetition \
     is safe. Session tokens end with their key.",
)
.with_client()
.reads(
    &[
        Parameter::required("token", "The key that ends."),
        Parameter::optional("token_type_hint", "Ignored."),
        Parameter::optional("client_id", "Id or uid of the client's key."),
        Parameter::optional("client_secret", "The client's key, or its tail."),
    ],
    &[("token", "ptc_063UfDVRKBz_…")],
)
.answers(&[(200, ""), (400, "OauthRefusal"), (401, "OauthRefusal")]);

async fn run(
    State(app): State<App>,
    Extension(framed): Extension<Framed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OauthError> {
    let form = Form::read(&headers, body).await.map_err(OauthError::InvalidRequest)?;
    let identifies =
        headers.contains_key(header::AUTHORIZATION) || form.text("client_secret").is_some();
    let asker = match identifies {
        true => Some(client::authenticate(&app, &framed, &headers, &form).await?),
        false => None,
    };
    let text = form.text("token").ok_or(OauthError::InvalidRequest("token is missing."))?;
    let presented = match credential::read_bearer(&app.prefix, text) {
        Some(Credential::Session(_)) => return Err(OauthError::UnsupportedTokenType),
        Some(presented) => presented,
        None => return Ok(StatusCode::OK.into_response()),
    };
    let member = client::accept(&app, &framed, &presented, None).await?;
    let own = match (&asker, &member) {
        (_, None) | (None, Some(_)) => true,
        (Some(asker), Some(member)) => asker.org.id == member.org.id && asker.id == member.id,
    };
    if !own {
        return Err(OauthError::InvalidRequest("The token belongs to somebody else."));
    }
    if member.is_some() {
        end(&app, &framed, &presented).await?;
    } else if !was_ended(&app, &presented).await? {
        return Ok(StatusCode::OK.into_response());
    }
    // Also a repetition waits: the first call may have been answered too early for some gateway.
    let position = app.publisher.position();
    let spread = app.publisher.wait_applied(position, PATIENCE_MS).await;
    if spread.pending.is_empty() {
        return Ok(StatusCode::OK.into_response());
    }
    let detail = "The key has ended, and not every gateway has said so yet: ask again.";
    Err(OauthError::Failed(Problem::new(Code::Unavailable, detail)))
}

/// Revokes the key, or deletes it where the organization has no revocation; as its own owner.
async fn end(app: &App, framed: &Framed, presented: &Credential) -> Result<(), OauthError> {
    let now = app.now();
    let mut unit = Unit::begin(&app.store, Arc::clone(&app.ledger), now).await?;
    let _ = framed.settlement.set(unit.settlement());
    let as_of = unit.as_of();
    let verdict = caller::verify(unit.conn(), presented, app, as_of, now).await?;
    let Ok(caller @ Caller::Member(_)) = verdict else { return Ok(()) };
    let Caller::Member(member) = &caller else { return Ok(()) };
    let (org, key_id) = (member.org.clone(), member.key_id.clone());
    let (to, action) = match org.policy.key_ops.contains(&KeyOp::Revoke) {
        true => (KeySwitch::Revoke, "api_key.revoke"),
        false => (KeySwitch::Delete, "api_key.delete"),
    };
    let row = keys::find_by_id(unit.conn(), &key_id).await?;
    let mut row = row.ok_or_else(|| OauthError::Failed(Problem::not_found()))?;
    let org_id = org.id.clone();
    let mut work = Work {
        app: app.clone(),
        unit,
        caller,
        org: Some(org),
        origin: framed.origin.clone(),
        once: None,
        now,
    };
    if switch(&mut work, &mut row, to).await? {
        let target = Target { kind: "api_key", id: row.id, name: row.name };
        let happening = Happening { action, target, resource_id: None, before: None, after: None };
        work.commit(&org_id, happening).await?;
    }
    Ok(())
}

/// Whether it names a key that exists no more.
async fn was_ended(app: &App, presented: &Credential) -> Result<bool, OauthError> {
    let mut view = app.store.view().await?;
    let row: Option<KeyRow> = match presented {
        Credential::Foreign(foreign) => imports::find(view.conn(), foreign).await?,
        Credential::Native(native) => {
            keys::find_by_id(view.conn(), &native.id().to_string()).await?
        }
        Credential::Session(_) => None,
    };
    match row {
        Some(row) => Ok(matches!(row.state()?, KeyState::Deleted | KeyState::Revoked)),
        None => Ok(false),
    }
}
