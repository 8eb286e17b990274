//! Sections that flags make: what a file would say with the given values and every other key at
//! its default. They are read like a file, so no default is written down twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::fault::Faults;
use super::kinds::Name;
use super::sections::{PepperFile, Route, Upstream, UpstreamAddress};
use super::setting::{Reader, Setting};

/// An upstream with one address, `HOST:PORT`.
///
/// # Errors
///
/// When a value is not allowed.
pub fn upstream(name: &str, host: &str) -> Result<Upstream, Faults> {
    let inline = Table::from_iter(address(host).map(|(name, value)| (name.to_owned(), value)));
    section([("name", text(name)), ("addresses", Value::Array(vec![Value::Table(inline)]))])
}

/// One address of an upstream.
///
/// # Errors
///
/// When `host` is not `HOST:PORT`.
pub fn upstream_address(host: &str) -> Result<UpstreamAddress, Faults> {
    section(address(host))
}

/// A route that sends every path to `upstream` and needs a valid key.
///
/// # Errors
///
/// Never for a valid name.
pub fn route_everything(upstream: &Name) -> Result<Route, Faults> {
    section([
        ("name", text("everything")),
        ("path", text("/{*rest}")),
        ("upstream", text(&upstream.0)),
        ("authenticated_only", Value::Boolean(true)),
    ])
}

/// A route for every path and some methods that needs a permission.
///
/// # Errors
///
/// When a value is not allowed.
pub fn route_requiring(
    name: &str,
    upstream: &str,
    methods: &[&str],
    permission: &str,
) -> Result<Route, Faults> {
    let require = Table::from_iter([("permission".to_owned(), text(permission))]);
    section([
        ("name", text(name)),
        ("path", text("/{*rest}")),
        ("upstream", text(upstream)),
        ("methods", Value::Array(methods.iter().map(|method| text(method)).collect())),
        ("require", Value::Table(require)),
    ])
}

/// The pepper with id 1.
///
/// # Errors
///
/// When the path is not UTF-8 or empty.
pub fn pepper_file(path: &Path) -> Result<PepperFile, Faults> {
    let path = path
        .to_str()
        .ok_or_else(|| Faults::of_file(path, "allowed: a path that is UTF-8".to_owned()))?;
    section([("id", Value::Integer(1)), ("file", text(path))])
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn address(host: &str) -> [(&'static str, Value); 1] {
    [("host", text(host))]
}

/// Reads a section from these members and the defaults of all others.
fn section<T: Setting>(
    members: impl IntoIterator<Item = (&'static str, Value)>,
) -> Result<T, Faults> {
    let members = members.into_iter().map(|(name, value)| (name.to_owned(), value));
    let document = Table::from_iter(members).to_string();
    let (environment, mut used, mut faults) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut reader = Reader::new(&document, Path::new(""), &environment, &mut used, &mut faults);
    let (table, _) = DeTable::parse_recoverable(&document);
    let value = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let found = T::read(&value, &mut reader);
    found.ok_or(Faults { file: None, faults })
}
