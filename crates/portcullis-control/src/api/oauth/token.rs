//! `POST /oauth2/token`, alias `/oauth/token`: a key for a session token (RFC 6749 section 4.4), or
//! a key or token for a narrower one (RFC 8693).

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use portcullis_core::access::Pattern;
use portcullis_core::session::Claims;
use serde_json::{Value, json};

use super::answer::{OauthError, unstored};
use super::client;
use super::form::Form;
use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::{App, Framed, credential};
use crate::caller::Credential;
use crate::domain::sessions::{self, Issued, NotIssued, Wanted};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const API_KEY: &str = "urn:portcullis:params:oauth:token-type:api-key";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub(super) const ENDPOINT: Endpoint = Endpoint::post(
    "/oauth2/token",
    ("oauth.token", "oauth"),
    "Exchange a key for a session token, or either for a narrower one",
    || post(run),
)
.notes(
    "RFC 6749 section 4.4, RFC 8693 and RFC 8707. A client shows its key in the form or in the \
     header, never in both. An exchange needs no client: its subject is its own proof. The new \
     token is never wider and never lives longer.",
)
.with_client()
.reads(
    &[
        Parameter::required("grant_type", "How the token is asked for.")
            .of(&["client_credentials", EXCHANGE]),
        Parameter::optional("client_id", "Id or uid of the key."),
        Parameter::optional("client_secret", "The key, or the 49 characters of its tail."),
        Parameter::optional("scope", "Permissions such as `cluster:read`, with blanks between."),
        Parameter::optional(
            "audience",
            "The issuer, or a resource by its id or as `kind/ref`: the token then opens that and \
             what is below it, and nothing else.",
        ),
        Parameter::optional("resource", "The same as `audience`."),
        Parameter::optional("subject_token", "What is exchanged: a key, or a session token."),
        Parameter::optional("subject_token_type", "What it is.").of(&[API_KEY, ACCESS_TOKEN]),
        Parameter::optional("requested_token_type", "What it becomes.").of(&[ACCESS_TOKEN]),
    ],
    &[
        ("grant_type", "client_credentials"),
        ("client_id", "063UfDVRKBz"),
        ("client_secret", "ptc_063UfDVRKBz_…"),
        ("scope", "cluster:read"),
    ],
)
.answers(&[(200, "Token"), (400, "OauthRefusal"), (401, "OauthRefusal")]);

async fn run(
    State(app): State<App>,
    Extension(framed): Extension<Framed>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, OauthError> {
    let form = Form::read(&headers, body).await.map_err(OauthError::InvalidRequest)?;
    let scope = form.text("scope").map(scope).transpose()?;
    let audience = target(&form)?;
    let wanted = Wanted { audience, scope, parent: None, origin: framed.origin.clone() };
    match form.text("grant_type") {
        Some("client_credentials") => {
            let member = client::authenticate(&app, &framed, &headers, &form).await?;
            let issued = sessions::issue(&app, &member, wanted, app.now()).await?;
            Ok(unstored(answer(&issued)))
        }
        Some(EXCHANGE) => exchange(&app, &framed, &form, wanted).await,
        Some(_) => Err(OauthError::UnsupportedGrantType),
        None => Err(OauthError::InvalidRequest("grant_type is missing.")),
    }
}

/// The subject is its own proof, so the client need not authenticate besides.
async fn exchange(
    app: &App,
    framed: &Framed,
    form: &Form,
    wanted: Wanted<'_>,
) -> Result<Response, OauthError> {
    if form.text("actor_token").is_some() {
        return Err(OauthError::InvalidRequest("actor_token is not supported."));
    }
    if form.text("requested_token_type").is_some_and(|kind| kind != ACCESS_TOKEN) {
        return Err(OauthError::InvalidRequest("Only access tokens are issued."));
    }
    let refused = || OauthError::InvalidRequest("The subject token is not accepted.");
    let text = form.text("subject_token").ok_or_else(refused)?;
    let subject = credential::read_bearer(&app.prefix, text).ok_or_else(refused)?;
    let fits = matches!(
        (form.text("subject_token_type"), &subject),
        (Some(ACCESS_TOKEN), Credential::Session(_))
            | (Some(API_KEY), Credential::Foreign(_) | Credential::Native(_))
    );
    if !fits {
        return Err(OauthError::InvalidRequest("subject_token_type does not fit the token."));
    }
    let member = client::accept(app, framed, &subject, None).await?;
    let member = member.ok_or_else(refused)?;
    let parent: Option<Claims> = member.session.clone();
    let wanted = Wanted { parent: parent.as_ref(), ..wanted };
    let issued = sessions::issue(app, &member, wanted, app.now()).await?;
    let mut body = answer(&issued);
    body["issued_token_type"] = json!(ACCESS_TOKEN);
    Ok(unstored(body))
}

fn answer(issued: &Issued) -> Value {
    let Issued { text, claims } = issued;
    json!({
        "access_token": **text,
        "token_type": "Bearer",
        "expires_in": claims.exp_s - claims.iat_s,
        "scope": claims.scope_text().unwrap_or_default(),
    })
}

fn scope(text: &str) -> Result<Vec<Pattern>, OauthError> {
    let words: Option<Vec<Pattern>> = text.split(' ').map(|word| word.parse().ok()).collect();
    words.filter(|words| words.len() <= 100).ok_or(OauthError::InvalidScope)
}

/// `audience` and `resource` (RFC 8707) mean the same here.
fn target(form: &Form) -> Result<Option<&str>, OauthError> {
    match (form.text("audience"), form.text("resource")) {
        (Some(audience), Some(resource)) if audience != resource => Err(OauthError::InvalidTarget),
        (audience, resource) => Ok(audience.or(resource)),
    }
}

impl From<NotIssued> for OauthError {
    fn from(reason: NotIssued) -> OauthError {
        match reason {
            NotIssued::Failed(problem) => OauthError::Failed(problem),
            NotIssued::NoScope => OauthError::InvalidScope,
            NotIssued::Restricted => OauthError::RestrictedTarget,
            NotIssued::TooLate => OauthError::InvalidClient,
            NotIssued::UnknownAudience => OauthError::InvalidTarget,
        }
    }
}
