//! How one value is read from TOML and written back. A type that implements [`Setting`] cannot
//! hold a value that is not allowed, so nothing after the reading checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Place};

/// A type that a configuration key can have.
pub(crate) trait Setting: Sized {
    /// What is allowed, as the end of the sentence "allowed: …".
    fn allowed() -> String;

    /// Reads the value, or reports every fault in it and gives `None`.
    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self>;

    /// The value as it would be written in a file.
    fn write(&self) -> toml::Value;

    /// Whether this is a plain value, a section or a list of sections.
    fn shape() -> Shape {
        Shape::Value
    }
}

/// How the reference file shows a key.
#[derive(Copy, Clone)]
pub(crate) enum Shape {
    /// `key = value`
    Value,
    /// `[key]` with keys of its own.
    Section(&'static [Key]),
    /// `[[key]]`, any number of times.
    Sections(&'static [Key]),
}

/// One key of a section: the single place that knows its name, default and explanation.
pub(crate) struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// The lines of its doc comment.
    pub doc: &'static [&'static str],
    /// Whether a file that holds the section must hold the key.
    pub required: bool,
    /// The default as TOML text, or an example if the key is required.
    pub toml: &'static str,
    /// How to show it.
    pub shape: fn() -> Shape,
}

/// Walks one document and collects the faults.
pub(crate) struct Reader<'a> {
    text: &'a str,
    origin: Origin<'a>,
    base: &'a Path,
    path: Vec<String>,
    environment: &'a BTreeMap<String, String>,
    environment_used: &'a mut BTreeSet<String>,
    faults: &'a mut Vec<Fault>,
}

#[derive(Copy, Clone)]
enum Origin<'a> {
    BuiltIn,
    Environment(&'a str),
    File,
}

impl<'a> Reader<'a> {
    /// A reader of `text`; relative paths in it start at `base`.
    pub(crate) fn new(
        text: &'a str,
        base: &'a Path,
        environment: &'a BTreeMap<String, String>,
        environment_used: &'a mut BTreeSet<String>,
        faults: &'a mut Vec<Fault>,
    ) -> Self {
        let path = Vec::new();
        Self { text, origin: Origin::File, base, path, environment, environment_used, faults }
    }

    /// Reads `key` of `table`: from the environment, else from the table, else its default.
    pub(crate) fn key<T: Setting>(&mut self, table: &DeTable<'_>, key: &Key) -> Option<T> {
        self.path.push(key.name.to_owned());
        let result = match (self.override_of(), table.get(key.name)) {
            (Some((name, text)), _) => self.read_variable(&name, &text),
            (None, Some(value)) => T::read(value, self),
            (None, None) if key.required => {
                self.wrong(None, format_args!("required; allowed: {}", T::allowed()));
                None
            }
            (None, None) => self.read_default(key.toml),
        };
        self.path.pop();
        result
    }

    /// Reports the keys of `table` that are not among `keys`.
    pub(crate) fn refuse_unknown(&mut self, table: &DeTable<'_>, keys: &[Key]) {
        for (name, _) in table {
            if keys.iter().any(|key| key.name == name.get_ref()) {
                continue;
            }
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            self.path.push(name.get_ref().to_string());
            let what = format!("unknown key; allowed: {}", names.join(", "));
            self.wrong(Some(name.span()), what);
            self.path.pop();
        }
    }

    /// Reads one element of a list.
    pub(crate) fn element<T: Setting>(
        &mut self,
        index: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let list = self.path.pop().unwrap_or_default();
        self.path.push(format!("{list}[{index}]"));
        let result = T::read(value, self);
        self.path.pop();
        self.path.push(list);
        result
    }

    /// Reads one member of a table whose keys the file chooses.
    pub(crate) fn member<T: Setting>(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        self.path.push(name.to_owned());
        let result = T::read(value, self);
        self.path.pop();
        result
    }

    /// Reports that `value` is not what `T` allows.
    pub(crate) fn refuse<T: Setting>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let mut shown: String =
            self.text.get(value.span()).unwrap_or("?").chars().take(80).collect();
        if let Some(line_end) = shown.find('\n') {
            shown.truncate(line_end);
        }
        self.wrong(Some(value.span()), format_args!("got {shown}; allowed: {}", T::allowed()));
        None
    }

    /// Reports `what` about the present key.
    pub(crate) fn wrong(&mut self, span: Option<Range<usize>>, what: impl Display) {
        let place = match (self.origin, span) {
            (Origin::Environment(name), _) => Place::Environment(name.to_owned()),
            (Origin::File, Some(span)) => Place::Line(line_of(self.text, span.start)),
            (Origin::BuiltIn, _) | (Origin::File, None) => Place::BuiltIn,
        };
        self.faults.push(Fault { key: self.path.join("."), what: what.to_string(), place });
    }

    /// `path` as seen from the configuration file.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    fn override_of(&mut self) -> Option<(String, String)> {
        if matches!(self.origin, Origin::Environment(_)) || self.path.len() != 2 {
            return None;
        }
        let name = environment_name(&self.path.join("."));
        let text = self.environment.get(&name)?.clone();
        self.environment_used.insert(name.clone());
        Some((name, text))
    }

    /// A value from the environment is TOML if it reads as such, and otherwise the text itself.
    fn read_variable<T: Setting>(&mut self, name: &str, text: &str) -> Option<T> {
        let quoted = Spanned::new(0..text.len(), DeValue::String(text.into()));
        let Ok(parsed) = DeValue::parse(text) else {
            return self.elsewhere(Origin::Environment(name), text, &quoted);
        };
        let before = self.faults.len();
        if let Some(found) = self.elsewhere(Origin::Environment(name), text, &parsed) {
            return Some(found);
        }
        let faults_as_toml = self.faults.split_off(before);
        let found = self.elsewhere(Origin::Environment(name), text, &quoted);
        if found.is_none() {
            self.faults.truncate(before);
            self.faults.extend(faults_as_toml);
        }
        found
    }

    fn read_default<T: Setting>(&mut self, text: &str) -> Option<T> {
        match DeValue::parse(text) {
            Ok(value) => self.elsewhere(Origin::BuiltIn, text, &value),
            Err(error) => {
                self.wrong(None, format_args!("the built-in default is broken: {error}"));
                None
            }
        }
    }

    /// Reads `value`, which stands in another text than the file.
    fn elsewhere<T: Setting>(
        &mut self,
        origin: Origin<'_>,
        text: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let mut reader = Reader {
            text,
            origin,
            base: self.base,
            path: std::mem::take(&mut self.path),
            environment: self.environment,
            environment_used: self.environment_used,
            faults: self.faults,
        };
        let result = T::read(value, &mut reader);
        self.path = reader.path;
        result
    }
}

/// `limits.head_bytes` → `PORTCULLIS__LIMITS__HEAD_BYTES`.
pub(crate) fn environment_name(key: &str) -> String {
    format!("PORTCULLIS__{}", key.to_uppercase().replace('.', "__"))
}

/// The line, counted from 1, of the byte at `offset`.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Declares a section: a struct, its keys with their defaults and explanations, and how to read
/// and write it. The doc comments are the text of `config/portcullis.toml`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $section:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $kind:ty => $presence:ident $toml:literal,
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $(
                $(#[doc = $doc])*
                pub $key: $kind,
            )*
        }

        impl $section {
            /// Its keys, in the order of the reference file.
            pub(crate) const KEYS: &'static [$crate::config::setting::Key] = &[$(
                $crate::config::setting::Key {
                    name: stringify!($key),
                    doc: &[$($doc),*],
                    required: section!(@required $presence),
                    toml: $toml,
                    shape: <$kind as $crate::config::setting::Setting>::shape,
                },
            )*];
        }

        impl $crate::config::setting::Setting for $section {
            fn allowed() -> String {
                let names: Vec<&str> = Self::KEYS.iter().map(|key| key.name).collect();
                format!("a table with the keys {}", names.join(", "))
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::setting::Reader<'_>,
            ) -> Option<Self> {
                let Some(table) = value.get_ref().as_table() else {
                    return reader.refuse::<Self>(value);
                };
                reader.refuse_unknown(table, Self::KEYS);
                let mut keys = Self::KEYS.iter();
                $(let $key: Option<$kind> = keys.next().and_then(|key| reader.key(table, key));)*
                Some(Self { $($key: $key?,)* })
            }

            fn write(&self) -> toml::Value {
                let mut table = toml::Table::new();
                $(table.insert(stringify!($key).to_owned(), self.$key.write());)*
                toml::Value::Table(table)
            }

            fn shape() -> $crate::config::setting::Shape {
                $crate::config::setting::Shape::Section(Self::KEYS)
            }
        }
    };
    (@required default) => { false };
    (@required required) => { true };
}

pub(crate) use section;
