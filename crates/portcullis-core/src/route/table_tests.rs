//! The route table, case by case.

use super::spec::{EncodedSlash, RouteFault, RouteSpec};
use super::table::{Lookup, RouteTable};
use super::target::{Ambiguous, Incoming, Odd, PathPolicy, RawTarget, Scheme, Target};

pub(super) fn spec(name: &str, path: &str) -> RouteSpec<usize> {
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

pub(super) fn on(host: &str, spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { hosts: vec![host.to_owned()], ..spec }
}

pub(super) fn with_methods(methods: &[&str], spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { methods: methods.iter().map(|method| (*method).to_owned()).collect(), ..spec }
}

fn with_resource(resource: &str, spec: RouteSpec<usize>) -> RouteSpec<usize> {
    RouteSpec { resource: Some(resource.to_owned()), ..spec }
}

pub(super) fn target<'a>(host: &'a str, path: &'a str) -> Target<'a> {
    let incoming = Incoming {
        method: "GET",
        target: RawTarget::Origin(path),
        host: Some(host.as_bytes()),
        scheme: Scheme::Http,
    };
    let policy = PathPolicy { ambiguous: Ambiguous::Reject, odd_segments: Odd::Keep };
    Target::canonical(&incoming, policy).expect("a canonical target")
}

/// What a lookup comes to, in words: the route's name, or why there is none.
pub(super) fn outcome(table: &RouteTable<usize>, host: &str, method: &str, path: &str) -> String {
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
    assert_eq!(found.resource().as_deref(), Some("cluster/c-1"));
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
