//! JSON as the feed allows it: no duplicate members, ASCII member names, integers within ±(2^53-1)
//! only. serde_json alone would let the last duplicate win, and two readers could then differ.
//! Where people write, only duplicates are refused here: what else is wrong is then told by name.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Integers beyond this lose precision in readers that keep numbers as doubles (RFC 8259).
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Reads one JSON value under the feed's rules.
///
/// # Errors
///
/// The parser's message with line and column, or the rule that was broken.
pub fn parse_strict(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse(bytes, Strict { feed: true })
}

/// Reads one JSON value without duplicate members.
///
/// # Errors
///
/// The parser's message with line and column, or the name of the duplicate.
pub fn parse_distinct(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse(bytes, Strict { feed: false })
}

fn parse(bytes: &[u8], strict: Strict) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = strict.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

#[derive(Copy, Clone)]
struct Strict {
    /// Whether the feed's rules about numbers and names hold.
    feed: bool,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without fractions or duplicate members")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if self.feed && value > MAX_INTEGER {
            return Err(E::custom("integers are at most 2^53-1"));
        }
        Ok(Value::from(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if self.feed && value.unsigned_abs() > MAX_INTEGER {
            return Err(E::custom("integers are at least -(2^53-1)"));
        }
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if self.feed {
            return Err(E::custom("numbers are integers"));
        }
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(Name(name)) = members.next_key()? {
            let value = members.next_value_seed(self)?;
            if self.feed && !name.is_ascii() {
                return Err(serde::de::Error::custom("member names are ASCII"));
            }
            if map.contains_key(&name) {
                return Err(serde::de::Error::custom(format_args!("member {name:?} occurs twice")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Name)
    }
}
