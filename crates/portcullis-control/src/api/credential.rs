//! Credentials as they come: a key in any spelling, or a session token; in a header, in Basic, or
//! in the session cookie. Reads them and judges nothing.

use std::sync::Arc;

use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_core::key::{self, Digest, Prefix, Spelled, Spellings};
use portcullis_core::session::{BEGINNING, Token};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::oauth::{CSRF_HEADER, csrf_of, decoded, session_cookie};
use super::problem::{Code, Problem};
use crate::caller::Credential;

/// The one credential of an admin call: `Bearer <key or token>`, `Basic` with `<id>:<tail>`,
/// `<any>:<key>` or `<key>:`, or the session cookie.
///
/// A cookie comes with every request of a browser, so beside a header it is one credential too many
/// unless it is the same one; and by itself it changes nothing without the guard that another site
/// cannot read.
pub(super) fn of_call(
    headers: &HeaderMap,
    method: &Method,
    prefix: &Prefix,
) -> Result<Credential, Problem> {
    let invalid = || Problem::new(Code::InvalidToken, "The credential is not valid.");
    let several = || Problem::new(Code::InvalidRequest, "There is more than one credential.");
    let cookie = session_cookie(headers).map_err(|()| several())?;
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let Some(line) = lines.next() else {
        let Some(cookie) = cookie else {
            let detail = "Send a key: Authorization: Bearer <key>.";
            return Err(Problem::new(Code::Unauthenticated, detail));
        };
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if !reads && !is_guarded(headers, cookie) {
            let detail = "A call by cookie that changes something needs X-CSRF-Token.";
            return Err(Problem::new(Code::PermissionDenied, detail));
        }
        return read_token(cookie).ok_or_else(invalid);
    };
    if lines.next().is_some() {
        return Err(several());
    }
    let line = line.to_str().map_err(|_| invalid())?;
    let (scheme, rest) = line.split_once(' ').ok_or_else(invalid)?;
    let rest = rest.trim_matches(' ');
    if cookie.is_some_and(|cookie| cookie != rest) {
        return Err(several());
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return read_bearer(prefix, rest).ok_or_else(invalid);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return read_basic(prefix, rest).map(|(_, presented)| presented).ok_or_else(invalid);
    }
    Err(invalid())
}

fn is_guarded(headers: &HeaderMap, token: &str) -> bool {
    let sent = headers.get(CSRF_HEADER).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let hash = |text: &str| Digest::from_bytes(Sha256::digest(text).into());
    hash(sent).matches(&hash(&csrf_of(token)))
}

/// A key in any spelling, or a session token.
pub(super) fn read_bearer(prefix: &Prefix, text: &str) -> Option<Credential> {
    if text.starts_with(BEGINNING) { read_token(text) } else { read_key(prefix, text) }
}

fn read_token(text: &str) -> Option<Credential> {
    Token::parse(text.as_bytes()).ok().map(|token| Credential::Session(Arc::new(token)))
}

/// A key in any spelling.
pub(super) fn read_key(prefix: &Prefix, text: &str) -> Option<Credential> {
    key::read(text.as_bytes(), &[*prefix], Spellings::ALL).ok().map(spelled)
}

/// The pair of `Basic`, and the name in it: `<id>:<tail>`, `<any>:<key>` or `<key>:`. Strict
/// clients encode both halves as in a form before (RFC 6749 section 2.3.1), others do not: whichever
/// reading is a key of ours counts, else the pair as it is.
pub(super) fn read_basic(prefix: &Prefix, encoded: &str) -> Option<(String, Credential)> {
    let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    let read = |user: &str, password: &str| {
        let presented = match password {
            "" => read_key(prefix, user),
            _ => read_pair(prefix, user, password),
        };
        presented.map(|presented| (user.to_owned(), presented))
    };
    let raw = read(user, password);
    if let Some((_, Credential::Native(_))) = raw {
        return raw;
    }
    let (user, password) = (decoded(user.as_bytes())?, decoded(password.as_bytes())?);
    match read(&user, &password) {
        plain @ Some((_, Credential::Native(_))) => plain,
        plain => raw.or(plain),
    }
}

/// A key given as an id and its tail, or as a whole beside whatever name.
pub(super) fn read_pair(prefix: &Prefix, id: &str, secret: &str) -> Option<Credential> {
    let (id, secret) = (id.as_bytes(), secret.as_bytes());
    key::read_pair(id, secret, &[*prefix], Spellings::ALL).ok().map(spelled)
}

fn spelled(spelled: Spelled) -> Credential {
    match spelled {
        Spelled::Foreign(foreign) => Credential::Foreign(Arc::new(foreign)),
        Spelled::Native(native) => Credential::Native(Arc::new(native)),
    }
}
