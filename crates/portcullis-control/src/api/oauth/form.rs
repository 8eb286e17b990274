//! A body of `application/x-www-form-urlencoded`: each parameter once, empty ones absent. It can
//! hold a key, so its values are wiped.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use zeroize::Zeroizing;

use crate::api::body::read_whole;

/// Largest body that is read.
const LARGEST: usize = 16 * 1024;

/// The parameters of a form.
pub(super) struct Form(BTreeMap<String, Zeroizing<String>>);

/// Why a body is no form; said to the caller.
pub(super) type FormFault = &'static str;

impl Form {
    pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Form, FormFault> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let essence = kind.and_then(|it| it.split(';').next()).map(str::trim).unwrap_or_default();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err("The body must be application/x-www-form-urlencoded.");
        }
        let bytes = read_whole(body).await.map_err(|_| "The body cannot be read.")?;
        if bytes.len() > LARGEST {
            return Err("The body is larger than 16 KiB.");
        }
        Form::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Form, FormFault> {
        let mut parameters = BTreeMap::new();
        for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at(equals);
            // Only the first `=` separates: some callers send the padding of base64 as it is.
            let value = decoded(value.get(1..).unwrap_or_default());
            let (Some(name), Some(value)) = (decoded(name), value) else {
                return Err("The form is not well encoded.");
            };
            if value.is_empty() {
                continue;
            }
            if parameters.insert((*name).clone(), value).is_some() {
                return Err("A parameter is given twice.");
            }
        }
        Ok(Form(parameters))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }
}

/// Decodes `%xx` and `+` once. Sized up front: growing would leave copies behind.
pub(crate) fn decoded(bytes: &[u8]) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len()));
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(std::mem::take(&mut *out)).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn a_parameter_is_there_once_and_empty_ones_are_not() {
        let form = Form::parse(b"a=1&b=&c=x%2Fy+z&d=pad==&e").expect("a form");
        assert_eq!(form.text("a"), Some("1"));
        assert_eq!((form.text("b"), form.text("e")), (None, None));
        assert_eq!((form.text("c"), form.text("d")), (Some("x/y z"), Some("pad==")));
        assert!(Form::parse(b"a=1&a=1").is_err());
        assert!(Form::parse(b"a=%zz").is_err());
        assert!(Form::parse(b"a=%ff").is_err());
    }
}
