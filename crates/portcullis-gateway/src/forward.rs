//! What crosses the gateway: which of the caller's headers the upstream sees, what it is told
//! about the caller, and which of its own headers go back (gateway.md 9). Identity headers at the
//! upstream were written here, under any spelling; no framing byte of either side survives.

use arrayvec::ArrayVec;
use http::header::{
    CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, VIA,
};
use portcullis_core::directory::Permit;
use portcullis_core::feed::Position;
use portcullis_core::route::ResourceText;
use portcullis_core::verdict::DenyReason;

use crate::credential::Presented;
use crate::head::Fields;
use crate::phase::Connection;
use crate::plan::ListenerPlan;
use crate::request_id::RequestId;
use crate::respond::REQUEST_ID;
use crate::settings::Underscore;
use crate::shared::Published;
use crate::trace::{TRACEPARENT, TRACESTATE, Trace};
use crate::way::Way;

/// Asks for a decision at this position or later.
const MIN_SEQ: HeaderName = HeaderName::from_static("portcullis-min-seq");

pub(crate) const VIA_US: HeaderValue = HeaderValue::from_static("1.1 portcullis");
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");

/// Most names that `Connection` may nominate.
const MAX_NOMINATED: usize = 10;
/// Most names that are removed from one head: every field hyper lets through, and the nominated.
const MAX_REMOVED: usize = 100 + MAX_NOMINATED;

/// The configured part of the rules.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRules {
    prefix: String,
    underscore: Underscore,
    remove: Vec<HeaderName>,
    /// Headers that are a credential on some route.
    credentials: Vec<HeaderName>,
}

/// Names of the identity headers.
#[derive(Clone, Debug)]
pub(crate) struct IdentityNames {
    subject: HeaderName,
    org: HeaderName,
    key_id: HeaderName,
    username: HeaderName,
    scopes: HeaderName,
    resource: HeaderName,
    method: HeaderName,
    seq: HeaderName,
}

/// What becomes of a field.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Class {
    /// `Connection`.
    Connection,
    /// `Expect`.
    Expect,
    /// Belongs to one hop or to framing.
    Hop,
    /// It goes on.
    Pass,
    /// Says where a request came from, or who sent it: ours to write.
    Reserved,
    /// `X-Request-Id`.
    RequestId,
}

/// Names to be removed from a head. Three kilobytes: it stays where it was made.
#[derive(Default)]
pub(crate) struct Removal(ArrayVec<HeaderName, MAX_REMOVED>);

impl HeaderRules {
    pub(crate) fn new(
        prefix: &str,
        underscore: Underscore,
        remove: Vec<HeaderName>,
        credentials: Vec<HeaderName>,
    ) -> Self {
        Self { prefix: prefix.to_owned(), underscore, remove, credentials }
    }

    /// The identity headers' names, made once per gateway. The prefix was checked when the settings
    /// were.
    pub(crate) fn identity_names(&self) -> Option<IdentityNames> {
        // Names that live for ever need no reference count, which every request would write to.
        let name = |rest: &str| {
            let text = format!("{}{rest}", self.prefix);
            HeaderName::try_from(&text).ok()?;
            Some(HeaderName::from_static(text.leak()))
        };
        Some(IdentityNames {
            subject: name("subject")?,
            org: name("org")?,
            key_id: name("key-id")?,
            username: name("username")?,
            scopes: name("scopes")?,
            resource: name("resource")?,
            method: name("method")?,
            seq: name("seq")?,
        })
    }

    /// Looks at every field of a request's head once and says which ones must go; the result is the
    /// position that the caller wants to be decided at.
    ///
    /// # Errors
    ///
    /// The head is refused: a forbidden nomination, a name with `_`, an unknown expectation, a
    /// position that is none.
    pub(crate) fn examine(
        &self,
        headers: &HeaderMap,
        removal: &mut Removal,
    ) -> Result<Option<Position>, DenyReason> {
        let mut nominated = 0;
        let mut at_least = None;
        for (name, value) in headers {
            match self.classify(name.as_str()) {
                Class::Pass => {}
                Class::Hop => removal.add(name),
                Class::Reserved => {
                    if *name == MIN_SEQ {
                        let position = read_position(value).ok_or(DenyReason::BadRequest)?;
                        if at_least.replace(position).is_some() {
                            return Err(DenyReason::BadRequest);
                        }
                    }
                    removal.add(name);
                }
                Class::Connection => {
                    self.nominate(value, &mut nominated, removal)?;
                    removal.add(name);
                }
                Class::Expect => {
                    if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                        return Err(DenyReason::Expectation);
                    }
                    removal.add(name);
                }
                Class::RequestId => {
                    if !is_request_id(value.as_bytes()) {
                        removal.add(name);
                    }
                }
            }
            if self.remove.contains(name) {
                removal.add(name);
            }
            if has_underscore(name.as_str()) {
                match self.underscore {
                    Underscore::Reject => return Err(DenyReason::BadRequest),
                    Underscore::Drop => removal.add(name),
                    Underscore::Keep => {}
                }
            }
        }
        Ok(at_least)
    }

    /// Reads one `Connection` line.
    fn nominate(
        &self,
        value: &HeaderValue,
        nominated: &mut usize,
        removal: &mut Removal,
    ) -> Result<(), DenyReason> {
        for token in value.as_bytes().split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.is_empty()
                || token.eq_ignore_ascii_case(b"close")
                || token.eq_ignore_ascii_case(b"keep-alive")
            {
                continue;
            }
            *nominated += 1;
            let name = HeaderName::from_bytes(token).map_err(|_| DenyReason::BadRequest)?;
            if *nominated > MAX_NOMINATED || self.must_not_be_nominated(&name) {
                return Err(DenyReason::BadRequest);
            }
            removal.add(&name);
        }
        Ok(())
    }

    fn must_not_be_nominated(&self, name: &HeaderName) -> bool {
        let framing = matches!(
            name.as_str(),
            "authorization" | "content-length" | "cookie" | "host" | "transfer-encoding"
        );
        framing
            || self.credentials.contains(name)
            || matches!(self.classify(name.as_str()), Class::Reserved | Class::RequestId)
    }

    /// What becomes of a field of this name (which is lower-case).
    fn classify(&self, name: &str) -> Class {
        match name {
            "connection" => Class::Connection,
            "expect" => Class::Expect,
            "content-length"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade" => Class::Hop,
            "x-request-id" => Class::RequestId,
            name if self.is_reserved(name) => Class::Reserved,
            _ => Class::Pass,
        }
    }

    /// Whether a name folds to one that only the gateway writes. Folding leaves letters and digits
    /// as they are, so most names are told by their first byte.
    fn is_reserved(&self, name: &str) -> bool {
        let prefix = self.prefix.as_bytes().first();
        match name.as_bytes().first() {
            None => return false,
            Some(b'f' | b'p' | b'r' | b'x') => {}
            first if first == prefix => {}
            Some(first) if first.is_ascii_alphanumeric() => return false,
            Some(_) => {}
        }
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if plain {
            return self.is_reserved_as_folded(name);
        }
        let folded: ArrayVec<u8, 128> = name
            .bytes()
            .take(128)
            .map(|byte| if byte.is_ascii_alphanumeric() { byte } else { b'-' })
            .collect();
        self.is_reserved_as_folded(std::str::from_utf8(&folded).unwrap_or_default())
    }

    fn is_reserved_as_folded(&self, name: &str) -> bool {
        match name.as_bytes().first() {
            Some(b'x') => {
                name.starts_with(&*self.prefix)
                    || matches!(
                        name,
                        "x-forwarded-for"
                            | "x-forwarded-host"
                            | "x-forwarded-method"
                            | "x-forwarded-path"
                            | "x-forwarded-port"
                            | "x-forwarded-prefix"
                            | "x-forwarded-proto"
                            | "x-forwarded-server"
                            | "x-forwarded-uri"
                            | "x-http-method"
                            | "x-http-method-override"
                            | "x-method-override"
                            | "x-original-url"
                            | "x-real-ip"
                            | "x-rewrite-url"
                    )
            }
            Some(b'f') if name == "forwarded" => true,
            Some(b'p') if name.starts_with("portcullis-") => true,
            Some(b'r') if matches!(name, "ratelimit" | "ratelimit-policy") => true,
            Some(_) => name.starts_with(&*self.prefix),
            None => false,
        }
    }

    /// Takes out of an upstream's response what concerns one hop or is reserved.
    ///
    /// # Errors
    ///
    /// The response frames its body in two ways, or nominates too many fields.
    pub(crate) fn clean_response(&self, headers: &mut HeaderMap) -> Result<(), DenyReason> {
        let mut removal = Removal::default();
        let (mut lengths, mut codings, mut nominated) = (0, 0, 0);
        for (name, value) in &*headers {
            match name.as_str() {
                "content-length" => lengths += 1,
                "transfer-encoding" => {
                    codings += 1;
                    if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                        return Err(DenyReason::UpstreamProtocol);
                    }
                    removal.add(name);
                }
                "connection" => {
                    for token in value.as_bytes().split(|byte| *byte == b',') {
                        if let Ok(name) = HeaderName::from_bytes(token.trim_ascii()) {
                            nominated += usize::from(removal.add_nominated(&name));
                        }
                    }
                    // More would not fit beside the fields that must go.
                    if nominated > MAX_NOMINATED {
                        return Err(DenyReason::UpstreamProtocol);
                    }
                    removal.add(name);
                }
                "http2-settings" | "keep-alive" | "proxy-authenticate" | "proxy-connection"
                | "te" | "trailer" | "upgrade" => removal.add(name),
                text if folds_to(text, &self.prefix) || folds_to(text, "portcullis-") => {
                    removal.add(name);
                }
                _ => {}
            }
        }
        if codings > 1 || (codings == 1 && lengths > 0) {
            return Err(DenyReason::UpstreamProtocol);
        }
        if lengths > 1 {
            // hyper refuses lengths that differ; equal ones become one.
            if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
                headers.insert(CONTENT_LENGTH, length);
            }
        }
        removal.apply(headers);
        headers.append(VIA, VIA_US);
        Ok(())
    }
}

impl Removal {
    /// Notes a name. There is room for every field of a head and for as many nominated ones as are
    /// taken; each is noted once.
    fn add(&mut self, name: &HeaderName) {
        if self.0.last() != Some(name) {
            let _ = self.0.try_push(name.clone());
        }
    }

    /// Notes a name an upstream nominated, unless removing it would change what the body is. Whether
    /// it was noted.
    fn add_nominated(&mut self, name: &HeaderName) -> bool {
        let goes =
            !matches!(name.as_str(), "close" | "content-length" | "content-type" | "keep-alive");
        if goes {
            self.add(name);
        }
        goes
    }

    /// Whether a field of this name goes.
    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.0.contains(name)
    }

    /// Takes every noted field out.
    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.0 {
            headers.remove(name);
        }
    }
}

/// Whether a name, folded, begins with this prefix, which is folded already.
fn folds_to(name: &str, prefix: &str) -> bool {
    let same = |(byte, wanted): (u8, u8)| {
        byte == wanted || (wanted == b'-' && !byte.is_ascii_alphanumeric())
    };
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(same)
}

/// Looks at every byte whatever it has seen, which goes by many bytes at once.
fn has_underscore(name: &str) -> bool {
    name.bytes().fold(false, |found, byte| found | (byte == b'_'))
}

/// Reads `<epoch>.<seq>`: two numbers in plain digits.
fn read_position(value: &HeaderValue) -> Option<Position> {
    let (epoch, seq) = value.to_str().ok()?.split_once('.')?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    };
    Some(Position { epoch: number(epoch)?, seq: number(seq)? })
}

fn is_request_id(value: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=64).contains(&value.len()) && value.iter().all(word)
}

/// How a caller proved who it is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ProvenBy {
    Imported,
    Key,
    Session,
}

impl ProvenBy {
    pub(crate) fn of(presented: &Presented) -> ProvenBy {
        match presented {
            Presented::Foreign(_) => ProvenBy::Imported,
            Presented::Native(_) => ProvenBy::Key,
            Presented::Session(_) => ProvenBy::Session,
        }
    }

    /// In identity headers and access records.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            ProvenBy::Imported => "imported",
            ProvenBy::Key => "key",
            ProvenBy::Session => "session",
        }
    }
}

/// A caller that may do what its route requires: what the upstream is told about.
pub(crate) struct Caller<'d> {
    pub(crate) permit: Permit<'d>,
    /// The directory that decided.
    pub(crate) published: &'d Published,
    /// The permission that was required, and on which resource; `None` = the root.
    pub(crate) scope: Option<(HeaderValue, Option<ResourceText>)>,
    pub(crate) by: ProvenBy,
}

/// What step 11 writes into a head.
pub(crate) struct Writing<'w> {
    pub(crate) names: &'w IdentityNames,
    pub(crate) listener: &'w ListenerPlan,
    pub(crate) connection: &'w Connection,
    /// Host and port as matched.
    pub(crate) authority: &'w str,
    pub(crate) request_id: &'w RequestId,
    pub(crate) trace: &'w Trace,
    /// GET or HEAD with a body of unknown length, which hyper would leave out.
    pub(crate) chunked: bool,
}

impl Writing<'_> {
    /// Writes the upstream's fields, from the caller's. Of those, hyper keeps none but what it needs
    /// to frame the body.
    pub(crate) fn write(
        &self,
        headers: &mut HeaderMap,
        removal: &Removal,
        caller: Option<&Caller<'_>>,
        fields: &mut Fields,
    ) {
        let trusted = self.listener.trusts(self.connection.peer.ip());
        if trusted {
            let way = Way::through(self.connection.peer.ip(), headers);
            way.write(self.authority, fields);
        } else {
            self.connection.write_way(self.authority, fields);
        }
        let mut empty = false;
        for (name, value) in &*headers {
            match *name {
                CONTENT_LENGTH => empty = value == "0",
                HOST | TRANSFER_ENCODING => {}
                _ if *name == TRACEPARENT || *name == TRACESTATE || removal.has(name) => {}
                _ => fields.pass(name, value),
            }
        }
        if empty {
            // Said again in our own words: an upstream may insist on a length.
            fields.put(&CONTENT_LENGTH, b"0");
        }
        self.write_identity(fields, caller);
        fields.put(&REQUEST_ID, self.request_id.as_bytes());
        self.trace.write((headers, removal), self.request_id, trusted, fields);
        headers.clear();
        if self.chunked {
            headers.insert(TRANSFER_ENCODING, CHUNKED);
        }
    }

    /// Ids and names in the directory are of characters that a field may have; anything else is
    /// left out.
    fn write_identity(&self, fields: &mut Fields, caller: Option<&Caller<'_>>) {
        let Some(Caller { permit, published, scope, by }) = caller else {
            return fields.put(&self.names.method, b"none");
        };
        let principal = permit.principal();
        let username = principal.account_name();
        fields.put(&self.names.subject, &principal.account_id());
        fields.put(&self.names.org, principal.org_id());
        fields.put(&self.names.key_id, &principal.key_id().digits());
        if !username.is_empty() {
            fields.put(&self.names.username, &username);
        }
        fields.put(&self.names.method, by.label().as_bytes());
        fields.put(&self.names.seq, published.position_text());
        if let Some((permission, place)) = scope {
            fields.pass(&self.names.scopes, permission);
            fields.put(&self.names.resource, place.as_deref().unwrap_or("org").as_bytes());
        }
    }
}

/// The one `Host` field; two are refused.
pub(crate) fn only_host(headers: &HeaderMap) -> Result<Option<HeaderValue>, DenyReason> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(DenyReason::BadRequest);
    }
    Ok(first.cloned())
}

#[cfg(test)]
mod tests;
