//! What contradicts itself although each value is allowed, and what is allowed but worth a
//! warning. It looks at values only, never at files or sockets.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::choices::{Auth, FeedMode, SessionAlg};
use super::domain::AdminAddress;
use super::fault::{Fault, Place};
use super::sections::{Config, Feed, Route};

/// Every contradiction of `config`.
pub(super) fn contradictions(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    names_differ(&mut faults, "listeners", config.listeners.iter().map(|l| l.name.0.as_str()));
    names_differ(&mut faults, "upstreams", config.upstreams.iter().map(|u| u.name.0.as_str()));
    names_differ(&mut faults, "routes", config.routes.iter().map(|r| r.name.0.as_str()));
    if config.listeners.is_empty() {
        fault(&mut faults, "listeners", "empty; allowed: at least one [[listeners]]");
    }
    addresses_differ(&mut faults, config);
    for upstream in config.upstreams.iter().filter(|upstream| upstream.addresses.is_empty()) {
        let key = format!("upstreams.{}.addresses", upstream.name.0);
        fault(&mut faults, key, "empty; allowed: at least one { host = \"HOST:PORT\" }");
    }
    for route in &config.routes {
        route_is_whole(&mut faults, config, route);
    }
    feed_is_one_source(&mut faults, &config.feed);
    peppers_form_a_ring(&mut faults, config);
    one_place_has_session_keys(&mut faults, config);
    faults
}

/// What is allowed but often a mistake, one sentence each.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    for route in &config.routes {
        let name = &route.name.0;
        if route.auth == Auth::None {
            out.push(format!(
                "routes.{name} is public: anyone may reach {} without a key",
                route.path.0
            ));
        }
        let shadow = config.routes.iter().find(|other| shadows(other, route));
        if let Some(other) = shadow {
            out.push(format!(
                "routes.{name} differs from routes.{} only in upper and lower case of the path; \
                 paths are matched case-sensitively",
                other.name.0
            ));
        }
        for method in route.methods.iter().filter(|m| m.0.bytes().any(|b| b.is_ascii_lowercase())) {
            out.push(format!(
                "routes.{name}.methods holds {}: methods are matched case-sensitively",
                method.0
            ));
        }
    }
    for upstream in &config.upstreams {
        if !config.routes.is_empty() && !config.routes.iter().any(|r| r.upstream == upstream.name) {
            out.push(format!("upstreams.{} is used by no route", upstream.name.0));
        }
    }
    let control = AdminAddress::Tcp(config.control.listen);
    for (key, address) in [("control.listen", &control), ("admin.address", &config.admin.address)] {
        if !address.is_local() {
            out.push(format!(
                "{key} is {address}: plain HTTP off loopback shows tokens to the network; keep it \
                 on a private link"
            ));
        }
    }
    out
}

fn fault(faults: &mut Vec<Fault>, key: impl Into<String>, what: impl Into<String>) {
    faults.push(Fault { key: key.into(), what: what.into(), place: Place::BuiltIn });
}

fn names_differ<'c>(faults: &mut Vec<Fault>, list: &str, names: impl Iterator<Item = &'c str>) {
    let mut seen = BTreeSet::new();
    for name in names.filter(|name| !seen.insert(*name)) {
        fault(
            faults,
            format!("{list}.{name}.name"),
            "used twice; allowed: a name of its own for each",
        );
    }
}

fn addresses_differ(faults: &mut Vec<Fault>, config: &Config) {
    let mut seen: Vec<SocketAddr> = vec![config.control.listen];
    let listeners =
        config.listeners.iter().map(|l| (format!("listeners.{}.address", l.name.0), l.address));
    let admin = match config.admin.address {
        AdminAddress::Socket(_) => None,
        AdminAddress::Tcp(address) => Some(("admin.address".to_owned(), address)),
    };
    for (key, address) in listeners.chain(admin) {
        if address.port() != 0 && seen.contains(&address) {
            fault(
                faults,
                key,
                format!("{address} is used twice; allowed: an address of its own for each"),
            );
        }
        seen.push(address);
    }
}

fn route_is_whole(faults: &mut Vec<Fault>, config: &Config, route: &Route) {
    let key = |key: &str| format!("routes.{}.{key}", route.name.0);
    if !config.upstreams.iter().any(|upstream| upstream.name == route.upstream) {
        let names: Vec<&str> = config.upstreams.iter().map(|u| u.name.0.as_str()).collect();
        let allowed = if names.is_empty() {
            "one of [[upstreams]], of which there is none".to_owned()
        } else {
            names.join(", ")
        };
        fault(
            faults,
            key("upstream"),
            format!("{:?} is no upstream; allowed: {allowed}", route.upstream.0),
        );
    }
    let permission = !route.require.permission.0.is_empty();
    match (route.auth, route.authenticated_only, permission) {
        (Auth::Key, true, false) | (Auth::Key, false, true) | (Auth::None, false, false) => {}
        (Auth::Key, false, false) => fault(
            faults,
            key("require"),
            "missing; allowed: require = { permission = \"type:verb\" }, authenticated_only = true, \
             or auth = \"none\" for a public route",
        ),
        (Auth::Key, true, true) => fault(
            faults,
            key("authenticated_only"),
            "true although the route has `require`; allowed: one of the two",
        ),
        (Auth::None, _, _) => fault(
            faults,
            key("auth"),
            "\"none\" although the route has `require` or `authenticated_only`; allowed: \"key\"",
        ),
    }
    if !route.require.resource.is_empty() && !permission {
        fault(
            faults,
            key("require.permission"),
            "missing; allowed: a permission with the resource",
        );
    }
    if route.credentials.is_empty() {
        fault(faults, key("credentials"), "empty; allowed: at least one place to look for a key");
    }
}

fn feed_is_one_source(faults: &mut Vec<Fault>, feed: &Feed) {
    match feed.mode {
        FeedMode::Pull if feed.file.0.is_some() => {
            fault(faults, "feed.file", "set in pull mode; allowed: \"\", or feed.mode = \"file\"");
        }
        FeedMode::File if !feed.url.0.is_empty() => {
            fault(faults, "feed.url", "set in file mode; allowed: \"\", or feed.mode = \"pull\"");
        }
        FeedMode::File | FeedMode::Pull => {}
    }
}

fn one_place_has_session_keys(faults: &mut Vec<Fault>, config: &Config) {
    let control = &config.control;
    let what = match (control.session_alg, control.session_keys.is_empty()) {
        (SessionAlg::EdDsa, _) | (SessionAlg::Es256, true) | (SessionAlg::Rs256, false) => return,
        (SessionAlg::Es256, false) => {
            "\"ES256\" although control.session_keys are set, which are of Ed25519 or RSA; \
             allowed: \"EdDSA\", \"RS256\", or session_keys = []"
        }
        (SessionAlg::Rs256, true) => {
            "\"RS256\" without control.session_keys, where its key is; \
             allowed: \"EdDSA\", \"ES256\", or a key there"
        }
    };
    fault(faults, "control.session_alg", what);
}

fn peppers_form_a_ring(faults: &mut Vec<Fault>, config: &Config) {
    let peppers = &config.keys.peppers;
    if peppers.len() > 4 {
        fault(faults, "keys.peppers", format!("{} elements; allowed: at most 4", peppers.len()));
    }
    let mut seen = BTreeSet::new();
    for pepper in peppers.iter().filter(|pepper| !seen.insert(pepper.id.0)) {
        fault(
            faults,
            "keys.peppers",
            format!("id {} is used twice; allowed: distinct ids", pepper.id.0),
        );
    }
}

fn shadows(other: &Route, route: &Route) -> bool {
    other.name != route.name
        && other.path != route.path
        && other.path.0.eq_ignore_ascii_case(&route.path.0)
        && other.hosts == route.hosts
}
