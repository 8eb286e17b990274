//! OAuth 2 for clients that know nothing of us (compat.md 4), and the two calls of ZenML Pro's
//! control plane that log in and say who one is (compat.md 1.1, 1.2). Each answers in the shapes
//! of its own standard; what is decided is decided where all credentials are.

mod answer;
mod authorize_server;
mod client;
mod cookie;
mod form;
mod introspect;
mod jwks;
mod login;
mod me;
mod metadata;
mod revoke;
mod token;

use axum::Router;
use axum::routing::{get, post};

use super::App;

pub(crate) use cookie::{CSRF_HEADER, csrf_of, session_cookie};
pub(crate) use form::decoded;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/auth/login", post(login::run))
        .route("/users/me", get(me::run))
        .route("/users/authorize_server", get(authorize_server::run))
        .route("/oauth2/token", post(token::run))
        .route("/oauth/token", post(token::run))
        .route("/oauth2/introspect", post(introspect::run))
        .route("/oauth2/revoke", post(revoke::run))
        .route("/.well-known/jwks.json", get(jwks::run))
        .route("/.well-known/oauth-authorization-server", get(metadata::run))
}
