//! Holds the dependency policy of `deny.toml` over `Cargo.lock` without any extra tool: version
//! floors, packages that are banned outright, one source.

use std::cmp::Ordering;
use std::path::Path;

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
fn versions_compare_by_number_and_a_pre_release_is_older() {
    assert_eq!(compare_versions("0.10.0", "0.9.9"), Ordering::Greater);
    assert_eq!(compare_versions("1.12.0", "1.12.0"), Ordering::Equal);
    assert_eq!(compare_versions("1.12.0-rc.1", "1.12.0"), Ordering::Less);
    assert_eq!(compare_versions("1.12.0+build", "1.12.0"), Ordering::Equal);
}
