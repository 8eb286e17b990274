//! `POST /oauth2/introspect` (RFC 7662): what a key or token is worth now. Nothing is cached, and
//! whatever is not worth anything to the asker's own organization looks the same.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use portcullis_core::session::Mode;
use serde_json::{Value, json};

use super::answer::{OauthError, unstored};
use super::client;
use super::form::Form;
use crate::api::admission::permission;
use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::{App, Denial, Framed, credential};
use crate::caller::{Caller, Member};
use crate::store::audit::Target;
use crate::store::keys;

pub(super) const ENDPOINT: Endpoint = Endpoint::post(
    "/oauth2/introspect",
    ("oauth.introspect", "oauth"),
    "Say what a key or session token is worth now",
    || post(run),
)
.notes(
    "RFC 7662. The client needs `credential:verify`. Whatever is unknown, over, or of another \
     organization is `{\"active\": false}` and nothing else. It is read anew on each call.",
)
.with_client()
.reads(
    &[
        Parameter::required("token", "The key or session token that is asked about."),
        Parameter::optional("token_type_hint", "Ignored."),
        Parameter::optional("client_id", "Id or uid of the client's key."),
        Parameter::optional("client_secret", "The client's key, or its tail."),
    ],
    &[("token", "ptc_063UfDVRKBz_…")],
)
.answers(&[
    (200, "Introspection"),
    (400, "OauthRefusal"),
    (401, "OauthRefusal"),
    (403, "OauthRefusal"),
]);

async fn run(
    State(app): State<App>,
    Extension(framed): Extension<Framed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OauthError> {
    let form = Form::read(&headers, body).await.map_err(OauthError::InvalidRequest)?;
    let asker = client::authenticate(&app, &framed, &headers, &form).await?;
    let root = &asker.org.root_resource_id;
    let access = &asker.access;
    if !access.allows_method("POST") || !access.permits(&permission("credential:verify"), root) {
        deny(&framed, asker);
        return Err(OauthError::InsufficientScope);
    }
    let text = form.text("token").ok_or(OauthError::InvalidRequest("token is missing."))?;
    let found = match credential::read_bearer(&app.prefix, text) {
        Some(presented) => client::look_up(&app, &framed, &presented).await?,
        None => None,
    };
    match found.filter(|member| member.org.id == asker.org.id) {
        Some(member) => Ok(unstored(describe(&app, member).await?)),
        None => Ok(unstored(json!({"active": false}))),
    }
}

/// Notes for the audit log who may not ask.
fn deny(framed: &Framed, asker: Member) {
    let _ = framed.denial.set(Denial {
        org_id: asker.org.id.clone(),
        actor: Caller::Member(Box::new(asker)).actor(),
        action: "oauth.introspect".to_owned(),
        target: Target { kind: "credential", id: String::new(), name: String::new() },
        reason: Some("permission_denied credential:verify"),
    });
}

async fn describe(app: &App, mut member: Member) -> Result<Value, OauthError> {
    // A token for one place is worth what it may do there.
    let bound = member
        .session
        .as_ref()
        .and_then(|claims| claims.bounds(app.sessions.issuer()).next().map(str::to_owned));
    let place = bound.unwrap_or_else(|| member.org.root_resource_id.clone());
    let mut view = app.store.view().await?;
    member.access.locate(view.conn(), &member.org.id, &place).await?;
    drop(view);
    let permissions = member.access.permission_texts(&place);
    let mut body = json!({
        "active": true,
        "scope": permissions.join(" "),
        "client_id": member.key_id,
        "username": member.name,
        "sub": member.id,
        "iss": app.sessions.issuer(),
        "token_type": "Bearer",
    });
    let (aud, iat, exp, jti) = match &member.session {
        Some(claims) => {
            (json!(claims.aud), claims.iat_s, Some(claims.exp_s), claims.jti.to_string())
        }
        None => {
            let mut view = app.store.view().await?;
            let key = keys::find_by_id(view.conn(), &member.key_id).await?;
            let key = key.ok_or(crate::store::StoreError::Broken("key of a caller"))?;
            let seconds = |ms: i64| ms.unsigned_abs() / 1000;
            let aud = json!([app.sessions.issuer()]);
            (aud, seconds(key.created_ms), key.expires_ms.map(seconds), key.id)
        }
    };
    body["aud"] = aud;
    body["iat"] = json!(iat);
    body["jti"] = json!(jti);
    if let Some(exp) = exp {
        body["exp"] = json!(exp);
    }
    debug_assert!(member.session.as_ref().is_none_or(|claims| claims.mode == Mode::Bound));
    Ok(body)
}
