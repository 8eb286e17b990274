//! Who may follow the feed: whoever presents the installation's gateway token, under its own id.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use portcullis_core::key;

use crate::api::App;
use crate::api::problem::{Code, Problem};
use crate::caller;
use crate::store::installation::Purpose;

/// A gateway whose token was accepted.
pub(super) struct Gateway {
    pub(super) id: String,
}

/// Checks token, protocol and id, and registers the gateway.
pub(super) async fn admit(app: &App, headers: &HeaderMap) -> Result<Gateway, Response> {
    let id =
        authenticate(app, headers).await.map_err(axum::response::IntoResponse::into_response)?;
    if headers.get("portcullis-feed").is_none_or(|version| version != "1") {
        let allowed = "This is version 1 of the feed: send Portcullis-Feed: 1.";
        return Err((StatusCode::NOT_ACCEPTABLE, allowed).into_response());
    }
    let build = headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok());
    let build: Option<String> = build.map(|text| text.chars().take(128).collect());
    match app.publisher.register(&id, build.as_deref()).await {
        Ok(true) => Ok(Gateway { id }),
        // A removed gateway's credential is void.
        Ok(false) => Err(invalid_token().into_response()),
        Err(error) => Err(Problem::from(error).into_response()),
    }
}

async fn authenticate(app: &App, headers: &HeaderMap) -> Result<String, Problem> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let (line, more) = (lines.next(), lines.next());
    let line = line.ok_or_else(|| {
        Problem::new(Code::Unauthenticated, "Send the gateway token as a bearer.")
    })?;
    if more.is_some() {
        return Err(Problem::new(Code::InvalidRequest, "There is more than one credential."));
    }
    let text = line.to_str().map_err(|_| invalid_token())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(invalid_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid_token());
    }
    let presented = key::parse(token.trim_matches(' ').as_bytes()).map_err(|_| invalid_token())?;
    let mut view = app.store.view().await?;
    let accepted =
        caller::verify_installation_key(view.conn(), &presented, &app.peppers, Purpose::Gateway)
            .await?;
    if !accepted {
        return Err(invalid_token());
    }
    let id = headers.get("portcullis-gateway").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
        let detail = "Portcullis-Gateway is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `-`.";
        return Err(Problem::new(Code::MalformedRequest, detail));
    }
    Ok(id.to_owned())
}

fn invalid_token() -> Problem {
    Problem::new(Code::InvalidToken, "The credential is not valid.")
}
