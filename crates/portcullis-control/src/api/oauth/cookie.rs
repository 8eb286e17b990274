//! The session cookie of browsers, and the token that guards calls by it against other sites.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::api::App;

/// Holds a session token; scripts cannot read it.
const SESSION_COOKIE: &str = "portcullis_session";
/// Holds what scripts must send back with every call that changes something.
const CSRF_COOKIE: &str = "portcullis_csrf";
/// Where they send it.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The guard of a session: known to whoever may read the cookies of this site, and derived from
/// the token, so that it belongs to this session alone.
pub(crate) fn csrf_of(token: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"portcullis csrf\n");
    hash.update(token.as_bytes());
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// The session cookie of a request.
///
/// # Errors
///
/// There is more than one.
pub(crate) fn session_cookie(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value);
    match (found.next(), found.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => Err(()),
    }
}

/// The two cookies of a new session.
pub(super) fn set(app: &App, token: &str, life_s: u64) -> Vec<HeaderValue> {
    let secure = if app.sessions.is_plain() { "" } else { "; Secure" };
    let common = format!("; Path=/; SameSite=Lax; Max-Age={life_s}{secure}");
    [
        format!("{SESSION_COOKIE}={token}; HttpOnly{common}"),
        format!("{CSRF_COOKIE}={}{common}", csrf_of(token)),
    ]
    .into_iter()
    .filter_map(|text| HeaderValue::from_str(&text).ok())
    .collect()
}
