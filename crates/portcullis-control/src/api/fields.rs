//! Reading a body field by field: every fault is found before any is reported, unknown members are
//! faults, and a value comes out only after the whole body was found right.

use portcullis_core::access::Pattern;
use portcullis_core::account::NameFault;
use portcullis_core::time::WallMs;
use serde_json::{Map, Value};

use super::problem::{FieldCode, FieldFault, Problem};
use crate::instant::Stamp;

/// What a reader finds wrong with a value; field names are relative to it.
pub(crate) struct Faults(Vec<FieldFault>);

impl Faults {
    pub(crate) fn one(code: FieldCode, detail: impl ToString) -> Faults {
        Faults(vec![FieldFault::new("", code, detail)])
    }

    pub(crate) fn format(detail: impl ToString) -> Faults {
        Faults::one(FieldCode::BadFormat, detail)
    }

    /// The same faults, inside the field called `parent`.
    pub(super) fn below(self, parent: &str) -> impl Iterator<Item = FieldFault> + use<> {
        let parent = parent.to_owned();
        self.0.into_iter().map(move |mut fault| {
            let joint =
                if fault.field.is_empty() || fault.field.starts_with('[') { "" } else { "." };
            fault.field = format!("{parent}{joint}{}", fault.field);
            fault
        })
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Problem {
        Problem::invalid(faults.0)
    }
}

/// A value that was read. It comes out against the proof that everything else was right, too.
pub(crate) struct Field<T>(Option<T>);

impl<T> Field<T> {
    /// The value.
    pub(crate) fn value(self, _: &Complete) -> T {
        self.0.expect("a body is complete only if every field of it was read")
    }

    /// The value before the rest is known, for rules that span fields.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

/// Proof that a body had no fault.
pub(crate) struct Complete(());

/// The members of a JSON object that have not been read yet.
pub(crate) struct Fields {
    members: Map<String, Value>,
    faults: Vec<FieldFault>,
}

impl Fields {
    pub(crate) fn new(members: Map<String, Value>) -> Fields {
        Fields { members, faults: Vec::new() }
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Field<T> {
        match self.members.remove(name) {
            None | Some(Value::Null) => {
                self.fault(name, FieldCode::Required, "it must be given");
                Field(None)
            }
            Some(value) => self.read(name, &value, read),
        }
    }

    /// A field that may be absent or null.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Field<Option<T>> {
        match self.members.remove(name) {
            None | Some(Value::Null) => Field(Some(None)),
            Some(value) => Field(self.read(name, &value, read).0.map(Some)),
        }
    }

    /// A field of a patch that cannot be cleared: absent means unchanged.
    pub(crate) fn patched<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Field<Option<T>> {
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(Value::Null) => {
                self.fault(name, FieldCode::BadFormat, "it cannot be cleared");
                Field(None)
            }
            Some(value) => Field(self.read(name, &value, read).0.map(Some)),
        }
    }

    /// A field of a patch that null clears: absent means unchanged.
    pub(crate) fn clearable<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Field<Option<Option<T>>> {
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(Value::Null) => Field(Some(Some(None))),
            Some(value) => Field(self.read(name, &value, read).0.map(|value| Some(Some(value)))),
        }
    }

    /// A field of a patch that is kept as it came, null included, once it was found right.
    pub(crate) fn checked(
        &mut self,
        name: &'static str,
        check: impl FnOnce(&Value) -> Result<(), Faults>,
    ) -> Field<Option<Value>> {
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(value) => {
                let checked = self.read(name, &value, check);
                Field(checked.0.map(|()| Some(value)))
            }
        }
    }

    /// Members that exist on the object and can only be read.
    pub(crate) fn read_only(&mut self, names: &[&'static str]) {
        for name in names {
            if self.members.remove(*name).is_some() {
                self.fault(name, FieldCode::ReadOnly, "it cannot be written");
            }
        }
    }

    pub(crate) fn fault(&mut self, field: &str, code: FieldCode, detail: impl ToString) {
        self.faults.push(FieldFault::new(field, code, detail));
    }

    /// All faults, or none: members that nobody read are faults.
    pub(crate) fn finish(mut self) -> Result<Complete, Faults> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, FieldCode::UnknownField, "there is no such field");
        }
        if self.faults.is_empty() { Ok(Complete(())) } else { Err(Faults(self.faults)) }
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        value: &Value,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Field<T> {
        match read(value) {
            Ok(value) => Field(Some(value)),
            Err(faults) => {
                self.faults.extend(faults.below(name));
                Field(None)
            }
        }
    }
}

/// An object inside a body.
pub(crate) fn object<T>(
    read: impl FnOnce(Fields) -> Result<T, Faults>,
) -> impl FnOnce(&Value) -> Result<T, Faults> {
    move |value| match value {
        Value::Object(members) => read(Fields::new(members.clone())),
        _ => Err(Faults::format("an object is wanted")),
    }
}

/// A list with a number of items in `range`.
pub(crate) fn list<T>(
    range: std::ops::RangeInclusive<usize>,
    read: impl Fn(&Value) -> Result<T, Faults>,
) -> impl FnOnce(&Value) -> Result<Vec<T>, Faults> {
    move |value| {
        let Value::Array(items) = value else {
            return Err(Faults::format("a list is wanted"));
        };
        if !range.contains(&items.len()) {
            let (least, most) = (range.start(), range.end());
            return Err(Faults::one(
                FieldCode::OutOfRange,
                format!("{least} to {most} items are allowed"),
            ));
        }
        let (mut values, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
        for (index, item) in items.iter().enumerate() {
            match read(item) {
                Ok(value) => values.push(value),
                Err(found) => faults.extend(found.below(&format!("[{index}]"))),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
    }
}

/// Text of up to `max` bytes without control characters, except line breaks and tabs.
pub(crate) fn text(max: usize) -> impl Fn(&Value) -> Result<String, Faults> {
    move |value| {
        let Value::String(text) = value else {
            return Err(Faults::format("text is wanted"));
        };
        if text.len() > max {
            return Err(Faults::one(FieldCode::OutOfRange, format!("at most {max} bytes")));
        }
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        if text.chars().any(control) {
            return Err(Faults::format("control characters are not allowed"));
        }
        Ok(text.clone())
    }
}

/// A name of core's kind, such as a username.
pub(crate) fn name<T>(
    parse: impl Fn(&str) -> Result<T, NameFault>,
) -> impl FnOnce(&Value) -> Result<T, Faults> {
    move |value| {
        let Value::String(text) = value else {
            return Err(Faults::format("text is wanted"));
        };
        parse(text).map_err(|fault| match fault {
            NameFault::Empty | NameFault::TooLong(_) => Faults::one(FieldCode::OutOfRange, fault),
            NameFault::Edges | NameFault::Forbidden(_) => Faults::format(fault),
        })
    }
}

/// An id, as we give them: looked up later, so only its length is checked.
pub(crate) fn id(value: &Value) -> Result<String, Faults> {
    match value {
        Value::String(text) if (1..=64).contains(&text.len()) => Ok(text.clone()),
        _ => Err(Faults::format("an id is wanted")),
    }
}

pub(crate) fn boolean(value: &Value) -> Result<bool, Faults> {
    value.as_bool().ok_or_else(|| Faults::format("true or false is wanted"))
}

/// An integer in `range`.
pub(crate) fn integer(
    range: std::ops::RangeInclusive<u64>,
) -> impl FnOnce(&Value) -> Result<u64, Faults> {
    move |value| {
        let (least, most) = (range.start(), range.end());
        let allowed = format!("an integer from {least} to {most} is wanted");
        match (value.as_u64(), value.is_number()) {
            (Some(number), _) if range.contains(&number) => Ok(number),
            (_, true) => Err(Faults::one(FieldCode::OutOfRange, allowed)),
            (_, false) => Err(Faults::format(allowed)),
        }
    }
}

/// An instant in RFC 3339.
pub(crate) fn instant(value: &Value) -> Result<WallMs, Faults> {
    value
        .as_str()
        .and_then(Stamp::parse)
        .map(|stamp| stamp.0)
        .ok_or_else(|| Faults::format("an instant like 2027-01-31T12:00:00Z is wanted"))
}

/// One of some words.
pub(crate) fn one_of(
    words: &'static [&'static str],
) -> impl FnOnce(&Value) -> Result<&'static str, Faults> {
    move |value| {
        words
            .iter()
            .copied()
            .find(|word| value.as_str() == Some(word))
            .ok_or_else(|| Faults::format(format!("one of {} is wanted", words.join(", "))))
    }
}

/// A permission or a pattern of them.
pub(crate) fn pattern(value: &Value) -> Result<String, Faults> {
    let Value::String(text) = value else {
        return Err(Faults::format("a permission such as cluster:read is wanted"));
    };
    match text.parse::<Pattern>() {
        Ok(_) => Ok(text.clone()),
        Err(fault) => Err(Faults::format(fault)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Fields, boolean, integer, list, object, text};
    use crate::api::problem::{FieldCode, Problem};

    fn fields(value: Value) -> Fields {
        let Value::Object(members) = value else { panic!("an object") };
        Fields::new(members)
    }

    #[test]
    fn all_faults_of_a_body_are_reported_at_once_with_their_paths() {
        let mut body = fields(json!({
            "minutes": -1, "active": "yes", "list": [{"a": "x"}, {"b": 1}], "extra": 0, "id": 1
        }));
        let _ = body.required("name", text(3));
        let _ = body.optional("minutes", integer(0..=10));
        let _ = body.optional("active", boolean);
        let item = object(|mut fields: Fields| {
            let a = fields.required("a", text(3));
            let complete = fields.finish()?;
            Ok(a.value(&complete))
        });
        drop(item);
        let _ = body.optional(
            "list",
            list(0..=2, |value| {
                object(|mut fields| {
                    let a = fields.required("a", text(3));
                    let complete = fields.finish()?;
                    Ok(a.value(&complete))
                })(value)
            }),
        );
        body.read_only(&["id"]);
        let Err(faults) = body.finish() else { panic!("faults") };
        let problem = Problem::from(faults);
        let found: Vec<(&str, FieldCode)> =
            problem.errors.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        assert_eq!(
            found,
            [
                ("name", FieldCode::Required),
                ("minutes", FieldCode::OutOfRange),
                ("active", FieldCode::BadFormat),
                ("list[1].a", FieldCode::Required),
                ("list[1].b", FieldCode::UnknownField),
                ("id", FieldCode::ReadOnly),
                ("extra", FieldCode::UnknownField),
            ]
        );
    }
}
