//! The route table: built once from the configuration, then searched for every request.
//!
//! The order of routes in the file means nothing. A request belongs to the most specific host and
//! path that match it: exact host, then the longest `*.suffix`, then any host; and within a host,
//! segment by segment from the left, literal, then `{name}`, then `{*rest}`. Routes that share host
//! and path divide the methods among them; two routes that nothing tells apart are an error. A
//! request whose method none of them takes is refused and does *not* fall through to a less
//! specific path, or a rule for `GET /admin` would leave `POST /admin` to the catch-all.
//!
//! The index is a trie of segments in one vector, one root per host. A lookup allocates nothing.

use std::collections::HashMap;
use std::fmt;

use arrayvec::ArrayVec;
use foldhash::fast::FixedState;
use thiserror::Error;

use super::host::HostPattern;
use super::pattern::{MAX_CAPTURES, PathPattern, Segment};
use super::resource::{ResourceTemplate, ResourceText};
use super::scan::{Flaw, scan};
use super::target::{Target, TargetFault};

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

/// The routes of a gateway.
#[derive(Clone, Debug)]
pub struct RouteTable<T> {
    routes: Vec<Route<T>>,
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    exact: HashMap<Box<str>, NodeId, FixedState>,
    suffixes: HashMap<Box<str>, NodeId, FixedState>,
    any: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Route<T> {
    name: Box<str>,
    methods: Box<[Box<str>]>,
    encoded_slash: EncodedSlash,
    captures: Box<[Box<str>]>,
    resource: Option<ResourceTemplate>,
    strip_prefix: Option<Box<str>>,
    value: T,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct NodeId(usize);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct LeafId(usize);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct RouteId(usize);

/// A place in a path, after some of its segments.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by segment.
    literals: Vec<(Box<str>, NodeId)>,
    capture: Option<NodeId>,
    rest: Option<LeafId>,
    /// The routes whose path ends here.
    end: Option<LeafId>,
}

/// The routes of one host and path.
#[derive(Clone, Debug, Default)]
struct Leaf {
    routes: Vec<RouteId>,
    /// All their methods, as they are written in an `Allow` field.
    allow: String,
}

/// What a search comes to.
#[derive(Clone, Debug)]
pub enum Lookup<'t, 'p, T> {
    /// The path holds `%2F` and the route does not take it.
    EncodedSlash,
    /// This route.
    Found(Found<'t, 'p, T>),
    /// The path has routes, but none for this method.
    MethodNotAllowed {
        /// The methods it has, for the `Allow` field.
        allow: &'t str,
    },
    /// No route has this host and path.
    NoRoute,
}

/// A request's route.
#[derive(Clone, Debug)]
pub struct Found<'t, 'p, T> {
    route: &'t Route<T>,
    captures: ArrayVec<&'p str, MAX_CAPTURES>,
    resource: Option<ResourceText>,
    path: &'p str,
}

impl<'t, 'p, T> Found<'t, 'p, T> {
    /// What the route was built with.
    pub fn value(&self) -> &'t T {
        &self.route.value
    }

    /// The route's name.
    pub fn name(&self) -> &'t str {
        &self.route.name
    }

    /// The bytes that stand where the route's path has `{name}` or `{*name}`.
    pub fn capture(&self, name: &str) -> Option<&'p str> {
        let place = self.route.captures.iter().position(|one| **one == *name)?;
        self.captures.get(place).copied()
    }

    /// The resource the request speaks of, if the route names one.
    pub fn resource(&self) -> Option<&str> {
        self.resource.as_deref()
    }

    /// The path that the upstream sees: the matched one, less the route's `strip_prefix`.
    pub fn upstream_path(&self) -> Result<&'p str, TargetFault> {
        let Some(prefix) = &self.route.strip_prefix else {
            return Ok(self.path);
        };
        let stripped = match self.path.strip_prefix(&**prefix) {
            Some("") => "/",
            Some(stripped) => stripped,
            None => return Err(Flaw::PathStart.into()),
        };
        // Whole segments were taken off a canonical path, so this finds nothing; but what is
        // forwarded is always what the scanner has let pass.
        if scan(stripped)?.is_canonical() { Ok(stripped) } else { Err(TargetFault::AmbiguousPath) }
    }
}

impl<T> RouteTable<T> {
    /// The most specific route for a target and a method.
    pub fn find<'t, 'p>(&'t self, target: &'p Target<'_>, method: &str) -> Lookup<'t, 'p, T> {
        let request = Request { target, method };
        self.roots(target.host().name())
            .find_map(|root| {
                let below_root = target.path().strip_prefix('/');
                self.descend(root, below_root, &mut ArrayVec::new(), &request)
            })
            .unwrap_or(Lookup::NoRoute)
    }

    /// The roots of the tries to search, the most specific first.
    fn roots<'s>(&'s self, host: &'s str) -> impl Iterator<Item = NodeId> + use<'s, T> {
        let exact = self.exact.get(host).copied();
        // Suffixes from the longest to the shortest.
        let mut left = if self.suffixes.is_empty() { "" } else { host };
        let suffixes = std::iter::from_fn(move || {
            left = left.split_once('.')?.1;
            Some(left)
        })
        .filter_map(|suffix| self.suffixes.get(suffix).copied());
        exact.into_iter().chain(suffixes).chain(self.any)
    }

    /// Searches below a node. `left` is the rest of the path after a slash; `None` if the path has
    /// ended. Each node is visited at most once, since its depth is the segment's number.
    fn descend<'t, 'p>(
        &'t self,
        at: NodeId,
        left: Option<&'p str>,
        captures: &mut ArrayVec<&'p str, MAX_CAPTURES>,
        request: &Request<'p, '_>,
    ) -> Option<Lookup<'t, 'p, T>> {
        let node = self.nodes.get(at.0)?;
        let Some(left) = left else {
            return self.choose(node.end?, captures, request);
        };
        let (segment, after) = match left.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (left, None),
        };
        let literal = node
            .literals
            .binary_search_by(|(literal, _)| (**literal).cmp(segment))
            .ok()
            .and_then(|place| node.literals.get(place));
        if let Some((_, next)) = literal
            && let Some(found) = self.descend(*next, after, captures, request)
        {
            return Some(found);
        }
        if let Some(next) = node.capture
            && !segment.is_empty()
        {
            captures.try_push(segment).ok()?;
            if let Some(found) = self.descend(next, after, captures, request) {
                return Some(found);
            }
            captures.pop();
        }
        let rest = node.rest?;
        captures.try_push(left).ok()?;
        let found = self.choose(rest, captures, request);
        captures.pop();
        found
    }

    /// Picks the route for the method. `None` if no route of the leaf can read its resource from
    /// the captures: then the path does not match here.
    fn choose<'t, 'p>(
        &'t self,
        leaf: LeafId,
        captures: &ArrayVec<&'p str, MAX_CAPTURES>,
        request: &Request<'p, '_>,
    ) -> Option<Lookup<'t, 'p, T>> {
        let leaf = self.leaves.get(leaf.0)?;
        let mut matches_path = false;
        for route in leaf.routes.iter().filter_map(|id| self.routes.get(id.0)) {
            let resource = match &route.resource {
                Some(template) => match template.render(captures) {
                    Some(resource) => Some(resource),
                    None => continue,
                },
                None => None,
            };
            matches_path = true;
            if !route.methods.iter().any(|one| **one == *request.method) {
                continue;
            }
            if request.target.has_encoded_slash() && route.encoded_slash == EncodedSlash::Refuse {
                return Some(Lookup::EncodedSlash);
            }
            return Some(Lookup::Found(Found {
                route,
                captures: captures.clone(),
                resource,
                path: request.target.path(),
            }));
        }
        matches_path.then_some(Lookup::MethodNotAllowed { allow: &leaf.allow })
    }

    /// Builds the table, or reports everything that is wrong with it.
    pub fn build(specs: Vec<RouteSpec<T>>) -> Result<RouteTable<T>, Vec<RouteError>> {
        let mut table = RouteTable {
            routes: Vec::with_capacity(specs.len()),
            nodes: Vec::new(),
            leaves: Vec::new(),
            exact: HashMap::default(),
            suffixes: HashMap::default(),
            any: None,
        };
        let mut errors = Vec::new();
        for spec in specs {
            let route = spec.name.clone();
            if let Err(faults) = table.add(spec) {
                errors.extend(
                    faults.into_iter().map(|fault| RouteError { route: route.clone(), fault }),
                );
            }
        }
        if errors.is_empty() { Ok(table) } else { Err(errors) }
    }

    fn add(&mut self, spec: RouteSpec<T>) -> Result<(), Vec<RouteFault>> {
        let mut faults = Vec::new();
        let hosts = read_hosts(&spec.hosts, &mut faults);
        let methods = read_methods(&spec.methods, &mut faults);
        let pattern = match PathPattern::parse(&spec.path) {
            Ok(pattern) => pattern,
            Err(fault) => {
                faults.push(fault);
                return Err(faults);
            }
        };
        if pattern.encoded_slash && spec.encoded_slash == EncodedSlash::Refuse {
            faults.push(RouteFault::EncodedSlash);
        }
        let resource = spec.resource.as_deref().and_then(|text| {
            let template = ResourceTemplate::parse(text, &pattern.captures);
            if template.is_none() {
                faults.push(RouteFault::Resource(text.to_owned()));
            }
            template
        });
        let strip_prefix = spec.strip_prefix.as_deref().map(|text| {
            let prefix = text.strip_suffix('/').unwrap_or(text);
            if !prefix.starts_with('/') || !pattern.is_under(prefix) {
                faults.push(RouteFault::StripPrefix(text.to_owned()));
            }
            Box::from(prefix)
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let id = RouteId(self.routes.len());
        self.routes.push(Route {
            name: spec.name.into(),
            methods,
            encoded_slash: spec.encoded_slash,
            captures: pattern.captures.clone(),
            resource,
            strip_prefix,
            value: spec.value,
        });
        for host in hosts {
            if let Err(fault) = self.insert(host, &pattern, id) {
                faults.push(fault);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn insert(
        &mut self,
        host: HostPattern,
        pattern: &PathPattern,
        id: RouteId,
    ) -> Result<(), RouteFault> {
        let fresh = NodeId(self.nodes.len());
        let shown = host.to_string();
        let root = match host {
            HostPattern::Any => *self.any.get_or_insert(fresh),
            HostPattern::Exact(name) => *self.exact.entry(name).or_insert(fresh),
            HostPattern::Suffix(suffix) => *self.suffixes.entry(suffix).or_insert(fresh),
        };
        if root == fresh {
            self.nodes.push(Node::default());
        }
        let leaf = self.leaf_at(root, &pattern.segments);
        let (Some(leaf), Some(new)) = (self.leaves.get_mut(leaf.0), self.routes.get(id.0)) else {
            return Ok(());
        };
        for other in leaf.routes.iter().filter_map(|id| self.routes.get(id.0)) {
            if let Some(method) = new.methods.iter().find(|one| other.methods.contains(one)) {
                return Err(RouteFault::Tie {
                    other: other.name.to_string(),
                    host: shown,
                    method: method.to_string(),
                });
            }
        }
        leaf.routes.push(id);
        for method in &new.methods {
            if !leaf.allow.is_empty() {
                leaf.allow.push_str(", ");
            }
            leaf.allow.push_str(method);
        }
        Ok(())
    }

    /// The leaf at the end of a path, with all nodes on the way to it.
    fn leaf_at(&mut self, root: NodeId, segments: &[Segment]) -> LeafId {
        let fresh_leaf = LeafId(self.leaves.len());
        let mut at = root;
        let mut found = None;
        for segment in segments {
            let fresh = NodeId(self.nodes.len());
            let Some(node) = self.nodes.get_mut(at.0) else {
                break;
            };
            at = match segment {
                Segment::Literal(text) => {
                    match node.literals.binary_search_by(|(literal, _)| literal.cmp(text)) {
                        Ok(place) => node.literals.get(place).map_or(fresh, |(_, next)| *next),
                        Err(place) => {
                            node.literals.insert(place, (text.clone(), fresh));
                            fresh
                        }
                    }
                }
                Segment::Capture => *node.capture.get_or_insert(fresh),
                Segment::Rest => {
                    found = Some(*node.rest.get_or_insert(fresh_leaf));
                    break;
                }
            };
            if at == fresh {
                self.nodes.push(Node::default());
            }
        }
        let found = found.unwrap_or_else(|| match self.nodes.get_mut(at.0) {
            Some(node) => *node.end.get_or_insert(fresh_leaf),
            None => fresh_leaf,
        });
        if found == fresh_leaf {
            self.leaves.push(Leaf::default());
        }
        found
    }
}

struct Request<'p, 'm> {
    target: &'p Target<'p>,
    method: &'m str,
}

fn read_hosts(texts: &[String], faults: &mut Vec<RouteFault>) -> Vec<HostPattern> {
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

fn read_methods(texts: &[String], faults: &mut Vec<RouteFault>) -> Box<[Box<str>]> {
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
