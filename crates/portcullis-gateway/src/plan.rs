//! The settings, checked as a whole and compiled into what workers read: route table, header rules,
//! prebuilt challenges, upstream addresses. Never changes, except for addresses that a name resolves
//! to: a reload makes another plan. Touches no socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use portcullis_core::access::Permission;
use portcullis_core::directory::{Cidr, Requirement, Symbols, Unknown};
use portcullis_core::key::PepperRing;
use portcullis_core::route::{EncodedSlash, PathPolicy, RouteSpec, RouteTable};

use crate::credential::{Source, Understood};
use crate::failures::FailureLimit;
use crate::forward::{HeaderRules, IdentityNames};
use crate::memory;
use crate::phase::{ExchangeLimits, PhaseLimits, nanos};
use crate::pool::may_dial;
use crate::respond::Challenges;
use crate::settings::{
    Access, CredentialSource, Fault, Feed, Limits, OnStale, Records, Route, Settings, Timeouts,
    UnknownResource, Upstream,
};
use crate::template::Template;

/// Descriptors that connections may not use up.
const DESCRIPTOR_RESERVE: u64 = 64;

/// What workers need of the settings.
pub(crate) struct Plan {
    /// Counts up with every reload.
    pub(crate) generation: u64,
    /// Open downstream connections of all workers.
    pub(crate) connection_limit: usize,
    /// Resident memory, in bytes.
    pub(crate) memory_limit: u64,
    pub(crate) drain: Duration,
    pub(crate) limits: Limits,
    pub(crate) failures: FailureLimit,
    pub(crate) phases: PhaseLimits,
    pub(crate) linger: Duration,
    pub(crate) listeners: Vec<ListenerPlan>,
    pub(crate) table: RouteTable<usize>,
    routes: Vec<RoutePlan>,
    pub(crate) upstreams: Vec<Arc<UpstreamPlan>>,
    pub(crate) headers: HeaderRules,
    pub(crate) identity_names: IdentityNames,
    pub(crate) paths: PathPolicy,
    pub(crate) peppers: PepperRing,
    pub(crate) understood: Understood,
    /// Whether access records are kept at all.
    pub(crate) records: bool,
    pub(crate) sample_allowed: f64,
}

/// A listener as its requests see it.
pub(crate) struct ListenerPlan {
    pub(crate) name: String,
    pub(crate) require_tls: bool,
    trusted: Vec<Cidr>,
}

impl ListenerPlan {
    /// Whether this peer's word about where a request came from counts.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(peer))
    }
}

/// A route as its requests see it.
pub(crate) struct RoutePlan {
    pub(crate) name: String,
    pub(crate) index: usize,
    pub(crate) upstream: usize,
    pub(crate) access: AccessPlan,
    /// The permission it requires, for the upstream.
    pub(crate) scope: Option<HeaderValue>,
    pub(crate) sources: Vec<Source>,
    pub(crate) forward_credential: bool,
    /// Whether a form may hold the credential: then it is read before the decision.
    pub(crate) reads_form: bool,
    /// Whether a query may hold the credential: then responses must not be stored.
    pub(crate) query_source: bool,
    pub(crate) challenges: Challenges,
    pub(crate) template: Template,
    pub(crate) orgs: Vec<Bytes>,
    pub(crate) body_bytes: u64,
    pub(crate) exchange: ExchangeLimits,
    pub(crate) max_staleness_ns: u64,
    pub(crate) on_stale: OnStale,
}

/// Who may pass.
pub(crate) enum AccessPlan {
    AuthenticatedOnly,
    Public,
    Require { need: Requirement, unknown: Unknown },
}

impl RoutePlan {
    /// The permission it requires, if any.
    pub(crate) fn permission(&self) -> Option<&str> {
        match &self.access {
            AccessPlan::Require { need, .. } => Some(need.as_str()),
            AccessPlan::AuthenticatedOnly | AccessPlan::Public => None,
        }
    }
}

/// An upstream as its pools see it.
#[derive(Debug, PartialEq)]
pub(crate) struct UpstreamPlan {
    pub(crate) name: String,
    pub(crate) addresses: Vec<AddressPlan>,
    /// Places in `addresses`, each as often as its weight says, spread out.
    pub(crate) order: Vec<usize>,
    pub(crate) retries: u32,
    pub(crate) idle: usize,
    pub(crate) idle_time: Duration,
    pub(crate) connections: usize,
    pub(crate) requests_per_connection: u32,
    pub(crate) response_head_bytes: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) allow_link_local: bool,
}

/// One address: as configured, and what it resolves to.
#[derive(Debug)]
pub(crate) struct AddressPlan {
    pub(crate) host: String,
    /// The last good answer; renewed by the steward.
    pub(crate) resolved: ArcSwap<Vec<SocketAddr>>,
}

impl PartialEq for AddressPlan {
    /// As configured.
    fn eq(&self, other: &Self) -> bool {
        self.host == other.host
    }
}

impl UpstreamPlan {
    /// A socket address to dial for the configured one.
    pub(crate) fn resolved(&self, address: usize) -> Option<SocketAddr> {
        let found = self.addresses.get(address)?.resolved.load();
        found.iter().copied().find(|found| may_dial(*found, self.allow_link_local))
    }
}

impl Plan {
    /// Compiles the settings.
    ///
    /// # Errors
    ///
    /// Every fault there is, not only the first.
    pub(crate) fn new(
        settings: Settings,
        symbols: &mut Symbols,
    ) -> Result<(Self, Feed), Vec<Fault>> {
        let mut faults = Faults::default();
        faults.check_gateway(&settings);
        let listeners = faults.listeners(&settings);
        let upstreams = faults.upstreams(&settings);
        let headers = faults.headers(&settings);
        let (routes, specs) = faults.routes(&settings, symbols);
        let table = faults.table(specs);
        match (table, headers.identity_names()) {
            (Some(table), Some(identity_names)) if faults.0.is_empty() => Ok((
                Self {
                    generation: 1,
                    connection_limit: connection_limit(&settings.limits),
                    memory_limit: memory::limit(settings.limits.memory_bytes),
                    drain: settings.timeouts.drain,
                    phases: PhaseLimits::new(&settings.timeouts),
                    linger: settings.timeouts.linger,
                    limits: settings.limits,
                    failures: FailureLimit::new(&settings.failures),
                    listeners,
                    table,
                    routes,
                    upstreams,
                    headers,
                    identity_names,
                    paths: settings.paths,
                    peppers: settings.keys.peppers,
                    understood: Understood {
                        prefixes: settings.keys.prefixes,
                        spellings: settings.keys.spellings,
                        sessions: settings.keys.sessions,
                    },
                    records: settings.log.records != Records::Off,
                    sample_allowed: settings.log.sample_allowed,
                },
                settings.feed,
            )),
            (Some(_) | None, _) => Err(faults.0),
        }
    }

    /// Makes this the successor of `old`: upstreams that did not change are the very same, and
    /// names that were resolved before keep their addresses. The result is the other upstreams.
    pub(crate) fn follow(&mut self, old: &Self) -> Vec<Arc<UpstreamPlan>> {
        self.generation = old.generation + 1;
        self.failures.follow(&old.failures);
        let mut fresh = Vec::new();
        for upstream in &mut self.upstreams {
            if let Some(same) = old.upstreams.iter().find(|known| known == &upstream) {
                *upstream = Arc::clone(same);
                continue;
            }
            let known = old.upstreams.iter().flat_map(|upstream| &upstream.addresses);
            for address in &upstream.addresses {
                if let Some(same) = known.clone().find(|known| known == &address) {
                    address.resolved.store(same.resolved.load_full());
                }
            }
            fresh.push(Arc::clone(upstream));
        }
        fresh
    }

    /// The route at this place.
    pub(crate) fn route(&self, index: usize) -> Option<&RoutePlan> {
        self.routes.get(index)
    }

    pub(crate) fn routes(&self) -> &[RoutePlan] {
        &self.routes
    }

    /// How long keys are served without contact to the feed; `None` = for ever.
    pub(crate) fn fence_ms(&self) -> Option<u64> {
        let keyed = self.routes.iter().filter(|route| !matches!(route.access, AccessPlan::Public));
        let fences = keyed.map(|route| match route.on_stale {
            OnStale::FailClosed if route.max_staleness_ns > 0 => {
                Some(route.max_staleness_ns / 1_000_000)
            }
            OnStale::FailClosed | OnStale::SafeMethods | OnStale::ServeRecorded => None,
        });
        fences.collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Faults as they are found.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Fault { key: key.into(), what: what.into() });
    }

    fn check_gateway(&mut self, settings: &Settings) {
        let id = &settings.gateway_id;
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.is_empty() || id.len() > 64 || !id.bytes().all(word) {
            self.add("gateway.id", "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_', '-'");
        }
        if !(0.0..=1.0).contains(&settings.log.sample_allowed) {
            self.add("log.sample_allowed", "must be a number from 0.0 to 1.0");
        }
        let Limits { head_bytes, header_count, target_bytes, in_flight_per_worker, .. } =
            settings.limits;
        if !(1024..=65_536).contains(&head_bytes) {
            self.add("limits.head_bytes", "must be 1024 to 65536");
        }
        if !(1..=100).contains(&header_count) {
            self.add("limits.header_count", "must be 1 to 100");
        }
        if !(1..=65_000).contains(&target_bytes) {
            self.add("limits.target_bytes", "must be 1 to 65000");
        }
        if in_flight_per_worker == 0 {
            self.add("limits.in_flight_per_worker", "must be at least 1");
        }
        self.check_timeouts(&settings.timeouts);
        match &settings.feed {
            Feed::Control { url, .. } => {
                if let Err(what) = crate::feed_client::Base::parse(url) {
                    self.add("feed.url", what);
                }
            }
            Feed::File { .. } => {}
        }
    }

    fn check_timeouts(&mut self, timeouts: &Timeouts) {
        let shortest = Duration::from_millis(250);
        for (name, value) in [
            ("first_byte", timeouts.first_byte),
            ("head", timeouts.head),
            ("idle", timeouts.idle),
            ("rate_grace", timeouts.rate_grace),
            ("upstream_connect", timeouts.upstream_connect),
            ("upstream_head", timeouts.upstream_head),
            ("upstream_read", timeouts.upstream_read),
            ("stream_idle", timeouts.stream_idle),
        ] {
            if value < shortest {
                self.add(format!("timeouts.{name}"), "must be at least 250ms");
            }
        }
    }

    fn listeners(&mut self, settings: &Settings) -> Vec<ListenerPlan> {
        if settings.listeners.is_empty() {
            self.add("listeners", "at least one is needed");
        }
        let mut plans: Vec<ListenerPlan> = Vec::new();
        for listener in &settings.listeners {
            let key = format!("listeners.{}", listener.name);
            if listener.name.is_empty() || plans.iter().any(|plan| plan.name == listener.name) {
                self.add(format!("{key}.name"), "every listener needs a name of its own");
            }
            let trusted = listener.trusted_proxies.iter().filter_map(|text| {
                let parsed = text.parse();
                if parsed.is_err() {
                    let what = format!("{text:?} is no network such as 10.0.0.0/8 or ::1/128");
                    self.add(format!("{key}.trusted_proxies"), what);
                }
                parsed.ok()
            });
            let trusted = trusted.collect();
            let (name, require_tls) = (listener.name.clone(), listener.require_tls);
            plans.push(ListenerPlan { name, require_tls, trusted });
        }
        plans
    }

    fn upstreams(&mut self, settings: &Settings) -> Vec<Arc<UpstreamPlan>> {
        let mut plans: Vec<Arc<UpstreamPlan>> = Vec::new();
        for upstream in &settings.upstreams {
            let key = format!("upstreams.{}", upstream.name);
            if upstream.name.is_empty() || plans.iter().any(|plan| plan.name == upstream.name) {
                self.add(format!("{key}.name"), "every upstream needs a name of its own");
            }
            if upstream.addresses.is_empty() {
                self.add(format!("{key}.addresses"), "at least one is needed");
            }
            if upstream.connections == 0 {
                self.add(format!("{key}.connections"), "must be at least 1");
            }
            if !(8 * 1024..=1024 * 1024).contains(&upstream.response_head_bytes) {
                self.add(format!("{key}.response_head_bytes"), "must be 8192 to 1048576");
            }
            let addresses = self.addresses(&key, upstream, settings);
            plans.push(Arc::new(UpstreamPlan {
                name: upstream.name.clone(),
                addresses,
                order: spread(upstream),
                retries: upstream.retries,
                idle: upstream.idle,
                idle_time: upstream.idle_time,
                connections: upstream.connections,
                requests_per_connection: upstream.requests_per_connection,
                response_head_bytes: upstream.response_head_bytes,
                connect_timeout: settings.timeouts.upstream_connect,
                allow_link_local: upstream.allow_link_local,
            }));
        }
        plans
    }

    fn addresses(
        &mut self,
        key: &str,
        upstream: &Upstream,
        settings: &Settings,
    ) -> Vec<AddressPlan> {
        let mut plans = Vec::new();
        for address in &upstream.addresses {
            let key = format!("{key}.addresses");
            if !(1..=100).contains(&address.weight) {
                self.add(
                    &key,
                    format!("weight {} of {} is not 1 to 100", address.weight, address.host),
                );
            }
            let literal = address.host.parse::<SocketAddr>();
            let named = address.host.rsplit_once(':').is_some_and(|(name, port)| {
                !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
            });
            if literal.is_err() && !named {
                self.add(&key, format!("{:?} is not host:port", address.host));
            }
            if let Ok(literal) = literal {
                if !may_dial(literal, upstream.allow_link_local) {
                    let what = format!("{literal} is link-local or no address to connect to");
                    self.add(&key, what + "; allow_link_local permits the former");
                }
                let own = settings.listeners.iter().any(|listener| {
                    let wild = listener.address.ip().is_unspecified() && literal.ip().is_loopback();
                    listener.address.port() == literal.port()
                        && (listener.address.ip() == literal.ip() || wild)
                });
                if own {
                    self.add(&key, format!("{literal} is a listener of this very gateway"));
                }
            }
            let resolved = literal.map(|literal| vec![literal]).unwrap_or_default();
            plans.push(AddressPlan {
                host: address.host.clone(),
                resolved: ArcSwap::from_pointee(resolved),
            });
        }
        plans
    }

    fn headers(&mut self, settings: &Settings) -> HeaderRules {
        let prefix = &settings.identity.prefix;
        let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if prefix.len() < 3 || !prefix.ends_with('-') || !prefix.bytes().all(token) {
            self.add(
                "identity.prefix",
                "must be of a-z, 0-9 and '-', end with '-', and be longer than 2",
            );
        }
        let realm = &settings.identity.realm;
        if realm.is_empty()
            || !realm
                .bytes()
                .all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\')
        {
            self.add("identity.realm", "must be printable ASCII without '\"' and '\\'");
        }
        let mut remove = Vec::new();
        for name in &settings.headers.remove {
            match HeaderName::try_from(name) {
                Ok(name) => remove.push(name),
                Err(_) => self.add("headers.remove", format!("{name:?} is no header name")),
            }
        }
        let sources = settings.routes.iter().flat_map(|route| &route.credentials);
        let sources = sources.filter_map(|source| match source {
            CredentialSource::Header(name) => HeaderName::try_from(name).ok(),
            CredentialSource::Basic
            | CredentialSource::Bearer
            | CredentialSource::Cookie(_)
            | CredentialSource::Form(_)
            | CredentialSource::Query(_) => None,
        });
        HeaderRules::new(prefix, settings.headers.underscore, remove, sources.collect())
    }

    fn routes(
        &mut self,
        settings: &Settings,
        symbols: &mut Symbols,
    ) -> (Vec<RoutePlan>, Vec<RouteSpec<usize>>) {
        let mut plans: Vec<RoutePlan> = Vec::new();
        let mut specs = Vec::new();
        for (index, route) in settings.routes.iter().enumerate() {
            let key = format!("routes.{}", route.name);
            if route.name.is_empty() || plans.iter().any(|plan| plan.name == route.name) {
                self.add(format!("{key}.name"), "every route needs a name of its own");
            }
            let upstream =
                settings.upstreams.iter().position(|upstream| upstream.name == route.upstream);
            if upstream.is_none() {
                let what = format!("there is no upstream named {:?}", route.upstream);
                self.add(format!("{key}.upstream"), what);
            }
            let public = route.access == Access::Public;
            if route.credentials.is_empty() && !public {
                self.add(format!("{key}.credentials"), "at least one is needed");
            }
            let (access, resource) = self.access(&key, route, symbols);
            specs.push(RouteSpec {
                name: route.name.clone(),
                hosts: route.hosts.clone(),
                path: route.path.clone(),
                methods: route.methods.clone(),
                encoded_slash: if route.encoded_slash_keep {
                    EncodedSlash::Keep
                } else {
                    EncodedSlash::Refuse
                },
                resource,
                strip_prefix: route.strip_prefix.clone(),
                value: index,
            });
            let (template, faults) = Template::new(route.error_template, &route.errors);
            faults.into_iter().for_each(|(below, what)| self.add(format!("{key}.{below}"), what));
            if !metadata(route, settings).is_none_or(is_url) {
                self.add(format!("{key}.resource_metadata"), "must be an http or https URL");
            }
            let (index, upstream) = (index, upstream.unwrap_or(0));
            plans.push(route_plan((index, upstream), route, access, template, settings));
        }
        (plans, specs)
    }

    fn access(
        &mut self,
        key: &str,
        route: &Route,
        symbols: &mut Symbols,
    ) -> (AccessPlan, Option<String>) {
        match &route.access {
            Access::AuthenticatedOnly => (AccessPlan::AuthenticatedOnly, None),
            Access::Public => (AccessPlan::Public, None),
            Access::Require { permission, resource } => {
                let unknown = match route.unknown_resource {
                    UnknownResource::Deny => Unknown::Deny,
                    UnknownResource::Root => Unknown::Root,
                };
                match permission.parse::<Permission>() {
                    Ok(parsed) => {
                        let need = symbols.requirement(&parsed);
                        (AccessPlan::Require { need, unknown }, resource.clone())
                    }
                    Err(error) => {
                        self.add(format!("{key}.require.permission"), error.to_string());
                        // Never served: a fault keeps the plan from being built.
                        (AccessPlan::AuthenticatedOnly, resource.clone())
                    }
                }
            }
        }
    }

    fn table(&mut self, specs: Vec<RouteSpec<usize>>) -> Option<RouteTable<usize>> {
        match RouteTable::build(specs) {
            Ok(table) => Some(table),
            Err(errors) => {
                for error in errors {
                    self.add(format!("routes.{}", error.route), error.fault.to_string());
                }
                None
            }
        }
    }
}

/// The URL that a route's bearer challenges name.
fn metadata<'s>(route: &'s Route, settings: &'s Settings) -> Option<&'s str> {
    route.resource_metadata.as_deref().or(settings.identity.resource_metadata.as_deref())
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\<>".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty()) && text.len() <= 512 && text.bytes().all(plain)
}

fn route_plan(
    (index, upstream): (usize, usize),
    route: &Route,
    access: AccessPlan,
    template: Template,
    settings: &Settings,
) -> RoutePlan {
    let permission = match &access {
        AccessPlan::Require { need, .. } => Some(need.as_str().to_owned()),
        AccessPlan::AuthenticatedOnly | AccessPlan::Public => None,
    };
    let read = if route.streaming {
        settings.timeouts.stream_idle
    } else {
        settings.timeouts.upstream_read
    };
    let whole = if route.timeout.is_zero() { settings.timeouts.request } else { route.timeout };
    RoutePlan {
        name: route.name.clone(),
        index,
        upstream,
        access,
        // A permission is made of lower-case letters, digits and `_.-:`.
        // It lives for ever, so that no request writes to a reference count of it.
        scope: permission.clone().map(|text| HeaderValue::from_static(text.leak())),
        sources: route.credentials.iter().filter_map(compile_source).collect(),
        forward_credential: route.forward_credential,
        reads_form: route
            .credentials
            .iter()
            .any(|source| matches!(source, CredentialSource::Form(_))),
        query_source: route
            .credentials
            .iter()
            .any(|source| matches!(source, CredentialSource::Query(_))),
        challenges: Challenges::new(
            &settings.identity.realm,
            metadata(route, settings),
            &route.credentials,
            permission.as_deref(),
        ),
        template,
        orgs: route.orgs.iter().map(|org| Bytes::copy_from_slice(org.as_bytes())).collect(),
        body_bytes: route.body_bytes,
        exchange: ExchangeLimits { read_ns: nanos(read), whole_ns: nanos(whole) },
        max_staleness_ns: nanos(route.max_staleness),
        on_stale: route.on_stale,
    }
}

fn compile_source(source: &CredentialSource) -> Option<Source> {
    Some(match source {
        CredentialSource::Basic => Source::Basic,
        CredentialSource::Bearer => Source::Bearer,
        CredentialSource::Cookie(name) => Source::Cookie(name.clone()),
        CredentialSource::Form(name) => Source::Form(name.clone()),
        // The alphabet of the names is that of header names.
        CredentialSource::Header(name) => Source::Header(HeaderName::try_from(name).ok()?),
        CredentialSource::Query(name) => Source::Query(name.clone()),
    })
}

/// Each address as often as its weight says, no two turns of one address closer than need be.
fn spread(upstream: &Upstream) -> Vec<usize> {
    let weights: Vec<i64> =
        upstream.addresses.iter().map(|address| i64::from(address.weight.min(100))).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let turns = (0..total).filter_map(|_| {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        let (chosen, _) = credit
            .iter()
            .enumerate()
            .max_by_key(|(place, credit)| (**credit, usize::MAX - place))?;
        if let Some(credit) = credit.get_mut(chosen) {
            *credit -= total;
        }
        Some(chosen)
    });
    turns.collect()
}

/// The configured limit, or 80 % of the descriptors this process may still open.
fn connection_limit(limits: &Limits) -> usize {
    if limits.connections > 0 {
        return limits.connections;
    }
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let free = allowed.unwrap_or(u64::MAX / 8).saturating_sub(DESCRIPTOR_RESERVE);
    // Each request needs a connection on either side.
    usize::try_from(free / 5 * 4 / 2).unwrap_or(usize::MAX).max(1)
}
