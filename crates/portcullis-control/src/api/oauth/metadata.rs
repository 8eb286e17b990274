//! `GET /.well-known/oauth-authorization-server` (RFC 8414): where everything is.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use portcullis_core::access::BUILTIN_ROLES;
use serde_json::json;
use std::collections::BTreeSet;

use crate::api::App;
use crate::api::endpoint::Endpoint;

pub(super) const ENDPOINT: Endpoint = Endpoint::get(
    "/.well-known/oauth-authorization-server",
    ("oauth.metadata", "oauth"),
    "Where the OAuth endpoints are, and what they take",
    || get(run),
)
.notes("RFC 8414.")
.answers(&[(200, "OauthMetadata")]);

async fn run(State(app): State<App>) -> Response {
    let issuer = app.sessions.issuer();
    let base = issuer.trim_end_matches('/');
    let scopes: BTreeSet<&str> =
        BUILTIN_ROLES.iter().flat_map(|role| role.permissions).copied().collect();
    let methods = ["client_secret_basic", "client_secret_post"];
    let body = json!({
        "issuer": issuer,
        "token_endpoint": format!("{base}/oauth2/token"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "introspection_endpoint": format!("{base}/oauth2/introspect"),
        "revocation_endpoint": format!("{base}/oauth2/revoke"),
        "grant_types_supported": [
            "client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange",
        ],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "scopes_supported": scopes,
    });
    Json(body).into_response()
}
