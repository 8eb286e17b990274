//! Every answer the gateway gives by itself: RFC 9457 bodies, RFC 6750 challenges, their headers.
//! The one place on the data plane where statuses are put on the wire; which reason has which
//! status is the core's table. Never says more than that table.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use portcullis_core::verdict::{After, Challenge, DenyReason, Problem};

use crate::body::DownstreamBody;
use crate::outcome::Outcome;
use crate::plan::RoutePlan;
use crate::record::Record;
use crate::settings::CredentialSource;

/// The header that carries the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("portcullis-request-id");

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const ONE_SECOND: HeaderValue = HeaderValue::from_static("1");

/// A refusal and what its answer depends on.
pub(crate) struct Denial<'r> {
    pub(crate) reason: DenyReason,
    /// The route, once it is known.
    pub(crate) route: Option<&'r RoutePlan>,
    /// Methods the path has, for 405.
    pub(crate) allow: Option<&'r str>,
    /// The caller proved possession, and its organization lets it know the reason.
    pub(crate) reveal: bool,
}

/// How a request wants to be answered.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Manner {
    /// HEAD: no body.
    pub(crate) head: bool,
    /// gRPC: the status travels in `grpc-status`.
    pub(crate) grpc: bool,
    /// The request's body has not been read: the connection cannot be used again.
    pub(crate) unread: bool,
}

impl<'r> Denial<'r> {
    /// A refusal before a route was found, or one that does not depend on it.
    pub(crate) fn of(reason: DenyReason) -> Self {
        Self { reason, route: None, allow: None, reveal: false }
    }

    /// A refusal on a route.
    pub(crate) fn on(route: &'r RoutePlan, reason: DenyReason) -> Self {
        Self { reason, route: Some(route), allow: None, reveal: false }
    }
}

/// The answer to a refused request.
pub(crate) fn deny(
    mut record: Record,
    denial: &Denial<'_>,
    manner: Manner,
) -> Response<DownstreamBody> {
    let problem = denial.reason.problem();
    record.deny(denial.reason);
    let mut headers = HeaderMap::with_capacity(8);
    let body = if manner.grpc { grpc(&mut headers, problem) } else { plain(&mut headers, denial) };
    let status = if manner.grpc { 200 } else { problem.status };
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Some(id) = record.worker().texts.value(record.id().as_bytes()) {
        headers.insert(REQUEST_ID, id);
    }
    if !manner.grpc {
        for challenge in challenges(denial) {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
    if let Some(allow) = denial.allow.and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    if denial.reason.retry_soon() {
        headers.insert(RETRY_AFTER, ONE_SECOND);
    }
    if denial.reason.after() == After::Close || manner.unread {
        record.connection().linger.set(true);
        headers.insert(CONNECTION, CLOSE);
    }
    record.responded(status);
    let body = if manner.head || body.is_empty() {
        DownstreamBody::empty(record)
    } else {
        DownstreamBody::problem(body, record)
    };
    respond(status, headers, body)
}

fn plain(headers: &mut HeaderMap, denial: &Denial<'_>) -> Bytes {
    let permission = denial.route.and_then(RoutePlan::permission);
    let needs_permission = denial.reason.challenge() == Challenge::InsufficientScope;
    let body = match permission.filter(|_| needs_permission) {
        Some(permission) => {
            problem_body(denial.reason.problem(), Some(("required_permission", permission)))
        }
        None if denial.reveal => {
            problem_body(denial.reason.problem(), Some(("reason", denial.reason.label())))
        }
        None => problem_body(denial.reason.problem(), None),
    };
    headers.insert(CONTENT_TYPE, PROBLEM_JSON);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Bytes::from(body)
}

fn grpc(headers: &mut HeaderMap, problem: &Problem) -> Bytes {
    let status = match problem.status {
        400 => 13_u16,
        401 => 16,
        403 => 7,
        404 => 12,
        429 => 8,
        502 | 503 => 14,
        504 => 4,
        _ => 2,
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(status));
    headers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(problem.code));
    Bytes::new()
}

fn challenges<'r>(denial: &Denial<'r>) -> &'r [HeaderValue] {
    let Some(route) = denial.route else { return &[] };
    match denial.reason.challenge() {
        Challenge::Absent => &[],
        Challenge::Bare => &route.challenges.bare,
        Challenge::InsufficientScope => &route.challenges.insufficient_scope,
        Challenge::InvalidRequest => &route.challenges.invalid_request,
        Challenge::InvalidToken => &route.challenges.invalid_token,
    }
}

/// `308` to the one spelling of an ambiguous path.
pub(crate) fn redirect(mut record: Record, to: &str, manner: Manner) -> Response<DownstreamBody> {
    record.deny(DenyReason::AmbiguousPath);
    let mut headers = HeaderMap::with_capacity(4);
    if let Ok(location) = HeaderValue::from_str(to) {
        headers.insert(LOCATION, location);
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    if manner.unread {
        record.connection().linger.set(true);
        headers.insert(CONNECTION, CLOSE);
    }
    record.responded(308);
    respond(308, headers, DownstreamBody::empty(record))
}

/// `204` to `OPTIONS *`.
pub(crate) fn options(mut record: Record) -> Response<DownstreamBody> {
    record.passed(Outcome::Public);
    record.responded(204);
    respond(204, HeaderMap::new(), DownstreamBody::empty(record))
}

fn respond(status: u16, headers: HeaderMap, body: DownstreamBody) -> Response<DownstreamBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}

/// Marks a response as the connection's last one.
pub(crate) fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, CLOSE);
}

/// A whole answer in bytes, for a head that never became a request. The connection is closed.
pub(crate) fn raw(reason: DenyReason, request_id: &str, wall_ms: u64) -> String {
    let problem = reason.problem();
    let body = problem_body(problem, None);
    let date = std::time::UNIX_EPOCH + std::time::Duration::from_millis(wall_ms);
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nportcullis-request-id: {request_id}\r\nconnection: close\r\n\
         date: {}\r\n\r\n{body}",
        problem.status,
        problem.title,
        body.len(),
        httpdate::fmt_http_date(date),
    )
}

/// The exact bytes of a problem, with at most one extra member.
fn problem_body(problem: &Problem, extra: Option<(&str, &str)>) -> String {
    let Problem { code, status, title, detail } = problem;
    let mut body = format!(
        r#"{{"type":"urn:portcullis:problem:{code}","title":"{title}","status":{status},"code":"{code}","detail":"{detail}""#
    );
    if let Some((name, value)) = extra {
        // Permissions and labels hold no character that JSON escapes. Writing to a String cannot
        // fail.
        let _ = write!(body, r#","{name}":"{value}""#);
    }
    body.push('}');
    body
}

/// A route's `WWW-Authenticate` lines, one per scheme, in the order of its sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges {
    bare: Vec<HeaderValue>,
    insufficient_scope: Vec<HeaderValue>,
    invalid_request: Vec<HeaderValue>,
    invalid_token: Vec<HeaderValue>,
}

impl Challenges {
    /// The lines for these sources.
    pub(crate) fn new(realm: &str, sources: &[CredentialSource], permission: Option<&str>) -> Self {
        let mut schemes: Vec<String> = Vec::new();
        for source in sources {
            let scheme = match source {
                CredentialSource::Basic => format!(r#"Basic realm="{realm}", charset="UTF-8""#),
                CredentialSource::Bearer => format!(r#"Bearer realm="{realm}""#),
                CredentialSource::Cookie(_)
                | CredentialSource::Header(_)
                | CredentialSource::Query(_) => format!(r#"ApiKey realm="{realm}""#),
            };
            if !schemes.contains(&scheme) {
                schemes.push(scheme);
            }
        }
        let lines = |rest: &str| {
            let texts = schemes.iter().map(|scheme| format!("{scheme}{rest}"));
            texts.filter_map(|text| HeaderValue::try_from(text).ok()).collect()
        };
        let scope = permission.map(|text| format!(r#", scope="{text}""#)).unwrap_or_default();
        Self {
            bare: lines(""),
            insufficient_scope: lines(&format!(r#", error="insufficient_scope"{scope}"#)),
            invalid_request: lines(r#", error="invalid_request""#),
            invalid_token: lines(r#", error="invalid_token""#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_invalid_token_is_exactly_the_specified_bytes() {
        assert_eq!(
            problem_body(DenyReason::UnknownKey.problem(), None),
            r#"{"type":"urn:portcullis:problem:invalid_token","title":"Unauthorized","status":401,"code":"invalid_token","detail":"The credential is not valid."}"#
        );
    }

    #[test]
    fn every_body_is_json_and_names_its_status() {
        for reason in DenyReason::ALL {
            let body = problem_body(reason.problem(), Some(("required_permission", "a:b")));
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(parsed["status"], reason.problem().status);
            assert_eq!(parsed["required_permission"], "a:b");
        }
    }

    #[test]
    fn challenges_stand_one_per_scheme_in_the_order_of_the_sources() {
        let sources = [
            CredentialSource::Header("x-api-key".to_owned()),
            CredentialSource::Bearer,
            CredentialSource::Query("key".to_owned()),
            CredentialSource::Basic,
        ];
        let challenges = Challenges::new("R", &sources, Some("cluster:read"));
        assert_eq!(
            challenges.insufficient_scope,
            [
                r#"ApiKey realm="R", error="insufficient_scope", scope="cluster:read""#,
                r#"Bearer realm="R", error="insufficient_scope", scope="cluster:read""#,
                r#"Basic realm="R", charset="UTF-8", error="insufficient_scope", scope="cluster:read""#,
            ]
        );
        assert_eq!(challenges.bare.first().unwrap(), r#"ApiKey realm="R""#);
        assert_eq!(
            challenges.invalid_token.get(1).unwrap(),
            r#"Bearer realm="R", error="invalid_token""#
        );
    }

    #[test]
    fn a_raw_answer_closes_and_has_the_same_body() {
        let text = raw(DenyReason::HeadTimeout, "00", 0);
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
        assert!(text.ends_with(&problem_body(DenyReason::HeadTimeout.problem(), None)), "{text}");
    }
}
