//! Lines of the feed: a snapshot is a header, records and an end; a stream of changes is
//! transactions and heartbeats. A line either parses whole or not at all.

use serde_json::{Map, Value, json};

use super::{Change, Kind, KindError, Position, StateDigest, canonical, parse_strict};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Ends a snapshot.
    End(End),
    /// Begins a snapshot.
    Header(Header),
    /// Says that the stream lives.
    Heartbeat(Heartbeat),
    /// A record of a snapshot.
    Record {
        /// What it describes.
        kind: Kind,
        /// Which one.
        id: String,
        /// Its content, judged when it is applied.
        record: Value,
    },
    /// A committed transaction.
    Txn(Txn),
    /// A record of a snapshot of a kind that this build does not know: refused, and counted.
    Unknown {
        /// What it describes.
        kind: String,
        /// Which one.
        id: String,
        /// Its content.
        record: Value,
    },
}

/// The first line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Must be [`super::FORMAT`].
    pub format: u64,
    /// The installation it belongs to.
    pub cluster: String,
    /// The position it describes.
    pub position: Position,
    /// When it was made.
    pub at_ms: u64,
}

/// The last line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The header's position again.
    pub position: Position,
    /// Number of record lines.
    pub count: u64,
    /// Digest of all records.
    pub digest: StateDigest,
    /// SHA-256 of all bytes before this line, 64 hex digits.
    pub sha256: String,
    /// Ed25519 over the line's canonical form without `sig`, base64url.
    pub sig: Option<String>,
}

/// A transaction: applied as one, answered for by one audit event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Its place in the order.
    pub position: Position,
    /// When it was committed.
    pub at_ms: u64,
    /// What it changes, in order.
    pub changes: Vec<Change>,
    /// Ed25519 over the line's canonical form without `sig`, base64url.
    pub sig: Option<String>,
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The newest position.
    pub position: Position,
    /// When it was sent.
    pub at_ms: u64,
    /// Digest of the state at that position.
    pub digest: StateDigest,
    /// Number of gateways that follow.
    pub gateways: u64,
    /// Ed25519 over the line's canonical form without `sig`, base64url.
    pub sig: Option<String>,
}

/// A line that cannot be read: nothing of it is used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not JSON as the feed allows it.
    #[error("not a feed line: {0}")]
    Json(String),
    /// A member is missing, of the wrong type or out of its set.
    #[error("{member}: {allowed}")]
    Member {
        /// Which member.
        member: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// It is longer than [`super::MAX_LINE`].
    #[error("a line has at most 16 MiB")]
    TooLong,
}

/// Reads one line, without its newline.
///
/// # Errors
///
/// [`LineError`] names what is wrong and what is allowed.
pub fn parse_line(bytes: &[u8]) -> Result<Line, LineError> {
    if bytes.len() > super::MAX_LINE {
        return Err(LineError::TooLong);
    }
    let value = parse_strict(bytes).map_err(|error| LineError::Json(error.to_string()))?;
    let Value::Object(mut members) = value else {
        return Err(LineError::Json("a line is a JSON object".to_owned()));
    };
    match members.get("line").map(Value::as_str) {
        None => record_line(&mut members),
        Some(Some("header")) => Ok(Line::Header(Header {
            format: integer(&members, "format")?,
            cluster: text(&members, "cluster")?.to_owned(),
            position: position(&members)?,
            at_ms: integer(&members, "at_ms")?,
        })),
        Some(Some("end")) => Ok(Line::End(End {
            position: position(&members)?,
            count: integer(&members, "count")?,
            digest: state_digest(&members)?,
            sha256: text(&members, "sha256")?.to_owned(),
            sig: sig(&members)?,
        })),
        Some(Some("heartbeat")) => Ok(Line::Heartbeat(Heartbeat {
            position: position(&members)?,
            at_ms: integer(&members, "at_ms")?,
            digest: state_digest(&members)?,
            gateways: integer(&members, "gateways")?,
            sig: sig(&members)?,
        })),
        Some(Some("txn")) => Ok(Line::Txn(Txn {
            position: position(&members)?,
            at_ms: integer(&members, "at_ms")?,
            changes: changes(&mut members)?,
            sig: sig(&members)?,
        })),
        Some(_) => Err(LineError::Member {
            member: "line",
            allowed: "header, end, heartbeat or txn; absent on a record",
        }),
    }
}

fn record_line(members: &mut Map<String, Value>) -> Result<Line, LineError> {
    let (kind, id) = (text(members, "kind")?.to_owned(), text(members, "id")?.to_owned());
    let record = record(members)?;
    Ok(match kind.parse() {
        Ok(kind) => Line::Record { kind, id, record },
        Err(KindError) => Line::Unknown { kind, id, record },
    })
}

fn changes(members: &mut Map<String, Value>) -> Result<Vec<Change>, LineError> {
    let Some(Value::Array(list)) = members.remove("changes") else {
        return Err(LineError::Member { member: "changes", allowed: "an array of changes" });
    };
    list.into_iter().map(change).collect()
}

fn change(value: Value) -> Result<Change, LineError> {
    let Value::Object(mut members) = value else {
        return Err(LineError::Member { member: "changes", allowed: "an array of objects" });
    };
    let (name, id) = (text(&members, "kind")?.to_owned(), text(&members, "id")?.to_owned());
    let op = text(&members, "op")?.to_owned();
    Ok(match (&*op, name.parse()) {
        ("put", Ok(kind)) => Change::Put { kind, id, record: record(&mut members)? },
        ("put", Err(KindError)) => {
            Change::UnknownKind { kind: name, id, record: Some(record(&mut members)?) }
        }
        ("delete", Ok(kind)) => Change::Delete { kind, id },
        ("revoke", Ok(kind)) => {
            // A hint: a revocation applies whatever stands there.
            let expires_at_ms = members.get("expires_at_ms").and_then(Value::as_u64);
            Change::Revoke { kind, id, expires_at_ms }
        }
        ("delete" | "revoke", Err(KindError)) => {
            Change::UnknownKind { kind: name, id, record: None }
        }
        _ => Change::UnknownOp { op, kind: name, id },
    })
}

fn record(members: &mut Map<String, Value>) -> Result<Value, LineError> {
    match members.remove("record") {
        Some(record @ Value::Object(_)) => Ok(record),
        _ => Err(LineError::Member { member: "record", allowed: "an object" }),
    }
}

fn position(members: &Map<String, Value>) -> Result<Position, LineError> {
    Ok(Position { epoch: integer(members, "epoch")?, seq: integer(members, "seq")? })
}

fn integer(members: &Map<String, Value>, member: &'static str) -> Result<u64, LineError> {
    members
        .get(member)
        .and_then(Value::as_u64)
        .ok_or(LineError::Member { member, allowed: "an integer from 0 to 2^53-1" })
}

fn text<'m>(members: &'m Map<String, Value>, member: &'static str) -> Result<&'m str, LineError> {
    members
        .get(member)
        .and_then(Value::as_str)
        .ok_or(LineError::Member { member, allowed: "a string" })
}

fn state_digest(members: &Map<String, Value>) -> Result<StateDigest, LineError> {
    text(members, "digest")?
        .parse()
        .map_err(|_| LineError::Member { member: "digest", allowed: "32 lower-case hex digits" })
}

fn sig(members: &Map<String, Value>) -> Result<Option<String>, LineError> {
    match members.get("sig") {
        None => Ok(None),
        Some(_) => text(members, "sig").map(|sig| Some(sig.to_owned())),
    }
}

impl Line {
    /// The line as JSON, without its newline.
    pub fn to_json(&self) -> String {
        match self {
            Self::Record { kind, id, record } => record_json(*kind, id, &canonical(record)),
            Self::End(_) | Self::Header(_) | Self::Heartbeat(_) | Self::Txn(_) => {
                let mut value = self.unsigned();
                if let (Some(sig), Value::Object(members)) = (self.sig(), &mut value) {
                    members.insert("sig".to_owned(), Value::from(sig));
                }
                canonical(&value)
            }
            Self::Unknown { .. } => canonical(&self.unsigned()),
        }
    }

    /// The bytes a signature covers: the canonical form without `sig`.
    pub fn signed_form(&self) -> String {
        canonical(&self.unsigned())
    }

    fn sig(&self) -> Option<&str> {
        match self {
            Self::End(End { sig, .. })
            | Self::Heartbeat(Heartbeat { sig, .. })
            | Self::Txn(Txn { sig, .. }) => sig.as_deref(),
            Self::Header(_) | Self::Record { .. } | Self::Unknown { .. } => None,
        }
    }

    fn unsigned(&self) -> Value {
        match self {
            Self::Header(Header { format, cluster, position: Position { epoch, seq }, at_ms }) => {
                json!({"line": "header", "format": format, "cluster": cluster,
                       "epoch": epoch, "seq": seq, "at_ms": at_ms})
            }
            Self::End(End { position: Position { epoch, seq }, count, digest, sha256, sig: _ }) => {
                json!({"line": "end", "epoch": epoch, "seq": seq, "count": count,
                       "digest": digest.to_string(), "sha256": sha256})
            }
            Self::Heartbeat(Heartbeat {
                position: Position { epoch, seq },
                at_ms,
                digest,
                gateways,
                sig: _,
            }) => json!({"line": "heartbeat", "epoch": epoch, "seq": seq, "at_ms": at_ms,
                         "digest": digest.to_string(), "gateways": gateways}),
            Self::Txn(Txn { position: Position { epoch, seq }, at_ms, changes, sig: _ }) => {
                json!({"line": "txn", "epoch": epoch, "seq": seq, "at_ms": at_ms,
                       "changes": changes.iter().map(change_value).collect::<Vec<_>>()})
            }
            Self::Record { kind, id, record } => {
                json!({"kind": kind.as_str(), "id": id, "record": record})
            }
            Self::Unknown { kind, id, record } => json!({"kind": kind, "id": id, "record": record}),
        }
    }
}

/// A record line whose record is at hand in canonical form: what a dump of stored records writes.
pub fn record_json(kind: Kind, id: &str, canonical_record: &str) -> String {
    let id = Value::from(id);
    format!(r#"{{"kind":"{kind}","id":{id},"record":{canonical_record}}}"#)
}

fn change_value(change: &Change) -> Value {
    match change {
        Change::Put { kind, id, record } => {
            json!({"op": "put", "kind": kind.as_str(), "id": id, "record": record})
        }
        Change::Delete { kind, id } => json!({"op": "delete", "kind": kind.as_str(), "id": id}),
        Change::Revoke { kind, id, expires_at_ms } => {
            let mut value = json!({"op": "revoke", "kind": kind.as_str(), "id": id});
            if let (Some(instant), Value::Object(members)) = (expires_at_ms, &mut value) {
                members.insert("expires_at_ms".to_owned(), Value::from(*instant));
            }
            value
        }
        Change::UnknownKind { kind, id, record: Some(record) } => {
            json!({"op": "put", "kind": kind, "id": id, "record": record})
        }
        Change::UnknownKind { kind, id, record: None } => {
            json!({"op": "delete", "kind": kind, "id": id})
        }
        Change::UnknownOp { op, kind, id } => json!({"op": op, "kind": kind, "id": id}),
    }
}
