//! `GET /.well-known/jwks.json`: the public keys that session tokens are verified with.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::api::App;
use crate::api::endpoint::Endpoint;

pub(super) const ENDPOINT: Endpoint = Endpoint::get(
    "/.well-known/jwks.json",
    ("oauth.jwks", "oauth"),
    "The public keys that session tokens are verified with",
    || get(run),
)
.notes("RFC 7517. May be kept for five minutes.")
.answers(&[(200, "Jwks")]);

async fn run(State(app): State<App>) -> Response {
    let headers = [(header::CACHE_CONTROL, "public, max-age=300")];
    (headers, Json(app.sessions.jwks())).into_response()
}
