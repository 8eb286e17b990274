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

use arrayvec::ArrayVec;
use foldhash::fast::FixedState;

use super::host::HostPattern;
use super::pattern::{MAX_CAPTURES, PathPattern, Segment};
use super::resource::{Resource, ResourceTemplate, ResourceText};
use super::scan::{Flaw, scan};
use super::spec::{EncodedSlash, RouteError, RouteFault, RouteSpec, read_hosts, read_methods};
use super::target::{Target, TargetFault};

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
    resource: Option<Resource<'t, 'p>>,
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

    /// The resource the request speaks of; `None` if the route names none.
    pub fn resource(&self) -> Option<ResourceText> {
        self.resource.map(Resource::render)
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
        let (segment, after) = first_segment(left);
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
                Some(template) => match template.read(captures) {
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

/// The first segment of a path, and what follows its slash. Byte by byte, for segments are short.
fn first_segment(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'/') {
        Some(end) => (path.get(..end).unwrap_or(path), path.get(end + 1..)),
        None => (path, None),
    }
}

struct Request<'p, 'm> {
    target: &'p Target<'p>,
    method: &'m str,
}
