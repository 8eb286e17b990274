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

use super::endpoint::Endpoint;
use super::operation::Operation;

pub(crate) use cookie::{CSRF_HEADER, csrf_of, session_cookie};
pub(crate) use form::decoded;

/// What takes forms and answers in the words of its own standard.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    login::ENDPOINT,
    token::ENDPOINT,
    token::ENDPOINT.also_at("/oauth/token", "oauth.token_alias"),
    introspect::ENDPOINT,
    revoke::ENDPOINT,
    jwks::ENDPOINT,
    metadata::ENDPOINT,
];

/// What a session token or key is shown to, as everywhere in the admin API.
pub(crate) const OPERATIONS: &[Operation] = &[me::OPERATION, authorize_server::OPERATION];
