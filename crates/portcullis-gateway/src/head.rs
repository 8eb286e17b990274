//! The fields of a request's head as its upstream gets them: written one behind the other into one
//! buffer, which `upstream_stream` puts into the head that hyper writes. No line can be ended by
//! what stands in it: names and passed values are of http's own types, every other value is looked
//! at here. Never holds a field that frames the body; those are hyper's.

use http::{HeaderName, HeaderValue, Request};

use crate::body::UpstreamBody;

/// A request on its way to its upstream.
pub(crate) struct Outgoing {
    /// Method, target and body. Of fields it has none but those that frame the body.
    pub(crate) request: Request<UpstreamBody>,
    /// Every other field.
    pub(crate) fields: Fields,
}

/// Whole lines of a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<u8>);

/// Bytes of a usual head; a little less than what the C library keeps at hand for each thread.
const USUAL: usize = 1000;

impl Fields {
    /// No fields, and room for a usual head.
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(USUAL))
    }

    /// Writes a field as it is.
    pub(crate) fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.write(name, value.as_bytes());
    }

    /// Writes a field with a value of our own. A value that no field may have is left out, and the
    /// field with it.
    pub(crate) fn put(&mut self, name: &HeaderName, value: &[u8]) {
        if is_value(value) {
            self.write(name, value);
        }
    }

    /// Writes every field of `others`.
    pub(crate) fn append(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn write(&mut self, name: &HeaderName, value: &[u8]) {
        let name = name.as_str().as_bytes();
        self.0.reserve(name.len() + value.len() + 4);
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Whether these bytes may be a field's value: what `HeaderValue` takes. Looks at every byte
/// whatever it has seen, which goes by many bytes at once.
fn is_value(value: &[u8]) -> bool {
    value.iter().fold(true, |good, byte| good & ((*byte >= 32 && *byte != 127) | (*byte == b'\t')))
}

#[cfg(test)]
impl Fields {
    /// Every value of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let text = std::str::from_utf8(&self.0).unwrap();
        let lines = text.split_terminator("\r\n").map(|line| line.split_once(": ").unwrap());
        lines.filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_http_takes_for_one() {
        for byte in 0..=255 {
            let value = [b'a', byte, b'z'];
            assert_eq!(is_value(&value), HeaderValue::from_bytes(&value).is_ok(), "{byte}");
        }
        assert!(is_value(b""));
    }

    #[test]
    fn a_value_that_would_end_its_line_takes_its_field_with_it() {
        let mut fields = Fields::new();
        let name = HeaderName::from_static("x-a");
        fields.put(&name, b"1\r\nx-b: 2");
        fields.put(&name, b"1\0");
        assert_eq!(fields.as_bytes(), b"");
        fields.put(&name, b"1");
        fields.pass(&http::header::VIA, &HeaderValue::from_static("2"));
        assert_eq!(fields.as_bytes(), b"x-a: 1\r\nvia: 2\r\n");
    }
}
