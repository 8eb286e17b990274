//! `docs/claims.md`: every claim, its source and the tests that prove it, made of `table.tsv` and
//! of the tests' names. Where it differs, the test leaves the right page beside the build's files and
//! says how to take it over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const TABLE: &str = include_str!("table.tsv");
const PAGE: &str = "docs/claims.md";
/// Letter, product, profile.
const PRODUCTS: [(&str, &str, &str); 5] = [
    ("C", "Cast AI", "castai"),
    ("H", "Instabase AI Hub", "aihub"),
    ("Z", "ZenML Pro", "zenml"),
    ("D", "Dezifi", "dezifi"),
    ("P", "Precisely Data Integrity Suite", "precisely"),
];
const MODULES: [&str; 7] =
    ["aihub", "castai", "dezifi", "legacy", "precisely", "sessions", "zenml"];

#[derive(Debug)]
struct Claim<'t> {
    id: &'t str,
    origin: &'static str,
    screen: bool,
    says: &'t str,
}

fn claims() -> Vec<Claim<'static>> {
    let read = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [id, origin, kind, says] = columns[..] else { panic!("four columns in {line:?}") };
        let origin = match origin {
            "S" => "stated",
            "I" => "inferred",
            "A" => "adjacent",
            other => panic!("{id}: an origin is S, I or A, not {other:?}"),
        };
        Claim { id, origin, screen: kind == "screen", says }
    };
    TABLE.lines().map(read).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tests by the claim that their names begin with: `c_09_…` proves C-9.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for module in MODULES {
        let text = std::fs::read_to_string(root().join(format!("tests/claims/{module}.rs")));
        let text = text.expect("a module of tests");
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim() != "#[test]" {
                continue;
            }
            let declaration = lines.find(|line| line.starts_with("fn ")).expect("a test function");
            let name = declaration.trim_start_matches("fn ").split('(').next().expect("a name");
            let mut parts = name.splitn(3, '_');
            let (letters, number) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            let number: u32 = number.parse().unwrap_or_else(|_| panic!("{name} names no claim"));
            let id = format!("{}-{number}", letters.to_uppercase());
            found.entry(id).or_default().push(format!("claims::{module}::{name}"));
        }
    }
    found
}

fn page() -> String {
    let (claims, tests) = (claims(), tests());
    let proven = claims.iter().filter(|claim| tests.contains_key(claim.id)).count();
    let screens = claims.iter().filter(|claim| claim.screen).count();
    let open = claims.len()
        - claims.iter().filter(|claim| claim.screen || tests.contains_key(claim.id)).count();
    let mut page = format!(
        "# Claims\n\nWhat the five products do, claim by claim, and the test that proves it here, under the\n\
         product's policy profile and, where access is concerned, at a running gateway. Made of\n\
         `tests/claims/`; a test keeps it true. Of {} claims {proven} have a test, {screens} are about a\n\
         screen alone, {open} are open.\n",
        claims.len()
    );
    for (letter, product, profile) in PRODUCTS {
        page.push_str(&format!("\n## {product} (profile `{profile}`)\n\n"));
        page.push_str("| claim | origin | what | state |\n|---|---|---|---|\n");
        let adjacent = format!("{letter}A-");
        let own = format!("{letter}-");
        for claim in claims
            .iter()
            .filter(|claim| claim.id.starts_with(&own) || claim.id.starts_with(&adjacent))
        {
            let state = match (tests.get(claim.id), claim.screen) {
                (Some(names), _) => {
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                }
                (None, true) => "screen".to_owned(),
                (None, false) => "**open**".to_owned(),
            };
            page.push_str(&format!(
                "| {} | {} | {} | {state} |\n",
                claim.id, claim.origin, claim.says
            ));
        }
    }
    page
}

#[test]
fn the_page_of_claims_is_what_the_tests_say() {
    let path: PathBuf = root().join(PAGE);
    let wanted = page();
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if committed != wanted {
        let right = Path::new(env!("CARGO_TARGET_TMPDIR")).join("claims.md");
        std::fs::write(&right, &wanted).expect("the page can be written");
        panic!("{PAGE} is not what the tests say; take it over: cp {} {PAGE}", right.display());
    }
}

#[test]
fn every_claim_that_is_not_about_a_screen_alone_has_a_test() {
    let tests = tests();
    let open: Vec<&str> = claims()
        .iter()
        .filter(|claim| !claim.screen && !tests.contains_key(claim.id))
        .map(|claim| claim.id)
        .collect();
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn every_test_here_proves_a_claim_of_the_table() {
    let claims = claims();
    let stray: Vec<String> =
        tests().into_keys().filter(|id| claims.iter().all(|claim| claim.id != id)).collect();
    assert!(stray.is_empty(), "{stray:?}");
}
