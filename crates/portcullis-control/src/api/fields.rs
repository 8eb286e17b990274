//! Reading a body field by field: every fault is found before any is reported, unknown members are
//! faults, and a value comes out only after the whole body was found right.
//!
//! The code that reads a body is also its only description. Fields that describe themselves
//! ([`Fields::describing`]) hold no members: they note what they are asked for, and
//! [`Fields::finish`] gives the schema back where a reading would give its faults. So the OpenAPI
//! document cannot say anything else than what is accepted.

use serde_json::{Map, Value, json};

use super::problem::{FieldCode, FieldFault, Problem};
use super::readers::{Null, Reader};
pub(crate) use super::readers::{
    as_it_is, as_it_is_or_null, boolean, custom, id, instant, integer, list, long_text, name,
    object, one_of, pattern, permission, text,
};

/// What a reader finds wrong with a value; field names are relative to it.
#[derive(Debug)]
pub(crate) struct Faults {
    found: Vec<FieldFault>,
    /// Of fields that describe themselves.
    schema: Option<Value>,
}

impl Faults {
    pub(crate) fn one(code: FieldCode, detail: impl ToString) -> Faults {
        Faults { found: vec![FieldFault::new("", code, detail)], schema: None }
    }

    pub(crate) fn format(detail: impl ToString) -> Faults {
        Faults::one(FieldCode::BadFormat, detail)
    }

    pub(super) fn none() -> Faults {
        Faults { found: Vec::new(), schema: None }
    }

    pub(super) fn is_none(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn extend(&mut self, more: impl Iterator<Item = FieldFault>) {
        self.found.extend(more);
    }

    /// The schema of fields that described themselves.
    pub(crate) fn into_schema(self) -> Option<Value> {
        self.schema
    }

    /// The same faults, inside the field called `parent`.
    pub(super) fn below(self, parent: &str) -> impl Iterator<Item = FieldFault> + use<> {
        let parent = parent.to_owned();
        self.found.into_iter().map(move |mut fault| {
            let joint =
                if fault.field.is_empty() || fault.field.starts_with('[') { "" } else { "." };
            fault.field = format!("{parent}{joint}{}", fault.field);
            fault
        })
    }
}

impl From<Faults> for Problem {
    fn from(faults: Faults) -> Problem {
        Problem::invalid(faults.found)
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
    /// Of fields that describe themselves: what they were asked for.
    sketch: Option<Sketch>,
}

/// A schema in the making.
#[derive(Default)]
struct Sketch {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Fields {
    pub(crate) fn new(members: Map<String, Value>) -> Fields {
        Fields { members, faults: Vec::new(), sketch: None }
    }

    /// Fields without members that note what they are asked for.
    pub(crate) fn describing() -> Fields {
        Fields { members: Map::new(), faults: Vec::new(), sketch: Some(Sketch::default()) }
    }

    /// A field that must be there.
    #[expect(clippy::needless_pass_by_value, reason = "a reader is made where it is used")]
    pub(crate) fn required<R: Reader>(&mut self, name: &'static str, reader: R) -> Field<R::Value> {
        if let Some(sketch) = &mut self.sketch {
            sketch.required.push(name);
        }
        self.note(name, &reader, Null::Refused);
        match self.members.remove(name) {
            None | Some(Value::Null) => {
                self.fault(name, FieldCode::Required, "it must be given");
                Field(None)
            }
            Some(value) => self.read(name, &value, &reader),
        }
    }

    /// A field that may be absent or null.
    #[expect(clippy::needless_pass_by_value, reason = "a reader is made where it is used")]
    pub(crate) fn optional<R: Reader>(
        &mut self,
        name: &'static str,
        reader: R,
    ) -> Field<Option<R::Value>> {
        self.note(name, &reader, Null::Allowed);
        match self.members.remove(name) {
            None | Some(Value::Null) => Field(Some(None)),
            Some(value) => Field(self.read(name, &value, &reader).0.map(Some)),
        }
    }

    /// A field of a patch that cannot be cleared: absent means unchanged.
    #[expect(clippy::needless_pass_by_value, reason = "a reader is made where it is used")]
    pub(crate) fn patched<R: Reader>(
        &mut self,
        name: &'static str,
        reader: R,
    ) -> Field<Option<R::Value>> {
        self.note(name, &reader, Null::Refused);
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(Value::Null) => {
                self.fault(name, FieldCode::BadFormat, "it cannot be cleared");
                Field(None)
            }
            Some(value) => Field(self.read(name, &value, &reader).0.map(Some)),
        }
    }

    /// A field of a patch that null clears: absent means unchanged.
    #[expect(clippy::needless_pass_by_value, reason = "a reader is made where it is used")]
    pub(crate) fn clearable<R: Reader>(
        &mut self,
        name: &'static str,
        reader: R,
    ) -> Field<Option<Option<R::Value>>> {
        self.note(name, &reader, Null::Allowed);
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(Value::Null) => Field(Some(Some(None))),
            Some(value) => Field(self.read(name, &value, &reader).0.map(|value| Some(Some(value)))),
        }
    }

    /// A field of a patch that is kept as it came, null included, once it was found right.
    pub(crate) fn checked(
        &mut self,
        name: &'static str,
        reader: &dyn Reader<Value = Value>,
    ) -> Field<Option<Value>> {
        self.note(name, reader, Null::Refused);
        match self.members.remove(name) {
            None => Field(Some(None)),
            Some(value) => Field(self.read(name, &value, reader).0.map(Some)),
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

    /// All faults, or none: members that nobody read are faults. Fields that describe themselves
    /// end here with their schema.
    pub(crate) fn finish(mut self) -> Result<Complete, Faults> {
        if let Some(Sketch { properties, required }) = self.sketch {
            let mut schema = json!({
                "type": "object", "properties": properties, "additionalProperties": false,
            });
            if let (false, Value::Object(members)) = (required.is_empty(), &mut schema) {
                members.insert("required".to_owned(), json!(required));
            }
            return Err(Faults { found: Vec::new(), schema: Some(schema) });
        }
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, FieldCode::UnknownField, "there is no such field");
        }
        match self.faults.is_empty() {
            true => Ok(Complete(())),
            false => Err(Faults { found: self.faults, schema: None }),
        }
    }

    fn note<R: Reader + ?Sized>(&mut self, name: &'static str, reader: &R, null: Null) {
        let Some(sketch) = &mut self.sketch else { return };
        let schema = null.told(reader.schema());
        sketch.properties.insert(name.to_owned(), schema);
    }

    fn read<R: Reader + ?Sized>(
        &mut self,
        name: &'static str,
        value: &Value,
        reader: &R,
    ) -> Field<R::Value> {
        match reader.read(value) {
            Ok(value) => Field(Some(value)),
            Err(faults) => {
                self.faults.extend(faults.below(name));
                Field(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Faults, Fields, boolean, integer, list, object, text};
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
        let _ = body.optional("list", list(0..=2, item));
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

    #[test]
    fn fields_that_describe_themselves_give_what_they_were_asked_for() {
        let read = |mut body: Fields| {
            let name = body.required("name", text(3));
            let minutes = body.optional("minutes", integer(0..=10));
            let active = body.patched("active", boolean);
            body.read_only(&["id"]);
            let complete = body.finish()?;
            Ok::<_, Faults>((
                name.value(&complete),
                minutes.value(&complete),
                active.value(&complete),
            ))
        };
        let schema = read(Fields::describing()).unwrap_err().into_schema().unwrap();
        assert_eq!(schema["required"], json!(["name"]));
        assert_eq!(schema["additionalProperties"], false);
        let minutes = json!({"type": ["integer", "null"], "minimum": 0, "maximum": 10});
        assert_eq!(schema["properties"]["minutes"], minutes);
        assert_eq!(schema["properties"]["active"], json!({"type": "boolean"}));
        assert_eq!(schema["properties"].as_object().unwrap().len(), 3);
    }
}
