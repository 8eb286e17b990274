//! `GET /.well-known/jwks.json`: the public keys that session tokens are verified with.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::api::App;

pub(super) async fn run(State(app): State<App>) -> Response {
    let headers = [(header::CACHE_CONTROL, "public, max-age=300")];
    (headers, Json(app.sessions.jwks())).into_response()
}
