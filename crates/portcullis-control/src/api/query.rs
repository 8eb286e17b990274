//! Reading a query parameter by parameter: every fault is found before any is reported, unknown and
//! repeated parameters are faults.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::Faults;
use super::problem::{FieldCode, FieldFault, Problem};

/// The parameters of a query that have not been read yet.
pub(crate) struct Query {
    pairs: BTreeMap<String, String>,
    faults: Vec<FieldFault>,
}

impl Query {
    pub(crate) fn new(pairs: Vec<(String, String)>) -> Query {
        let mut query = Query { pairs: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in pairs {
            if query.pairs.insert(name.clone(), value).is_some() {
                query.fault(&name, FieldCode::BadFormat, "it is given twice");
            }
        }
        query
    }

    /// The parameter as text, if it is given.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.pairs.remove(name)
    }

    /// The parameter as `read` understands it, if it is given and right.
    pub(crate) fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Value) -> Result<T, Faults>,
    ) -> Option<T> {
        let text = self.pairs.remove(name)?;
        let value = match text.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            digits => match digits.parse::<u64>() {
                Ok(number) => Value::from(number),
                Err(_) => Value::String(text),
            },
        };
        match read(&value) {
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
