//! The route table against a linear scan of the same routes.

use std::collections::HashSet;

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use proptest::sample::{select, subsequence};

use super::host::HostPattern;
use super::pattern::{PathPattern, Segment};
use super::resource::is_reference;
use super::spec::{DEFAULT_METHODS, EncodedSlash, RouteSpec};
use super::table::{Lookup, RouteTable};
use super::table_tests::{on, outcome, spec, target, with_methods};

/// A route as the linear scan sees it.
struct Line {
    host: HostPattern,
    path: PathPattern,
    spec: usize,
}

/// The definition: all routes by host, then path, the most specific first; the first host and path
/// that match decide, and of the routes that share them the one with the method.
fn scan_linearly(
    lines: &[Line],
    specs: &[RouteSpec<usize>],
    host: &str,
    method: &str,
    path: &str,
) -> String {
    let host_rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(_) => (0, 0),
        HostPattern::Suffix(suffix) => (1, usize::MAX - suffix.len()),
        HostPattern::Any => (2, 0),
    };
    let mut matching: Vec<&Line> = lines
        .iter()
        .filter(|line| line.host.admits(host) && matches_path(line, specs, path))
        .collect();
    matching.sort_by_key(|line| (host_rank(&line.host), line.path.segments.clone()));
    let Some(best) = matching.first() else {
        return "none".to_owned();
    };
    let same: Vec<&&Line> = matching
        .iter()
        .filter(|line| line.host == best.host && line.path.segments == best.path.segments)
        .collect();
    let taking = same.iter().find(|line| specs[line.spec].methods.iter().any(|one| one == method));
    match taking {
        None => "only others".to_owned(),
        Some(line)
            if path.contains("%2F") && specs[line.spec].encoded_slash == EncodedSlash::Refuse =>
        {
            "encoded slash".to_owned()
        }
        Some(line) => specs[line.spec].name.clone(),
    }
}

fn matches_path(line: &Line, specs: &[RouteSpec<usize>], path: &str) -> bool {
    let mut left = path.strip_prefix('/');
    for segment in &line.path.segments {
        let Some(text) = left else {
            return false;
        };
        let (first, after) = match text.split_once('/') {
            Some((first, after)) => (first, Some(after)),
            None => (text, None),
        };
        let (fits, captured, after) = match segment {
            Segment::Literal(literal) => (**literal == *first, None, after),
            Segment::Capture => (!first.is_empty(), Some(first), after),
            Segment::Rest => (true, Some(text), None),
        };
        // The drawn routes have at most one capture and name it in their resource.
        let stands = captured
            .is_none_or(|captured| specs[line.spec].resource.is_none() || is_reference(captured));
        if !fits || !stands {
            return false;
        }
        left = after;
    }
    left.is_none()
}

fn lines(specs: &[RouteSpec<usize>]) -> Vec<Line> {
    specs
        .iter()
        .enumerate()
        .flat_map(|(place, spec)| {
            spec.hosts.iter().map(move |host| Line {
                host: HostPattern::parse(host).expect("a host"),
                path: PathPattern::parse(&spec.path).expect("a path"),
                spec: place,
            })
        })
        .collect()
}

/// Drops the routes that a table would refuse as ties.
fn without_ties(drawn: Vec<RouteSpec<usize>>) -> Vec<RouteSpec<usize>> {
    let mut taken = HashSet::new();
    let mut kept = Vec::new();
    for spec in drawn {
        let segments = PathPattern::parse(&spec.path).expect("a path").segments;
        let places: Vec<_> = spec
            .hosts
            .iter()
            .flat_map(|host| spec.methods.iter().map(move |method| (host, method)))
            .map(|(host, method)| (host.clone(), method.clone(), segments.clone()))
            .collect();
        if places.iter().all(|place| !taken.contains(place)) {
            taken.extend(places);
            kept.push(spec);
        }
    }
    kept
}

const HOSTS: [&str; 5] = ["*", "*.b.c", "*.c", "a.b.c", "c"];
const METHODS: [&str; 3] = ["GET", "POST", "X"];

fn any_spec() -> impl Strategy<Value = RouteSpec<usize>> {
    let literals = proptest::collection::vec(select(&["a", "b", "%2F"][..]), 0..4);
    let wild = select(&["", "{x}", "{*x}", "mid"][..]);
    let methods = subsequence(&METHODS[..], 1..=3);
    let hosts = subsequence(&HOSTS[..], 1..=2);
    (literals, wild, methods, hosts, any::<(bool, bool)>()).prop_map(
        |(literals, wild, methods, hosts, (keep, named))| {
            let mut path: String = literals.iter().map(|one| format!("/{one}")).collect();
            match wild {
                "mid" => path = format!("{path}/{{x}}/a"),
                other => path = format!("{path}/{other}"),
            }
            let keep = keep || path.contains("%2F");
            RouteSpec {
                name: String::new(),
                hosts: hosts.into_iter().map(str::to_owned).collect(),
                methods: methods.into_iter().map(str::to_owned).collect(),
                encoded_slash: if keep { EncodedSlash::Keep } else { EncodedSlash::Refuse },
                resource: (named && path.contains('{')).then(|| "kind/{x}".to_owned()),
                strip_prefix: None,
                value: 0,
                path,
            }
        },
    )
}

fn named(specs: Vec<RouteSpec<usize>>) -> Vec<RouteSpec<usize>> {
    specs
        .into_iter()
        .enumerate()
        .map(|(place, spec)| RouteSpec { name: place.to_string(), ..spec })
        .collect()
}

fn found_or_why(table: &RouteTable<usize>, host: &str, method: &str, path: &str) -> String {
    let found = outcome(table, host, method, path);
    if found.starts_with("only ") { "only others".to_owned() } else { found }
}

proptest! {
    #[test]
    fn a_lookup_equals_a_linear_scan(
        drawn in proptest::collection::vec(any_spec(), 0..25),
        asked in proptest::collection::vec(
            (
                select(&["a.b.c", "x.b.c", "b.c", "c", "z.y.c", "other"][..]),
                select(&["GET", "POST", "X", "Y"][..]),
                "(/(a|b|c|%2F|:)){0,5}/?",
            ),
            1..30,
        ),
    ) {
        let specs = named(without_ties(drawn));
        let table = RouteTable::build(specs.clone()).expect("no ties are left");
        let lines = lines(&specs);
        for (host, method, path) in &asked {
            let path = if path.is_empty() { "/" } else { path };
            prop_assert_eq!(
                found_or_why(&table, host, method, path),
                scan_linearly(&lines, &specs, host, method, path),
                "{} {}{}", method, host, path
            );
        }
    }

    /// (a) of gateway.md 3.1: what a strip leaves is canonical, so the rescan finds nothing.
    #[test]
    fn what_is_forwarded_after_a_strip_is_canonical(
        path in "(/(a|b|%25|%C3%A4|c;d|%2F|\\.x)){0,5}/?"
    ) {
        let stripping = RouteSpec {
            strip_prefix: Some("/api".to_owned()),
            encoded_slash: EncodedSlash::Keep,
            ..spec("r", "/api/{*rest}")
        };
        let table = RouteTable::build(vec![stripping]).expect("a table");
        let path = format!("/api{}", if path.is_empty() { "/" } else { &path });
        let asked = target("h", &path);
        let Lookup::Found(found) = table.find(&asked, "GET") else {
            panic!("the route was not found");
        };
        let forwarded = found.upstream_path().expect("a canonical path");
        prop_assert_eq!(format!("/api{forwarded}"), path.as_str());
        let again = target("h", forwarded);
        prop_assert_eq!(again.path(), forwarded);
    }
}

#[test]
fn ten_thousand_routes_answer_like_a_linear_scan() {
    let mut specs = Vec::new();
    for n in 0..2_000_usize {
        let host = format!("h{}.c", n % 50);
        specs.push(on(&host, spec("", &format!("/s{n}/{{x}}/a"))));
        specs.push(on(&host, spec("", &format!("/s{n}/b/a"))));
        specs.push(on("*.c", spec("", &format!("/s{n}/{{*x}}"))));
        specs.push(on("*", with_methods(&["GET"], spec("", &format!("/s{n}/c")))));
        specs.push(on("*", with_methods(&["POST"], spec("", &format!("/s{n}/c")))));
    }
    for spec in &mut specs {
        if spec.methods.is_empty() {
            spec.methods = DEFAULT_METHODS.map(str::to_owned).to_vec();
        }
    }
    let specs = named(specs);
    assert_eq!(specs.len(), 10_000);
    let table = RouteTable::build(specs.clone()).expect("a table");
    let lines = lines(&specs);
    for n in (0..2_050).step_by(41) {
        for host in [format!("h{}.c", n % 50), "x.c".to_owned(), "other".to_owned()] {
            for (method, below) in
                [("GET", "/x/a"), ("PUT", "/b/a"), ("PUT", "/c"), ("POST", "/c/"), ("GET", "")]
            {
                let path = format!("/s{n}{below}");
                assert_eq!(
                    found_or_why(&table, &host, method, &path),
                    scan_linearly(&lines, &specs, &host, method, &path),
                    "{method} {host}{path}"
                );
            }
        }
    }
}
