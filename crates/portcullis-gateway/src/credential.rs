//! The credential: found in the places a route lists, read, and removed from the request by the
//! very function that reads it. What remains is a key's id and the bytes to hash. Never keeps,
//! forwards or shows the text.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, REFERER,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_core::key::{self, ForeignKey, ParsedKey, Prefix, Spelled, Spellings};
use portcullis_core::session::{self, Token};
use portcullis_core::verdict::DenyReason;
use zeroize::Zeroizing;

/// A place where a key may stand, compiled.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Basic,
    Bearer,
    Cookie(String),
    Form(String),
    Header(HeaderName),
    Query(String),
}

/// A well-formed credential that was presented; its text is gone from the request.
pub(crate) enum Presented {
    /// A key in another spelling than ours.
    Foreign(Arc<ForeignKey>),
    /// A key of ours.
    Native(ParsedKey),
    Session(Box<Token>),
}

/// Which texts are credentials here.
pub(crate) struct Understood {
    /// Prefixes of keys of ours; none = any.
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) spellings: Spellings,
    pub(crate) sessions: bool,
}

/// Shortest and longest text of a key.
const SIZES: std::ops::RangeInclusive<usize> = 20..=256;

/// What a credential is looked for in.
pub(crate) struct Places<'r> {
    pub(crate) headers: &'r mut HeaderMap,
    pub(crate) query: Option<&'r str>,
    /// The query without the credential, if one was cut.
    pub(crate) rewritten: &'r mut Option<Option<String>>,
    /// The body, if it was read as a form.
    pub(crate) form: Option<&'r mut Form>,
    /// The credential stays in the request, for the upstream.
    pub(crate) keep: bool,
}

/// A body that was read whole, because a field of it may be the credential. Zeroized on drop.
pub(crate) struct Form(Zeroizing<Vec<u8>>);

impl Form {
    /// The largest body that is read as a form.
    pub(crate) const MAX: usize = 16 * 1024;

    pub(crate) fn new(text: Zeroizing<Vec<u8>>) -> Self {
        Self(text)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Frames it anew in the head it is forwarded with.
    pub(crate) fn announce(&self, headers: &mut HeaderMap) {
        headers.remove(TRANSFER_ENCODING);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.0.len()));
    }

    /// What is forwarded.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.0))
    }
}

/// Whether the body of a request with this head is a form.
///
/// # Errors
///
/// It says two things about its body, or has coded it: no telling what the upstream will read.
pub(crate) fn is_form(headers: &HeaderMap) -> Result<bool, DenyReason> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let Some(kind) = kinds.next() else { return Ok(false) };
    let essence = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let is_form = essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded");
    if kinds.next().is_some() || (is_form && headers.contains_key(CONTENT_ENCODING)) {
        return Err(DenyReason::BadRequest);
    }
    Ok(is_form)
}

/// Reads the one credential the request has, and removes it.
pub(crate) fn take(
    sources: &[Source],
    understood: &Understood,
    places: &mut Places<'_>,
) -> Result<Presented, DenyReason> {
    let mut found: Option<Result<Presented, DenyReason>> = None;
    let mut authorization_done = false;
    for source in sources {
        let here = match source {
            // Both schemes share a header: it is read once, under whichever is listed first.
            Source::Basic | Source::Bearer if authorization_done => continue,
            Source::Basic | Source::Bearer => {
                authorization_done = true;
                take_authorization(sources, understood, places)?
            }
            Source::Header(name) => take_header(name, understood, places)?,
            Source::Cookie(name) => take_cookie(name, understood, places)?,
            Source::Query(name) => take_query(name, understood, places)?,
            Source::Form(name) => take_form(name, understood, places)?,
        };
        if here.is_some() && found.is_some() {
            return Err(DenyReason::DuplicateCredential);
        }
        found = found.or(here);
    }
    let presented = found.ok_or(DenyReason::Missing)??;
    if let Presented::Native(native) = &presented
        && !understood.prefixes.is_empty()
        && !understood.prefixes.contains(&native.prefix())
    {
        return Err(DenyReason::Malformed);
    }
    Ok(presented)
}

/// What one source gave: nothing, a credential, or a text that is none.
type Taken = Result<Option<Result<Presented, DenyReason>>, DenyReason>;

/// The only value of a header, which is removed. Two lines are one credential too many.
fn only_value(
    name: &HeaderName,
    places: &mut Places<'_>,
) -> Result<Option<HeaderValue>, DenyReason> {
    let mut values = places.headers.get_all(name).iter();
    if values.next().is_none() {
        return Ok(None);
    }
    if values.next().is_some() {
        return Err(DenyReason::DuplicateCredential);
    }
    let value =
        if places.keep { places.headers.get(name).cloned() } else { places.headers.remove(name) };
    match value {
        Some(value) if is_printable(value.as_bytes()) => Ok(Some(value)),
        Some(_) => Err(DenyReason::BadRequest),
        None => Ok(None),
    }
}

/// Looks at every byte whatever it has seen, which goes by many bytes at once.
fn is_printable(text: &[u8]) -> bool {
    text.iter().fold(true, |good, byte| good & matches!(byte, 0x20..=0x7e))
}

/// Whether a text lists several things. Goes by many bytes at once.
fn is_list(text: &[u8]) -> bool {
    text.iter().fold(false, |found, byte| found | (*byte == b','))
}

fn take_authorization(
    sources: &[Source],
    understood: &Understood,
    places: &mut Places<'_>,
) -> Taken {
    let Some(value) = only_value(&AUTHORIZATION, places)? else { return Ok(None) };
    let text = value.as_bytes();
    if is_list(text) {
        return Err(DenyReason::DuplicateCredential);
    }
    let listed = |wanted: fn(&Source) -> bool| sources.iter().any(wanted);
    let Some(space) = text.iter().position(|byte| *byte == b' ') else {
        return Ok(Some(Err(DenyReason::Malformed)));
    };
    let (scheme, rest) = text.split_at(space);
    let rest = rest.get(1..).unwrap_or_default();
    let parsed = if scheme.eq_ignore_ascii_case(b"bearer")
        && listed(|source| matches!(source, Source::Bearer))
    {
        parse(rest, understood)
    } else if scheme.eq_ignore_ascii_case(b"basic")
        && listed(|source| matches!(source, Source::Basic))
    {
        parse_basic(rest, understood)
    } else {
        Err(DenyReason::Malformed)
    };
    Ok(Some(parsed))
}

fn take_header(name: &HeaderName, understood: &Understood, places: &mut Places<'_>) -> Taken {
    let Some(value) = only_value(name, places)? else { return Ok(None) };
    if is_list(value.as_bytes()) {
        return Err(DenyReason::DuplicateCredential);
    }
    Ok(Some(parse(value.as_bytes(), understood)))
}

fn take_cookie(name: &str, understood: &Understood, places: &mut Places<'_>) -> Taken {
    let mut found = None;
    let mut kept: Vec<HeaderValue> = Vec::new();
    for line in places.headers.get_all(COOKIE) {
        let Ok(text) = line.to_str() else { return Err(DenyReason::BadRequest) };
        let mut rest: Vec<&str> = Vec::new();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) if key == name => {
                    if found.replace(parse(value.as_bytes(), understood)).is_some() {
                        return Err(DenyReason::DuplicateCredential);
                    }
                }
                Some(_) | None => rest.push(pair),
            }
        }
        if !rest.is_empty() {
            kept.extend(HeaderValue::from_str(&rest.join("; ")));
        }
    }
    if found.is_some() && !places.keep {
        places.headers.remove(COOKIE);
        for line in kept {
            places.headers.append(COOKIE, line);
        }
    }
    Ok(found)
}

fn take_query(name: &str, understood: &Understood, places: &mut Places<'_>) -> Taken {
    let Some(query) = places.query else { return Ok(None) };
    let mut found = None;
    let mut kept: Vec<&str> = Vec::new();
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !is_named(key.as_bytes(), name) {
            kept.push(pair);
            continue;
        }
        let decoded = decode_percent(value.as_bytes(), false);
        let parsed = decoded.ok_or(DenyReason::Malformed).and_then(|text| parse(&text, understood));
        if found.replace(parsed).is_some() {
            return Err(DenyReason::DuplicateCredential);
        }
    }
    if found.is_some() && !places.keep {
        let rest = kept.join("&");
        *places.rewritten = Some(if rest.is_empty() { None } else { Some(rest) });
        // The page that linked here may carry the same query.
        places.headers.remove(REFERER);
    }
    Ok(found)
}

fn take_form(name: &str, understood: &Understood, places: &mut Places<'_>) -> Taken {
    let Some(Form(text)) = places.form.as_deref_mut() else { return Ok(None) };
    let mut found = None;
    let mut rest = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut kept = 0;
    for pair in text.split(|byte| *byte == b'&') {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (key, value) = pair.split_at_checked(equals).unwrap_or((pair, b""));
        if !is_named(key, name) {
            if kept > 0 {
                rest.push(b'&');
            }
            rest.extend_from_slice(pair);
            kept += 1;
            continue;
        }
        let decoded = decode_percent(value.get(1..).unwrap_or_default(), true);
        let parsed = decoded.ok_or(DenyReason::Malformed).and_then(|text| parse(&text, understood));
        if found.replace(parsed).is_some() {
            return Err(DenyReason::DuplicateCredential);
        }
    }
    if found.is_some() && !places.keep {
        *text = rest;
    }
    Ok(found)
}

fn is_named(key: &[u8], name: &str) -> bool {
    key == name.as_bytes()
        || decode_percent(key, true).is_some_and(|key| key.as_slice() == name.as_bytes())
}

/// Reads a credential's text. Keys of ours, by far the most, are told from all others at once.
fn parse(text: &[u8], understood: &Understood) -> Result<Presented, DenyReason> {
    if SIZES.contains(&text.len())
        && let Ok(native) = key::parse(text)
    {
        return Ok(Presented::Native(native));
    }
    if text.starts_with(session::BEGINNING.as_bytes()) {
        let token = Token::parse(text).ok().filter(|_| understood.sessions);
        return token.map(|it| Presented::Session(Box::new(it))).ok_or(DenyReason::Malformed);
    }
    if !SIZES.contains(&text.len()) {
        return Err(DenyReason::Malformed);
    }
    let Understood { prefixes, spellings, sessions: _ } = understood;
    key::read(text, prefixes, *spellings).map(spelled).map_err(|_| DenyReason::Malformed)
}

fn spelled(spelled: Spelled) -> Presented {
    match spelled {
        Spelled::Foreign(foreign) => Presented::Foreign(Arc::new(foreign)),
        Spelled::Native(native) => Presented::Native(native),
    }
}

/// Reads `id:tail`, `any:key` or `key:` in strict base64; raw, then form-decoded once. Whichever
/// reading is a key of ours counts, else the pair as it came.
fn parse_basic(encoded: &[u8], understood: &Understood) -> Result<Presented, DenyReason> {
    let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| DenyReason::Malformed)?);
    let Understood { prefixes, spellings, sessions: _ } = understood;
    let read = |text: &[u8]| {
        let colon = text.iter().position(|byte| *byte == b':')?;
        let (user, password) = text.split_at_checked(colon)?;
        let password = password.get(1..)?;
        if password.is_empty() {
            return parse(user, understood).ok();
        }
        if user.len() == key::ID_LEN || user.len() == UID_LEN {
            return key::read_pair(user, password, prefixes, *spellings).map(spelled).ok();
        }
        parse(password, understood).ok()
    };
    let raw = read(&decoded);
    if let Some(native @ Presented::Native(_)) = raw {
        return Ok(native);
    }
    let form = decode_percent(&decoded, true).ok_or(DenyReason::Malformed)?;
    match (read(&form), raw) {
        (Some(native @ Presented::Native(_)), _) => Ok(native),
        (_, Some(foreign)) | (Some(foreign), None) => Ok(foreign),
        (None, None) => Err(DenyReason::Malformed),
    }
}

/// Characters of a key's uid.
const UID_LEN: usize = 36;

/// Decodes `%xx` once, and `+` as a blank if `form`. Zeroized, for it may be a credential.
fn decode_percent(text: &[u8], form: bool) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (bytes.next()?, bytes.next()?);
                let digit = |byte: u8| char::from(byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            b'+' if form => b' ',
            other => other,
        });
    }
    Some(out)
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
