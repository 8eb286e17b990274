//! What the process is told: one TOML file, the environment over it, built-in defaults under it.
//! Everything that is wrong is reported at once; nothing half-read ever leaves this module.

mod built_in;
mod check;
pub mod choices;
mod domain;
mod fault;
mod kinds;
mod plane;
mod reference;
mod reload;
pub mod sections;
mod setting;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use built_in::{pepper_file, route_everything, route_requiring, upstream, upstream_address};
pub use check::warnings;
pub use domain::{AdminAddress, decode_public_key, is_authority};
pub use fault::{Fault, Faults, Place};
pub use kinds::{Name, OptionalFile, OptionalName};
pub use plane::{ControlSecrets, control_settings, gateway_settings, reload_settings};
pub use reference::{effective, reference};
pub use reload::{Reloaded, reloaded};
pub use sections::Config;

use setting::{Key, Reader, Setting, Shape, line_of};

/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The variables `PORTCULLIS__…` of the process.
///
/// # Errors
///
/// When one of them is not UTF-8.
#[expect(clippy::disallowed_methods, reason = "the environment is configuration")]
pub fn environment() -> Result<BTreeMap<String, String>, Faults> {
    let (mut variables, mut faults) = (BTreeMap::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.into_string().ok().filter(|name| name.starts_with("PORTCULLIS__"))
        else {
            continue;
        };
        match value.into_string() {
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(_) => faults.push(Fault {
                key: String::new(),
                what: "not UTF-8; allowed: text in UTF-8".to_owned(),
                place: Place::Environment(name),
            }),
        }
    }
    if faults.is_empty() { Ok(variables) } else { Err(Faults { file: None, faults }) }
}

/// Reads the configuration of `file`, or the defaults without one, with `environment` over it.
///
/// # Errors
///
/// Every fault of the file and of the environment.
pub fn load(file: Option<&Path>, environment: &BTreeMap<String, String>) -> Result<Config, Faults> {
    let text = match file {
        Some(path) => read_text(path).map_err(|what| Faults::of_file(path, what))?,
        None => String::new(),
    };
    let base = file.and_then(Path::parent).unwrap_or(Path::new(""));
    parse(&text, base, environment)
        .map_err(|faults| Faults { file: file.map(Path::to_path_buf), faults })
}

/// Reads the configuration in `text`; relative paths in it start at `base`.
///
/// # Errors
///
/// Every fault, in the order of the sections.
pub fn parse(
    text: &str,
    base: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Config, Vec<Fault>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        return Err(syntax.iter().map(|error| syntax_fault(text, error)).collect());
    }
    let document = document.into_inner();
    let source = Source { text, base };
    let (config, mut faults) = source.read(document.clone(), environment);
    if let Some(config) = config.filter(|_| faults.is_empty()) {
        let contradictions = all_contradictions(&config);
        return if contradictions.is_empty() { Ok(config) } else { Err(contradictions) };
    }
    let rest = source.contradictions_of_the_rest(document, environment, &faults);
    faults.extend(rest);
    Err(faults)
}

/// A document as it was written, and where relative paths in it start.
#[derive(Copy, Clone)]
struct Source<'a> {
    text: &'a str,
    base: &'a Path,
}

impl Source<'_> {
    fn read(
        self,
        document: DeTable<'_>,
        environment: &BTreeMap<String, String>,
    ) -> (Option<Config>, Vec<Fault>) {
        let (mut used, mut faults) = (BTreeSet::new(), Vec::new());
        let mut reader = Reader::new(self.text, self.base, environment, &mut used, &mut faults);
        let value = Spanned::new(0..self.text.len(), DeValue::Table(document));
        let config = Config::read(&value, &mut reader);
        refuse_unused(environment, &used, &mut faults);
        (config, faults)
    }

    /// What contradicts itself in the sections that could be read, when others could not: those
    /// are left at their defaults. Says nothing when a list that others refer to is broken.
    fn contradictions_of_the_rest(
        self,
        document: DeTable<'_>,
        environment: &BTreeMap<String, String>,
        faults: &[Fault],
    ) -> Vec<Fault> {
        let section_of =
            |fault: &Fault| fault.key.split(['.', '[']).next().unwrap_or("").to_owned();
        let broken: BTreeSet<String> = faults.iter().map(section_of).collect();
        if ["listeners", "upstreams", "routes"].iter().any(|list| broken.contains(*list)) {
            return Vec::new();
        }
        let whole = document.into_iter().filter(|(name, _)| !broken.contains(&**name.get_ref()));
        let of_broken = |name: &str| {
            broken.iter().any(|section| name.starts_with(&setting::environment_name(section)))
        };
        let environment = environment.iter().filter(|(name, _)| !of_broken(name));
        let environment = environment.map(|(name, value)| (name.clone(), value.clone())).collect();
        let (config, _) = self.read(whole.collect(), &environment);
        config.map(|config| all_contradictions(&config)).unwrap_or_default()
    }
}

/// Checks a configuration once more after flags were put over it.
///
/// # Errors
///
/// Every contradiction.
pub fn finish(config: Config) -> Result<Config, Faults> {
    let faults = all_contradictions(&config);
    if faults.is_empty() { Ok(config) } else { Err(Faults { file: None, faults }) }
}

/// What this module finds, and what only the gateway's own plan can find, such as routes that tie.
fn all_contradictions(config: &Config) -> Vec<Fault> {
    let mut faults = check::contradictions(config);
    for fault in plane::gateway_faults(config) {
        if !faults.iter().any(|known| known.key == fault.key) {
            faults.push(fault);
        }
    }
    faults
}

/// The value of one variable of the process, if it is UTF-8.
#[expect(clippy::disallowed_methods, reason = "the environment is configuration")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("holds {size} bytes; allowed: at most {MAX_FILE_BYTES}"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        format!("is not UTF-8 from byte {offset} on; allowed: a TOML file in UTF-8")
    })
}

fn syntax_fault(text: &str, error: &toml::de::Error) -> Fault {
    let place = error.span().map_or(Place::BuiltIn, |span| Place::Line(line_of(text, span.start)));
    Fault { key: String::new(), what: format!("not TOML: {}", error.message()), place }
}

fn refuse_unused(
    environment: &BTreeMap<String, String>,
    used: &BTreeSet<String>,
    faults: &mut Vec<Fault>,
) {
    for name in environment.keys().filter(|name| !used.contains(*name)) {
        let words: Vec<String> = name.split("__").skip(1).map(|word| word.to_lowercase()).collect();
        let section =
            Config::KEYS.iter().find(|key| Some(key.name) == words.first().map(String::as_str));
        let what = match section.map(|section| (section.shape)()) {
            Some(Shape::Section(keys)) => format!("unknown key; allowed: {}", key_names(keys)),
            Some(Shape::Sections(_) | Shape::Value) => {
                "a list of tables cannot be set by a variable; write it in the file".to_owned()
            }
            None => format!("unknown section; allowed: {}", key_names(Config::KEYS)),
        };
        faults.push(Fault { key: words.join("."), what, place: Place::Environment(name.clone()) });
    }
}

fn key_names(keys: &[Key]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
