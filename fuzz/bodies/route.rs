//! The route table against a linear scan of the same routes.

use portcullis_core::route::{
    EncodedSlash, Incoming, Lookup, PathPolicy, RawTarget, RouteSpec, RouteTable, Scheme, Target,
};

/// Most routes of one input.
const MOST: usize = 24;

/// Lines: `host path methods` for a route, with `,` between methods and `!` before the path where
/// `%2F` is kept; `? host method target` asks. The table answers what the most specific of the
/// routes answers that match when each is alone.
pub(crate) fn routes(data: &[u8]) {
    let lines = super::lines(data);
    let mut specs = Vec::new();
    let mut questions = Vec::new();
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["?", host, method, target] => questions.push((*host, *method, *target)),
            [host, path, methods] if specs.len() < MOST => {
                specs.push(spec(specs.len(), host, path, methods));
            }
            _ => {}
        }
    }
    let Ok(table) = RouteTable::build(specs.clone()) else { return };
    for (host, method, raw) in questions {
        let asked = Incoming {
            method,
            target: RawTarget::parse(raw),
            host: Some(host.as_bytes()),
            scheme: Scheme::Http,
        };
        let Ok(target) = Target::canonical(&asked, PathPolicy::default()) else { continue };
        let found = answer(&table, &target, method);
        assert_eq!(found, scan(&specs, &target, method), "{method} {host} {raw}");
    }
}

fn spec(place: usize, host: &str, path: &str, methods: &str) -> RouteSpec<usize> {
    let (encoded_slash, path) = match path.strip_prefix('!') {
        Some(path) => (EncodedSlash::Keep, path),
        None => (EncodedSlash::Refuse, path),
    };
    RouteSpec {
        name: place.to_string(),
        hosts: vec![host.to_owned()],
        path: path.to_owned(),
        methods: methods.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
        encoded_slash,
        resource: None,
        strip_prefix: None,
        value: place,
    }
}

/// What a lookup comes to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    EncodedSlash,
    Found(usize),
    NoRoute,
    OtherMethods,
}

fn answer(table: &RouteTable<usize>, target: &Target<'_>, method: &str) -> Answer {
    match table.find(target, method) {
        Lookup::EncodedSlash => Answer::EncodedSlash,
        Lookup::Found(found) => {
            assert_eq!(found.upstream_path().expect("nothing is stripped"), target.path());
            Answer::Found(*found.value())
        }
        Lookup::MethodNotAllowed { allow } => {
            assert!(!allow.is_empty() && !allow.split(", ").any(|one| one == method));
            Answer::OtherMethods
        }
        Lookup::NoRoute => Answer::NoRoute,
    }
}

/// The definition: exact hosts before suffixes, the longest first, before any host; then segment by
/// segment literal, capture, rest. The first place that matches decides; of the routes that share it
/// the one with the method.
fn scan(specs: &[RouteSpec<usize>], target: &Target<'_>, method: &str) -> Answer {
    let mut matching: Vec<_> = specs
        .iter()
        .filter_map(|spec| {
            let alone = RouteTable::build(vec![spec.clone()]).expect("a part of a whole");
            let answer = answer(&alone, target, method);
            (answer != Answer::NoRoute).then(|| (rank(spec), answer))
        })
        .collect();
    matching.sort_by(|(one, _), (other, _)| one.cmp(other));
    let Some(best) = matching.first().map(|(rank, _)| rank.clone()) else { return Answer::NoRoute };
    let mut same = matching.into_iter().take_while(|(rank, _)| *rank == best);
    let taking = same.find(|(_, answer)| *answer != Answer::OtherMethods);
    taking.map_or(Answer::OtherMethods, |(_, answer)| answer)
}

/// The place of a route in the order, the most specific first.
fn rank(spec: &RouteSpec<usize>) -> ((u8, usize), Vec<u8>) {
    let host = spec.hosts.first().map_or("*", String::as_str);
    let host = match host.strip_prefix("*.") {
        Some(suffix) => (1, usize::MAX - suffix.len()),
        None if host == "*" => (2, 0),
        None => (0, 0),
    };
    let segments = spec.path.split('/').skip(1).map(|segment| {
        if segment.starts_with("{*") { 2 } else { u8::from(segment.starts_with('{')) }
    });
    (host, segments.collect())
}
