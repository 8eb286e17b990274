//! What a gateway is told at its start and at a reload: plain values with the defaults of the specification. Reads
//! no file and no environment; whoever builds it has done that.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use portcullis_core::feed::OnStale;
pub use portcullis_core::key::Spellings;
use portcullis_core::key::{PepperRing, Prefix};
use portcullis_core::route::PathPolicy;
use zeroize::Zeroize;

/// Everything a gateway needs to know. [`crate::bind`] checks it as a whole and reports every
/// [`Fault`] at once.
#[derive(Debug)]
pub struct Settings {
    /// `gateway.id`: the name this gateway has at its control plane; 1–64 of `[A-Za-z0-9._-]`.
    pub gateway_id: String,
    /// `gateway.workers`: threads that serve requests; 0 = one per CPU this process may use.
    pub workers: usize,
    /// `[[listeners]]`: at least one.
    pub listeners: Vec<Listener>,
    /// `[feed]`: where the directory comes from.
    pub feed: Feed,
    /// `[keys]`: which keys are understood.
    pub keys: Keys,
    /// `[identity]`: what the upstream is told about the caller.
    pub identity: Identity,
    /// `[headers]`: what is done with the caller's other headers.
    pub headers: Headers,
    /// `[paths]`: what is done with paths that could be read in two ways.
    pub paths: PathPolicy,
    /// `[limits]`: how much of everything.
    pub limits: Limits,
    /// `[timeouts]`: how long for everything.
    pub timeouts: Timeouts,
    /// `[failures]`: how many invalid credentials of one source are put up with.
    pub failures: Failures,
    /// `[[upstreams]]`: the protected services.
    pub upstreams: Vec<Upstream>,
    /// `[[routes]]`: which requests go where and what they need. None = everything is refused.
    pub routes: Vec<Route>,
    /// `[log]`: access records.
    pub log: Log,
}

/// One `[[listeners]]` entry: an address that takes requests.
#[derive(Clone, Debug)]
pub struct Listener {
    /// `listeners.name`: its name in metrics and records.
    pub name: String,
    /// `listeners.address`: IP address and port; port 0 = any free one.
    pub address: SocketAddr,
    /// `listeners.trusted_proxies`: peers whose `X-Forwarded-For` is believed, as CIDRs.
    pub trusted_proxies: Vec<String>,
    /// `listeners.require_tls`: refuse credentials here with `https_required`, because this
    /// listener has no TLS. Off for a listener that is reached over a trusted link only.
    pub require_tls: bool,
}

/// `[feed]`: the source of the directory.
#[derive(Debug)]
pub enum Feed {
    /// `feed.mode = "pull"`: follow a control plane.
    Control {
        /// `feed.url`: its base URL, `http://host:port`.
        url: String,
        /// `feed.token_file`: the bearer token in it.
        token: FeedToken,
        /// `feed.cluster`: refuse a feed of any other cluster; `None` = the first one met.
        cluster: Option<String>,
        /// `feed.verify_key`: Ed25519 public key; set = every line must be signed.
        verify_key: Option<[u8; 32]>,
        /// `feed.usage_interval`: how often usage is reported.
        usage_interval: Duration,
    },
    /// `feed.mode = "file"`: a snapshot file, read again whenever it changes.
    File {
        /// The file, in the feed's own format.
        path: PathBuf,
        /// `feed.verify_key`: as above.
        verify_key: Option<[u8; 32]>,
    },
}

/// The bearer token a gateway shows to its control plane. Zeroized on drop, never printed.
pub struct FeedToken(String);

impl FeedToken {
    /// The token with this text, without surrounding blanks.
    pub fn new(mut text: String) -> Self {
        let token = Self(text.trim().to_owned());
        text.zeroize();
        token
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for FeedToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for FeedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FeedToken")
    }
}

/// `[keys]`: which keys are understood.
#[derive(Debug)]
pub struct Keys {
    /// `keys.peppers`: what stored digests are keyed with; the first is the current one.
    pub peppers: PepperRing,
    /// `keys.prefixes`: key prefixes that are accepted; empty = any.
    pub prefixes: Vec<Prefix>,
    /// `keys.imported`, `keys.renderings`: which texts besides native keys are understood.
    pub spellings: Spellings,
    /// `keys.sessions`: whether session tokens are.
    pub sessions: bool,
}

/// `[identity]`: what the upstream is told about the caller.
#[derive(Clone, Debug)]
pub struct Identity {
    /// `identity.prefix`: reserved prefix of the identity headers; ends with `-`.
    pub prefix: String,
    /// `identity.realm`: the realm in challenges.
    pub realm: String,
    /// `identity.resource_metadata`: the `resource_metadata` of bearer challenges, a URL.
    pub resource_metadata: Option<String>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            prefix: "x-auth-".to_owned(),
            realm: "portcullis".to_owned(),
            resource_metadata: None,
        }
    }
}

/// What is done with header names that contain `_`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Underscore {
    /// The field is removed.
    Drop,
    /// The field is forwarded unless its folded name is reserved.
    Keep,
    /// The request is refused with 400.
    #[default]
    Reject,
}

/// `[headers]`: what is done with the caller's headers.
#[derive(Clone, Debug)]
pub struct Headers {
    /// `headers.underscore`: names that contain `_`.
    pub underscore: Underscore,
    /// `headers.remove`: names that never reach an upstream.
    pub remove: Vec<String>,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            underscore: Underscore::default(),
            remove: vec!["x-middleware-subrequest".to_owned()],
        }
    }
}

/// `[limits]`: how much of everything. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `limits.head_bytes`: request line and headers together; beyond it 431.
    pub head_bytes: usize,
    /// `limits.header_count`: header lines, at most 100; beyond it 431.
    pub header_count: usize,
    /// `limits.target_bytes`: the request target; beyond it 414.
    pub target_bytes: usize,
    /// `limits.connections`: open connections; 0 = 80 % of the free file descriptors.
    pub connections: usize,
    /// `limits.connections_per_source`: open connections of one address, trusted proxies exempt.
    pub connections_per_source: usize,
    /// `limits.requests_per_connection`: after so many requests a connection is closed.
    pub requests_per_connection: u32,
    /// `limits.in_flight_per_worker`: requests a worker serves at once; beyond it 503.
    pub in_flight_per_worker: usize,
    /// `limits.memory_bytes`: resident memory; 0 = 80 % of the memory limit. At 90 % of it no new
    /// connections, beyond it 503.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            header_count: 100,
            target_bytes: 8 * 1024,
            connections: 0,
            connections_per_source: 1024,
            requests_per_connection: 10_000,
            in_flight_per_worker: 10_000,
            memory_bytes: 0,
        }
    }
}

/// `[timeouts]`: how long for everything. Kept to within a quarter of a second.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// `timeouts.first_byte`: from accept to the first byte; then close.
    pub first_byte: Duration,
    /// `timeouts.head`: from the first byte of a head to its end; then 408.
    pub head: Duration,
    /// `timeouts.idle`: between two requests of a connection; then close.
    pub idle: Duration,
    /// `timeouts.min_rate`: slowest body in bytes per second that is put up with; 0 = any.
    pub min_rate: u64,
    /// `timeouts.rate_grace`: how long a body may be slower than that.
    pub rate_grace: Duration,
    /// `timeouts.request`: a whole request; zero = no limit.
    pub request: Duration,
    /// `timeouts.upstream_connect`: opening a connection to an upstream; then 504.
    pub upstream_connect: Duration,
    /// `timeouts.upstream_head`: from the request's head to the response's head; then 504.
    pub upstream_head: Duration,
    /// `timeouts.upstream_read`: between two pieces of a response body; then abort.
    pub upstream_read: Duration,
    /// `timeouts.stream_idle`: the same on routes with `streaming`.
    pub stream_idle: Duration,
    /// `timeouts.linger`: how long unread input is drained before a connection is closed.
    pub linger: Duration,
    /// `timeouts.drain`: how long accepted requests may take to finish at the end.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            min_rate: 500,
            rate_grace: Duration::from_secs(10),
            request: Duration::ZERO,
            upstream_connect: Duration::from_secs(2),
            upstream_head: Duration::from_secs(60),
            upstream_read: Duration::from_secs(60),
            stream_idle: Duration::from_secs(3600),
            linger: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

/// `[failures]`: how many invalid credentials of one source are put up with. A source is an IPv4
/// address or an IPv6 network of 64 bits; a valid credential always passes.
#[derive(Clone, Debug)]
pub struct Failures {
    /// `failures.rate`: so many in a period; beyond it 429. 0 = any number.
    pub rate: u64,
    /// `failures.period`: the period.
    pub period: Duration,
}

impl Default for Failures {
    fn default() -> Self {
        Self { rate: 100, period: Duration::from_secs(10) }
    }
}

/// One `[[upstreams]]` entry: a protected service, reached over plain HTTP/1.1, round robin.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `upstreams.name`: its name in routes, metrics and records.
    pub name: String,
    /// `upstreams.addresses`: at least one.
    pub addresses: Vec<UpstreamAddress>,
    /// `upstreams.retries`: how often a request that certainly did nothing is sent again.
    pub retries: u32,
    /// `upstreams.idle`: idle connections kept per worker and address.
    pub idle: usize,
    /// `upstreams.idle_time`: how long they are kept.
    pub idle_time: Duration,
    /// `upstreams.connections`: connections per worker and address; beyond it 503.
    pub connections: usize,
    /// `upstreams.requests_per_connection`: after so many requests a connection is closed.
    pub requests_per_connection: u32,
    /// `upstreams.response_head_bytes`: the response's head; beyond it 502.
    pub response_head_bytes: usize,
    /// `upstreams.allow_link_local`: whether link-local addresses (which include the metadata
    /// services of clouds) are allowed.
    pub allow_link_local: bool,
}

impl Upstream {
    /// An upstream with one or more addresses and every other value at its default.
    pub fn new(name: impl Into<String>, addresses: Vec<UpstreamAddress>) -> Self {
        Self {
            name: name.into(),
            addresses,
            retries: 1,
            idle: 64,
            idle_time: Duration::from_secs(30),
            connections: 256,
            requests_per_connection: 10_000,
            response_head_bytes: 64 * 1024,
            allow_link_local: false,
        }
    }
}

/// One of an upstream's `addresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// `upstreams.addresses.host`: name or IP address and port, `host:port`.
    pub host: String,
    /// `upstreams.addresses.weight`: 1–100; its share of the requests.
    pub weight: u32,
}

/// One `[[routes]]` entry.
#[derive(Clone, Debug)]
pub struct Route {
    /// `routes.name`: its name in metrics and records.
    pub name: String,
    /// `routes.hosts`: exact names or `*.suffix`; empty = any.
    pub hosts: Vec<String>,
    /// `routes.path`: literal segments, `{name}` for one segment, `{*rest}` last.
    pub path: String,
    /// `routes.methods`: empty = GET HEAD POST PUT PATCH DELETE OPTIONS QUERY.
    pub methods: Vec<String>,
    /// `routes.upstream`: the name of an upstream.
    pub upstream: String,
    /// `routes.auth`, `routes.authenticated_only` and `routes.require`: who may pass.
    pub access: Access,
    /// `routes.strip_prefix`: what the upstream does not see of the path, such as `/api`.
    pub strip_prefix: Option<String>,
    /// `routes.credentials`: where a key is looked for; only these places are looked at.
    pub credentials: Vec<CredentialSource>,
    /// `routes.forward_credential`: pass the key on to the upstream.
    pub forward_credential: bool,
    /// `routes.encoded_slash = "keep"`: `%2F` stays as it is; otherwise it is refused.
    pub encoded_slash_keep: bool,
    /// `routes.unknown_resource`: what a resource is that the directory does not know.
    pub unknown_resource: UnknownResource,
    /// `routes.orgs`: organizations that are admitted; empty = all.
    pub orgs: Vec<String>,
    /// `routes.body_bytes`: the largest request body; 0 = any.
    pub body_bytes: u64,
    /// `routes.timeout`: a whole request; zero = `timeouts.request`.
    pub timeout: Duration,
    /// `routes.max_staleness`: how old the directory may be; zero = any age.
    pub max_staleness: Duration,
    /// `routes.on_stale`: what happens when it is older.
    pub on_stale: OnStale,
    /// `routes.streaming`: bodies may pause as long as `timeouts.stream_idle`.
    pub streaming: bool,
    /// `routes.resource_metadata`: what this route's bearer challenges name instead of
    /// `identity.resource_metadata`.
    pub resource_metadata: Option<String>,
    /// `routes.error_template`: the shape of its denials.
    pub error_template: ErrorTemplate,
    /// `routes.errors`: own bodies, over the template's.
    pub errors: Vec<ErrorBody>,
}

impl Route {
    /// A route that needs a valid key and no permission, every other value at its default.
    pub fn new(
        name: impl Into<String>,
        path: impl Into<String>,
        upstream: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            hosts: Vec::new(),
            path: path.into(),
            methods: Vec::new(),
            upstream: upstream.into(),
            access: Access::AuthenticatedOnly,
            strip_prefix: None,
            credentials: vec![CredentialSource::Bearer],
            forward_credential: false,
            encoded_slash_keep: false,
            unknown_resource: UnknownResource::Deny,
            orgs: Vec::new(),
            body_bytes: 0,
            timeout: Duration::ZERO,
            max_staleness: Duration::ZERO,
            on_stale: OnStale::ServeRecorded,
            streaming: false,
            resource_metadata: None,
            error_template: ErrorTemplate::Problem,
            errors: Vec::new(),
        }
    }
}

/// Who may pass a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// `authenticated_only = true`: anyone with a valid key.
    AuthenticatedOnly,
    /// `auth = "none"`: everyone, no credential is looked at.
    Public,
    /// `require = { permission, resource }`: a valid key with this permission.
    Require {
        /// `routes.require.permission`: `type:verb`.
        permission: String,
        /// `routes.require.resource`: a template such as `cluster/{cluster}`; `None` = the
        /// organization's root.
        resource: Option<String>,
    },
}

/// `routes.error_template`: the shape of a denial's body, by the clients that know it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum ErrorTemplate {
    /// `"aihub"`: `{"message"}`.
    Aihub,
    /// `"castai"`: `{"message", "fieldViolations"}`.
    Castai,
    /// `"grpc"`: no body, `grpc-status` and `grpc-message`, whatever the request was.
    Grpc,
    /// `"kitaru"`: `{"detail"}`.
    Kitaru,
    /// `"oauth"`: `{"error", "error_description"}`.
    Oauth,
    /// `"openai"`: `{"error": {"message", "type", "param", "code"}}`.
    Openai,
    /// `"problem"`: RFC 9457.
    #[default]
    Problem,
    /// `"unkey"`: `{"meta": {"requestId"}, "error": {"title", "detail", "status", "type"}}`.
    Unkey,
    /// `"zenml"`: `{"detail": ["<class>", "<message>"]}`.
    Zenml,
}

impl ErrorTemplate {
    /// Every template.
    pub const ALL: &[Self] = &[
        Self::Aihub,
        Self::Castai,
        Self::Grpc,
        Self::Kitaru,
        Self::Oauth,
        Self::Openai,
        Self::Problem,
        Self::Unkey,
        Self::Zenml,
    ];
}

/// `routes.errors.<code>`: the operator's own answer to one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// The code.
    pub code: String,
    /// `routes.errors.<code>.content_type`.
    pub content_type: String,
    /// `routes.errors.<code>.body`: at most 16 KiB, with the placeholders `{code}`, `{status}`,
    /// `{title}`, `{request_id}`, `{retry_after}` and `{permission}`.
    pub body: String,
}

/// A place in the request where a key may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// `"basic"`: `Authorization: Basic` with `id:tail`, `any:key` or `key:`.
    Basic,
    /// `"bearer"`: `Authorization: Bearer`.
    Bearer,
    /// `"cookie:NAME"`: the cookie of this name.
    Cookie(String),
    /// `"form:NAME"`: the field of this name in a body of type
    /// `application/x-www-form-urlencoded` of at most 16 KiB.
    Form(String),
    /// `"header:NAME"`: the whole value of this header.
    Header(String),
    /// `"query:NAME"`: the query parameter of this name.
    Query(String),
}

impl std::str::FromStr for CredentialSource {
    type Err = CredentialSourceError;

    fn from_str(text: &str) -> Result<Self, CredentialSourceError> {
        let named = |name: &str| {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let fits = !name.is_empty() && name.len() <= 64 && name.bytes().all(token);
            if fits { Ok(name.to_owned()) } else { Err(CredentialSourceError) }
        };
        match text.split_once(':') {
            None if text == "bearer" => Ok(Self::Bearer),
            None if text == "basic" => Ok(Self::Basic),
            Some(("header", name)) => Ok(Self::Header(named(name)?.to_ascii_lowercase())),
            Some(("query", name)) => Ok(Self::Query(named(name)?)),
            Some(("cookie", name)) => Ok(Self::Cookie(named(name)?)),
            Some(("form", name)) => Ok(Self::Form(named(name)?)),
            _ => Err(CredentialSourceError),
        }
    }
}

/// The text names no credential source.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential source is bearer, basic, header:NAME, form:NAME, query:NAME or cookie:NAME")]
pub struct CredentialSourceError;

/// `routes.unknown_resource`: what a resource is that the directory does not know.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum UnknownResource {
    /// `"deny"`: 403.
    #[default]
    Deny,
    /// `"root"`: a child of the organization's root.
    Root,
}

/// `[log]`: access records.
#[derive(Clone, Debug)]
pub struct Log {
    /// `log.records`: where they go.
    pub records: Records,
    /// `log.sample_allowed`: share of allowed requests that are recorded, 0.0–1.0; denials always
    /// are.
    pub sample_allowed: f64,
}

impl Default for Log {
    fn default() -> Self {
        Self { records: Records::Stdout, sample_allowed: 1.0 }
    }
}

/// `log.records`: where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// `"file:PATH"`: appended to this file.
    File(PathBuf),
    /// `"off"`: nowhere; costs nothing.
    Off,
    /// `"stdout"`: standard output.
    Stdout,
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("standard output"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Fault {
    /// The key, as in the configuration file: `routes.nodes.upstream`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
}
