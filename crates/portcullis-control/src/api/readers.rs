//! Readers of single values: each checks one value and says as a JSON schema what it takes, so that
//! the limits a caller is told are the limits that hold. A reader never looks anything up.

use portcullis_core::access::{Pattern, Permission};
use portcullis_core::account::{NAME_CHARACTERS, NameFault};
use portcullis_core::time::WallMs;
use serde_json::{Value, json};

use super::fields::{Faults, Fields};
use super::problem::FieldCode;
use crate::instant::Stamp;

/// Checks a value and describes what it takes.
pub(crate) trait Reader {
    type Value;

    fn read(&self, value: &Value) -> Result<Self::Value, Faults>;

    /// A JSON schema (2020-12) that holds for exactly what [`Reader::read`] takes, as far as a
    /// schema can say it.
    fn schema(&self) -> Value;
}

/// Whatever a function takes, for readers of one place only; `schema` is a literal of ours.
pub(crate) fn custom<T>(
    schema: Value,
    read: impl Fn(&Value) -> Result<T, Faults>,
) -> impl Reader<Value = T> {
    Custom { schema, read }
}

struct Custom<F> {
    schema: Value,
    read: F,
}

impl<T, F: Fn(&Value) -> Result<T, Faults>> Reader for Custom<F> {
    type Value = T;

    fn read(&self, value: &Value) -> Result<T, Faults> {
        (self.read)(value)
    }

    fn schema(&self) -> Value {
        self.schema.clone()
    }
}

/// The value as it came, once a reader found it right.
pub(crate) fn as_it_is(reader: impl Reader + 'static) -> Box<dyn Reader<Value = Value>> {
    Box::new(AsItIs { reader, null: Null::Refused })
}

/// The value as it came, which may be null.
pub(crate) fn as_it_is_or_null(reader: impl Reader + 'static) -> Box<dyn Reader<Value = Value>> {
    Box::new(AsItIs { reader, null: Null::Allowed })
}

struct AsItIs<R> {
    reader: R,
    null: Null,
}

impl<R: Reader> Reader for AsItIs<R> {
    type Value = Value;

    fn read(&self, value: &Value) -> Result<Value, Faults> {
        if !(value.is_null() && self.null == Null::Allowed) {
            self.reader.read(value)?;
        }
        Ok(value.clone())
    }

    fn schema(&self) -> Value {
        self.null.told(self.reader.schema())
    }
}

/// Whether null may stand for a value.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Null {
    Allowed,
    Refused,
}

impl Null {
    /// The schema with what it says about null.
    pub(super) fn told(self, mut schema: Value) -> Value {
        if let (Null::Allowed, Value::Object(members)) = (self, &mut schema) {
            if let Some(one) = members.get("type").cloned() {
                members.insert("type".to_owned(), json!([one, "null"]));
            }
            if let Some(Value::Array(words)) = members.get_mut("enum") {
                words.push(Value::Null);
            }
        }
        schema
    }
}

/// An object inside a body.
pub(crate) fn object<T>(read: impl Fn(Fields) -> Result<T, Faults>) -> impl Reader<Value = T> {
    Object(read)
}

struct Object<F>(F);

impl<T, F: Fn(Fields) -> Result<T, Faults>> Reader for Object<F> {
    type Value = T;

    fn read(&self, value: &Value) -> Result<T, Faults> {
        match value {
            Value::Object(members) => (self.0)(Fields::new(members.clone())),
            _ => Err(Faults::format("an object is wanted")),
        }
    }

    fn schema(&self) -> Value {
        (self.0)(Fields::describing()).err().and_then(Faults::into_schema).unwrap_or_default()
    }
}

/// A list with a number of items in `range`.
pub(crate) fn list<R: Reader>(
    range: std::ops::RangeInclusive<usize>,
    reader: R,
) -> impl Reader<Value = Vec<R::Value>> {
    List { range, reader }
}

struct List<R> {
    range: std::ops::RangeInclusive<usize>,
    reader: R,
}

impl<R: Reader> Reader for List<R> {
    type Value = Vec<R::Value>;

    fn read(&self, value: &Value) -> Result<Vec<R::Value>, Faults> {
        let Value::Array(items) = value else {
            return Err(Faults::format("a list is wanted"));
        };
        let (least, most) = (self.range.start(), self.range.end());
        if !self.range.contains(&items.len()) {
            let detail = format!("{least} to {most} items are allowed");
            return Err(Faults::one(FieldCode::OutOfRange, detail));
        }
        let (mut values, mut faults) = (Vec::with_capacity(items.len()), Faults::none());
        for (index, item) in items.iter().enumerate() {
            match self.reader.read(item) {
                Ok(value) => values.push(value),
                Err(found) => faults.extend(found.below(&format!("[{index}]"))),
            }
        }
        if faults.is_none() { Ok(values) } else { Err(faults) }
    }

    fn schema(&self) -> Value {
        json!({
            "type": "array",
            "items": self.reader.schema(),
            "minItems": self.range.start(),
            "maxItems": self.range.end(),
        })
    }
}

/// Text of up to `max` characters without control characters, except line breaks and tabs, and
/// without marks that turn the direction of writing.
pub(crate) fn text(max: usize) -> impl Reader<Value = String> {
    custom(
        json!({"type": "string", "maxLength": max, "pattern": without("", &[CONTROL, TURNING])}),
        move |value| {
            // The bytes are counted first: a body of a megabyte is not walked through for nothing.
            let fits = |text: &str| text.len() <= 4 * max && text.chars().count() <= max;
            read_text(value, fits, &format!("at most {max} characters"))
        },
    )
}

/// The same of up to `max` bytes in UTF-8, for what may be long.
pub(crate) fn long_text(max: usize) -> impl Reader<Value = String> {
    let allowed = format!("at most {max} bytes in UTF-8");
    let schema = json!({
        "type": "string",
        "maxLength": max,
        "pattern": without("", &[CONTROL, TURNING]),
        "description": allowed,
    });
    custom(schema, move |value| read_text(value, |text| text.len() <= max, &allowed))
}

fn read_text(value: &Value, fits: impl Fn(&str) -> bool, allowed: &str) -> Result<String, Faults> {
    let Value::String(text) = value else {
        return Err(Faults::format("text is wanted"));
    };
    if !fits(text) {
        return Err(Faults::one(FieldCode::OutOfRange, allowed));
    }
    match text.chars().find(|c| within(*c, CONTROL) || within(*c, TURNING)) {
        None => Ok(text.clone()),
        Some(found) => Err(Faults::format(format!(
            "U+{:04X} is not allowed: no control characters but line breaks and tabs, no marks \
             that turn the direction of writing",
            u32::from(found)
        ))),
    }
}

/// A name of core's kind, such as a username.
pub(crate) fn name<T>(parse: impl Fn(&str) -> Result<T, NameFault>) -> impl Reader<Value = T> {
    // Names differ in what they refuse besides, so the parser itself is asked.
    let takes = |text: &str| parse(text).is_ok();
    let ends = if takes(" a") { r"(?=[\s\S]*\S)" } else { r"(?!\s)(?![\s\S]*\s$)" };
    let invisible: Vec<(char, char)> =
        INVISIBLE.iter().copied().filter(|(first, _)| !takes(&format!("a{first}b"))).collect();
    let schema = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARACTERS,
        "pattern": without(ends, &[&[('\0', '\u{1f}'), ('\u{7f}', '\u{9f}')], TURNING, &invisible]),
    });
    custom(schema, move |value| {
        let Value::String(text) = value else {
            return Err(Faults::format("text is wanted"));
        };
        parse(text).map_err(|fault| match fault {
            NameFault::Empty | NameFault::TooLong(_) => Faults::one(FieldCode::OutOfRange, fault),
            NameFault::Edges | NameFault::Forbidden(_) => Faults::format(fault),
        })
    })
}

/// An integer in `range`.
pub(crate) fn integer(range: std::ops::RangeInclusive<u64>) -> impl Reader<Value = u64> {
    let (least, most) = (*range.start(), *range.end());
    custom(json!({"type": "integer", "minimum": least, "maximum": most}), move |value| {
        let allowed = format!("an integer from {least} to {most} is wanted");
        match (value.as_u64(), value.is_number()) {
            (Some(number), _) if range.contains(&number) => Ok(number),
            (_, true) => Err(Faults::one(FieldCode::OutOfRange, allowed)),
            (_, false) => Err(Faults::format(allowed)),
        }
    })
}

/// One of some words.
pub(crate) fn one_of(words: &'static [&'static str]) -> impl Reader<Value = &'static str> {
    custom(json!({"type": "string", "enum": words}), |value| {
        words
            .iter()
            .copied()
            .find(|word| value.as_str() == Some(word))
            .ok_or_else(|| Faults::format(format!("one of {} is wanted", words.join(", "))))
    })
}

/// Readers without parameters are values, written like the others.
macro_rules! plain_readers {
    ($($(#[$doc:meta])* $name:ident: $kind:ident -> $value:ty = $schema:expr, $read:expr;)*) => {$(
        $(#[$doc])*
        #[expect(non_upper_case_globals, reason = "a reader like those that are functions")]
        pub(crate) const $name: $kind = $kind;

        #[derive(Copy, Clone)]
        pub(crate) struct $kind;

        impl Reader for $kind {
            type Value = $value;

            fn read(&self, value: &Value) -> Result<$value, Faults> {
                let read: fn(&Value) -> Result<$value, Faults> = $read;
                read(value)
            }

            fn schema(&self) -> Value {
                $schema
            }
        }
    )*};
}

plain_readers! {
    boolean: Boolean -> bool = json!({"type": "boolean"}), |value| {
        value.as_bool().ok_or_else(|| Faults::format("true or false is wanted"))
    };

    /// An id, as we give them: looked up later, so only its shape is checked.
    id: Id -> String = json!({
        "type": "string", "minLength": 1, "maxLength": ID_CHARACTERS, "pattern": "^[!-~]*$",
    }), |value| {
        match value {
            Value::String(text)
                if (1..=ID_CHARACTERS).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(text.clone())
            }
            _ => Err(Faults::format("an id of 1 to 64 visible ASCII characters is wanted")),
        }
    };

    /// An instant in RFC 3339.
    instant: Instant -> WallMs = json!({
        "type": "string",
        "format": "date-time",
        "pattern": "^(19[7-9][0-9]|[2-9][0-9]{3})-",
        "description": "RFC 3339, from 1970 to the end of the year 9999.",
    }), |value| {
        value
            .as_str()
            .and_then(Stamp::parse)
            .map(|stamp| stamp.0)
            .ok_or_else(|| Faults::format("an instant like 2027-01-31T12:00:00Z is wanted"))
    };

    /// One permission.
    permission: PermissionText -> Permission = json!({
        "type": "string",
        "pattern": r"^[a-z0-9][a-z0-9_.\-]{0,63}:[a-z0-9][a-z0-9_.\-]{0,63}$",
    }), |value| {
        let text = value.as_str().unwrap_or_default();
        text.parse::<Permission>().map_err(Faults::format)
    };

    /// A permission or a pattern of them.
    pattern: PatternText -> String = json!({
        "type": "string",
        "maxLength": 129,
        "pattern": r"^(\*\*|(\*|[a-z0-9][a-z0-9_.\-]{0,63}):(\*|[a-z0-9][a-z0-9_.\-]{0,63}))$",
    }), |value| {
        let Value::String(text) = value else {
            return Err(Faults::format("a permission such as cluster:read is wanted"));
        };
        match text.parse::<Pattern>() {
            Ok(_) => Ok(text.clone()),
            Err(fault) => Err(Faults::format(fault)),
        }
    };
}

const ID_CHARACTERS: usize = 64;

/// Control characters, except tab, line feed and carriage return.
const CONTROL: &[(char, char)] =
    &[('\0', '\u{8}'), ('\u{b}', '\u{c}'), ('\u{e}', '\u{1f}'), ('\u{7f}', '\u{9f}')];
/// Line and paragraph separators, and everything that changes the direction in which text runs.
const TURNING: &[(char, char)] = &[
    ('\u{61c}', '\u{61c}'),
    ('\u{200e}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2066}', '\u{2069}'),
];
/// What core's names do not hold besides: characters without a width.
const INVISIBLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200b}'),
    ('\u{200c}', '\u{200d}'),
    ('\u{2060}', '\u{2065}'),
    ('\u{206a}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{fffe}', '\u{ffff}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

fn within(c: char, ranges: &[(char, char)]) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// The regular expression (ECMA 262) of texts that hold nothing from these ranges; `first` stands
/// before it.
fn without(first: &str, ranges: &[&[(char, char)]]) -> String {
    let mut regex = format!("^{first}[^");
    for (first, last) in ranges.iter().flat_map(|ranges| ranges.iter()) {
        for (joint, end) in [("", first), ("-", last)] {
            match u32::from(*end) {
                small @ 0..=0xffff => regex.push_str(&format!(r"{joint}\u{small:04x}")),
                _ => regex.push_str(&format!("{joint}{end}")),
            }
        }
    }
    regex.push_str("]*$");
    regex
}

#[cfg(test)]
mod tests {
    use portcullis_core::account::KeyName;

    use serde_json::json;

    use super::{CONTROL, INVISIBLE, Reader as _, TURNING, long_text, text, within};

    #[test]
    fn short_texts_are_measured_in_characters_and_long_ones_in_bytes() {
        assert!(text(3).read(&json!("\u{20ac}\u{1f511}a")).is_ok());
        assert!(text(3).read(&json!("abcd")).is_err());
        assert!(long_text(8).read(&json!("\u{e4}".repeat(4))).is_ok());
        assert!(long_text(8).read(&json!("\u{1f511}".repeat(2))).is_ok());
        assert!(long_text(8).read(&json!("\u{e4}".repeat(4) + "a")).is_err());
        assert!(long_text(8).read(&json!("a\u{202e}b")).is_err());
    }

    /// The table here says what core refuses: neither more nor less.
    #[test]
    fn the_characters_that_names_refuse_are_those_of_the_schema() {
        for c in ('\0'..=char::MAX).filter(|c| !matches!(c, '\t' | '\n' | '\r')) {
            let told = within(c, CONTROL) || within(c, TURNING) || within(c, INVISIBLE);
            let text = format!("a{c}b");
            assert_eq!(KeyName::parse(&text).is_err(), told, "U+{:04X}", u32::from(c));
        }
    }
}
