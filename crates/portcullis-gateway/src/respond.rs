//! Every answer the gateway gives by itself: RFC 9457 bodies, RFC 6750 challenges, their headers.
//! The one place on the data plane where statuses are put on the wire; which reason has which
//! status is the core's table. Never says more than that table.

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
use crate::template::{self, Filling, Template};

/// The header that carries the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("portcullis-request-id");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A refusal and what its answer depends on.
pub(crate) struct Denial<'r> {
    pub(crate) reason: DenyReason,
    /// The route, once it is known.
    pub(crate) route: Option<&'r RoutePlan>,
    /// Methods the path has, for 405.
    pub(crate) allow: Option<&'r str>,
    /// The caller proved possession, and its organization lets it know the reason.
    pub(crate) reveal: bool,
    /// After how many seconds it may be tried again, for 429.
    pub(crate) retry_after_s: Option<u64>,
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
        Self { reason, route: None, allow: None, reveal: false, retry_after_s: None }
    }

    /// A refusal on a route.
    pub(crate) fn on(route: &'r RoutePlan, reason: DenyReason) -> Self {
        Self { route: Some(route), ..Self::of(reason) }
    }

    /// After how many seconds it may be tried again, if that helps.
    fn retry_after(&self) -> Option<u64> {
        self.retry_after_s.or(self.reason.retry_soon().then_some(1))
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
    let as_grpc = manner.grpc || denial.route.is_some_and(|route| route.template.is_grpc());
    let body = if as_grpc {
        grpc(&mut headers, problem)
    } else {
        plain(&mut headers, denial, record.id().as_str())
    };
    let status = if as_grpc { 200 } else { problem.status };
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Ok(id) = HeaderValue::from_bytes(record.id().as_bytes()) {
        headers.insert(REQUEST_ID, id);
    }
    if !as_grpc {
        for challenge in challenges(denial) {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
    if let Some(allow) = denial.allow.and_then(|allow| HeaderValue::from_str(allow).ok()) {
        headers.insert(ALLOW, allow);
    }
    if let Some(seconds) = denial.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
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

fn plain(headers: &mut HeaderMap, denial: &Denial<'_>, request_id: &str) -> Bytes {
    let needs_permission = denial.reason.challenge() == Challenge::InsufficientScope;
    let filling = Filling {
        problem: denial.reason.problem(),
        request_id,
        permission: denial.route.and_then(RoutePlan::permission).filter(|_| needs_permission),
        retry_after_s: denial.retry_after(),
        reveal: denial.reveal.then(|| denial.reason.label()),
    };
    let (content_type, body) = match denial.route {
        Some(route) => route.template.body(filling),
        None => Template::default().body(filling),
    };
    headers.insert(CONTENT_TYPE, content_type);
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
    let filling =
        Filling { problem, request_id, permission: None, retry_after_s: None, reveal: None };
    let body = template::problem(filling);
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

/// A route's `WWW-Authenticate` lines, one per scheme, in the order of its sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Challenges {
    bare: Vec<HeaderValue>,
    insufficient_scope: Vec<HeaderValue>,
    invalid_request: Vec<HeaderValue>,
    invalid_token: Vec<HeaderValue>,
}

impl Challenges {
    /// The lines for these sources. `metadata` is where a bearer's client finds out whom to ask for
    /// a credential (RFC 9728).
    pub(crate) fn new(
        realm: &str,
        metadata: Option<&str>,
        sources: &[CredentialSource],
        permission: Option<&str>,
    ) -> Self {
        let metadata =
            metadata.map(|url| format!(r#", resource_metadata="{url}""#)).unwrap_or_default();
        let mut schemes: Vec<String> = Vec::new();
        for source in sources {
            let scheme = match source {
                CredentialSource::Basic => format!(r#"Basic realm="{realm}", charset="UTF-8""#),
                CredentialSource::Bearer => format!(r#"Bearer realm="{realm}"{metadata}"#),
                CredentialSource::Cookie(_)
                | CredentialSource::Form(_)
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
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::request::Bench;
    use crate::settings::{ErrorBody, ErrorTemplate};

    #[test]
    fn challenges_stand_one_per_scheme_in_the_order_of_the_sources() {
        let sources = [
            CredentialSource::Header("x-api-key".to_owned()),
            CredentialSource::Bearer,
            CredentialSource::Query("key".to_owned()),
            CredentialSource::Basic,
        ];
        let challenges = Challenges::new("R", None, &sources, Some("cluster:read"));
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
    fn the_bearer_challenge_says_where_the_resource_s_metadata_is() {
        let sources = [CredentialSource::Bearer, CredentialSource::Basic];
        let metadata = Some("https://api.example.com/.well-known/oauth-protected-resource");
        let challenges = Challenges::new("R", metadata, &sources, None);
        let start = r#"Bearer realm="R", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource""#;
        assert_eq!(challenges.bare, [start, r#"Basic realm="R", charset="UTF-8""#]);
        let invalid = format!(r#"{start}, error="invalid_token""#);
        assert_eq!(*challenges.invalid_token.first().unwrap(), invalid);
    }

    /// Status, headers in their order, body; without what differs by nature.
    fn answer(bench: &Bench, reason: DenyReason, manner: Manner) -> String {
        let record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
        let id = record.id().as_str().to_owned();
        let setup = bench.worker.setup();
        let route = setup.plan.routes().first().unwrap();
        let response = deny(record, &Denial::on(route, reason), manner);
        let (parts, body) = response.into_parts();
        let body = futures_util::FutureExt::now_or_never(body.collect()).unwrap().unwrap();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        format!("{:?} {:?} {text}", parts.status, parts.headers).replace(&id, "ID")
    }

    #[test]
    fn no_template_tells_the_reasons_of_an_invalid_credential_apart() {
        let own = ErrorBody {
            code: "invalid_token".to_owned(),
            content_type: "text/html".to_owned(),
            body: "<p>{status} {code} {title} {request_id} {retry_after} {permission}".to_owned(),
        };
        let shapes = ErrorTemplate::ALL.iter().map(|template| (*template, Vec::new()));
        let mut seen = Vec::new();
        for (template, errors) in shapes.chain([(ErrorTemplate::Problem, vec![own])]) {
            let bench = Bench::new(|settings| {
                for route in &mut settings.routes {
                    route.error_template = template;
                    route.errors = errors.clone();
                }
            });
            for manner in [
                Manner::default(),
                Manner { head: true, ..Manner::default() },
                Manner { grpc: true, ..Manner::default() },
                Manner { unread: true, ..Manner::default() },
            ] {
                let first = answer(&bench, DenyReason::Malformed, manner);
                let mut reasons = 0;
                for reason in DenyReason::ALL {
                    if reason.problem().code == "invalid_token" {
                        assert_eq!(answer(&bench, *reason, manner), first, "{template:?}");
                        reasons += 1;
                    }
                }
                assert_eq!(reasons, 17);
                seen.push(first);
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 20, "the shapes differ from each other: {}", seen.len());
    }

    #[test]
    fn a_template_for_grpc_answers_so_whatever_was_asked() {
        let bench = Bench::new(|settings| {
            settings.routes.first_mut().unwrap().error_template = ErrorTemplate::Grpc;
        });
        for (reason, status) in [
            (DenyReason::DuplicateCredential, 13),
            (DenyReason::UnknownKey, 16),
            (DenyReason::MissingPermission, 7),
            (DenyReason::AuthFlood, 8),
            (DenyReason::UpstreamConnect, 14),
            (DenyReason::NoState, 14),
            (DenyReason::UpstreamTimeout, 4),
            (DenyReason::BodyTooLarge, 2),
        ] {
            let answer = answer(&bench, reason, Manner::default());
            let wanted = format!(
                r#""grpc-status": "{status}", "grpc-message": "{}""#,
                reason.problem().code
            );
            assert!(answer.starts_with("200 ") && answer.contains(&wanted), "{answer}");
            assert!(!answer.contains("www-authenticate"), "{answer}");
        }
    }

    #[test]
    fn a_raw_answer_closes_and_has_the_same_body() {
        let text = raw(DenyReason::HeadTimeout, "00", 0);
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
        assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
        let end = r#""code":"head_timeout","detail":"The request head did not arrive in time."}"#;
        assert!(text.ends_with(end), "{text}");
    }
}
