//! The canonical target of a request: host, path and query, each in the one spelling that is
//! matched and forwarded (gateway.md 3.1).

use std::borrow::Cow;

use thiserror::Error;

use super::host::Host;
use super::scan::{Flaw, Remarks, is_query, rewrite, scan};
use crate::verdict::DenyReason;

/// What a request asks for. There is no other way to get one than [`Target::canonical`], so a
/// target that can be read in two ways cannot reach a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    host: Host<'a>,
    path: Cow<'a, str>,
    query: Option<&'a str>,
    /// Path and query as they came, if that is how they are forwarded.
    verbatim: Option<&'a str>,
    encoded_slash: bool,
}

/// The parts of a request's head that say where it goes.
#[derive(Copy, Clone, Debug)]
pub struct Incoming<'a> {
    /// The method, in its own case.
    pub method: &'a str,
    /// The request target.
    pub target: RawTarget<'a>,
    /// The `Host` field or `:authority`. The caller has made sure that there is only one.
    pub host: Option<&'a [u8]>,
    /// What the listener speaks.
    pub scheme: Scheme,
}

/// The forms of a request target (RFC 9112, 3.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RawTarget<'a> {
    /// `http://host/path?query`.
    Absolute {
        /// `http` or `https`, in any case.
        scheme: &'a str,
        /// What stands between `//` and the path.
        authority: &'a str,
        /// The rest; may be empty.
        path_and_query: &'a str,
    },
    /// `*`.
    Asterisk,
    /// `host:port` and anything else without a slash in front.
    Authority,
    /// `/path?query`.
    Origin(&'a str),
}

impl<'a> RawTarget<'a> {
    /// Tells the form of a target as it stands on the request line.
    pub fn parse(text: &'a str) -> RawTarget<'a> {
        if text.starts_with('/') {
            return RawTarget::Origin(text);
        }
        if text == "*" {
            return RawTarget::Asterisk;
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return RawTarget::Authority;
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at_checked(end).unwrap_or((rest, ""));
        RawTarget::Absolute { scheme, authority, path_and_query }
    }
}

/// What a listener speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it is written in an absolute target.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that goes without saying.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// How paths with more than one reading are treated: `[paths]` in the configuration.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub struct PathPolicy {
    /// `//`, dot segments, encoded characters that need no encoding.
    pub ambiguous: Ambiguous,
    /// `;`, and segments that end with `.` or an encoded space.
    pub odd_segments: Odd,
}

/// What becomes of an ambiguous path.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Ambiguous {
    /// It is rewritten, then matched and forwarded in its canonical form.
    Canonicalise,
    /// GET and HEAD are redirected to the canonical form, others refused.
    Redirect,
    /// It is refused.
    #[default]
    Reject,
}

/// What becomes of odd segments.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Odd {
    /// They are matched and forwarded as they are.
    Keep,
    /// They are refused.
    #[default]
    Reject,
}

/// How a request ends when its target goes no further.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetFault {
    /// The path has more than one reading.
    #[error("the path has more than one reading")]
    AmbiguousPath,
    /// `OPTIONS *`, which the gateway answers itself with 204.
    #[error("OPTIONS * is answered by the gateway itself")]
    Asterisk,
    /// The target breaks a rule.
    #[error("{0}")]
    Malformed(#[from] Flaw),
    /// `CONNECT`, `TRACE`, or a target without a path.
    #[error("the method is never forwarded")]
    MethodNotAllowed,
    /// 308 to this path and query on the same host.
    #[error("the path has a canonical form to be redirected to")]
    Redirect(String),
}

impl TargetFault {
    /// The reason of the denial; `None` for the two outcomes that are answers and not denials.
    pub fn deny_reason(&self) -> Option<DenyReason> {
        match self {
            TargetFault::AmbiguousPath => Some(DenyReason::AmbiguousPath),
            TargetFault::Asterisk | TargetFault::Redirect(_) => None,
            TargetFault::Malformed(_) => Some(DenyReason::BadRequest),
            TargetFault::MethodNotAllowed => Some(DenyReason::MethodNotAllowed),
        }
    }
}

impl<'a> Target<'a> {
    /// Reads a target. Copies nothing if host and path are canonical already.
    ///
    /// | path | `Reject` | `Redirect` | `Canonicalise` |
    /// |---|---|---|---|
    /// | refused class | malformed | malformed | malformed |
    /// | ambiguous, GET or HEAD | ambiguous | 308 | rewritten |
    /// | ambiguous, other method | ambiguous | ambiguous | rewritten |
    /// | lower-case hex digits alone | rewritten | rewritten | rewritten |
    pub fn canonical(
        incoming: &Incoming<'a>,
        policy: PathPolicy,
    ) -> Result<Target<'a>, TargetFault> {
        if matches!(incoming.method, "CONNECT" | "TRACE") {
            return Err(TargetFault::MethodNotAllowed);
        }
        let host = Host::canonical(incoming.host.ok_or(Flaw::HostMissing)?, incoming.scheme)?;
        let raw = origin_form(incoming, &host)?;

        let has_path = raw.starts_with('/');
        let remarks = scan(if has_path { raw } else { "/" })?;
        let path_length = if has_path { remarks.length } else { 0 };
        let (path, query) = raw.split_at_checked(path_length).unwrap_or((raw, ""));
        let query = query.strip_prefix('?');
        if query.is_some_and(|query| !is_query(query)) {
            return Err(Flaw::QueryByte.into());
        }

        let path = canonical_path(if has_path { path } else { "/" }, &remarks, policy)?;
        if remarks.ambiguous && policy.ambiguous == Ambiguous::Redirect {
            return Err(match incoming.method {
                "GET" | "HEAD" => TargetFault::Redirect(join(&path, query)),
                _ => TargetFault::AmbiguousPath,
            });
        }
        // A rewrite may have left the segment that held it.
        let encoded_slash = remarks.encoded_slash && path.contains("%2F");
        let verbatim = (has_path && remarks.is_canonical()).then_some(raw);
        Ok(Target { host, path, query, verbatim, encoded_slash })
    }

    /// The host, without its port if that is the scheme's own.
    pub fn host(&self) -> &Host<'a> {
        &self.host
    }

    /// The path: starts with `/`, no empty or dot segments, escapes in upper case.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the `?`, byte for byte as it came.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Path and query as they are forwarded.
    pub fn path_and_query(&self) -> Cow<'_, str> {
        match self.verbatim {
            Some(verbatim) => Cow::Borrowed(verbatim),
            None => Cow::Owned(join(&self.path, self.query)),
        }
    }

    /// Whether path and query are forwarded exactly as they came in.
    pub fn is_verbatim(&self) -> bool {
        self.verbatim.is_some()
    }

    /// Whether the path holds `%2F`, which a route has to allow.
    pub fn has_encoded_slash(&self) -> bool {
        self.encoded_slash
    }
}

/// Path and query of a target that agrees with its `Host`. Only an absolute target may leave its
/// path out, and means `/` by that.
fn origin_form<'a>(incoming: &Incoming<'a>, host: &Host<'_>) -> Result<&'a str, TargetFault> {
    match incoming.target {
        RawTarget::Absolute { scheme, authority, path_and_query } => {
            if !scheme.eq_ignore_ascii_case(incoming.scheme.as_str()) {
                return Err(Flaw::Scheme.into());
            }
            if Host::canonical(authority.as_bytes(), incoming.scheme)? != *host {
                return Err(Flaw::AuthorityMismatch.into());
            }
            match path_and_query.bytes().next() {
                None | Some(b'/' | b'?') => Ok(path_and_query),
                Some(_) => Err(Flaw::PathStart.into()),
            }
        }
        RawTarget::Asterisk if incoming.method == "OPTIONS" => Err(TargetFault::Asterisk),
        RawTarget::Asterisk => Err(Flaw::Asterisk.into()),
        RawTarget::Authority => Err(TargetFault::MethodNotAllowed),
        RawTarget::Origin(path_and_query) if path_and_query.starts_with('/') => Ok(path_and_query),
        RawTarget::Origin(_) => Err(Flaw::PathStart.into()),
    }
}

/// The canonical form of a scanned path, if policy lets it have one.
fn canonical_path<'a>(
    path: &'a str,
    remarks: &Remarks,
    policy: PathPolicy,
) -> Result<Cow<'a, str>, TargetFault> {
    let refuse_odd = |odd| match policy.odd_segments {
        Odd::Reject if odd => Err(Flaw::OddSegment),
        Odd::Keep | Odd::Reject => Ok(()),
    };
    refuse_odd(remarks.odd)?;
    if remarks.is_canonical() {
        return Ok(Cow::Borrowed(path));
    }
    if remarks.ambiguous && policy.ambiguous == Ambiguous::Reject {
        return Err(TargetFault::AmbiguousPath);
    }
    let rewritten = rewrite(path).ok_or(Flaw::AboveRoot)?;
    let second = scan(&rewritten)?;
    refuse_odd(second.odd)?;
    if second.is_canonical() { Ok(Cow::Owned(rewritten)) } else { Err(TargetFault::AmbiguousPath) }
}

fn join(path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::select;

    use super::{
        Ambiguous, Flaw, Incoming, Odd, PathPolicy, RawTarget, Scheme, Target, TargetFault,
    };
    use crate::verdict::DenyReason;

    fn incoming<'a>(method: &'a str, target: &'a str) -> Incoming<'a> {
        Incoming {
            method,
            target: RawTarget::parse(target),
            host: Some(b"api.example.com"),
            scheme: Scheme::Http,
        }
    }

    fn read<'a>(
        method: &'a str,
        target: &'a str,
        ambiguous: Ambiguous,
    ) -> Result<Target<'a>, TargetFault> {
        let policy = PathPolicy { ambiguous, odd_segments: Odd::Reject };
        Target::canonical(&incoming(method, target), policy)
    }

    fn malformed(flaw: Flaw) -> Result<Target<'static>, TargetFault> {
        Err(TargetFault::Malformed(flaw))
    }

    #[test]
    fn a_canonical_target_is_not_copied() {
        let target = read("GET", "/v1/a%20b?x=%2e&y=/../", Ambiguous::Reject).expect("a target");
        assert_eq!(target.host().authority(), "api.example.com");
        assert_eq!(target.path(), "/v1/a%20b");
        assert_eq!(target.query(), Some("x=%2e&y=/../"));
        assert_eq!(target.path_and_query(), "/v1/a%20b?x=%2e&y=/../");
        assert!(target.is_verbatim());
        assert!(matches!(target.path, Cow::Borrowed(_)));
        assert!(matches!(target.path_and_query(), Cow::Borrowed(_)));
    }

    #[test]
    fn an_empty_query_stays() {
        let target = read("GET", "/a?", Ambiguous::Reject).expect("a target");
        assert_eq!((target.path(), target.query()), ("/a", Some("")));
        assert_eq!(target.path_and_query(), "/a?");
    }

    #[test]
    fn ambiguous_paths_go_the_way_the_policy_says() {
        use Ambiguous::{Canonicalise, Redirect, Reject};
        let path = "/a/%2e%2e//b%c3%a4?q=//";
        let canonical = "/b%C3%A4?q=//";
        for method in ["GET", "POST"] {
            let refused = Err(TargetFault::AmbiguousPath);
            assert_eq!(read(method, path, Reject), refused);
        }
        for method in ["GET", "HEAD"] {
            let redirect = Err(TargetFault::Redirect(canonical.to_owned()));
            assert_eq!(read(method, path, Redirect), redirect);
        }
        for method in ["POST", "get", "OPTIONS"] {
            let refused = Err(TargetFault::AmbiguousPath);
            assert_eq!(read(method, path, Redirect), refused);
        }
        let rewritten = read("POST", path, Canonicalise).expect("a target");
        assert_eq!(rewritten.path_and_query(), canonical);
        assert!(!rewritten.is_verbatim());
    }

    #[test]
    fn lower_case_hex_digits_are_upper_cased_silently() {
        for policy in [Ambiguous::Canonicalise, Ambiguous::Redirect, Ambiguous::Reject] {
            let target = read("GET", "/%c3%A4", policy).expect("a target");
            assert_eq!(target.path(), "/%C3%A4");
        }
    }

    #[test]
    fn what_is_refused_is_refused_under_every_policy() {
        for policy in [Ambiguous::Canonicalise, Ambiguous::Redirect, Ambiguous::Reject] {
            for (path, flaw) in [
                ("/a\\b", Flaw::RawByte),
                ("/a#b", Flaw::RawByte),
                ("/a%5c", Flaw::EncodedBackslash),
                ("/a%00", Flaw::ControlEscape),
                ("/%252e", Flaw::DoubleEscape),
                ("/%c0%af", Flaw::NotUtf8),
                ("/a;b", Flaw::OddSegment),
                ("/a./b", Flaw::OddSegment),
                ("/a%20", Flaw::OddSegment),
                ("/a?b#c", Flaw::QueryByte),
                ("/a?b c", Flaw::QueryByte),
                ("/a?\"", Flaw::QueryByte),
            ] {
                assert_eq!(read("GET", path, policy), malformed(flaw), "{path}");
            }
        }
        for policy in [Ambiguous::Canonicalise, Ambiguous::Redirect] {
            for (path, flaw) in [
                ("/../a", Flaw::AboveRoot),
                ("/%25%36%31", Flaw::DoubleEscape),
                ("/a%2e", Flaw::OddSegment),
            ] {
                assert_eq!(read("GET", path, policy), malformed(flaw), "{path}");
            }
        }
    }

    #[test]
    fn odd_segments_can_be_kept() {
        let policy = PathPolicy { ambiguous: Ambiguous::Reject, odd_segments: Odd::Keep };
        for path in ["/a;v=1/b", "/a.", "/a%20/b"] {
            let target = Target::canonical(&incoming("GET", path), policy).expect("a target");
            assert_eq!(target.path(), path);
        }
    }

    #[test]
    fn an_encoded_slash_is_reported_and_never_decoded() {
        let target = read("GET", "/a%2fb", Ambiguous::Canonicalise).expect("a target");
        assert_eq!(target.path(), "/a%2Fb");
        assert!(target.has_encoded_slash());
        for path in ["/a/b?%2F", "/a%2Fb/../c"] {
            let without = read("GET", path, Ambiguous::Canonicalise).expect("a target");
            assert!(!without.has_encoded_slash(), "{path}");
        }
    }

    #[test]
    fn an_absolute_target_must_agree_with_listener_and_host() {
        for (text, path_and_query) in [
            ("http://api.example.com/a?b", "/a?b"),
            ("HTTP://API.example.com.:80/a", "/a"),
            ("http://api.example.com", "/"),
            ("http://api.example.com?b", "/?b"),
        ] {
            let target = read("GET", text, Ambiguous::Reject).expect(text);
            assert_eq!(target.path_and_query(), path_and_query, "{text}");
        }
        for (text, flaw) in [
            ("https://api.example.com/", Flaw::Scheme),
            ("ftp://api.example.com/", Flaw::Scheme),
            ("http://other.example.com/", Flaw::AuthorityMismatch),
            ("http://api.example.com:81/", Flaw::AuthorityMismatch),
            ("http://user@api.example.com/", Flaw::Host),
            ("http:///a", Flaw::Host),
            ("http://api.example.com#a", Flaw::PathStart),
            ("http://api.example.com?#", Flaw::QueryByte),
        ] {
            assert_eq!(read("GET", text, Ambiguous::Reject), malformed(flaw), "{text}");
        }
    }

    #[test]
    fn other_forms_and_methods_are_never_forwarded() {
        let outcome = |method, text| read(method, text, Ambiguous::Reject).map(|_| ());
        assert_eq!(outcome("OPTIONS", "*"), Err(TargetFault::Asterisk));
        let asterisk = Err(TargetFault::Malformed(Flaw::Asterisk));
        assert_eq!(outcome("GET", "*"), asterisk);
        for (method, text) in [
            ("CONNECT", "a:443"),
            ("CONNECT", "/"),
            ("TRACE", "/"),
            ("GET", "a:443"),
            ("GET", "word"),
        ] {
            assert_eq!(outcome(method, text), Err(TargetFault::MethodNotAllowed));
        }
        assert_eq!(outcome("connect", "/"), Ok(()));
    }

    #[test]
    fn a_request_names_a_host() {
        let without = Incoming { host: None, ..incoming("GET", "/") };
        let found = Target::canonical(&without, PathPolicy::default());
        assert_eq!(found, malformed(Flaw::HostMissing));
    }

    #[test]
    fn faults_name_their_deny_reasons() {
        for (fault, reason) in [
            (TargetFault::AmbiguousPath, Some(DenyReason::AmbiguousPath)),
            (TargetFault::Asterisk, None),
            (TargetFault::Malformed(Flaw::Host), Some(DenyReason::BadRequest)),
            (TargetFault::MethodNotAllowed, Some(DenyReason::MethodNotAllowed)),
            (TargetFault::Redirect("/".to_owned()), None),
        ] {
            assert_eq!(fault.deny_reason(), reason);
        }
    }

    proptest! {
        /// (b) of gateway.md 3.1, and (a): what is forwarded parses to what was matched.
        #[test]
        fn canonicalising_twice_changes_nothing(
            path in "(/|\\.|%2[eEfF]|%61|%c3%A4|%25|a|;|%20|\\?|=){0,12}",
            ambiguous in select(&[Ambiguous::Canonicalise, Ambiguous::Redirect][..]),
            odd_segments in select(&[Odd::Keep, Odd::Reject][..]),
        ) {
            let policy = PathPolicy { ambiguous, odd_segments };
            let path = format!("/{path}");
            let forwarded = match Target::canonical(&incoming("GET", &path), policy) {
                Ok(target) => {
                    prop_assert_eq!(target.is_verbatim(), target.path_and_query() == path);
                    target.path_and_query().into_owned()
                }
                Err(TargetFault::Redirect(location)) => location,
                Err(_) => return Ok(()),
            };
            let strictest = PathPolicy { ambiguous: Ambiguous::Reject, odd_segments };
            let again = Target::canonical(&incoming("GET", &forwarded), strictest);
            let again = again.expect("a canonical target passes the strictest policy");
            prop_assert!(again.is_verbatim());
            prop_assert_eq!(again.path_and_query(), forwarded.as_str());
        }

        #[test]
        fn no_text_makes_a_target_panic(text in any::<String>(), host in any::<Vec<u8>>()) {
            for ambiguous in [Ambiguous::Canonicalise, Ambiguous::Redirect, Ambiguous::Reject] {
                let incoming = Incoming { host: Some(&host), ..incoming("GET", &text) };
                let policy = PathPolicy { ambiguous, odd_segments: Odd::Keep };
                let _ = Target::canonical(&incoming, policy);
                let _ = read("GET", &text, ambiguous);
            }
        }
    }
}
