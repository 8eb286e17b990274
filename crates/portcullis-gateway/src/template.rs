//! The bodies of denials: the shapes that foreign clients know (compat.md 8), and the operator's
//! own. A body is chosen by the problem's code and filled from what the code, the route and the
//! request's id say; it never sees the reason, so no shape can tell two reasons of a code apart.

use http::HeaderValue;
use portcullis_core::verdict::{self, Problem};

use crate::settings::{ErrorBody, ErrorTemplate};

/// Largest body of an operator's own.
const BODY_MAX: usize = 16 * 1024;
/// Codes that end a request before its route is known.
const BEFORE_ROUTES: [&str; 6] =
    ["head_timeout", "method_not_allowed", "misdirected", "no_route", "target_too_long", "version"];

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// What a body may be filled with.
#[derive(Copy, Clone)]
pub(crate) struct Filling<'d> {
    pub(crate) problem: &'d Problem,
    pub(crate) request_id: &'d str,
    /// The permission that is lacking.
    pub(crate) permission: Option<&'d str>,
    /// When it may be tried again.
    pub(crate) retry_after_s: Option<u64>,
    /// The reason, for a caller that has proved possession and may know.
    pub(crate) reveal: Option<&'static str>,
}

/// A route's denials.
#[derive(Clone, Debug, Default)]
pub(crate) struct Template {
    built_in: ErrorTemplate,
    own: Vec<OwnBody>,
}

/// An operator's body for one code, compiled.
#[derive(Clone, Debug)]
struct OwnBody {
    code: &'static str,
    content_type: HeaderValue,
    escape: Escape,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Code,
    Permission,
    RequestId,
    RetryAfter,
    Status,
    Text(String),
    Title,
}

/// How what is filled in is written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Escape {
    Html,
    Json,
    Nothing,
}

impl Template {
    /// The template of these settings; every fault is named by its key below `routes.<name>`.
    pub(crate) fn new(
        built_in: ErrorTemplate,
        errors: &[ErrorBody],
    ) -> (Self, Vec<(String, String)>) {
        let (mut own, mut faults) = (Vec::new(), Vec::new());
        for error in errors {
            let key = format!("errors.{}", error.code);
            if built_in == ErrorTemplate::Grpc {
                faults.push((
                    key,
                    "a gRPC answer has no body; allowed: another error_template".to_owned(),
                ));
                continue;
            }
            match OwnBody::new(error) {
                Ok(body) => own.push(body),
                Err((below, what)) => faults.push((format!("{key}{below}"), what)),
            }
        }
        (Self { built_in, own }, faults)
    }

    /// Whether denials are answered as gRPC whatever the request is.
    pub(crate) fn is_grpc(&self) -> bool {
        self.built_in == ErrorTemplate::Grpc
    }

    /// The body of a denial and its content type.
    pub(crate) fn body(&self, filling: Filling<'_>) -> (HeaderValue, String) {
        let own = self.own.iter().find(|own| own.code == filling.problem.code);
        match own {
            Some(own) => (own.content_type.clone(), own.fill(filling)),
            None => built_in(self.built_in, filling),
        }
    }
}

/// A body of a shape that some family of clients knows. The constants of the table of problems,
/// permissions, labels and ids hold no character that JSON escapes.
fn built_in(template: ErrorTemplate, filling: Filling<'_>) -> (HeaderValue, String) {
    let Problem { code, status, title, detail } = *filling.problem;
    let body = match template {
        // A gRPC answer has no body; whoever asks for one gets the usual one.
        ErrorTemplate::Grpc | ErrorTemplate::Problem => return (PROBLEM_JSON, problem(filling)),
        ErrorTemplate::Aihub => format!(r#"{{"message":"{detail}"}}"#),
        ErrorTemplate::Castai => format!(r#"{{"message":"{title}","fieldViolations":[]}}"#),
        ErrorTemplate::Kitaru => format!(r#"{{"detail":"{detail}"}}"#),
        ErrorTemplate::Oauth => {
            let error = match (code, status) {
                ("bad_request", _) => "invalid_request",
                (_, 503) => "temporarily_unavailable",
                (_, 500..) => "server_error",
                _ => code,
            };
            format!(r#"{{"error":"{error}","error_description":"{detail}"}}"#)
        }
        ErrorTemplate::Openai => {
            let (kind, code) = match (code, status) {
                ("quota_exceeded", _) => ("insufficient_quota", "insufficient_quota"),
                (_, 401) => ("invalid_request_error", "invalid_api_key"),
                (_, 429) => ("requests", "rate_limit_exceeded"),
                (_, 500..) => ("server_error", code),
                _ => ("invalid_request_error", code),
            };
            format!(
                r#"{{"error":{{"message":"{detail}","type":"{kind}","param":null,"code":"{code}"}}}}"#
            )
        }
        ErrorTemplate::Unkey => {
            let id = filling.request_id;
            format!(
                r#"{{"meta":{{"requestId":"{id}"}},"error":{{"title":"{title}","detail":"{detail}","status":{status},"type":"urn:portcullis:problem:{code}"}}}}"#
            )
        }
        ErrorTemplate::Zenml => match status {
            400 => format!(r#"["ValueError","{detail}"]"#),
            401 => format!(r#"{{"detail":["CredentialsNotValid","{detail}"]}}"#),
            403 => format!(r#"{{"detail":["IllegalOperationError","{detail}"]}}"#),
            429 => r#"{"detail":"Minute request limit exceeded."}"#.to_owned(),
            _ => format!(r#"{{"detail":"{detail}"}}"#),
        },
    };
    (JSON, body)
}

/// The exact bytes of a problem (RFC 9457), with at most one member beyond the constant ones.
pub(crate) fn problem(filling: Filling<'_>) -> String {
    let Problem { code, status, title, detail } = filling.problem;
    let more = match (filling.permission, filling.retry_after_s, filling.reveal) {
        (Some(permission), _, _) => format!(r#","required_permission":"{permission}""#),
        (None, Some(seconds), _) if *status == 429 => format!(r#","retry_after":{seconds}"#),
        (None, _, Some(reason)) => format!(r#","reason":"{reason}""#),
        (None, _, None) => String::new(),
    };
    format!(
        r#"{{"type":"urn:portcullis:problem:{code}","title":"{title}","status":{status},"code":"{code}","detail":"{detail}"{more}}}"#
    )
}

impl OwnBody {
    /// Compiles a body; a fault is told with the key it is at, below the code's own.
    fn new(error: &ErrorBody) -> Result<Self, (&'static str, String)> {
        let ErrorBody { code, content_type, body } = error;
        let known = verdict::PROBLEMS.iter().map(|problem| problem.code);
        let mut known: Vec<_> = known.filter(|code| !BEFORE_ROUTES.contains(code)).collect();
        let Some(code) = known.iter().find(|known| *known == code).copied() else {
            known.sort_unstable();
            let what = format!("no code that a route answers; allowed: {}", known.join(", "));
            return Err(("", what));
        };
        let essence = content_type.split(';').next().unwrap_or_default().trim_ascii();
        let kind = essence.split_once('/').filter(|(kind, subtype)| {
            [kind, subtype].iter().all(|part| {
                let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
                !part.is_empty() && part.bytes().all(token)
            })
        });
        let value = HeaderValue::from_str(content_type).ok().filter(|_| content_type.is_ascii());
        let (Some(_), Some(content_type)) = (kind, value) else {
            let what =
                format!("{content_type:?}; allowed: a media type such as \"application/json\"");
            return Err((".content_type", what));
        };
        if body.len() > BODY_MAX {
            let what = format!("{} bytes; allowed: at most {BODY_MAX}", body.len());
            return Err((".body", what));
        }
        let pieces = pieces(body).map_err(|name| {
            let what = format!(
                "{{{name}}} is no placeholder; allowed: {{code}}, {{status}}, {{title}}, \
                 {{request_id}}, {{retry_after}}, {{permission}}"
            );
            (".body", what)
        })?;
        Ok(Self { code, content_type, escape: Escape::of(essence), pieces })
    }

    fn fill(&self, filling: Filling<'_>) -> String {
        let Filling { problem, request_id, permission, retry_after_s, reveal: _ } = filling;
        let (status, wait) = (problem.status.to_string(), retry_after_s.unwrap_or(0).to_string());
        let mut out = String::new();
        for piece in &self.pieces {
            let value = match piece {
                Piece::Code => problem.code,
                Piece::Permission => permission.unwrap_or_default(),
                Piece::RequestId => request_id,
                Piece::RetryAfter => &wait,
                Piece::Status => &status,
                Piece::Title => problem.title,
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
            };
            self.escape.write(value, &mut out);
        }
        out
    }
}

/// Cuts a body at its placeholders. A brace that begins none is text, as JSON and style sheets are
/// full of them; a lower-case word in braces that is none is the error.
fn pieces(body: &str) -> Result<Vec<Piece>, &str> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), body);
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(after.len());
        let (name, tail) = after.split_at_checked(end).unwrap_or((after, ""));
        let Some(tail) = tail.strip_prefix('}').filter(|_| !name.is_empty()) else {
            text.push('{');
            rest = after;
            continue;
        };
        let piece = match name {
            "code" => Piece::Code,
            "permission" => Piece::Permission,
            "request_id" => Piece::RequestId,
            "retry_after" => Piece::RetryAfter,
            "status" => Piece::Status,
            "title" => Piece::Title,
            unknown => return Err(unknown),
        };
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(piece);
        rest = tail;
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

impl Escape {
    /// How text is written into a body of this media type.
    fn of(essence: &str) -> Self {
        let essence = essence.to_ascii_lowercase();
        if essence == "application/json" || essence.ends_with("+json") {
            Self::Json
        } else if essence == "text/html" || essence.ends_with("xml") {
            Self::Html
        } else {
            Self::Nothing
        }
    }

    fn write(self, text: &str, out: &mut String) {
        for character in text.chars() {
            let escaped = match (self, character) {
                (Self::Html, '&') => "&amp;",
                (Self::Html, '<') => "&lt;",
                (Self::Html, '>') => "&gt;",
                (Self::Html, '"') => "&quot;",
                (Self::Html, '\'') => "&#39;",
                (Self::Json, '"') => "\\\"",
                (Self::Json, '\\') => "\\\\",
                (Self::Json, control @ '\0'..='\x1f') => {
                    out.push_str(&format!("\\u{:04x}", u32::from(control)));
                    continue;
                }
                (_, plain) => {
                    out.push(plain);
                    continue;
                }
            };
            out.push_str(escaped);
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::verdict::DenyReason;

    use super::*;

    fn filling(problem: &Problem) -> Filling<'_> {
        Filling {
            problem,
            request_id: "00",
            permission: None,
            retry_after_s: (problem.status == 429).then_some(7),
            reveal: None,
        }
    }

    fn of(template: ErrorTemplate, reason: DenyReason) -> String {
        built_in(template, filling(reason.problem())).1
    }

    fn own(content_type: &str, body: &str) -> ErrorBody {
        ErrorBody {
            code: "insufficient_scope".to_owned(),
            content_type: content_type.to_owned(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn a_problem_is_exactly_the_specified_bytes() {
        assert_eq!(
            problem(filling(DenyReason::UnknownKey.problem())),
            r#"{"type":"urn:portcullis:problem:invalid_token","title":"Unauthorized","status":401,"code":"invalid_token","detail":"The credential is not valid."}"#
        );
        let limited = problem(filling(DenyReason::RateLimited.problem()));
        assert!(limited.ends_with(r#","retry_after":7}"#), "{limited}");
    }

    #[test]
    fn every_shape_is_the_one_its_clients_read() {
        use ErrorTemplate::{Aihub, Castai, Kitaru, Oauth, Openai, Unkey, Zenml};
        let (lost, missing) = (DenyReason::UnknownKey, DenyReason::MissingPermission);
        for (template, reason, body) in [
            (Aihub, lost, r#"{"message":"The credential is not valid."}"#),
            (Castai, lost, r#"{"message":"Unauthorized","fieldViolations":[]}"#),
            (Castai, missing, r#"{"message":"Forbidden","fieldViolations":[]}"#),
            (Kitaru, lost, r#"{"detail":"The credential is not valid."}"#),
            (
                Oauth,
                missing,
                r#"{"error":"insufficient_scope","error_description":"The credential does not give the required permission."}"#,
            ),
            (
                Oauth,
                DenyReason::BadRequest,
                r#"{"error":"invalid_request","error_description":"The request is malformed or ambiguous."}"#,
            ),
            (
                Openai,
                lost,
                r#"{"error":{"message":"The credential is not valid.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            ),
            (
                Openai,
                DenyReason::RateLimited,
                r#"{"error":{"message":"The rate limit is used up.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
            ),
            (
                Unkey,
                missing,
                r#"{"meta":{"requestId":"00"},"error":{"title":"Forbidden","detail":"The credential does not give the required permission.","status":403,"type":"urn:portcullis:problem:insufficient_scope"}}"#,
            ),
            (Zenml, lost, r#"{"detail":["CredentialsNotValid","The credential is not valid."]}"#),
            (
                Zenml,
                missing,
                r#"{"detail":["IllegalOperationError","The credential does not give the required permission."]}"#,
            ),
            (Zenml, DenyReason::AuthFlood, r#"{"detail":"Minute request limit exceeded."}"#),
            (
                Zenml,
                DenyReason::BadRequest,
                r#"["ValueError","The request is malformed or ambiguous."]"#,
            ),
        ] {
            assert_eq!(of(template, reason), body);
        }
    }

    #[test]
    fn every_body_of_every_shape_is_json() {
        for template in ErrorTemplate::ALL {
            for reason in DenyReason::ALL {
                for permission in [None, Some("cluster:read")] {
                    for reveal in [None, Some("key_expired")] {
                        let filling = Filling { permission, reveal, ..filling(reason.problem()) };
                        let (_, body) = built_in(*template, filling);
                        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_own_body_is_filled_and_its_other_braces_stay() {
        let body = r#"{"e":{"c":"{code}","s":{status}},"t":"{title}","r":{retry_after},"p":"{permission}","i":"{request_id}","x":{},"y":"{ code }"}"#;
        let (template, faults) =
            Template::new(ErrorTemplate::Zenml, &[own("application/json", body)]);
        assert_eq!(faults, []);
        let problem = DenyReason::MissingPermission.problem();
        let allowed = Filling { permission: Some("a:b"), ..filling(problem) };
        let (content_type, body) = template.body(allowed);
        assert_eq!(content_type, "application/json");
        assert_eq!(
            body,
            r#"{"e":{"c":"insufficient_scope","s":403},"t":"Forbidden","r":0,"p":"a:b","i":"00","x":{},"y":"{ code }"}"#
        );
        let (_, other) = template.body(filling(DenyReason::UnknownKey.problem()));
        assert!(other.contains("CredentialsNotValid"), "other codes keep the template: {other}");
    }

    #[test]
    fn what_is_filled_in_is_escaped_for_the_body_s_kind() {
        let hostile = "<a href=\"x\">'&\\\n";
        for (content_type, expected) in [
            ("application/json", "[<a href=\\\"x\\\">'&\\\\\\u000a]"),
            ("application/vnd.api+json; charset=utf-8", "[<a href=\\\"x\\\">'&\\\\\\u000a]"),
            ("Text/HTML", "[&lt;a href=&quot;x&quot;&gt;&#39;&amp;\\\n]"),
            ("application/xhtml+xml", "[&lt;a href=&quot;x&quot;&gt;&#39;&amp;\\\n]"),
            ("text/plain", "[<a href=\"x\">'&\\\n]"),
        ] {
            let (template, faults) =
                Template::new(ErrorTemplate::Problem, &[own(content_type, "[{permission}]")]);
            assert_eq!(faults, []);
            let problem = DenyReason::MissingPermission.problem();
            let filling = Filling { permission: Some(hostile), ..filling(problem) };
            assert_eq!(template.body(filling).1, expected, "{content_type}");
        }
    }

    #[test]
    fn a_body_that_cannot_be_is_named_with_what_is_allowed() {
        let fault = |error: ErrorBody| {
            let (_, faults) = Template::new(ErrorTemplate::Problem, &[error]);
            assert_eq!(faults.len(), 1, "{faults:?}");
            format!("{}: {}", faults[0].0, faults[0].1)
        };
        let json = "application/json";
        for (error, start) in [
            (
                own(json, "{cod}"),
                "errors.insufficient_scope.body: {cod} is no placeholder; allowed",
            ),
            (
                own(json, &"x".repeat(16 * 1024 + 1)),
                "errors.insufficient_scope.body: 16385 bytes; allowed: at most 16384",
            ),
            (own("json", ""), "errors.insufficient_scope.content_type: \"json\"; allowed: a media"),
            (own("a/b\r\nx: y", ""), "errors.insufficient_scope.content_type: "),
            (
                ErrorBody { code: "no_route".to_owned(), ..own(json, "") },
                "errors.no_route: no code that a route answers; allowed: bad_gateway, bad_request,",
            ),
            (
                ErrorBody { code: "unknown_key".to_owned(), ..own(json, "") },
                "errors.unknown_key: no",
            ),
        ] {
            let found = fault(error);
            assert!(found.starts_with(start), "{found}");
        }
        assert_eq!(
            Template::new(ErrorTemplate::Problem, &[own(json, &"x".repeat(16 * 1024))]).1,
            []
        );
        let (_, faults) = Template::new(ErrorTemplate::Grpc, &[own(json, "")]);
        assert_eq!(faults[0].0, "errors.insufficient_scope");
    }
}
