//! The body of the fuzz target `credential`: whatever a request carries, at most one credential is
//! taken from it, and what was taken is gone.

use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_core::key::Spellings;
use zeroize::Zeroizing;

use super::{Form, Places, Source, Understood, take};

/// Lines of a head, `? query` and `= form`, read by every source at once and by each alone.
pub(crate) fn body(data: &[u8]) {
    let sources = [
        Source::Bearer,
        Source::Basic,
        Source::Header(HeaderName::from_static("x-api-key")),
        Source::Cookie("session".to_owned()),
        Source::Query("api_key".to_owned()),
        Source::Form("password".to_owned()),
    ];
    one(&sources, data);
    for source in &sources {
        one(std::slice::from_ref(source), data);
    }
}

fn one(sources: &[Source], data: &[u8]) {
    let (mut headers, mut query, mut form) = (HeaderMap::new(), None, None);
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(text) = line.strip_prefix(b"? ") {
            query = std::str::from_utf8(text).ok();
        } else if let Some(text) = line.strip_prefix(b"= ") {
            form = Some(Form::new(Zeroizing::new(text.to_vec())));
        } else if let Some(colon) = line.windows(2).position(|pair| pair == b": ") {
            let (name, value) = (&line[..colon], &line[colon + 2..]);
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            {
                headers.append(name, value);
            }
        }
    }
    let mut rewritten = None;
    let places = &mut Places {
        headers: &mut headers,
        query,
        rewritten: &mut rewritten,
        form: form.as_mut(),
        keep: false,
    };
    let understood =
        Understood { prefixes: Vec::new(), spellings: Spellings::default(), sessions: true };
    if take(sources, &understood, places).is_err() {
        return;
    }
    let query = rewritten.unwrap_or(query.map(str::to_owned)).unwrap_or_default();
    let form = form.map(Form::into_bytes).unwrap_or_default();
    let mut again = None;
    let places = &mut Places {
        headers: &mut headers,
        query: Some(&query),
        rewritten: &mut again,
        form: Some(&mut Form::new(Zeroizing::new(form.to_vec()))),
        keep: false,
    };
    assert!(take(sources, &understood, places).is_err(), "it can be taken twice");
}

#[cfg(test)]
#[path = "../../../../fuzz/drive.rs"]
mod drive;

#[cfg(test)]
mod tests {
    #[test]
    fn any_request_gives_at_most_one_credential_and_loses_it() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        super::drive::drive("credential", &seeds, 5_000, super::body);
    }
}
