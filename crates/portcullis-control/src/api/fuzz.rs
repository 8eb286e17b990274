//! The body of the fuzz target `admin_fields`: the readers of all bodies that the admin API takes.
//! Whatever the JSON says, it is read, or every refusal names a field and what is allowed there.

use portcullis_core::feed::parse_strict;
use serde_json::Value;

use super::fields::Fields;
use super::problem::Problem;
use super::v1;

/// A number, a line end, and a body for the operation of that number.
pub(crate) fn body(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let number = parts.next().and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let number: usize = number.unwrap_or(0);
    let Ok(Value::Object(members)) = parse_strict(parts.next().unwrap_or_default()) else { return };
    let readers: Vec<_> = v1::OPERATIONS.iter().filter_map(|operation| operation.body).collect();
    let reader = readers[number % readers.len()];
    if let Some(faults) = (reader.read)(Fields::new(members)) {
        let problem = Problem::from(faults);
        assert!(
            !problem.errors.is_empty() && problem.errors.iter().all(|it| !it.detail.is_empty())
        );
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/drive.rs"]
mod drive;

#[cfg(test)]
mod tests {
    #[test]
    fn any_body_is_read_or_refused_field_by_field() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        super::drive::drive("admin_fields", &seeds, 5_000, super::body);
    }
}
