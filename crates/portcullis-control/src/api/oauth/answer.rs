//! Answers of the token endpoint and its neighbours (RFC 6749 section 5): JSON that nobody stores.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::api::problem::Problem;

/// An error as OAuth has them.
#[derive(Debug)]
pub(super) enum OauthError {
    /// Something of ours failed.
    Failed(Problem),
    InsufficientScope,
    /// 401, with a challenge.
    InvalidClient,
    InvalidRequest(&'static str),
    InvalidScope,
    InvalidTarget,
    /// The audience checks alone, and the key's restriction cannot be said to it.
    RestrictedTarget,
    UnsupportedGrantType,
    UnsupportedTokenType,
}

impl From<Problem> for OauthError {
    fn from(problem: Problem) -> OauthError {
        OauthError::Failed(problem)
    }
}

impl From<crate::store::StoreError> for OauthError {
    fn from(error: crate::store::StoreError) -> OauthError {
        OauthError::Failed(error.into())
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let (status, code, description) = match self {
            OauthError::Failed(problem) => return problem.into_response(),
            OauthError::InsufficientScope => {
                (StatusCode::FORBIDDEN, "insufficient_scope", "This needs credential:verify.")
            }
            OauthError::InvalidClient => {
                (StatusCode::UNAUTHORIZED, "invalid_client", "The credential is not valid.")
            }
            OauthError::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            OauthError::InvalidScope => {
                let allowed = "A scope is permissions such as cluster:read, with blanks between.";
                (StatusCode::BAD_REQUEST, "invalid_scope", allowed)
            }
            OauthError::InvalidTarget => {
                let allowed = "An audience is the issuer, or a resource of your organization.";
                (StatusCode::BAD_REQUEST, "invalid_target", allowed)
            }
            OauthError::RestrictedTarget => {
                let why = "The key is restricted, and a token for this audience would not be.";
                (StatusCode::BAD_REQUEST, "invalid_target", why)
            }
            OauthError::UnsupportedGrantType => {
                let allowed = "Use client_credentials or token exchange.";
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", allowed)
            }
            OauthError::UnsupportedTokenType => {
                let why = "A detached token cannot be taken back: it ends by itself.";
                (StatusCode::BAD_REQUEST, "unsupported_token_type", why)
            }
        };
        let body = json!({"error": code, "error_description": description});
        let mut response = (status, unstored(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static(r#"Basic realm="portcullis""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// JSON with the headers of RFC 6749.
pub(super) fn unstored(body: Value) -> Response {
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ];
    (headers, Json(body)).into_response()
}
