//! The head of a request as its upstream gets it: the request line and the fields, written one
//! behind the other into one buffer, which `upstream_stream` sends in the place of the head that
//! hyper writes. No line can be ended by what stands in it: methods, names and passed values are of
//! http's own types, every other value and the target are looked at here. Never holds a field that
//! frames the body; those are hyper's.

use http::{HeaderName, HeaderValue, Method, Request};

use crate::body::UpstreamBody;

/// A request on its way to its upstream.
pub(crate) struct Outgoing {
    /// Method and body, and of fields only those that frame the body. Its target is `/`.
    pub(crate) request: Request<UpstreamBody>,
    /// The request line and every other field.
    pub(crate) head: Fields,
}

/// Whole lines of a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<u8>);

/// Bytes of a usual head; a little less than what the C library keeps at hand for each thread.
const USUAL: usize = 1000;

impl Fields {
    /// No fields yet, behind a request line; `None` if no request line has this target.
    pub(crate) fn of_request(method: &Method, path: &str, query: Option<&str>) -> Option<Self> {
        if !path.starts_with('/') || !is_target(path) || !query.is_none_or(is_target) {
            return None;
        }
        let mut text = Vec::with_capacity(USUAL.max(2 * path.len() + query.map_or(0, str::len)));
        for part in [method.as_str(), " ", path] {
            text.extend_from_slice(part.as_bytes());
        }
        if let Some(query) = query {
            text.push(b'?');
            text.extend_from_slice(query.as_bytes());
        }
        text.extend_from_slice(b" HTTP/1.1\r\n");
        Some(Self(text))
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

/// Whether a request line may have this in its target: visible characters of ASCII.
fn is_target(text: &str) -> bool {
    text.bytes().fold(true, |good, byte| good & matches!(byte, 0x21..=0x7e))
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
        let lines = text.split_terminator("\r\n").filter_map(|line| line.split_once(": "));
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
    fn a_request_line_holds_one_target_that_ends_at_its_blank() {
        let line = |path, query| {
            let text = Fields::of_request(&Method::PUT, path, query)?.0;
            Some(String::from_utf8(text).unwrap())
        };
        assert_eq!(line("/a%20b", None).unwrap(), "PUT /a%20b HTTP/1.1\r\n");
        assert_eq!(line("/", Some("")).unwrap(), "PUT /? HTTP/1.1\r\n");
        assert_eq!(line("/a", Some("b=1?")).unwrap(), "PUT /a?b=1? HTTP/1.1\r\n");
        for (path, query) in [
            ("", None),
            ("a", None),
            ("/a b", None),
            ("/a\r\nx: 1", None),
            ("/\u{e4}", None),
            ("/a", Some("b c")),
            ("/a", Some("\n")),
        ] {
            assert_eq!(line(path, query), None, "{path:?} {query:?}");
        }
    }

    #[test]
    fn a_value_that_would_end_its_line_takes_its_field_with_it() {
        let mut fields = Fields::default();
        let name = HeaderName::from_static("x-a");
        fields.put(&name, b"1\r\nx-b: 2");
        fields.put(&name, b"1\0");
        assert_eq!(fields.as_bytes(), b"");
        fields.put(&name, b"1");
        fields.pass(&http::header::VIA, &HeaderValue::from_static("2"));
        assert_eq!(fields.as_bytes(), b"x-a: 1\r\nvia: 2\r\n");
    }
}
