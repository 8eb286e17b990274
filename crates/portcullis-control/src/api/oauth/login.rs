//! `POST /auth/login`: a key for a session token, as clients and servers of ZenML Pro ask for it
//! (compat.md 1.1). Exactly five members come back.

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{OauthError, unstored};
use super::form::Form;
use super::{client, cookie};
use crate::api::endpoint::{Endpoint, Parameter};
use crate::api::problem::Problem;
use crate::api::{App, Framed, credential};
use crate::caller::{Credential, Member};
use crate::domain::sessions::{self, NotIssued, Wanted};

pub(super) const ENDPOINT: Endpoint = Endpoint::post(
    "/auth/login",
    ("auth.login", "zenml"),
    "Exchange a key for a session token",
    || post(run),
)
.notes(
    "As ZenML Pro's clients do it. An Authorization header may only repeat the form's key as a \
     Bearer; the empty Basic of API explorers is ignored.",
)
.reads(
    &[
        Parameter::optional("grant_type", "Absent and `client_credentials` aside, all mean a key.")
            .of(&["client_credentials", "password", "zenml-api-key", "zenml_api_key"]),
        Parameter::optional("password", "The key."),
        Parameter::optional("username", "Ignored."),
        Parameter::optional("client_id", "With `client_credentials`: id or uid of the key."),
        Parameter::optional("client_secret", "With `client_credentials`: the key, or its tail."),
        Parameter::optional("audience", "A workspace of the organization, by id or `kind/ref`."),
    ],
    &[("password", "ptc_063UfDVRKBz_…")],
)
.answers(&[(200, "Login"), (400, "ZenmlFault"), (401, "ZenmlRefusal")]);

/// Why nobody is logged in.
enum Refused {
    /// The request contradicts itself or cannot be read.
    BadRequest(&'static str),
    Failed(Problem),
    /// The credential is not accepted.
    NotValid,
}

async fn run(
    State(app): State<App>,
    Extension(framed): Extension<Framed>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match login(&app, &framed, &headers, body).await {
        Ok(response) => response,
        Err(Refused::BadRequest(why)) => {
            (StatusCode::BAD_REQUEST, Json(json!(["ValueError", why]))).into_response()
        }
        Err(Refused::Failed(problem)) => problem.into_response(),
        Err(Refused::NotValid) => {
            let why = ["CredentialsNotValid", "The credential is not valid."];
            let challenge =
                HeaderValue::from_static(r#"Bearer realm="portcullis", error="invalid_token""#);
            let headers = [
                (header::WWW_AUTHENTICATE, challenge),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ];
            (StatusCode::UNAUTHORIZED, headers, Json(json!({"detail": why}))).into_response()
        }
    }
}

async fn login(
    app: &App,
    framed: &Framed,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let form = Form::read(headers, body).await.map_err(Refused::BadRequest)?;
    let (presented, stated) = asked(app, &form)?;
    let bearer = check_header(headers, &form)?;
    let member = match client::accept(app, framed, &presented, stated).await {
        Ok(member) => member.ok_or(Refused::NotValid)?,
        Err(OauthError::Failed(problem)) => return Err(Refused::Failed(problem)),
        Err(_) => return Err(Refused::NotValid),
    };
    let wanted = Wanted {
        audience: form.text("audience"),
        origin: framed.origin.clone(),
        ..Wanted::default()
    };
    let issued = sessions::issue(app, &member, wanted, app.now()).await;
    let issued = issued.map_err(|reason| match reason {
        NotIssued::Failed(problem) => Refused::Failed(problem),
        NotIssued::NoScope | NotIssued::TooLate => Refused::NotValid,
        NotIssued::Restricted => Refused::BadRequest(
            "audience: the key is restricted, and a token for this audience would not be",
        ),
        NotIssued::UnknownAudience => Refused::BadRequest(
            "audience: this control plane's issuer, or a workspace of the organization",
        ),
    })?;
    let life_s = issued.claims.exp_s - issued.claims.iat_s;
    let mut response = unstored(json!({
        "access_token": *issued.text,
        "expires_in": life_s,
        "token_type": "bearer",
        "device_id": null,
        "device_metadata": null,
    }));
    if !bearer && stated.is_none() && may_browse(&member) {
        for line in cookie::set(app, &issued.text, life_s) {
            response.headers_mut().append(header::SET_COOKIE, line);
        }
    }
    Ok(response)
}

/// Whether a browser may keep the session (Z-47, H-2): humans do, service accounts by policy.
fn may_browse(member: &Member) -> bool {
    member.kind == "user" || member.org.policy.sa_interactive_login
}

/// The credential of the form, and the client id that came with it.
///
/// | grant_type | what is read |
/// |---|---|
/// | none, `password`, `zenml_api_key`, `zenml-api-key` | the key in `password`; `username` is ignored |
/// | `client_credentials` | `client_id` and `client_secret` |
fn asked<'f>(app: &App, form: &'f Form) -> Result<(Credential, Option<&'f str>), Refused> {
    match form.text("grant_type") {
        None | Some("password" | "zenml_api_key" | "zenml-api-key") => {
            let key = form.text("password").ok_or(Refused::BadRequest("password is missing"))?;
            let presented = credential::read_key(&app.prefix, key).ok_or(Refused::NotValid)?;
            Ok((presented, None))
        }
        Some("client_credentials") => {
            let (Some(id), Some(secret)) = (form.text("client_id"), form.text("client_secret"))
            else {
                return Err(Refused::BadRequest("client_id and client_secret are wanted"));
            };
            let presented = credential::read_pair(&app.prefix, id, secret);
            Ok((presented.ok_or(Refused::NotValid)?, Some(id)))
        }
        Some(_) => Err(Refused::BadRequest("grant_type: password or client_credentials")),
    }
}

/// A header may repeat the form's key as a Bearer, or be the empty Basic of API explorers; anything
/// else would be a second credential. Whether there is a Bearer.
fn check_header(headers: &HeaderMap, form: &Form) -> Result<bool, Refused> {
    let second = Refused::BadRequest("there is more than one credential");
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(false) };
    let (Some((scheme, rest)), None) =
        (line.to_str().ok().and_then(|line| line.split_once(' ')), lines.next())
    else {
        return Err(second);
    };
    let repeats = form.text("password").or(form.text("client_secret")) == Some(rest);
    if scheme.eq_ignore_ascii_case("bearer") && repeats {
        return Ok(true);
    }
    let empty = STANDARD.decode(rest).is_ok_and(|pair| pair == b":");
    if scheme.eq_ignore_ascii_case("basic") && empty { Ok(false) } else { Err(second) }
}
