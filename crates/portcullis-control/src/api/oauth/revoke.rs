//! `POST /oauth2/revoke` (RFC 7009): whoever holds a key may end it. Session tokens cannot be taken
//! back one by one: they end with their key, or by themselves within the hour.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use std::sync::Arc;

use super::answer::OauthError;
use super::client;
use super::form::Form;
use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::problem::{Code, Problem};
use crate::api::work::{Happening, Work};
use crate::api::{App, Framed, credential};
use crate::caller::{self, Caller, Credential, Holding, Member};
use crate::domain::imports;
use crate::domain::keys::{KeySwitch, switch};
use crate::policy::KeyOp;
use crate::store::Unit;
use crate::store::audit::Target;
use crate::store::keys;

/// How long gateways are waited for.
const PATIENCE_MS: u64 = 2000;

pub(super) const ENDPOINT: Endpoint = Endpoint::post(
    "/oauth2/revoke",
    ("oauth.revoke", "oauth"),
    "End a key",
    || post(run),
)
.notes(
    "RFC 7009. Whoever holds a key may end it, whatever state it is in; a client that identifies itself must be its owner. \
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
    if let Credential::Foreign(foreign) = &presented {
        imports::settle(&app, foreign, &framed.origin).await?;
    }
    let mut view = app.store.view().await?;
    let found = caller::find_held(view.conn(), &presented, &app.peppers, app.now()).await?;
    drop(view);
    match found {
        Holding::Nothing => return Ok(StatusCode::OK.into_response()),
        Holding::Ended => {}
        Holding::Held(holder) => {
            let is_own = |asker: &Member| asker.org.id == holder.org.id && asker.id == holder.id;
            if !asker.as_ref().is_none_or(is_own) {
                return Err(OauthError::InvalidRequest("The token belongs to somebody else."));
            }
            end(&app, &framed, &presented).await?;
        }
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
    let found = caller::find_held(unit.conn(), presented, &app.peppers, now).await?;
    let Holding::Held(holder) = found else { return Ok(()) };
    let (org, key_id) = (holder.org.clone(), holder.key_id.clone());
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
        caller: Caller::Member(holder),
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
