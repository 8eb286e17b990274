//! A route as it is configured, and everything that can be wrong with it. Nothing here matches.

use std::fmt;

use thiserror::Error;

use super::host::HostPattern;
use super::pattern::MAX_CAPTURES;
use super::scan::Flaw;

/// The methods of a route that lists none.
pub const DEFAULT_METHODS: [&str; 8] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"];

/// A route as it is configured.
#[derive(Clone, Debug)]
pub struct RouteSpec<T> {
    /// Its name, for errors and records.
    pub name: String,
    /// `api.example.com`, `*.example.com` or `*`; none means any host.
    pub hosts: Vec<String>,
    /// `/v1/clusters/{cluster}/{*rest}`.
    pub path: String,
    /// In their own case; none means [`DEFAULT_METHODS`].
    pub methods: Vec<String>,
    /// What becomes of `%2F`.
    pub encoded_slash: EncodedSlash,
    /// `org`, `kind/ref` or `kind/{capture}`.
    pub resource: Option<String>,
    /// What the upstream does not see of the path, such as `/api`.
    pub strip_prefix: Option<String>,
    /// Whatever else belongs to the route.
    pub value: T,
}

/// Whether a route takes paths with `%2F`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// They pass as they are: `%2F` is no separator.
    Keep,
    /// They are refused.
    #[default]
    Refuse,
}

/// A route that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RouteError {
    /// The route's name.
    pub route: String,
    /// What is wrong with it.
    pub fault: RouteFault,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}: {}", self.route, self.fault)
    }
}

/// What is wrong with a route, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteFault {
    /// A capture's name.
    #[error("path: a capture is named {0:?}; a name is a letter a-z and up to 31 of a-z 0-9 _")]
    CaptureName(String),
    /// Braces inside a segment.
    #[error("path: {0:?} mixes braces and text; a capture is a whole segment, such as {{name}}")]
    CapturePart(String),
    /// Two captures with one name.
    #[error("path: two captures are named {0:?}; names differ within a path")]
    CaptureTwice(String),
    /// `%2F` in a route that refuses it.
    #[error("path: it holds %2F, which needs encoded_slash = \"keep\"")]
    EncodedSlash,
    /// No host.
    #[error(
        "hosts: {0:?} is no host; allowed are a name without port, *.suffix, and * for any host"
    )]
    Host(String),
    /// A host that is listed twice.
    #[error("hosts: {0:?} is listed twice")]
    HostTwice(String),
    /// No method, or one that is never forwarded.
    #[error("methods: {0:?} cannot be routed; CONNECT and TRACE are never forwarded")]
    Method(String),
    /// A method that is listed twice.
    #[error("methods: {0:?} is listed twice")]
    MethodTwice(String),
    /// A path that no canonical target has.
    #[error(
        "path: it is not in canonical form, so nothing would match it: no empty or dot segments, \
         escapes in upper case and only where needed, no query"
    )]
    NotCanonical,
    /// A path that no target has.
    #[error("path: {0}")]
    Path(Flaw),
    /// No slash in front.
    #[error("path: it must start with /")]
    PathStart,
    /// No resource, or a capture the path has not.
    #[error(
        "require.resource: {0:?} is no resource; allowed are org, kind/ref, and kind/{{capture}} \
         with a capture of the path"
    )]
    Resource(String),
    /// Something after `{*rest}`.
    #[error("path: a capture with * takes all that is left and must be the last segment")]
    RestNotLast,
    /// A prefix that the path does not have.
    #[error("strip_prefix: {0:?} must be /segments with which the path begins, without captures")]
    StripPrefix(String),
    /// Nothing tells two routes apart.
    #[error(
        "path: nothing tells it apart from route {other:?} for {method} on host {host}; change \
         hosts, path or methods of one of them"
    )]
    Tie {
        /// The other route.
        other: String,
        /// A host pattern of both.
        host: String,
        /// A method of both.
        method: String,
    },
    /// Too many captures or segments.
    #[error("path: it is too long; up to {MAX_CAPTURES} captures and 64 segments are allowed")]
    TooLong,
}

pub(super) fn read_hosts(texts: &[String], faults: &mut Vec<RouteFault>) -> Vec<HostPattern> {
    if texts.is_empty() {
        return vec![HostPattern::Any];
    }
    let mut hosts = Vec::with_capacity(texts.len());
    for text in texts {
        match HostPattern::parse(text) {
            Some(host) if hosts.contains(&host) => faults.push(RouteFault::HostTwice(text.clone())),
            Some(host) => hosts.push(host),
            None => faults.push(RouteFault::Host(text.clone())),
        }
    }
    hosts
}

pub(super) fn read_methods(texts: &[String], faults: &mut Vec<RouteFault>) -> Box<[Box<str>]> {
    if texts.is_empty() {
        return DEFAULT_METHODS.map(Box::from).into();
    }
    let mut methods: Vec<Box<str>> = Vec::with_capacity(texts.len());
    for text in texts {
        let is_token = !text.is_empty() && text.bytes().all(is_token_byte);
        if !is_token || matches!(text.as_str(), "CONNECT" | "TRACE") {
            faults.push(RouteFault::Method(text.clone()));
        } else if methods.iter().any(|method| **method == **text) {
            faults.push(RouteFault::MethodTwice(text.clone()));
        } else {
            methods.push(text.as_str().into());
        }
    }
    methods.into()
}

/// RFC 9110, 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
