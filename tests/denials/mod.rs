//! Every reason a request can be denied for, reached at the true gateway: status, code, challenge,
//! exact bytes, and the reason that only the record tells.

mod capacity;
mod credential;
mod flood;
mod template;

use crate::support::http::Answer;

/// The exact body of each code, one a line, as the specification prints them.
const BODIES: &str = include_str!("bodies.jsonl");

fn body_of(code: &str) -> &'static str {
    let member = format!(r#""code":"{code}""#);
    let body = BODIES.lines().find(|body| body.contains(&member));
    body.unwrap_or_else(|| panic!("no body is written down for {code}"))
}

/// What every denial has in common, and its code's exact bytes.
#[track_caller]
fn assert_denied(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}\n{}", answer.head, String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.text(), body_of(code));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    let id = answer.header("portcullis-request-id").expect("a request id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

/// Head and body with the two fields masked that differ by nature.
fn masked(answer: &Answer) -> String {
    let lines = answer.head.lines().map(|line| match line.split_once(':') {
        Some((name, _))
            if ["date", "portcullis-request-id"].contains(&name.to_ascii_lowercase().as_str()) =>
        {
            name
        }
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n\n" + answer.text()
}

/// Routes that reach the reasons after verification.
const ROUTES: &str = r#"
[[routes]]
name = "permission"
path = "/clusters/{cluster}"
methods = ["GET", "DELETE"]
upstream = "app"
require = { permission = "cluster:read", resource = "cluster/{cluster}" }
[[routes]]
name = "other-org"
path = "/other-org"
upstream = "app"
require = { permission = "cluster:read" }
orgs = ["o9"]
[[routes]]
name = "open"
path = "/open"
upstream = "app"
authenticated_only = true
[[routes]]
name = "small"
path = "/small"
upstream = "app"
authenticated_only = true
body_bytes = 10
[[routes]]
name = "public"
path = "/public"
upstream = "app"
auth = "none"
"#;
