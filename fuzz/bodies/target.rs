//! The canonical target.

use portcullis_core::route::{
    Ambiguous, Incoming, Odd, PathPolicy, RawTarget, Scheme, Target, TargetFault,
};

/// Three lines: method, host, request target. Whatever passes has one reading: making it canonical
/// again changes nothing, and what is matched is what is forwarded.
pub(crate) fn target(data: &[u8]) {
    let lines = super::lines(data);
    let [method, host, raw, ..] = lines.as_slice() else { return };
    for ambiguous in [Ambiguous::Canonicalise, Ambiguous::Redirect, Ambiguous::Reject] {
        for odd_segments in [Odd::Keep, Odd::Reject] {
            for scheme in [Scheme::Http, Scheme::Https] {
                let policy = PathPolicy { ambiguous, odd_segments };
                let target = RawTarget::parse(raw);
                let host = Some(host.as_bytes());
                one(&Incoming { method, target, host, scheme }, policy, raw);
            }
        }
    }
}

fn one(asked: &Incoming<'_>, policy: PathPolicy, raw: &str) {
    let strict = PathPolicy { ambiguous: Ambiguous::Reject, ..policy };
    let again = |text: &str, host: &str| {
        let target = RawTarget::Origin(text);
        let asked = Incoming { target, host: Some(host.as_bytes()), ..*asked };
        let again = Target::canonical(&asked, strict);
        let again = again.unwrap_or_else(|fault| panic!("{text:?} is not canonical: {fault}"));
        assert_eq!(again.path_and_query(), text);
        assert_eq!(again.host().authority(), host);
        assert!(again.is_verbatim());
    };
    match Target::canonical(asked, policy) {
        Ok(target) => {
            let forwarded = target.path_and_query();
            assert!(forwarded.starts_with(target.path()), "what is matched is forwarded");
            assert!(target.path().starts_with('/') && !target.path().contains("//"));
            assert!(!target.path().split('/').any(|segment| matches!(segment, "." | "..")));
            assert!(target.path().bytes().all(|byte| byte.is_ascii_graphic()));
            assert_eq!(target.has_encoded_slash(), target.path().contains("%2F"));
            if target.is_verbatim() {
                assert!(raw.ends_with(&*forwarded));
            }
            again(&forwarded, target.host().authority());
        }
        Err(TargetFault::Redirect(to)) => {
            assert!(matches!(asked.method, "GET" | "HEAD"));
            let target = RawTarget::Origin(&to);
            let there = Target::canonical(&Incoming { target, ..*asked }, strict);
            assert_eq!(there.expect("a redirect leads somewhere").path_and_query(), to);
        }
        Err(fault) => {
            let denied = fault.deny_reason().is_some();
            assert!(denied || fault == TargetFault::Asterisk);
        }
    }
}
