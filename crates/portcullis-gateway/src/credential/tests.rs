use http::HeaderMap;
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::key::{KeyId, PlainKey, mint};

use super::*;

struct Nines;

impl Entropy for Nines {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        out.fill(9);
        Ok(())
    }
}

fn id(presented: &Presented) -> KeyId {
    match presented {
        Presented::Native(native) => native.id(),
        Presented::Foreign(_) | Presented::Session(_) => panic!("a key of ours"),
    }
}

/// Keys of ours and nothing else.
fn understood(prefixes: &[Prefix]) -> Understood {
    Understood { prefixes: prefixes.to_vec(), spellings: Spellings::default(), sessions: false }
}

fn plain() -> PlainKey {
    mint(&Prefix::default(), &Nines).unwrap()
}

/// What remains of the request, and what was taken from it.
fn take_from(
    sources: &[Source],
    lines: &[(&'static str, String)],
    query: Option<&str>,
) -> (HeaderMap, Option<Option<String>>, Result<KeyId, DenyReason>) {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let mut rewritten = None;
    let mut places =
        Places { headers: &mut headers, query, rewritten: &mut rewritten, form: None, keep: false };
    let taken = take(sources, &understood(&[]), &mut places).map(|presented| id(&presented));
    (headers, rewritten, taken)
}

fn bearer(value: String) -> Result<KeyId, DenyReason> {
    take_from(&[Source::Bearer], &[("authorization", value)], None).2
}

#[test]
fn the_scheme_is_read_in_any_case_and_followed_by_one_space() {
    let key = plain();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(bearer(format!("{scheme} {}", key.expose())), Ok(key.id()));
    }
    for wrong in ["Bearer  ", "Bearer\t", "Bearer", "Token ", "", " Bearer "] {
        let refused = bearer(format!("{wrong}{}", key.expose()));
        assert!(refused.is_err(), "{wrong:?}");
    }
}

#[test]
fn a_credential_leaves_the_head_whether_it_is_one_or_not() {
    for value in [format!("Bearer {}", plain().expose()), "Bearer nonsense".to_owned()] {
        let (headers, _, _) = take_from(&[Source::Bearer], &[("authorization", value)], None);
        assert!(headers.is_empty());
    }
}

#[test]
fn nothing_in_the_listed_places_is_missing_and_elsewhere_is_not_looked_at() {
    let header = Source::Header(HeaderName::from_static("x-api-key"));
    let line = [("authorization", format!("Bearer {}", plain().expose()))];
    let (headers, _, taken) = take_from(&[header], &line, Some("a=1"));
    assert_eq!(taken, Err(DenyReason::Missing));
    assert_eq!(headers.len(), 1);
}

#[test]
fn two_credentials_are_one_too_many_wherever_they_stand() {
    let key = plain();
    let key = key.expose();
    let header = || Source::Header(HeaderName::from_static("x-api-key"));
    let of = |sources: &[Source], lines: &[(&'static str, String)], query: Option<&str>| {
        take_from(sources, lines, query).2
    };
    let refused = Err(DenyReason::DuplicateCredential);
    let (whole, line) = (format!("Bearer {key}"), ("x-api-key", key.to_owned()));
    let twice = [("authorization", whole.clone()), ("authorization", whole.clone())];
    assert_eq!(of(&[Source::Bearer], &twice, None), refused);
    let listed = [("authorization", format!("{whole}, {whole}"))];
    assert_eq!(of(&[Source::Bearer], &listed, None), refused);
    let both = [("authorization", whole), line.clone()];
    assert_eq!(of(&[Source::Bearer, header()], &both, None), refused);
    let query = format!("k={key}&k={key}");
    assert_eq!(of(&[Source::Query("k".to_owned())], &[], Some(&query)), refused);
    let query = format!("%6b={key}");
    assert_eq!(of(&[header(), Source::Query("k".to_owned())], &[line], Some(&query)), refused);
    let cookie = [("cookie", format!("s={key}; s={key}"))];
    assert_eq!(of(&[Source::Cookie("s".to_owned())], &cookie, None), refused);
}

#[test]
fn a_broken_credential_next_to_a_good_one_is_still_one_too_many() {
    let sources = [Source::Bearer, Source::Header(HeaderName::from_static("x-api-key"))];
    let lines =
        [("authorization", "Bearer x".to_owned()), ("x-api-key", plain().expose().to_owned())];
    assert_eq!(take_from(&sources, &lines, None).2, Err(DenyReason::DuplicateCredential));
}

#[test]
fn bytes_that_no_credential_has_are_a_bad_request() {
    let value = HeaderValue::from_bytes(b"Bearer abc\xff").unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", value);
    let mut places = Places {
        headers: &mut headers,
        query: None,
        rewritten: &mut None,
        form: None,
        keep: false,
    };
    assert_eq!(
        take(&[Source::Bearer], &understood(&[]), &mut places).err(),
        Some(DenyReason::BadRequest)
    );
}

#[test]
fn basic_takes_its_three_forms_and_strict_base64_only() {
    let key = plain();
    let basic = |text: String| {
        let value = format!("Basic {}", STANDARD.encode(text));
        take_from(&[Source::Basic], &[("authorization", value)], None).2
    };
    assert_eq!(basic(format!("{}:{}", key.id(), key.tail())), Ok(key.id()));
    assert_eq!(basic(format!("anyone:{}", key.expose())), Ok(key.id()));
    assert_eq!(basic(format!("{}:", key.expose())), Ok(key.id()));
    assert_eq!(basic(format!("a+b:{}", key.expose().replace('_', "%5F"))), Ok(key.id()));
    let other = mint(&"abc".parse().unwrap(), &Nines).unwrap();
    let foreign = basic(format!("{}:{}", other.id(), other.tail()));
    assert_eq!(foreign, Err(DenyReason::Malformed), "its checksum covers another prefix");
    for text in ["", ":", "a:b"] {
        assert_eq!(basic(text.to_owned()), Err(DenyReason::Malformed), "{text:?}");
    }
    let loose = format!("Basic {}", STANDARD.encode(format!("{}:", key.expose())) + "=");
    assert_eq!(
        take_from(&[Source::Basic], &[("authorization", loose)], None).2,
        Err(DenyReason::Malformed)
    );
}

#[test]
fn a_query_keeps_everything_but_the_credential() {
    let key = plain();
    let query = format!("a=%20&k={}&&b", key.expose());
    let referer = [("referer", "http://x/".to_owned())];
    let (headers, rewritten, taken) =
        take_from(&[Source::Query("k".to_owned())], &referer, Some(&query));
    assert_eq!(taken, Ok(key.id()));
    assert_eq!(rewritten, Some(Some("a=%20&&b".to_owned())));
    assert!(headers.is_empty());
}

#[test]
fn a_prefix_that_is_not_listed_is_malformed() {
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {}", plain().expose());
    headers.insert("authorization", HeaderValue::try_from(value).unwrap());
    let mut places = Places {
        headers: &mut headers,
        query: None,
        rewritten: &mut None,
        form: None,
        keep: false,
    };
    let prefixes = ["abc".parse().unwrap()];
    let refused = take(&[Source::Bearer], &understood(&prefixes), &mut places).err();
    assert_eq!(refused, Some(DenyReason::Malformed));
}

#[test]
fn a_credential_that_is_to_be_forwarded_stays() {
    let key = plain();
    let mut headers = HeaderMap::new();
    let value = format!("Bearer {}", key.expose());
    headers.insert("authorization", HeaderValue::try_from(value).unwrap());
    let mut places =
        Places { headers: &mut headers, query: None, rewritten: &mut None, form: None, keep: true };
    let taken =
        take(&[Source::Bearer], &understood(&[]), &mut places).map(|presented| id(&presented));
    assert_eq!(taken, Ok(key.id()));
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_form_keeps_everything_but_the_credential() {
    let key = plain();
    let take_form = |body: String, keep: bool| {
        let mut form = Form::new(Zeroizing::new(body.into_bytes()));
        let (mut headers, mut rewritten) = (HeaderMap::new(), None);
        let mut places = Places {
            headers: &mut headers,
            query: None,
            rewritten: &mut rewritten,
            form: Some(&mut form),
            keep,
        };
        let taken = take(&[Source::Form("k".to_owned())], &understood(&[]), &mut places);
        (taken.map(|presented| id(&presented)), form.into_bytes())
    };
    let key_text = key.expose();
    for (body, rest) in [
        (format!("k={key_text}"), ""),
        (format!("&k={key_text}"), ""),
        (format!("a=%ff&k={key_text}&\u{e9}=1&&"), "a=%ff&\u{e9}=1&&"),
    ] {
        assert_eq!(take_form(body.clone(), false), (Ok(key.id()), Bytes::from(rest)));
        assert_eq!(take_form(body.clone(), true), (Ok(key.id()), Bytes::from(body)));
    }
    let body = format!("k={key_text}&k=");
    assert_eq!(take_form(body, false).0, Err(DenyReason::DuplicateCredential));
    assert_eq!(take_form("K=1".to_owned(), false).0, Err(DenyReason::Missing));
}
