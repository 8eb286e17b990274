//! The kinds of values that configuration keys hold: sizes, periods, addresses, names, choices.
//! Each knows its bounds, so that a value out of them never leaves this module.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::setting::{Reader, Setting, Shape};

/// A whole number between two bounds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Count<const MIN: u64, const MAX: u64>(pub u64);

/// A number of bytes: `16384` or `"16KiB"`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Size<const MIN: u64, const MAX: u64>(pub u64);

/// A length of time between two bounds in milliseconds: `"250ms"`, `"10s"`, `"5m"`, `"1h"`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Period<const MIN_MS: u64, const MAX_MS: u64>(pub Duration);

/// A number from 0 to 1.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Fraction(pub f64);

/// The name of a listener, upstream, route or gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub String);

/// A name, or `""` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalName(pub Option<Name>);

/// A path relative to the configuration file, or `""` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionalFile(pub Option<PathBuf>);

/// A network in CIDR notation, or one address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address of the network.
    pub address: IpAddr,
    /// How many leading bits count.
    pub bits: u8,
}

/// A table whose keys the file chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct Map<T>(pub BTreeMap<String, T>);

impl<const MIN: u64, const MAX: u64> Setting for Count<MIN, MAX> {
    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match whole_number(value.get_ref()) {
            Some(count) if (MIN..=MAX).contains(&count) => Some(Self(count)),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::Integer(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Size<MIN, MAX> {
    fn allowed() -> String {
        let (min, max) = (size_text(MIN), size_text(MAX));
        format!("a size such as 16384 or \"16KiB\" (KiB, MiB, GiB), from {min} to {max}")
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let bytes = match value.get_ref() {
            DeValue::String(text) => {
                scaled(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)])
            }
            other => whole_number(other),
        };
        match bytes {
            Some(bytes) if (MIN..=MAX).contains(&bytes) => Some(Self(bytes)),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        match self.0 {
            0 => toml::Value::Integer(0),
            bytes => toml::Value::String(size_text(bytes)),
        }
    }
}

impl<const MIN_MS: u64, const MAX_MS: u64> Setting for Period<MIN_MS, MAX_MS> {
    fn allowed() -> String {
        let (min, max) = (period_text(MIN_MS), period_text(MAX_MS));
        format!(
            "a length of time such as \"250ms\", \"10s\", \"5m\" or \"1h\", from {min} to {max}"
        )
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        // "ms" stands before "m" and "s", which it ends with.
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let ms = value.get_ref().as_str().filter(|text| text.ends_with(['s', 'm', 'h']));
        match ms.and_then(|text| scaled(text, &units)) {
            Some(ms) if (MIN_MS..=MAX_MS).contains(&ms) => Some(Self(Duration::from_millis(ms))),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(period_text(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Setting for Fraction {
    fn allowed() -> String {
        "a number from 0.0 to 1.0".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_) => {
                whole_number(value.get_ref()).map(|n| if n == 0 { 0.0 } else { n as f64 })
            }
            _ => None,
        };
        match number {
            Some(number) if (0.0..=1.0).contains(&number) => Some(Self(number)),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::Float(self.0)
    }
}

impl Setting for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        value.get_ref().as_bool().or_else(|| reader.refuse(value))
    }

    fn write(&self) -> toml::Value {
        toml::Value::Boolean(*self)
    }
}

/// Free text; what it must look like is checked where it gets its meaning.
impl Setting for String {
    fn allowed() -> String {
        "a text of at most 1024 bytes without control characters".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some(text) if text.len() <= 1024 && !text.chars().any(char::is_control) => {
                Some(text.to_owned())
            }
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.clone())
    }
}

impl Setting for SocketAddr {
    fn allowed() -> String {
        "an IP address and a port such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let parsed = value.get_ref().as_str().and_then(|text| text.parse().ok());
        parsed.or_else(|| reader.refuse(value))
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string())
    }
}

impl Name {
    /// The name, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        let all_allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        (starts_well && all_allowed && text.len() <= 63).then(|| Self(text.to_owned()))
    }
}

impl Setting for Name {
    fn allowed() -> String {
        "a name of 1 to 63 letters, digits, `.`, `_` and `-` that starts with a letter or digit"
            .to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let parsed = value.get_ref().as_str().and_then(Name::parse);
        parsed.or_else(|| reader.refuse(value))
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.0.clone())
    }
}

impl Setting for OptionalName {
    fn allowed() -> String {
        format!("{}, or \"\" for none", Name::allowed())
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("") => Some(Self(None)),
            Some(text) if Name::parse(text).is_some() => Some(Self(Name::parse(text))),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.0.as_ref().map(|name| name.0.clone()).unwrap_or_default())
    }
}

impl Setting for OptionalFile {
    fn allowed() -> String {
        "the path of a file, relative to this one, or \"\" for none".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some("") => Some(Self(None)),
            Some(path) if !path.contains('\0') => Some(Self(Some(reader.resolve(path)))),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        let path = self.0.as_ref().map(|path| path.to_string_lossy().into_owned());
        toml::Value::String(path.unwrap_or_default())
    }
}

/// A path relative to the configuration file.
impl Setting for PathBuf {
    fn allowed() -> String {
        "a path, relative to this file".to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        match value.get_ref().as_str() {
            Some(path) if !path.is_empty() && !path.contains('\0') => Some(reader.resolve(path)),
            Some(_) | None => reader.refuse(value),
        }
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(self.to_string_lossy().into_owned())
    }
}

impl Network {
    /// Parses `10.0.0.0/8`, `fd00::/8` or one address; bits after the prefix must be zero.
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => width,
        };
        let host_bits = width.checked_sub(bits)?;
        let number = match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let rest = 1_u128.checked_shl(u32::from(host_bits)).map_or(u128::MAX, |one| one - 1);
        (number & rest == 0).then_some(Self { address, bits })
    }
}

impl Setting for Network {
    fn allowed() -> String {
        "a network such as \"10.0.0.0/8\" with all bits after the prefix zero, or one address"
            .to_owned()
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let parsed = value.get_ref().as_str().and_then(Network::parse);
        parsed.or_else(|| reader.refuse(value))
    }

    fn write(&self) -> toml::Value {
        toml::Value::String(format!("{}/{}", self.address, self.bits))
    }
}

/// A list; every element that is wrong is reported.
impl<T: Setting> Setting for Vec<T> {
    fn allowed() -> String {
        format!("a list, each element {}", T::allowed())
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(elements) = value.get_ref().as_array() else {
            return reader.refuse(value);
        };
        let found: Vec<Option<T>> = elements
            .iter()
            .enumerate()
            .map(|(index, element)| reader.element(index, element))
            .collect();
        found.into_iter().collect()
    }

    fn write(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(Setting::write).collect())
    }

    fn shape() -> Shape {
        match T::shape() {
            Shape::Section(keys) => Shape::Sections(keys),
            Shape::Sections(_) | Shape::Value => Shape::Value,
        }
    }
}

/// Every member that is wrong is reported.
impl<T: Setting> Setting for Map<T> {
    fn allowed() -> String {
        format!("a table, each member {}", T::allowed())
    }

    fn read(value: &Spanned<DeValue<'_>>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(members) = value.get_ref().as_table() else {
            return reader.refuse(value);
        };
        let members: Vec<_> = members
            .iter()
            .map(|(name, member)| {
                Some((name.get_ref().to_string(), reader.member(name.get_ref(), member)?))
            })
            .collect();
        members.into_iter().collect::<Option<_>>().map(Self)
    }

    fn write(&self) -> toml::Value {
        let members = self.0.iter().map(|(name, member)| (name.clone(), member.write()));
        toml::Value::Table(members.collect())
    }
}

/// Declares an enum of words; the words are what a file may hold.
macro_rules! choice {
    (
        $(#[doc = $choice_doc:literal])*
        pub enum $choice:ident {
            $($(#[doc = $doc:literal])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[doc = $choice_doc])*
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub enum $choice {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $crate::config::setting::Setting for $choice {
            fn allowed() -> String {
                let words = [$($word),*];
                format!("one of {}", words.map(|word| format!("\"{word}\"")).join(", "))
            }

            fn read(
                value: &toml::Spanned<toml::de::DeValue<'_>>,
                reader: &mut $crate::config::setting::Reader<'_>,
            ) -> Option<Self> {
                match value.get_ref().as_str() {
                    $(Some($word) => Some(Self::$variant),)*
                    Some(_) | None => reader.refuse(value),
                }
            }

            fn write(&self) -> toml::Value {
                let word = match self {
                    $(Self::$variant => $word,)*
                };
                toml::Value::String(word.to_owned())
            }
        }
    };
}

pub(crate) use choice;

fn whole_number(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// Digits followed by one of the units, or by nothing, which then counts as the factor 1.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, factor) = found.unwrap_or((text, 1));
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn size_text(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

fn period_text(ms: u64) -> String {
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms != 0 && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") }
}
