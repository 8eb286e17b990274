//! Every section and key of the configuration file, with its default and its explanation. The
//! reference file `config/portcullis.toml` is printed from here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::choices::{
    Ambiguous, Auth, ControlLevel, EncodedSlash, ErrorTemplate, FeedMode, Level, OddSegments,
    OnStale, Rendering, SessionAlg, Underscore, UnknownResource,
};
use super::domain::{
    AdminAddress, BaseUrl, Credential, HeaderName, HostPattern, IdentityPrefix, KeyPrefix,
    MetadataUrl, Method, OptionalPermission, PathPrefix, PathTemplate, PublicKey, PublicUrl, Realm,
    RecordSink, UpstreamHost,
};
use super::kinds::{Count, Fraction, Map, Name, Network, OptionalFile, OptionalName, Period, Size};
use super::setting::section;

const DAY_MS: u64 = 86_400_000;
const HOUR_MS: u64 = 3_600_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

section! {
    /// The whole file.
    pub struct Config {
        /// The control plane: admin API, store and feed. Used by `portcullis up` and
        /// `portcullis control`.
        control: Control => default "{}",
        /// The gateway process. Used by `portcullis up` and `portcullis gateway`, like every
        /// section below.
        gateway: Gateway => default "{}",
        /// An address that takes requests. Several may be given.
        listeners: Vec<Listener> => default r#"[{ name = "public", address = "127.0.0.1:8080" }]"#,
        /// Where the gateway's directory of keys comes from. `portcullis up` ignores this section
        /// but for `usage_interval`: its gateway follows the control plane in the same process.
        feed: Feed => default "{}",
        /// Which keys are understood.
        keys: Keys => default "{}",
        /// What the upstream is told about the caller.
        identity: Identity => default "{}",
        /// What is done with the caller's other headers.
        headers: Headers => default "{}",
        /// What is done with paths that could be read in two ways.
        paths: Paths => default "{}",
        /// How much of everything.
        limits: Limits => default "{}",
        /// How long for everything. Kept to within a quarter of a second.
        timeouts: Timeouts => default "{}",
        /// How many invalid credentials of one source are put up with: of an IPv4 address, or of an
        /// IPv6 network of 64 bits. A valid credential always passes, and no key is ever locked.
        failures: Failures => default "{}",
        /// The operator's listener of the gateway: /livez, /readyz, /metrics and /admin/v1.
        admin: Admin => default "{}",
        /// The process's log and the access records.
        log: Log => default "{}",
        /// A protected service, reached over plain HTTP/1.1. Several may be given.
        upstreams: Vec<Upstream> => default "[]",
        /// Which requests go where and what they need. A request that no route matches is
        /// answered 404; without any route `portcullis up --upstream URL` makes one that sends
        /// every path to that upstream and needs a valid key.
        routes: Vec<Route> => default "[]",
    }
}

section! {
    /// `[control]`
    pub struct Control {
        /// Address of the admin API and the feed; port 0 picks a free port. It speaks plain HTTP:
        /// keep it on loopback or a private link.
        listen: SocketAddr => default r#""127.0.0.1:7080""#,
        /// The directory of the database, the peppers, the feed's signing key and the first
        /// tokens. One process at a time.
        data_dir: PathBuf => default r#""portcullis-data""#,
        /// The SQLite database; "" = portcullis.db in the data directory.
        database: OptionalFile => default r#""""#,
        /// The prefix of new keys, 2 to 16 letters and digits.
        key_prefix: KeyPrefix => default r#""ptc""#,
        /// What the control plane calls itself in session tokens and OAuth metadata: the URL that
        /// its callers use, such as "https://control.example.com"; "" = http:// and the address it
        /// listens on. Cookies are for TLS only if it begins with https.
        public_url: PublicUrl => default r#""""#,
        /// The keys that session tokens are signed with, files of mode 0600: 32 random bytes for
        /// EdDSA, or for RS256 an RSA key of 2048 to 4096 bits in PKCS#8 PEM (openssl genpkey
        /// -algorithm RSA -pkeyopt rsa_keygen_bits:3072). The first one signs, all of them verify.
        /// To replace one, add the new one at the end, restart, put it first an hour later,
        /// restart, and remove the old one another hour later. One that is removed ends its
        /// tokens at once. None = session-signing.1 in the data directory.
        session_keys: Vec<PathBuf> => default "[]",
        /// What session tokens are signed with; ES256 and RS256 for validators that lack EdDSA.
        /// ES256 is only with the key of the data directory, session-signing.es256: when this changes
        /// from or to EdDSA, the other key goes on verifying until its file is removed; wait an hour,
        /// the longest life of a token. RS256 is only with an RSA key that session_keys begin with;
        /// what signed before goes on verifying if it is among them.
        session_alg: SessionAlg => default r#""EdDSA""#,
        /// How many committed changes a gateway may miss and still resume; after more it fetches
        /// a snapshot.
        change_log_length: Count<100, 100_000_000> => default "100000",
        /// Up to this size in MiB the whole database is checked for damage at every start, which
        /// takes some 20 s per GiB; a larger one is only looked at as it is read. 0 = never.
        integrity_check_mib: Count<0, 1_048_576> => default "256",
        /// How much the control plane logs; "" = as `log.level`.
        log: ControlLevel => default r#""""#,
    }
}

section! {
    /// `[gateway]`
    pub struct Gateway {
        /// The name this gateway has at its control plane; no two gateways may share one.
        /// `portcullis gateway` requires it, `portcullis up` calls itself "up" without it.
        id: OptionalName => default r#""""#,
        /// Threads that serve requests; 0 = one for each CPU this process may use.
        workers: Count<0, 1024> => default "0",
    }
}

section! {
    /// `[[listeners]]`
    pub struct Listener {
        /// Its name in metrics and access records.
        name: Name => required r#""public""#,
        /// IP address and port; port 0 picks a free port.
        address: SocketAddr => required r#""127.0.0.1:8080""#,
        /// Peers whose X-Forwarded-For is believed.
        trusted_proxies: Vec<Network> => default "[]",
        /// Refuse every credential here with 403 `https_required`, because this listener has no
        /// TLS. Switch it on where the link is not trusted.
        require_tls: bool => default "false",
    }
}

section! {
    /// `[feed]`
    pub struct Feed {
        /// "pull" follows a control plane; "file" reads a snapshot file in the feed's own format
        /// and reads it again whenever it changes.
        mode: FeedMode => default r#""pull""#,
        /// The control plane's base URL in pull mode, such as "http://127.0.0.1:7080".
        url: BaseUrl => default r#""""#,
        /// The snapshot file in file mode.
        file: OptionalFile => default r#""""#,
        /// A file of mode 0600 with the gateway token, in pull mode.
        token_file: OptionalFile => default r#""""#,
        /// Refuse the feed of any other cluster; "" = stay with the first one met.
        cluster: OptionalName => default r#""""#,
        /// The control plane's public key as in its feed-signing.pub; set = every line must be
        /// signed with it.
        verify_key: PublicKey => default r#""""#,
        /// How often usage of keys is reported to the control plane, also by `portcullis up`. What
        /// the control plane shows as last use lags by this and a second.
        usage_interval: Period<1_000, HOUR_MS> => default r#""5s""#,
    }
}

section! {
    /// `[keys]`
    pub struct Keys {
        /// What stored digests are keyed with, 1 to 4 files of 32 random bytes and mode 0600; the
        /// first is the current one. None = pepper.1 in the data directory, which `portcullis up`
        /// and `portcullis control` make on their first start; `portcullis gateway` requires one.
        /// Example: [{ id = 1, file = "secrets/pepper.1" }]
        peppers: Vec<PepperFile> => default "[]",
        /// Key prefixes that are accepted; none = any.
        prefixes: Vec<KeyPrefix> => default "[]",
        /// Whether a text that is nothing else is looked up as a key that was imported from another
        /// system.
        imported: bool => default "false",
        /// Whether session tokens of the control plane are accepted.
        sessions: bool => default "false",
        /// Foreign spellings of keys that are understood: "zenpro" (ZENPROKEY_…), "zen"
        /// (ZENKEY_…).
        renderings: Vec<Rendering> => default "[]",
    }
}

section! {
    /// One element of `keys.peppers`.
    pub struct PepperFile {
        /// The version that key records name.
        id: Count<1, { u32::MAX as u64 }> => required "1",
        /// 32 random bytes, mode 0600.
        file: PathBuf => required r#""secrets/pepper.1""#,
    }
}

section! {
    /// `[identity]`
    pub struct Identity {
        /// The reserved prefix of the identity headers. A caller's own headers with it, under any
        /// spelling, are removed.
        prefix: IdentityPrefix => default r#""x-auth-""#,
        /// The realm in challenges.
        realm: Realm => default r#""portcullis""#,
        /// Where a client finds out whom to ask for a credential (RFC 9728): the
        /// `resource_metadata` of bearer challenges, such as
        /// "https://api.example.com/.well-known/oauth-protected-resource"; "" = none.
        resource_metadata: MetadataUrl => default r#""""#,
    }
}

section! {
    /// `[headers]`
    pub struct Headers {
        /// Header names that contain `_`: "reject" answers 400, "drop" removes the header, "keep"
        /// forwards it unless it spells a reserved name.
        underscore: Underscore => default r#""reject""#,
        /// Names that never reach an upstream.
        remove: Vec<HeaderName> => default r#"["x-middleware-subrequest"]"#,
    }
}

section! {
    /// `[paths]`
    pub struct Paths {
        /// `//`, `.` and `..` segments and needlessly encoded characters: "reject" answers 400,
        /// "redirect" 308 (GET and HEAD), "canonicalise" goes on with the canonical path.
        ambiguous: Ambiguous => default r#""reject""#,
        /// Segments with `;`, or ending in `.` or a space: "reject" answers 400, "keep" forwards
        /// them.
        odd_segments: OddSegments => default r#""reject""#,
    }
}

section! {
    /// `[limits]`
    pub struct Limits {
        /// Request line and headers together; beyond it 431.
        head_bytes: Size<KIB, MIB> => default r#""16KiB""#,
        /// Header lines; beyond it 431.
        header_count: Count<1, 100> => default "100",
        /// The request target; beyond it 414.
        target_bytes: Size<64, { 64 * KIB }> => default r#""8KiB""#,
        /// Open connections; 0 = 80 % of the free file descriptors. Beyond it closed at accept; from
        /// 90 % on the longest idle ones are closed.
        connections: Count<0, 10_000_000> => default "0",
        /// Open connections of one address, trusted proxies exempt. Beyond it closed at accept.
        connections_per_source: Count<1, 10_000_000> => default "1024",
        /// After so many requests a connection is closed.
        requests_per_connection: Count<1, { u32::MAX as u64 }> => default "10000",
        /// Requests that a worker serves at once; beyond it 503 `overloaded`.
        in_flight_per_worker: Count<1, 1_000_000> => default "10000",
        /// Resident memory of the process; 0 = 80 % of its memory limit. At 90 % of it connections
        /// are closed at accept, beyond it requests are answered 503 `overloaded`.
        memory_bytes: Size<0, TIB> => default "0",
    }
}

section! {
    /// `[timeouts]`
    pub struct Timeouts {
        /// From accept to the first byte; then the connection is closed.
        first_byte: Period<250, HOUR_MS> => default r#""10s""#,
        /// From the first byte of a head to its end; then 408.
        head: Period<250, HOUR_MS> => default r#""10s""#,
        /// Between two requests of a connection; then it is closed.
        idle: Period<250, DAY_MS> => default r#""60s""#,
        /// The slowest body that is put up with, in bytes per second; 0 = any.
        min_rate: Count<0, 1_000_000_000> => default "500",
        /// How long a body may be slower than that.
        rate_grace: Period<250, HOUR_MS> => default r#""10s""#,
        /// A whole request; "0s" = no limit. Then 504, or the response is cut.
        request: Period<0, DAY_MS> => default r#""0s""#,
        /// Opening a connection to an upstream; then 504.
        upstream_connect: Period<50, HOUR_MS> => default r#""2s""#,
        /// From the request's head to the response's head; then 504.
        upstream_head: Period<50, DAY_MS> => default r#""60s""#,
        /// Between two pieces of a response body; then the response is cut.
        upstream_read: Period<50, DAY_MS> => default r#""60s""#,
        /// The same on routes with `streaming`.
        stream_idle: Period<50, DAY_MS> => default r#""1h""#,
        /// How long unread input is drained before a connection is closed.
        linger: Period<0, 60_000> => default r#""1s""#,
        /// How long accepted requests may take to finish after the process was asked to end.
        drain: Period<0, HOUR_MS> => default r#""30s""#,
    }
}

section! {
    /// `[failures]`
    pub struct Failures {
        /// So many in a period; beyond it an invalid credential is answered 429
        /// `too_many_failures` instead of 401, and the connection is closed. 0 = any number.
        rate: Count<0, 1_000_000_000> => default "100",
        /// The period.
        period: Period<1_000, HOUR_MS> => default r#""10s""#,
    }
}

section! {
    /// `[admin]`
    pub struct Admin {
        /// Where /livez, /readyz, /metrics and /admin/v1 are served, on a thread of their own.
        /// Off loopback /metrics needs the token too. "unix:PATH" is a socket file of mode 0600: who
        /// may open it needs no token at all.
        address: AdminAddress => default r#""127.0.0.1:9901""#,
        /// A file of mode 0600 with the bearer token of /admin/v1; without one these paths answer
        /// 403. `portcullis up` takes operator-token of its data directory without it.
        token_file: OptionalFile => default r#""""#,
    }
}

section! {
    /// `[log]`
    pub struct Log {
        /// How much the process logs, on standard error.
        level: Level => default r#""info""#,
        /// Where access records go, one JSON object a line: "stdout", "file:PATH" or "off".
        records: RecordSink => default r#""stdout""#,
        /// The share of allowed requests that are recorded; denials always are.
        sample_allowed: Fraction => default "1.0",
    }
}

section! {
    /// `[[upstreams]]`
    pub struct Upstream {
        /// Its name in routes, metrics and access records.
        name: Name => required r#""clusters""#,
        /// At least one; they are used in turn, by weight.
        addresses: Vec<UpstreamAddress> => required r#"[{ host = "10.0.0.5:8080" }]"#,
        /// How often a request that certainly had no effect is sent again.
        retries: Count<0, 3> => default "1",
        /// Idle connections kept for each worker and address.
        idle: Count<0, 100_000> => default "64",
        /// How long they are kept.
        idle_time: Period<50, HOUR_MS> => default r#""30s""#,
        /// Connections for each worker and address; beyond it 503.
        connections: Count<1, 100_000> => default "256",
        /// After so many requests a connection is closed.
        requests_per_connection: Count<1, { u32::MAX as u64 }> => default "10000",
        /// The response's head; beyond it 502.
        response_head_bytes: Size<{ 8 * KIB }, MIB> => default r#""64KiB""#,
        /// Whether link-local addresses, which include the metadata services of clouds, may be
        /// reached.
        allow_link_local: bool => default "false",
    }
}

section! {
    /// One element of `upstreams.addresses`.
    pub struct UpstreamAddress {
        /// Name or IP address, and port.
        host: UpstreamHost => required r#""10.0.0.5:8080""#,
        /// Its share of the requests.
        weight: Count<1, 100> => default "1",
    }
}

section! {
    /// `[[routes]]`
    pub struct Route {
        /// Its name in metrics and access records.
        name: Name => required r#""cluster-nodes""#,
        /// Exact names or `*.suffix`; none = any host.
        hosts: Vec<HostPattern> => default "[]",
        /// Literal segments, `{name}` for one segment, `{*rest}` last for zero or more bytes.
        path: PathTemplate => required r#""/v1/clusters/{cluster}/nodes""#,
        /// None = GET HEAD POST PUT PATCH DELETE OPTIONS QUERY.
        methods: Vec<Method> => default "[]",
        /// The name of an upstream.
        upstream: Name => required r#""clusters""#,
        /// "key" needs a valid key; "none" makes the route public: no credential is looked at.
        auth: Auth => default r#""key""#,
        /// Any valid key may pass, whatever its permissions. A route with auth = "key" has either
        /// this or `require`.
        authenticated_only: bool => default "false",
        /// The permission a key needs here, and on which resource. Without a resource it is
        /// needed on the organization's root. Example:
        /// { permission = "cluster:read", resource = "cluster/{cluster}" }
        require: Require => default "{}",
        /// Where a key is looked for, and nowhere else: "bearer", "basic", "header:NAME",
        /// "form:NAME", "query:NAME" or "cookie:NAME". With "form:NAME" a body of type
        /// application/x-www-form-urlencoded is read before the request is decided; it may have
        /// 16 KiB, beyond it 413.
        credentials: Vec<Credential> => default r#"["bearer"]"#,
        /// Pass the key on to the upstream. It is removed otherwise.
        forward_credential: bool => default "false",
        /// What the upstream does not see of the path, such as "/api"; "" = it sees all of it.
        strip_prefix: PathPrefix => default r#""""#,
        /// `%2F` in the path: "reject" answers 400, "keep" forwards it as it is.
        encoded_slash: EncodedSlash => default r#""reject""#,
        /// A resource that the directory does not know: "deny" answers 403, "root" treats it as a
        /// child of the organization's root.
        unknown_resource: UnknownResource => default r#""deny""#,
        /// Ids of the organizations that are admitted; none = all.
        orgs: Vec<String> => default "[]",
        /// The largest request body; 0 = any.
        body_bytes: Size<0, TIB> => default "0",
        /// A whole request; "0s" = as `timeouts.request`.
        timeout: Period<0, DAY_MS> => default r#""0s""#,
        /// How old the directory may be; "0s" = any age.
        max_staleness: Period<0, DAY_MS> => default r#""0s""#,
        /// When it is older: "fail_closed" answers 503, "safe_methods" lets GET, HEAD and OPTIONS
        /// pass, "serve_recorded" lets all pass and records the age.
        on_stale: OnStale => default r#""serve_recorded""#,
        /// Bodies may pause as long as `timeouts.stream_idle`.
        streaming: bool => default "false",
        /// The same as `identity.resource_metadata`, for this route; "" = that one.
        resource_metadata: MetadataUrl => default r#""""#,
        /// The shape of denials: "problem" (RFC 9457), or what other clients know: "aihub",
        /// "castai", "grpc", "kitaru", "oauth", "openai", "unkey", "zenml". A gRPC request is
        /// answered as gRPC in any case.
        error_template: ErrorTemplate => default r#""problem""#,
        /// Own answers, by code, over the template. Example: { invalid_token =
        /// { content_type = "application/json", body = '{"error":"{code}"}' } }
        errors: Map<RouteError> => default "{}",
    }
}

section! {
    /// `routes.errors.<code>`
    pub struct RouteError {
        /// Its media type; what is filled in is escaped for JSON, HTML and XML.
        content_type: String => default r#""application/json""#,
        /// At most 16 KiB. {code}, {status}, {title}, {request_id}, {retry_after} and {permission}
        /// are filled in; other braces stay.
        body: String => required r#"'{"error":"{code}"}'"#,
    }
}

section! {
    /// `routes.require`
    pub struct Require {
        /// `type:verb`.
        permission: OptionalPermission => default r#""""#,
        /// A template such as `cluster/{cluster}`; "" = the organization's root.
        resource: String => default r#""""#,
    }
}
