//! The configuration as its readers see it: every malformed value gives an exact message, every
//! key has a default, and what is printed reads back as the same.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

fn read(text: &str) -> Result<Config, Vec<String>> {
    read_with(text, &[])
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(text, Path::new("/etc/portcullis"), &environment)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn defaults() -> Config {
    read("").expect("the defaults are valid")
}

fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("the test expects faults")
}

/// A route and an upstream around the lines of the route under test.
fn route(lines: &str) -> String {
    format!(
        "[[upstreams]]\nname = \"app\"\naddresses = [{{ host = \"127.0.0.1:1\" }}]\n\
         [[routes]]\nname = \"r\"\npath = \"/\"\nupstream = \"app\"\n{lines}"
    )
}

#[test]
fn the_reference_file_is_what_the_code_generates() {
    let committed = include_str!("../../config/portcullis.toml");
    assert!(
        committed == reference(),
        "config/portcullis.toml differs from `portcullis config reference`; print it there again"
    );
}

#[test]
fn the_reference_file_equals_the_defaults() {
    assert_eq!(read(&reference()), Ok(defaults()));
}

#[test]
fn the_examples_in_the_reference_are_valid() {
    let uncommented: Vec<&str> = reference_lines()
        .iter()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.starts_with(' ') && !example.is_empty() => example,
            _ => line,
        })
        .collect();
    // The example route names neither of the two ways in; a reader has to choose one.
    let text =
        uncommented.join("\n").replace("authenticated_only = false", "authenticated_only = true");
    let config = read(&text).expect("the examples are valid");
    assert_eq!((config.upstreams.len(), config.routes.len()), (1, 1));
}

fn reference_lines() -> Vec<&'static str> {
    include_str!("../../config/portcullis.toml").lines().collect()
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    let config = read(&route("require = { permission = \"cluster:read\", resource = \"org\" }"))
        .expect("valid");
    assert_eq!(read(&effective(&config)), Ok(config));
    assert_eq!(read(&effective(&defaults())), Ok(defaults()));
}

#[test]
fn every_malformed_value_names_its_key_and_what_is_allowed() {
    let name =
        "a name of 1 to 63 letters, digits, `.`, `_` and `-` that starts with a letter or digit";
    let admin =
        "an IP address and a port such as \"127.0.0.1:9901\", or \"unix:PATH\" for a socket file";
    let address = "an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"";
    let time = "a length of time such as \"250ms\", \"10s\", \"5m\" or \"1h\"";
    let cases: &[(&str, &str, &str, String)] = &[
        ("control", "listen", "\"localhost\"", address.to_owned()),
        ("control", "listen", "7080", address.to_owned()),
        ("control", "data_dir", "\"\"", "a path, relative to this file".to_owned()),
        ("control", "database", "1", "the path of a file, relative to this one, or \"\" for none".to_owned()),
        ("control", "key_prefix", "\"p\"", "2 to 16 letters and digits, such as \"ptc\"".to_owned()),
        ("control", "change_log_length", "99", "a whole number from 100 to 100000000".to_owned()),
        ("control", "log", "\"loud\"", "one of \"\", \"debug\", \"error\", \"info\", \"trace\", \"warn\"".to_owned()),
        ("gateway", "id", "\"-x\"", format!("{name}, or \"\" for none")),
        ("gateway", "workers", "-1", "a whole number from 0 to 1024".to_owned()),
        ("gateway", "workers", "\"four\"", "a whole number from 0 to 1024".to_owned()),
        ("feed", "mode", "\"push\"", "one of \"file\", \"pull\"".to_owned()),
        ("feed", "url", "\"https://h:1\"", "\"http://HOST:PORT\" without a path, or \"\" for none".to_owned()),
        ("feed", "verify_key", "\"abc\"", "43 characters of base64url as in feed-signing.pub, or \"\" for none".to_owned()),
        ("keys", "peppers", "\"pepper.1\"", "a list, each element a table with the keys id, file".to_owned()),
        ("identity", "prefix", "\"x\"", "1 to 32 lower-case letters, digits and `-`, first a letter, last a `-`, such as \"x-auth-\"".to_owned()),
        ("identity", "realm", "'a\"b'", "1 to 64 visible ASCII characters or spaces without `\"` and `\\`".to_owned()),
        ("headers", "underscore", "\"ignore\"", "one of \"drop\", \"keep\", \"reject\"".to_owned()),
        ("paths", "ambiguous", "true", "one of \"canonicalise\", \"redirect\", \"reject\"".to_owned()),
        ("paths", "odd_segments", "\"drop\"", "one of \"keep\", \"reject\"".to_owned()),
        ("limits", "head_bytes", "\"16KB\"", "a size such as 16384 or \"16KiB\" (KiB, MiB, GiB), from 1KiB to 1MiB".to_owned()),
        ("limits", "head_bytes", "1023", "a size such as 16384 or \"16KiB\" (KiB, MiB, GiB), from 1KiB to 1MiB".to_owned()),
        ("limits", "header_count", "101", "a whole number from 1 to 100".to_owned()),
        ("timeouts", "head", "10", format!("{time}, from 250ms to 1h")),
        ("timeouts", "head", "\"10\"", format!("{time}, from 250ms to 1h")),
        ("timeouts", "head", "\"2h\"", format!("{time}, from 250ms to 1h")),
        ("identity", "resource_metadata", "\"ftp://x\"", "an http or https URL of at most 512 characters, or \"\" for none".to_owned()),
        ("failures", "rate", "-1", "a whole number from 0 to 1000000000".to_owned()),
        ("failures", "period", "\"100ms\"", format!("{time}, from 1s to 1h")),
        ("admin", "address", "\"localhost:9901\"", admin.to_owned()),
        ("admin", "address", "\"unix:\"", admin.to_owned()),
        ("log", "level", "\"verbose\"", "one of \"debug\", \"error\", \"info\", \"trace\", \"warn\"".to_owned()),
        ("log", "records", "\"file:\"", "\"stdout\", \"off\" or \"file:PATH\"".to_owned()),
        ("log", "sample_allowed", "1.5", "a number from 0.0 to 1.0".to_owned()),
    ];
    for (section, key, value, allowed) in cases {
        let text = format!("[{section}]\n{key} = {value}\n");
        let expected = format!("{section}.{key}: got {value}; allowed: {allowed} (line 2)");
        assert_eq!(faults(&text), [expected]);
    }
}

#[test]
fn malformed_list_elements_are_named_by_their_place() {
    let text =
        "[[listeners]]\nname = \"a b\"\naddress = \"x\"\ntrusted_proxies = [\"10.0.0.1/8\"]\n";
    let found = faults(text);
    assert!(found[0].starts_with("listeners[0].name: got \"a b\"; allowed: a name"), "{found:?}");
    assert!(found[1].starts_with("listeners[0].address: got \"x\"; allowed: an IP"), "{found:?}");
    assert!(
        found[2]
            .starts_with("listeners[0].trusted_proxies[0]: got \"10.0.0.1/8\"; allowed: a network"),
        "{found:?}"
    );
    assert_eq!(found.len(), 3);
    let nested = faults("[keys]\npeppers = [{ id = 0, file = \"p\" }]\n");
    assert_eq!(
        nested,
        ["keys.peppers[0].id: got 0; allowed: a whole number from 1 to 4294967295 (line 2)"]
    );
}

#[test]
fn malformed_route_values_are_named() {
    for (line, start) in [
        (
            "hosts = [\"API.example.com\"]",
            "routes[0].hosts[0]: got \"API.example.com\"; allowed: a lower-case host name",
        ),
        (
            "methods = [\"CONNECT\"]",
            "routes[0].methods[0]: got \"CONNECT\"; allowed: an HTTP method",
        ),
        ("auth = \"maybe\"", "routes[0].auth: got \"maybe\"; allowed: one of \"key\", \"none\""),
        (
            "require = { permission = \"read\" }",
            "routes[0].require.permission: got \"read\"; allowed: a permission `type:verb`",
        ),
        (
            "credentials = [\"header\"]",
            "routes[0].credentials[0]: got \"header\"; allowed: \"bearer\"",
        ),
        (
            "strip_prefix = \"api\"",
            "routes[0].strip_prefix: got \"api\"; allowed: the beginning of a path",
        ),
        ("timeout = 5", "routes[0].timeout: got 5; allowed: a length of time"),
    ] {
        let found = faults(&route(line));
        assert!(found[0].starts_with(start), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
}

#[test]
fn unknown_keys_and_sections_are_errors_with_what_is_allowed() {
    assert_eq!(
        faults("[gateway]\nworker = 2\n"),
        ["gateway.worker: unknown key; allowed: id, workers (line 2)"]
    );
    let later = faults("[http2]\nmax_streams = 100\n");
    assert_eq!(later.len(), 1);
    assert!(
        later[0].starts_with("http2: unknown key; allowed: control, gateway, listeners"),
        "{later:?}"
    );
    let tls = faults("[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ntls = []\n");
    assert_eq!(
        tls,
        [
            "listeners[0].tls: unknown key; allowed: name, address, trusted_proxies, require_tls (line 4)"
        ]
    );
}

#[test]
fn required_keys_are_named() {
    let found = faults("[[upstreams]]\nname = \"app\"\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("upstreams[0].addresses: required; allowed: a list"), "{found:?}");
}

#[test]
fn all_faults_are_reported_at_once_also_contradictions_of_other_sections() {
    let text = format!("{}\n[limits]\nheader_count = 0\n[log]\nlevel = 1\n", route(""));
    let found = faults(&text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("limits.header_count: got 0"));
    assert!(found[1].starts_with("log.level: got 1"));
    assert!(found[2].starts_with("routes.r.require: missing; allowed: require = {"));
}

#[test]
fn text_that_is_not_toml_is_named_by_its_line() {
    let found = faults("[gateway]\nid = \n");
    assert!(found[0].starts_with("not TOML: "), "{found:?}");
    assert!(found[0].ends_with("(line 2)"), "{found:?}");
}

#[test]
fn contradictions_are_named() {
    let upstream = "[[upstreams]]\nname = \"a\"\naddresses = [{ host = \"h:1\" }]\n";
    let cases = [
        (
            format!("{upstream}{upstream}"),
            "upstreams.a.name: used twice; allowed: a name of its own for each",
        ),
        ("listeners = []".to_owned(), "listeners: empty; allowed: at least one [[listeners]]"),
        (
            "[control]\nlisten = \"127.0.0.1:9901\"".to_owned(),
            "admin.address: 127.0.0.1:9901 is used twice; allowed: an address of its own for each",
        ),
        (
            "[[upstreams]]\nname = \"a\"\naddresses = []".to_owned(),
            "upstreams.a.addresses: empty; allowed: at least one { host = \"HOST:PORT\" }",
        ),
        (
            "[[routes]]\nname = \"r\"\npath = \"/\"\nupstream = \"x\"\nauth = \"none\"".to_owned(),
            "routes.r.upstream: \"x\" is no upstream; allowed: one of [[upstreams]], of which there is none",
        ),
        (
            route("authenticated_only = true\nrequire = { permission = \"a:b\" }"),
            "routes.r.authenticated_only: true although the route has `require`; allowed: one of the two",
        ),
        (
            route("auth = \"none\"\nauthenticated_only = true"),
            "routes.r.auth: \"none\" although the route has `require` or `authenticated_only`; allowed: \"key\"",
        ),
        (
            route("authenticated_only = true\nrequire = { resource = \"org\" }"),
            "routes.r.require.permission: missing; allowed: a permission with the resource",
        ),
        (
            route("authenticated_only = true\ncredentials = []"),
            "routes.r.credentials: empty; allowed: at least one place to look for a key",
        ),
        (
            "[feed]\nfile = \"x\"".to_owned(),
            "feed.file: set in pull mode; allowed: \"\", or feed.mode = \"file\"",
        ),
        (
            "[feed]\nmode = \"file\"\nurl = \"http://h:1\"".to_owned(),
            "feed.url: set in file mode; allowed: \"\", or feed.mode = \"pull\"",
        ),
        (
            "[keys]\npeppers = [{ id = 1, file = \"a\" }, { id = 1, file = \"b\" }]".to_owned(),
            "keys.peppers: id 1 is used twice; allowed: distinct ids",
        ),
        (
            "[control]\nsession_alg = \"ES256\"\nsession_keys = [\"one.key\"]".to_owned(),
            "control.session_alg: \"ES256\" although control.session_keys are set, which are of \
             Ed25519 or RSA; allowed: \"EdDSA\", \"RS256\", or session_keys = []",
        ),
        (
            "[control]\nsession_alg = \"RS256\"".to_owned(),
            "control.session_alg: \"RS256\" without control.session_keys, where its key is; \
             allowed: \"EdDSA\", \"ES256\", or a key there",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(faults(&text), [expected], "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_denial_s_shape_is_named() {
    let with = |lines: &str| route(&format!("authenticated_only = true\n{lines}"));
    for (lines, start) in [
        ("error_template = \"soap\"", "routes[0].error_template: got \"soap\"; allowed: one of"),
        ("errors = 1", "routes[0].errors: got 1; allowed: a table, each member a table with"),
        (
            "[routes.errors.invalid_token]\ncontent = \"x\"\nbody = \"\"",
            "routes[0].errors.invalid_token.content: unknown key; allowed: content_type, body",
        ),
        (
            "errors = { invalid_token = {} }",
            "routes[0].errors.invalid_token.body: required; allowed: a text",
        ),
        (
            "errors = { no_route = { body = \"\" } }",
            "routes.r.errors.no_route: no code that a route answers; allowed: bad_gateway,",
        ),
        (
            "errors = { stale = { body = \"{reason}\" } }",
            "routes.r.errors.stale.body: {reason} is no placeholder; allowed: {code}",
        ),
        (
            "errors = { stale = { body = \"\", content_type = \"json\" } }",
            "routes.r.errors.stale.content_type: \"json\"; allowed: a media type",
        ),
        (
            "resource_metadata = \"example.com\"",
            "routes[0].resource_metadata: got \"example.com\"; allowed: an http or https URL",
        ),
    ] {
        let found = faults(&with(lines));
        assert!(found[0].starts_with(start), "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
    }
    let text = with("[routes.errors.stale]\nbody = '{\"a\":\"{code}\"}'");
    let config = read(&text).expect("valid");
    assert_eq!(config.routes[0].errors.0["stale"].content_type, "application/json");
    assert_eq!(read(&effective(&config)), Ok(config));
}

#[test]
fn a_variable_overrides_the_file_and_may_be_toml_or_plain_text() {
    let config = read_with(
        "[gateway]\nworkers = 1\n",
        &[
            ("PORTCULLIS__GATEWAY__WORKERS", "3"),
            ("PORTCULLIS__GATEWAY__ID", "gw-7"),
            ("PORTCULLIS__KEYS__PREFIXES", "[\"ptc\", \"old\"]"),
            ("PORTCULLIS__IDENTITY__REALM", "1.5"),
        ],
    )
    .expect("valid");
    assert_eq!(config.gateway.workers.0, 3);
    assert_eq!(config.gateway.id.0.map(|id| id.0).as_deref(), Some("gw-7"));
    assert_eq!(config.keys.prefixes.len(), 2);
    assert_eq!(config.identity.realm.0, "1.5");
}

#[test]
fn a_wrong_or_unknown_variable_is_named() {
    let wrong = read_with("", &[("PORTCULLIS__GATEWAY__WORKERS", "many")]).expect_err("wrong");
    assert_eq!(
        wrong,
        [
            "gateway.workers: got many; allowed: a whole number from 0 to 1024 (from PORTCULLIS__GATEWAY__WORKERS)"
        ]
    );
    let unknown = read_with("", &[("PORTCULLIS__GATEWAY__WORKER", "1")]).expect_err("unknown");
    assert_eq!(
        unknown,
        ["gateway.worker: unknown key; allowed: id, workers (from PORTCULLIS__GATEWAY__WORKER)"]
    );
    let list = read_with("", &[("PORTCULLIS__ROUTES", "[]")]).expect_err("a list");
    assert!(
        list[0].starts_with("routes: a list of tables cannot be set by a variable"),
        "{list:?}"
    );
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = read("[control]\ndata_dir = \"d\"\ndatabase = \"/var/x.db\"\n").expect("valid");
    assert_eq!(config.control.data_dir, Path::new("/etc/portcullis/d"));
    assert_eq!(config.control.database.0.as_deref(), Some(Path::new("/var/x.db")));
}

#[test]
fn every_key_of_the_specification_that_has_a_default_has_that_default() {
    let config = defaults();
    assert_eq!(config.limits.head_bytes.0, 16 << 10);
    assert_eq!(config.limits.target_bytes.0, 8 << 10);
    assert_eq!(config.limits.connections_per_source.0, 1024);
    assert_eq!(config.timeouts.idle.0.as_secs(), 60);
    assert_eq!(config.timeouts.drain.0.as_secs(), 30);
    assert_eq!(config.timeouts.upstream_connect.0.as_secs(), 2);
    assert_eq!((config.failures.rate.0, config.failures.period.0.as_secs()), (100, 10));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9901");
    assert_eq!(config.identity.prefix.0, "x-auth-");
    assert_eq!(config.headers.remove[0].0, "x-middleware-subrequest");
}

#[test]
fn public_shadowed_and_unused_parts_are_warned_of() {
    let text = route("auth = \"none\"")
        + "\n[[routes]]\nname = \"s\"\npath = \"/Abc\"\nupstream = \"app\"\nauthenticated_only = true\n\
           [[routes]]\nname = \"t\"\npath = \"/abc\"\nupstream = \"app\"\nauthenticated_only = true\n\
           methods = [\"get\"]\n\
           [[upstreams]]\nname = \"idle\"\naddresses = [{ host = \"h:1\" }]\n\
           [admin]\naddress = \"0.0.0.0:9901\"\n";
    let found = warnings(&read(&text).expect("valid")).join("\n");
    for expected in [
        "routes.r is public",
        "routes.s differs from routes.t only in upper and lower case",
        "routes.t.methods holds get",
        "upstreams.idle is used by no route",
        "admin.address is 0.0.0.0:9901",
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused_with_a_message(text in "\\PC{0,200}") {
            if let Err(found) = read(&text) {
                prop_assert!(!found.is_empty() && found.iter().all(|fault| !fault.is_empty()));
            }
        }

        #[test]
        fn any_value_of_any_key_is_read_or_refused_by_name(
            section in 0..Config::KEYS.len(),
            key in 0..20_usize,
            value in prop_oneof!["\"[ -~&&[^\"\\\\]]{0,20}\"", "-?(0|[1-9][0-9]{0,18})", "true|false", "\\[\\]", "\\{\\}"],
        ) {
            let Some(section) = Config::KEYS.get(section) else { return Ok(()) };
            let Shape::Section(keys) = (section.shape)() else { return Ok(()) };
            let Some(key) = keys.get(key) else { return Ok(()) };
            let name = format!("{}.{}", section.name, key.name);
            match read(&format!("[{}]\n{} = {value}\n", section.name, key.name)) {
                Ok(config) => prop_assert_eq!(read(&effective(&config)), Ok(config)),
                Err(found) => {
                    let named = found.iter().any(|fault| fault.starts_with(&name))
                        // Two listeners of one address are reported at the second.
                        || found.iter().any(|fault| fault.contains("is used twice"));
                    prop_assert!(named, "{name} = {value}: {found:?}");
                }
            }
        }
    }
}
