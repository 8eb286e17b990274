//! The route table against a linear scan of the same routes, and case by case.

use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use proptest::sample::select;

use super::host::HostPattern;
use super::pattern::{PathPattern, Segment};
use super::resource::is_reference;
use super::table::{EncodedSlash, Lookup, RouteFault, RouteSpec, RouteTable};
use super::target::{Ambiguous, Incoming, OddSegments, PathPolicy, RawTarget, Scheme, Target};

fn spec(name: &str, path: &str) -> RouteSpec<usize> {
    RouteSpec {
        name: name.to_owned(),
        hosts: Vec::new(),
        path: path.to_owned(),
        methods: Vec::new(),
        encoded_slash: EncodedSlash::Refuse,
        resource: None,
        strip_prefix: None,
        value: 0,
    }
}

fn on(host: &str, spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { hosts: vec![host.to_owned()], ..spec }
}

fn with_methods(methods: &[&str], spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { methods: methods.iter().map(|method| (*method).to_owned()).collect(), ..spec }
}

fn with_resource(resource: &str, spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { resource: Some(resource.to_owned()), ..spec }
}

fn target<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    let incoming = Incoming {
        method: "GET",
        target: RawTarget::Origin(path),
        host: Some(host.as_bytes()),
        scheme: Scheme::Http,
    };
    let policy = PathPolicy { ambiguous: Ambiguous::Reject, odd_segments: OddSegments::Keep };
    Target::canonical(&incoming, policy).expect("a canonical target")
}

/// What a lookup comes to, in words: the route's name, or why there is none.
fn outcome(table: &RouteTable<usize>, host: &str, method: &str, path: &str) -> String {
    match table.find(&target(host, path), method) {
        Lookup::EncodedSlash => "encoded slash".to_owned(),
        Lookup::Found(found) => found.name().to_owned(),
        Lookup::MethodNotAllowed { allow } => format!("only {allow}"),
        Lookup::NoRoute => "none".to_owned(),
    }
}

fn faults(specs: Vec<RouteSpec<usize>>) -> Vec<(String, RouteFault)> {
    match RouteTable::build(specs) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| (error.route, error.fault)).collect(),
    }
}

#[test]
fn the_more_specific_segment_wins_from_the_left() {
    let table = RouteTable::build(vec![
        spec("rest", "/a/{*rest}"),
        spec("capture", "/a/{x}"),
        spec("literal", "/a/b"),
        spec("literal then capture", "/a/b/{y}"),
        spec("capture then literal", "/a/{x}/c"),
        spec("slash", "/a/b/"),
    ])
    .expect("a table");
    for (path, expected) in [
        ("/a/b", "literal"),
        ("/a/x", "capture"),
        ("/a/b/", "slash"),
        ("/a/x/", "rest"),
        ("/a/", "rest"),
        ("/a/b/c", "literal then capture"),
        ("/a/x/c", "capture then literal"),
        ("/a/x/d", "rest"),
        ("/a/b/c/d", "rest"),
        ("/a", "none"),
        ("/A/b", "none"),
        ("/", "none"),
        ("/ab", "none"),
    ] {
        assert_eq!(outcome(&table, "h", "GET", path), expected, "{path}");
    }
}

#[test]
fn the_more_specific_host_wins_and_the_next_one_is_tried() {
    let table = RouteTable::build(vec![
        on("*", spec("any", "/{*rest}")),
        on("*.example.com", spec("suffix", "/b")),
        on("*.eu.example.com", spec("longer suffix", "/b")),
        on("api.eu.example.com", spec("exact", "/a")),
    ])
    .expect("a table");
    for (host, path, expected) in [
        ("api.eu.example.com", "/a", "exact"),
        ("api.eu.example.com:8080", "/a", "exact"),
        ("API.eu.example.com.", "/a", "exact"),
        ("api.eu.example.com", "/b", "longer suffix"),
        ("api.us.example.com", "/b", "suffix"),
        ("eu.example.com", "/b", "suffix"),
        ("example.com", "/b", "any"),
        ("api.eu.example.com", "/c", "any"),
        ("[::1]", "/a", "any"),
    ] {
        assert_eq!(outcome(&table, host, "GET", path), expected, "{host}{path}");
    }
}

#[test]
fn a_method_without_a_route_does_not_fall_through() {
    let table = RouteTable::build(vec![
        spec("all", "/{*rest}"),
        with_methods(&["GET"], spec("read", "/admin")),
        with_methods(&["PUT", "DELETE"], spec("write", "/admin")),
    ])
    .expect("a table");
    for (method, path, expected) in [
        ("GET", "/admin", "read"),
        ("DELETE", "/admin", "write"),
        ("POST", "/admin", "only GET, PUT, DELETE"),
        ("HEAD", "/admin", "only GET, PUT, DELETE"),
        ("get", "/admin", "only GET, PUT, DELETE"),
        ("POST", "/admin/x", "all"),
        ("QUERY", "/", "all"),
        ("PURGE", "/", "only GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY"),
    ] {
        assert_eq!(outcome(&table, "h", method, path), expected, "{method} {path}");
    }
}

#[test]
fn captures_are_the_bytes_of_their_segments() {
    let table = RouteTable::build(vec![spec("r", "/{a}/x/{b}/{*rest}")]).expect("a table");
    let asked = target("h", "/one/x/t%20w;o/th/r%C3%A4/");
    let Lookup::Found(found) = table.find(&asked, "GET") else {
        panic!("the route was not found");
    };
    let names = ["a", "b", "rest", "c"].map(|name| found.capture(name));
    assert_eq!(names, [Some("one"), Some("t%20w;o"), Some("th/r%C3%A4/"), None]);
    assert_eq!(found.resource(), None);
    assert_eq!(found.upstream_path(), Ok("/one/x/t%20w;o/th/r%C3%A4/"));
}

#[test]
fn a_capture_that_cannot_stand_for_a_resource_does_not_match() {
    let table = RouteTable::build(vec![
        spec("all", "/{*rest}"),
        with_resource("cluster/{id}", spec("cluster", "/clusters/{id}")),
    ])
    .expect("a table");
    let asked = target("h", "/clusters/c-1");
    let Lookup::Found(found) = table.find(&asked, "GET") else {
        panic!("the route was not found");
    };
    assert_eq!(found.resource(), Some("cluster/c-1"));
    let too_long = format!("/clusters/{}", "c".repeat(129));
    for path in ["/clusters/c%20x", "/clusters/c:1", "/clusters/", &too_long] {
        assert_eq!(outcome(&table, "h", "GET", path), "all", "{path}");
    }
    // With %2F the segment cannot stand for a resource either, and the catch-all refuses it.
    assert_eq!(outcome(&table, "h", "GET", "/clusters/c%2Fx"), "encoded slash");
}

#[test]
fn an_encoded_slash_passes_where_the_route_keeps_it_and_separates_nothing() {
    let keep = RouteSpec { encoded_slash: EncodedSlash::Keep, ..spec("keep", "/k/{name}") };
    let table = RouteTable::build(vec![keep, spec("refuse", "/r/{name}")]).expect("a table");
    assert_eq!(outcome(&table, "h", "GET", "/k/a%2Fb"), "keep");
    assert_eq!(outcome(&table, "h", "GET", "/k/a/b"), "none");
    assert_eq!(outcome(&table, "h", "GET", "/r/a%2Fb"), "encoded slash");
    assert_eq!(outcome(&table, "h", "GET", "/r/ab"), "refuse");
}

#[test]
fn strip_prefix_takes_whole_segments_off() {
    let stripping = |prefix: &str, path: &str| RouteSpec {
        strip_prefix: Some(prefix.to_owned()),
        ..spec("r", path)
    };
    let forwarded = |prefix: &str, pattern: &str, path: &str| {
        let table = RouteTable::build(vec![stripping(prefix, pattern)]).expect("a table");
        let asked = target("h", path);
        let Lookup::Found(found) = table.find(&asked, "GET") else {
            panic!("the route was not found");
        };
        found.upstream_path().map(str::to_owned)
    };
    for (prefix, pattern, path, expected) in [
        ("/api", "/api", "/api", "/"),
        ("/api", "/api/{*rest}", "/api/", "/"),
        ("/api", "/api/{*rest}", "/api/a/b", "/a/b"),
        ("/api/", "/api/{*rest}", "/api/a", "/a"),
        ("/a/b", "/a/b/{x}", "/a/b/c", "/c"),
    ] {
        let found = forwarded(prefix, pattern, path);
        assert_eq!(found.as_deref(), Ok(expected), "{path}");
    }
    for (prefix, pattern) in [
        ("", "/api"),
        ("/", "/api"),
        ("api", "/api"),
        ("/ap", "/api"),
        ("/api/x", "/api"),
        ("/api/{x}", "/api/{x}"),
        ("/api//", "/api/"),
    ] {
        let fault = RouteFault::StripPrefix(prefix.to_owned());
        let expected = vec![("r".to_owned(), fault)];
        assert_eq!(faults(vec![stripping(prefix, pattern)]), expected, "{prefix}");
    }
}

#[test]
fn two_routes_that_nothing_tells_apart_are_an_error() {
    let tie = |other: &str, host: &str, method: &str| RouteFault::Tie {
        other: other.to_owned(),
        host: host.to_owned(),
        method: method.to_owned(),
    };
    let found = faults(vec![
        spec("one", "/a/{x}"),
        with_methods(&["PURGE"], spec("apart by method", "/a/{x}")),
        on("h", spec("apart by host", "/a/{x}")),
        with_methods(&["PURGE", "PUT"], spec("two", "/a/{y}")),
        on("H.", with_methods(&["PATCH"], spec("three", "/a/{z}"))),
    ]);
    let expected = vec![
        ("two".to_owned(), tie("one", "*", "PUT")),
        ("three".to_owned(), tie("apart by host", "h", "PATCH")),
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_error_of_every_route_is_reported_at_once() {
    let wrong = RouteSpec {
        hosts: vec!["a:80".to_owned(), "b".to_owned(), "B".to_owned()],
        methods: vec!["CONNECT".to_owned(), "GET".to_owned(), "GET".to_owned(), "A B".to_owned()],
        resource: Some("cluster/{y}".to_owned()),
        strip_prefix: Some("/b".to_owned()),
        ..spec("first", "/a%2F/{x}")
    };
    let found = faults(vec![wrong, spec("second", "a")]);
    let first = |fault| ("first".to_owned(), fault);
    assert_eq!(
        found,
        [
            first(RouteFault::Host("a:80".to_owned())),
            first(RouteFault::HostTwice("B".to_owned())),
            first(RouteFault::Method("CONNECT".to_owned())),
            first(RouteFault::MethodTwice("GET".to_owned())),
            first(RouteFault::Method("A B".to_owned())),
            first(RouteFault::EncodedSlash),
            first(RouteFault::Resource("cluster/{y}".to_owned())),
            first(RouteFault::StripPrefix("/b".to_owned())),
            ("second".to_owned(), RouteFault::PathStart),
        ]
    );
}

#[test]
fn paths_that_no_request_can_have_are_refused() {
    let nine = "/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}";
    let deep = "/a".repeat(65);
    for (path, expected) in [
        ("", "path: it must start with /"),
        ("/a//b", "path: it is not in canonical form"),
        ("/a/../b", "path: it is not in canonical form"),
        ("/%61", "path: it is not in canonical form"),
        ("/%c3%a4", "path: it is not in canonical form"),
        ("/a?b", "path: it is not in canonical form"),
        ("/ä", "path: the path holds a byte that is not allowed"),
        ("/a b", "path: the path holds a byte that is not allowed"),
        ("/%5C", "path: the path holds an encoded backslash"),
        ("/x{a}", "path: \"x{a}\" mixes braces and text"),
        ("/{a}{b}", "path: a capture is named \"a}{b\""),
        ("/{}", "path: a capture is named \"\""),
        ("/{A}", "path: a capture is named \"A\""),
        ("/{a}/{a}", "path: two captures are named \"a\""),
        ("/{*a}/b", "path: a capture with * takes all that is left"),
        (nine, "path: it is too long"),
        (&deep, "path: it is too long"),
    ] {
        let found: Vec<String> =
            faults(vec![spec("r", path)]).into_iter().map(|(_, fault)| fault.to_string()).collect();
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found.iter().all(|text| text.starts_with(expected)), "{path}: {found:?}");
    }
}

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
    let mut taken = std::collections::HashSet::new();
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
    let methods = proptest::sample::subsequence(&METHODS[..], 1..=3);
    let hosts = proptest::sample::subsequence(&HOSTS[..], 1..=2);
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
            spec.methods = super::DEFAULT_METHODS.map(str::to_owned).to_vec();
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
