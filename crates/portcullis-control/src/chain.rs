//! The audit log's chain: the hash that binds each event to the one before, the signed checkpoints
//! that bind the chain to the installation, and the walk that finds what was changed, left out,
//! moved, rewritten or cut off. Pure: it reads no database, and also what was exported long ago.
//!
//! ```text
//! event 1 ── hash ──▶ event 2 ── hash ──▶ … event 100 ── hash ──▶ event 101 …
//!    │ signed                                  │ signed                │ signed, if it is the last
//! checkpoint                               checkpoint              checkpoint
//! ```
//!
//! Whoever changes an event must change every later hash, and then the next checkpoint's signature
//! does not fit. Whoever cuts off the end leaves a checkpoint that names an event which is gone.
//! The first event and every hundredth have a checkpoint in the transaction of the event itself, so
//! a checkpoint that was taken out is missed too. What nothing can show is that both the last events
//! and the checkpoints after them were taken out within a minute of being written, or from a
//! database of which no checkpoint was kept elsewhere: keep exports, or the log, which names each
//! timed checkpoint.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use portcullis_core::feed::{canonical, parse_strict};
use portcullis_core::time::WallMs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::instant::{Stamp, column};
use crate::settings::FeedSigner;
use crate::store::audit::AuditRow;

/// The hash before the first event.
pub(crate) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Every event whose number this divides has a checkpoint, and so has the first.
const SEALED_EVERY: i64 = 100;
/// What a checkpoint's line is called. No line of the feed is, so neither signature passes for the
/// other.
const LINE: &str = "audit_checkpoint";

/// Whether this event has its checkpoint from the start.
pub(crate) fn is_sealed_at_once(seq: i64) -> bool {
    seq == 1 || seq % SEALED_EVERY == 0
}

/// A signed statement that the chain of an organization has this hash at this event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub(crate) struct Checkpoint {
    pub(crate) org_id: String,
    pub(crate) seq: i64,
    pub(crate) at_ms: i64,
    pub(crate) hash: String,
    /// Ed25519, base64url without padding, like the signature.
    pub(crate) public_key: String,
    pub(crate) signature: String,
}

impl Checkpoint {
    pub(crate) fn sign(
        org_id: &str,
        (seq, hash): (i64, &str),
        now: WallMs,
        signer: &FeedSigner,
    ) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            org_id: org_id.to_owned(),
            seq,
            at_ms: column(now),
            hash: hash.to_owned(),
            public_key: signer.public_key(),
            signature: String::new(),
        };
        checkpoint.signature = signer.sign(checkpoint.message().as_bytes());
        checkpoint
    }

    /// What is signed: the canonical form of the line without its signature.
    fn message(&self) -> String {
        let Checkpoint { org_id, seq, at_ms, hash, public_key, signature: _ } = self;
        canonical(&json!({
            "line": LINE, "org_id": org_id, "seq": seq, "at_ms": at_ms, "hash": hash,
            "public_key": public_key,
        }))
    }

    /// As a line of an export.
    pub(crate) fn to_line(&self) -> Value {
        let mut line = json!(self);
        line["line"] = json!(LINE);
        line
    }

    fn is_signed_by(&self, trusted: &[String]) -> bool {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let key = trusted.contains(&self.public_key).then(|| decode(&self.public_key)).flatten();
        let key = key.and_then(|bytes| VerifyingKey::from_bytes(&bytes.try_into().ok()?).ok());
        let signature =
            decode(&self.signature).and_then(|bytes| Signature::from_slice(&bytes).ok());
        match (key, signature) {
            (Some(key), Some(signature)) => {
                key.verify_strict(self.message().as_bytes(), &signature).is_ok()
            }
            _ => false,
        }
    }
}

/// What is wrong with a chain.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainFault {
    /// The event's own hash does not fit what it says.
    Changed,
    /// Events are missing before it.
    Gap,
    /// A line is no event of the chain.
    Malformed,
    /// It stands behind an event that is not older.
    Order,
    /// It does not follow the event before, or not the chain that was signed.
    Rewritten,
    /// A checkpoint's signature does not verify under a trusted key.
    Signature,
    /// Its checkpoint is missing.
    Unsealed,
    /// It is named by a checkpoint and is gone, with everything after it.
    Truncated,
}

impl ChainFault {
    /// In words, for people.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Changed => "the event was changed after it was written",
            Self::Gap => "events before it are missing",
            Self::Malformed => "this is no event of the chain",
            Self::Order => "it is out of order",
            Self::Rewritten => "the chain up to it was written anew",
            Self::Signature => "a checkpoint is not signed by a trusted key",
            Self::Unsealed => "its checkpoint is missing",
            Self::Truncated => "it was signed and is gone: the end is cut off",
        }
    }
}

/// What walking a chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChainVerdict {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// The first event met.
    pub first_seq: Option<i64>,
    /// The last event met.
    pub last_seq: Option<i64>,
    /// The first event with which something is wrong.
    pub first_bad_seq: Option<i64>,
    /// What is wrong with it.
    pub fault: Option<ChainFault>,
    /// The last event up to which a checkpoint vouches for all.
    pub sealed_seq: Option<i64>,
}

/// A walk along one chain, from its first event.
pub(crate) struct Walk {
    /// Public keys whose checkpoints count.
    trusted: Vec<String>,
    seq: i64,
    hash: String,
    /// Checkpoints of events that are still to come.
    ahead: BTreeMap<i64, Checkpoint>,
    /// The newest event that must have a checkpoint and none was met for it yet.
    owing: Option<i64>,
    first_seq: Option<i64>,
    sealed_seq: Option<i64>,
    fault: Option<(i64, ChainFault)>,
}

impl Walk {
    pub(crate) fn new(trusted: Vec<String>) -> Walk {
        Walk {
            trusted,
            seq: 0,
            hash: GENESIS.to_owned(),
            ahead: BTreeMap::new(),
            owing: None,
            first_seq: None,
            sealed_seq: None,
            fault: None,
        }
    }

    /// The next event.
    pub(crate) fn event(&mut self, row: &AuditRow) {
        if let Some(owing) = self.owing.take() {
            self.wrong(owing, ChainFault::Unsealed);
        }
        let fault = if row.seq <= self.seq {
            Some(ChainFault::Order)
        } else if row.seq > self.seq + 1 {
            Some(ChainFault::Gap)
        } else if row.hash != row.computed_hash() {
            Some(ChainFault::Changed)
        } else if row.prev_hash != self.hash {
            Some(ChainFault::Rewritten)
        } else {
            None
        };
        if let Some(fault) = fault {
            self.wrong(row.seq, fault);
        }
        self.first_seq.get_or_insert(row.seq);
        (self.seq, self.hash) = (row.seq, row.hash.clone());
        match self.ahead.remove(&row.seq) {
            Some(checkpoint) => self.compare(&checkpoint),
            None => self.owing = is_sealed_at_once(row.seq).then_some(row.seq),
        }
    }

    /// A checkpoint of the event just met or of a later one.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        if !checkpoint.is_signed_by(&self.trusted) {
            return self.wrong(checkpoint.seq, ChainFault::Signature);
        }
        match checkpoint.seq.cmp(&self.seq) {
            std::cmp::Ordering::Less => self.wrong(checkpoint.seq, ChainFault::Order),
            std::cmp::Ordering::Equal => self.compare(&checkpoint),
            std::cmp::Ordering::Greater => {
                self.ahead.insert(checkpoint.seq, checkpoint);
            }
        }
    }

    fn compare(&mut self, checkpoint: &Checkpoint) {
        self.owing = self.owing.filter(|owing| *owing != checkpoint.seq);
        if checkpoint.hash != self.hash {
            return self.wrong(checkpoint.seq, ChainFault::Rewritten);
        }
        if self.fault.is_none() {
            self.sealed_seq = Some(checkpoint.seq);
        }
    }

    fn wrong(&mut self, seq: i64, fault: ChainFault) {
        self.fault.get_or_insert((seq, fault));
    }

    /// What was found, once there is nothing more to come.
    pub(crate) fn finish(mut self) -> ChainVerdict {
        if let Some(owing) = self.owing {
            self.wrong(owing, ChainFault::Unsealed);
        }
        if self.ahead.keys().any(|seq| *seq > self.seq) {
            self.wrong(self.seq + 1, ChainFault::Truncated);
        }
        ChainVerdict {
            ok: self.fault.is_none(),
            first_seq: self.first_seq,
            last_seq: self.first_seq.map(|_| self.seq),
            first_bad_seq: self.fault.map(|(seq, _)| seq),
            fault: self.fault.map(|(_, fault)| fault),
            sealed_seq: self.sealed_seq,
        }
    }
}

/// A walk along an export: events and checkpoints as JSON lines, in their order.
pub struct ExportWalk {
    walk: Walk,
    org_id: Option<String>,
    events: u64,
}

impl ExportWalk {
    /// Counts checkpoints under these public keys only, each as `feed-signing.pub` has it.
    pub fn new(trusted: Vec<String>) -> ExportWalk {
        ExportWalk { walk: Walk::new(trusted), org_id: None, events: 0 }
    }

    /// Lets a checkpoint that was kept elsewhere count too: its line of an earlier export. False if
    /// it is none.
    pub fn expect(&mut self, line: &[u8]) -> bool {
        let Some(checkpoint) = read_checkpoint(line) else { return false };
        self.walk.checkpoint(checkpoint);
        true
    }

    /// The next line.
    pub fn line(&mut self, line: &[u8]) {
        let next = self.walk.seq + 1;
        if let Some(checkpoint) = read_checkpoint(line) {
            return match self.belongs(&checkpoint.org_id) {
                true => self.walk.checkpoint(checkpoint),
                false => self.walk.wrong(checkpoint.seq, ChainFault::Malformed),
            };
        }
        match parse_strict(line).ok().as_ref().and_then(row_of_export) {
            Some(row) if self.belongs(&row.org_id) => {
                self.events += 1;
                self.walk.event(&row);
            }
            Some(_) | None => self.walk.wrong(next, ChainFault::Malformed),
        }
    }

    /// Events of one organization make a chain.
    fn belongs(&mut self, org_id: &str) -> bool {
        self.org_id.get_or_insert_with(|| org_id.to_owned()) == org_id
    }

    /// How many events there were so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// What was found, once there is nothing more to come.
    pub fn finish(self) -> ChainVerdict {
        self.walk.finish()
    }
}

fn read_checkpoint(line: &[u8]) -> Option<Checkpoint> {
    let value = parse_strict(line).ok()?;
    let is_checkpoint = value.get("line").and_then(Value::as_str) == Some(LINE);
    is_checkpoint.then(|| serde_json::from_value(value).ok()).flatten()
}

/// The row whose export this is. Members that the hash does not cover are not looked at.
fn row_of_export(event: &Value) -> Option<AuditRow> {
    let text = |pointer: &str| event.pointer(pointer)?.as_str().map(str::to_owned);
    let optional = |pointer: &str| match event.pointer(pointer)? {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        _ => None,
    };
    let object = |pointer: &str| match event.pointer(pointer)? {
        Value::Null => Some(None),
        value => Some(Some(canonical(value))),
    };
    // Digits that are cut off in reading are not covered by the hash, so they must be as we write.
    let written = text("/ts")?;
    let at = Stamp::parse(&written).filter(|stamp| stamp.to_string() == written)?;
    Some(AuditRow {
        org_id: text("/org_id")?,
        seq: event.pointer("/seq")?.as_i64()?,
        id: text("/id")?,
        at_ms: column(at.0),
        actor_kind: text("/actor/kind")?,
        actor_id: text("/actor/id")?,
        actor_name: text("/actor/username")?,
        actor_key_id: optional("/actor/key_id")?,
        actor_state: text("/principal_state_at_event")?,
        action: text("/action")?,
        target_kind: text("/target/kind")?,
        target_id: text("/target/id")?,
        target_name: text("/target/name")?,
        resource_id: optional("/resource_id")?,
        outcome: text("/outcome")?,
        reason: optional("/reason")?,
        ip: optional("/ip")?,
        user_agent: optional("/user_agent")?,
        request_id: optional("/request_id")?,
        before_json: object("/before")?,
        after_json: object("/after")?,
        prev_hash: text("/prev_hash")?,
        hash: text("/hash")?,
    })
}

#[cfg(test)]
mod tests;
