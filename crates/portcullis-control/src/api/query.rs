//! Reading a query parameter by parameter: every fault is found before any is reported, unknown and
//! repeated parameters are faults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields;
use super::problem::{FieldCode, FieldFault, Problem};
use super::readers::Reader;

/// The longest text of a parameter, in characters.
const MAX_TEXT: usize = 255;

/// The parameters of a query that have not been read yet.
pub(crate) struct Query {
    pairs: BTreeMap<String, String>,
    faults: Vec<FieldFault>,
    /// Of a query that describes itself: the parameters it was asked for, with their schemas.
    sketch: Option<Vec<(&'static str, Value)>>,
}

impl Query {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Query {
        let mut query = Query { pairs: BTreeMap::new(), faults: Vec::new(), sketch: None };
        for (name, value) in pairs {
            if query.pairs.insert(name.clone(), value).is_some() {
                query.fault(&name, FieldCode::BadFormat, "it is given twice");
            }
        }
        query
    }

    /// The parameters that `read` asks a query for, with their schemas.
    pub(crate) fn describe(read: impl FnOnce(&mut Query)) -> Vec<(&'static str, Value)> {
        let mut query =
            Query { pairs: BTreeMap::new(), faults: Vec::new(), sketch: Some(Vec::new()) };
        read(&mut query);
        query.sketch.unwrap_or_default()
    }

    /// The parameter as text, if it is given and right.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.take(name, &fields::text(MAX_TEXT), Value::String)
    }

    /// The parameter as the reader understands it, if it is given and right.
    #[expect(clippy::needless_pass_by_value, reason = "a reader is made where it is used")]
    pub(crate) fn read<R: Reader>(&mut self, name: &'static str, reader: R) -> Option<R::Value> {
        self.take(name, &reader, |text| match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            digits => match digits.parse::<u64>() {
                Ok(number) if !digits.starts_with('+') => Value::from(number),
                Ok(_) | Err(_) => Value::String(text),
            },
        })
    }

    fn take<R: Reader>(
        &mut self,
        name: &'static str,
        reader: &R,
        typed: impl FnOnce(String) -> Value,
    ) -> Option<R::Value> {
        if let Some(sketch) = &mut self.sketch {
            sketch.push((name, reader.schema()));
        }
        let text = self.pairs.remove(name)?;
        match reader.read(&typed(text)) {
            Ok(value) => Some(value),
            Err(faults) => {
                self.faults.extend(faults.below(name));
                None
            }
        }
    }

    /// Everything not read yet, for binding a cursor to it.
    pub(crate) fn unread(&self) -> String {
        format!("{:?}", self.pairs)
    }

    pub(crate) fn fault(&mut self, name: &str, code: FieldCode, detail: impl ToString) {
        self.faults.push(FieldFault::new(name, code, detail));
    }

    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<String> = self.pairs.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, FieldCode::UnknownField, "there is no such parameter");
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}
