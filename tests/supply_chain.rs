//! Holds the dependency policy of `deny.toml` over `Cargo.lock` without any extra tool: version
//! floors, packages that are banned outright, one source; and over what cargo says of the licences.

use std::cmp::Ordering;
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

struct Package {
    name: String,
    version: String,
    source: Option<String>,
}

fn read_table(file: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(&path).expect("the file lies at the top of the repository");
    text.parse().expect("the file is TOML")
}

fn locked_packages() -> Vec<Package> {
    let lock = read_table("Cargo.lock");
    let packages = lock["package"].as_array().expect("Cargo.lock lists packages");
    let text =
        |package: &Value, key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    packages
        .iter()
        .map(|package| Package {
            name: text(package, "name").expect("a package has a name"),
            version: text(package, "version").expect("a package has a version"),
            source: text(package, "source"),
        })
        .collect()
}

/// Compares the numeric core of two versions; a pre-release counts as older than its release.
fn compare_versions(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| {
        let (core, pre) = text
            .split('+')
            .next()
            .unwrap_or(text)
            .split_once('-')
            .map_or((text, false), |(c, _)| (c, true));
        let numbers: Vec<u64> = core
            .split(['.', '+'])
            .map_while(|part| part.parse().ok())
            .chain([0, 0, 0])
            .take(3)
            .collect();
        (numbers, !pre)
    };
    parts(left).cmp(&parts(right))
}

#[test]
fn no_locked_package_is_banned_or_below_its_floor() {
    let policy = read_table("deny.toml");
    let bans = policy["bans"]["deny"].as_array().expect("deny.toml has bans");
    let packages = locked_packages();
    let mut offences = Vec::new();
    for ban in bans {
        let spec = ban["crate"].as_str().expect("a ban names a crate");
        let reason = ban["reason"].as_str().expect("a ban says why");
        let (name, floor) =
            spec.split_once(":<").map_or((spec, None), |(name, floor)| (name, Some(floor)));
        for package in packages.iter().filter(|package| package.name == name) {
            let allowed =
                floor.is_some_and(|floor| compare_versions(&package.version, floor).is_ge());
            if !allowed {
                offences.push(format!("{name} {}: {spec}: {reason}", package.version));
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn the_policy_names_every_floor_of_the_threat_model() {
    let policy = read_table("deny.toml");
    let bans = policy["bans"]["deny"].as_array().expect("deny.toml has bans");
    let floors: Vec<&str> = bans
        .iter()
        .filter_map(|ban| ban["crate"].as_str())
        .filter(|spec| spec.contains(":<"))
        .collect();
    for wanted in [
        "h2:<0.4.16",
        "hyper:<1.12.0",
        "rustls:<0.23.45",
        "rustls-webpki:<0.103.12",
        "jsonwebtoken:<10.3.0",
        "lru:<0.16.3",
        "pingora-timeout:<0.9.1",
        "pingora-limits:<0.9.1",
        "pingora-ketama:<0.9.1",
        "libsqlite3-sys:<0.37.0",
    ] {
        assert!(floors.contains(&wanted), "deny.toml lost the floor {wanted}");
    }
}

#[test]
fn every_locked_package_comes_from_one_registry_or_from_this_workspace() {
    let mut sources: Vec<String> =
        locked_packages().into_iter().filter_map(|package| package.source).collect();
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 1, "{sources:?}");
    assert!(sources[0].starts_with("registry+"), "{sources:?}");

    let ours: Vec<String> = locked_packages()
        .into_iter()
        .filter(|package| package.source.is_none())
        .map(|package| package.name)
        .collect();
    assert_eq!(ours, ["portcullis", "portcullis-control", "portcullis-core", "portcullis-gateway"]);
}

#[test]
fn every_package_built_here_has_a_licence_that_the_policy_allows() {
    let policy = read_table("deny.toml");
    let allowed = texts(&policy["licenses"]["allow"]);
    let exceptions = policy["licenses"]["exceptions"].as_array().expect("a list of exceptions");
    let mut offences = Vec::new();
    for package in licences() {
        let (name, licence) = (&package["name"], &package["license"]);
        let (Some(name), Some(licence)) = (name.as_str(), licence.as_str()) else {
            offences.push(format!("{name}: {licence}"));
            continue;
        };
        let own = exceptions.iter().find(|exception| exception["crate"].as_str() == Some(name));
        let own = own.map(|exception| texts(&exception["allow"])).unwrap_or_default();
        if !permits(licence, &|id| allowed.contains(&id) || own.contains(&id)) {
            offences.push(format!("{name}: {licence}"));
        }
    }
    assert!(offences.is_empty(), "deny.toml does not allow {offences:#?}");
}

/// What cargo knows of every package that is built here.
fn licences() -> Vec<serde_json::Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "host-tuple", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .expect("cargo runs, since it runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    match metadata["packages"].take() {
        serde_json::Value::Array(packages) => packages,
        other => panic!("no list of packages: {other}"),
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

/// Whether an SPDX expression leaves a choice that is allowed. `AND` binds tighter than `OR`, an
/// old `/` is an `OR`, and a licence "or later" may be taken as it is.
fn permits(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.replace('/', " OR ");
    if let Some((before, rest)) = expression.split_once('(') {
        // No licence here nests: the inner expression's verdict takes its place.
        let (inner, after) = rest.split_once(')').expect("a closed parenthesis");
        let verdict = if permits(inner, allowed) { "yes" } else { "no" };
        let flat = format!("{before}{verdict}{after}");
        let known: &dyn Fn(&str) -> bool = &|id| id == "yes" || allowed(id);
        return permits(&flat, known);
    }
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|id| allowed(id.trim().trim_end_matches('+'))))
}

#[test]
fn a_licence_expression_is_read_as_spdx_means_it() {
    let allowed = |id: &str| ["A", "B WITH X"].contains(&id);
    for expression in
        ["A", "A OR C", "C/A", "A AND B WITH X", "A+", "(C OR A) AND A", "C AND C OR A"]
    {
        assert!(permits(expression, &allowed), "{expression}");
    }
    for expression in ["C", "", "A AND C", "B", "(C OR D) AND A", "(A OR C) AND D"] {
        assert!(!permits(expression, &allowed), "{expression}");
    }
}

#[test]
fn versions_compare_by_number_and_a_pre_release_is_older() {
    assert_eq!(compare_versions("0.10.0", "0.9.9"), Ordering::Greater);
    assert_eq!(compare_versions("1.12.0", "1.12.0"), Ordering::Equal);
    assert_eq!(compare_versions("1.12.0-rc.1", "1.12.0"), Ordering::Less);
    assert_eq!(compare_versions("1.12.0+build", "1.12.0"), Ordering::Equal);
}
