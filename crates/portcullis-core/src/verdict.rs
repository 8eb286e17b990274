//! Every way a request can end without the upstream's answer: one closed enum and one table that
//! gives label, code, status, challenge and connection handling. Nothing else assigns these.

/// Which `WWW-Authenticate` challenge goes with an answer (RFC 6750 section 3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// No challenge.
    Absent,
    /// The scheme and realm alone: no credential was presented.
    Bare,
    /// `error="insufficient_scope"` with the permission that was needed.
    InsufficientScope,
    /// `error="invalid_request"`.
    InvalidRequest,
    /// `error="invalid_token"`.
    InvalidToken,
}

/// What happens to a downstream HTTP/1 connection after the answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// It is closed.
    Close,
    /// It may carry the next request.
    Keep,
}

/// How a code is put to the caller (RFC 9457).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable name, also the end of the `type` URN.
    pub code: &'static str,
    /// HTTP status; never a success.
    pub status: u16,
    /// Reason phrase of the status.
    pub title: &'static str,
    /// One sentence for the caller. Says nothing that only the holder of a secret may know.
    pub detail: &'static str,
}

macro_rules! problems {
    ($($name:ident = $code:literal $status:literal $title:literal $detail:literal;)*) => {
        $(#[doc = $detail] pub const $name: Problem = Problem {
            code: $code, status: $status, title: $title, detail: $detail,
        };)*
        /// Every problem, in the order of the table.
        pub const PROBLEMS: &[Problem] = &[$($name),*];
    };
}

problems! {
    UNAUTHENTICATED = "unauthenticated" 401 "Unauthorized" "A credential is required.";
    INVALID_TOKEN = "invalid_token" 401 "Unauthorized" "The credential is not valid.";
    INVALID_REQUEST = "invalid_request" 400 "Bad Request" "More than one credential was presented.";
    SOURCE_NOT_ALLOWED = "source_not_allowed" 403 "Forbidden" "The credential may not be used from this address.";
    INSUFFICIENT_SCOPE = "insufficient_scope" 403 "Forbidden" "The credential does not give the required permission.";
    NO_ROUTE = "no_route" 404 "Not Found" "No route matches the request.";
    METHOD_NOT_ALLOWED = "method_not_allowed" 405 "Method Not Allowed" "The method is not allowed on this path.";
    RATE_LIMITED = "rate_limited" 429 "Too Many Requests" "The rate limit is used up.";
    QUOTA_EXCEEDED = "quota_exceeded" 429 "Too Many Requests" "The quota is used up.";
    CONCURRENCY_LIMITED = "concurrency_limited" 429 "Too Many Requests" "Too many requests are open at once.";
    TOO_MANY_FAILURES = "too_many_failures" 429 "Too Many Requests" "Too many invalid credentials came from this address.";
    UNAVAILABLE = "unavailable" 503 "Service Unavailable" "The gateway cannot decide at the moment.";
    STALE = "stale" 503 "Service Unavailable" "The gateway has been without updates for too long.";
    HTTPS_REQUIRED = "https_required" 403 "Forbidden" "A credential may be sent over TLS only.";
    BAD_REQUEST = "bad_request" 400 "Bad Request" "The request is malformed or ambiguous.";
    HEAD_TIMEOUT = "head_timeout" 408 "Request Timeout" "The request head did not arrive in time.";
    BODY_TOO_LARGE = "body_too_large" 413 "Content Too Large" "The request body is larger than allowed.";
    TARGET_TOO_LONG = "target_too_long" 414 "URI Too Long" "The request target is longer than allowed.";
    EXPECTATION = "expectation" 417 "Expectation Failed" "The expectation cannot be met.";
    MISDIRECTED = "misdirected" 421 "Misdirected Request" "The host is not served on this connection.";
    HEAD_TOO_LARGE = "head_too_large" 431 "Request Header Fields Too Large" "The request head is larger than allowed.";
    VERSION = "version" 505 "HTTP Version Not Supported" "The HTTP version is not supported.";
    UPSTREAM_UNAVAILABLE = "upstream_unavailable" 503 "Service Unavailable" "The service behind the gateway is not available.";
    BAD_GATEWAY = "bad_gateway" 502 "Bad Gateway" "The service behind the gateway did not answer properly.";
    UPSTREAM_TIMEOUT = "upstream_timeout" 504 "Gateway Timeout" "The service behind the gateway did not answer in time.";
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $label:literal $problem:ident $challenge:ident $after:ident;)*) => {
        /// Why a request was not answered by the upstream. The label is the one in metrics and
        /// records; the problem is all the caller learns.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DenyReason { $($(#[$doc])* $variant,)* }

        impl DenyReason {
            /// Every reason, in the order of the table.
            pub const ALL: &[DenyReason] = &[$(DenyReason::$variant),*];

            /// Name in metrics and access records.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// What the caller is told.
            pub const fn problem(self) -> &'static Problem {
                match self { $(Self::$variant => &$problem,)* }
            }

            /// Which challenge goes with the answer.
            pub const fn challenge(self) -> Challenge {
                match self { $(Self::$variant => Challenge::$challenge,)* }
            }

            /// What becomes of the connection.
            pub const fn after(self) -> After {
                match self { $(Self::$variant => After::$after,)* }
            }
        }
    };
}

reasons! {
    /// The path can be read in two ways.
    AmbiguousPath = "ambiguous_path" BAD_REQUEST Absent Close;
    /// A session token for somebody else.
    Audience = "audience" INVALID_TOKEN InvalidToken Keep;
    /// Too many failures from this source.
    AuthFlood = "auth_flood" TOO_MANY_FAILURES Absent Close;
    /// The request breaks a rule of its protocol.
    BadRequest = "bad_request" BAD_REQUEST Absent Close;
    /// The id exists, the secret is another.
    BadSecret = "bad_secret" INVALID_TOKEN InvalidToken Keep;
    /// The gateway has not reached the position the caller asked for.
    Behind = "behind" UNAVAILABLE Absent Keep;
    /// The key is bound to another client certificate.
    BindingMismatch = "binding_mismatch" INVALID_TOKEN InvalidToken Keep;
    /// A block entry covers the key.
    Blocked = "blocked" INVALID_TOKEN InvalidToken Keep;
    /// The body exceeds the route's limit.
    BodyTooLarge = "body_too_large" BODY_TOO_LARGE Absent Close;
    /// The upstream's circuit is open.
    CircuitOpen = "circuit_open" UPSTREAM_UNAVAILABLE Absent Keep;
    /// Too many requests of one key or account are open.
    ConcurrencyLimited = "concurrency_limited" CONCURRENCY_LIMITED Absent Keep;
    /// A credential source occurs twice, or two sources occur.
    DuplicateCredential = "duplicate_credential" INVALID_REQUEST InvalidRequest Close;
    /// `Expect` is not `100-continue`.
    Expectation = "expectation" EXPECTATION Absent Close;
    /// Guard and parser read the request differently.
    GuardMismatch = "guard_mismatch" BAD_REQUEST Absent Close;
    /// The head took too long.
    HeadTimeout = "head_timeout" HEAD_TIMEOUT Absent Close;
    /// The head exceeds a limit.
    HeadTooLarge = "head_too_large" HEAD_TOO_LARGE Absent Close;
    /// The key's time is over.
    KeyExpired = "key_expired" INVALID_TOKEN InvalidToken Keep;
    /// The key is switched off.
    KeyInactive = "key_inactive" INVALID_TOKEN InvalidToken Keep;
    /// The key is revoked or deleted.
    KeyRevoked = "key_revoked" INVALID_TOKEN InvalidToken Keep;
    /// The credential is not well-formed.
    Malformed = "malformed" INVALID_TOKEN InvalidToken Keep;
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed" METHOD_NOT_ALLOWED Absent Keep;
    /// TLS host and request host disagree.
    Misdirected = "misdirected" MISDIRECTED Absent Close;
    /// No credential.
    Missing = "missing" UNAUTHENTICATED Bare Keep;
    /// The permission is not among the account's.
    MissingPermission = "missing_permission" INSUFFICIENT_SCOPE InsufficientScope Keep;
    /// No address of the upstream is healthy.
    NoHealthyUpstream = "no_healthy_upstream" UPSTREAM_UNAVAILABLE Absent Keep;
    /// No route matches.
    NoRoute = "no_route" NO_ROUTE Absent Keep;
    /// The gateway has no usable state yet.
    NoState = "no_state" UNAVAILABLE Absent Keep;
    /// The key is not valid yet.
    NotYetValid = "not_yet_valid" INVALID_TOKEN InvalidToken Keep;
    /// The organization is suspended or gone.
    OrgSuspended = "org_suspended" INVALID_TOKEN InvalidToken Keep;
    /// The gateway is at a limit of its own.
    Overloaded = "overloaded" UNAVAILABLE Absent Keep;
    /// A credential on a plaintext listener that requires TLS.
    Plaintext = "plaintext" HTTPS_REQUIRED Absent Keep;
    /// Every connection to the upstream is busy.
    PoolFull = "pool_full" UPSTREAM_UNAVAILABLE Absent Keep;
    /// The quota is used up.
    QuotaExceeded = "quota_exceeded" QUOTA_EXCEEDED Absent Keep;
    /// The rate is used up.
    RateLimited = "rate_limited" RATE_LIMITED Absent Keep;
    /// The key's own restriction excludes the request.
    Restricted = "restricted" INSUFFICIENT_SCOPE InsufficientScope Keep;
    /// The replaced secret, after its retention.
    RetentionOver = "retention_over" INVALID_TOKEN InvalidToken Keep;
    /// The account is switched off.
    SaInactive = "sa_inactive" INVALID_TOKEN InvalidToken Keep;
    /// The account is revoked or deleted.
    SaRevoked = "sa_revoked" INVALID_TOKEN InvalidToken Keep;
    /// The key may not be used from this address.
    SourceNotAllowed = "source_not_allowed" SOURCE_NOT_ALLOWED Absent Keep;
    /// The state is older than the route allows.
    Stale = "stale" STALE Absent Keep;
    /// The target exceeds its limit.
    TargetTooLong = "target_too_long" TARGET_TOO_LONG Absent Close;
    /// A session token after its time.
    TokenExpired = "token_expired" INVALID_TOKEN InvalidToken Keep;
    /// A session token of an earlier generation of its key.
    TokenGeneration = "token_generation" INVALID_TOKEN InvalidToken Keep;
    /// A session token that does not verify.
    TokenInvalid = "token_invalid" INVALID_TOKEN InvalidToken Keep;
    /// No such key.
    UnknownKey = "unknown_key" INVALID_TOKEN InvalidToken Keep;
    /// No such resource in the key's organization.
    UnknownResource = "unknown_resource" INSUFFICIENT_SCOPE InsufficientScope Keep;
    /// An upgrade that is not allowed here.
    UpgradeRefused = "upgrade_refused" BAD_REQUEST Absent Close;
    /// The upstream could not be reached.
    UpstreamConnect = "upstream_connect" BAD_GATEWAY Absent Keep;
    /// The upstream broke the protocol.
    UpstreamProtocol = "upstream_protocol" BAD_GATEWAY Absent Keep;
    /// The upstream took too long.
    UpstreamTimeout = "upstream_timeout" UPSTREAM_TIMEOUT Absent Keep;
    /// TLS with the upstream failed.
    UpstreamTls = "upstream_tls" BAD_GATEWAY Absent Keep;
    /// An HTTP version that is not served.
    Version = "version" VERSION Absent Close;
    /// The route does not admit the key's organization.
    WrongOrg = "wrong_org" INSUFFICIENT_SCOPE InsufficientScope Keep;
}

impl DenyReason {
    /// Whether the answer carries `Retry-After: 1`: the gateway or its upstream may be fine soon.
    pub const fn retry_soon(self) -> bool {
        self.problem().status == 503
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_statuses_are_never_a_success() {
        let mut labels: Vec<_> = DenyReason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DenyReason::ALL.len());
        assert!(DenyReason::ALL.iter().all(|reason| (400..600).contains(&reason.problem().status)));
    }

    #[test]
    fn whoever_fails_to_prove_possession_gets_one_and_the_same_answer() {
        for reason in
            DenyReason::ALL.iter().filter(|reason| reason.problem().code == "invalid_token")
        {
            assert_eq!(reason.challenge(), Challenge::InvalidToken, "{}", reason.label());
            assert_eq!(reason.after(), After::Keep, "{}", reason.label());
        }
    }

    #[test]
    fn exactly_the_401s_and_403s_about_credentials_carry_a_challenge() {
        for reason in DenyReason::ALL {
            let challenged = reason.challenge() != Challenge::Absent;
            let expected = reason.problem().status == 401
                || matches!(reason.problem().code, "insufficient_scope" | "invalid_request");
            assert_eq!(challenged, expected, "{}", reason.label());
        }
    }
}
