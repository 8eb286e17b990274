//! A snapshot of the feed, from the first byte to the decision that it may be loaded: whole, of
//! the right cluster, neither truncated nor altered. Loads nothing itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use portcullis_core::directory::SnapshotRecord;
use portcullis_core::feed::{
    FORMAT, Header, Line, LineError, MAX_LINE, Position, RecordSum, StateDigest, canonical,
    parse_line, parse_strict,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A snapshot being read.
pub(crate) struct SnapshotReader<'k> {
    trust: Trust<'k>,
    header: Option<Header>,
    sha256: Sha256,
    digest: StateDigest,
    count: u64,
    /// Record lines as they came, each with its line end. Parsed again when they are loaded: a
    /// parsed record takes five times its text, and there may be ten million.
    records: Vec<u8>,
}

/// What a feed must show to be believed.
#[derive(Copy, Clone)]
pub(crate) struct Trust<'k> {
    /// The only cluster that is followed.
    pub(crate) cluster: Option<&'k str>,
    /// Every line that must be signed is checked against this key.
    pub(crate) verify_key: Option<&'k VerifyingKey>,
}

/// A whole snapshot that may be loaded.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) cluster: String,
    pub(crate) position: Position,
    records: Vec<u8>,
}

/// Why a snapshot is discarded as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SnapshotFault {
    #[error("the snapshot belongs to cluster {0:?}, not to ours")]
    Cluster(String),
    #[error("the snapshot has {found} records, its end says {said}")]
    Count { found: u64, said: u64 },
    #[error("the snapshot's digest does not fit its records")]
    Digest,
    #[error("the snapshot has format {0}, this build reads {FORMAT}")]
    Format(u64),
    #[error("line {0} of the snapshot: {1}")]
    Line(u64, LineError),
    #[error("line {0} of the snapshot is out of place")]
    Misplaced(u64),
    #[error("the snapshot's end names another position than its header")]
    Position,
    #[error("the snapshot's sha256 does not fit its bytes")]
    Sha256,
    #[error("the snapshot's signature does not verify")]
    Signature,
    #[error("the snapshot ends before its end line")]
    Truncated,
}

impl<'k> SnapshotReader<'k> {
    pub(crate) fn new(trust: Trust<'k>) -> Self {
        Self {
            trust,
            header: None,
            sha256: Sha256::new(),
            digest: StateDigest::default(),
            count: 0,
            records: Vec::new(),
        }
    }

    /// Takes one line; the result is the snapshot when this was the last one.
    pub(crate) fn take(mut self, line: &[u8]) -> Result<Progress<'k>, SnapshotFault> {
        let number = self.count + 1 + u64::from(self.header.is_some());
        let parsed = parse_line(line).map_err(|error| SnapshotFault::Line(number, error))?;
        match (parsed, &self.header) {
            (Line::Header(header), None) => {
                if header.format != FORMAT {
                    return Err(SnapshotFault::Format(header.format));
                }
                if self.trust.cluster.is_some_and(|cluster| cluster != header.cluster) {
                    return Err(SnapshotFault::Cluster(header.cluster));
                }
                self.header = Some(header);
            }
            (Line::Record { kind, id, record }, Some(_)) => {
                self.keep(RecordSum::of(kind, &id, &record), line);
            }
            (Line::Unknown { kind, id, record }, Some(_)) => {
                self.keep(RecordSum::of_unknown(&kind, &id, &record), line);
            }
            (Line::End(end), Some(header)) => {
                if end.position != header.position {
                    return Err(SnapshotFault::Position);
                }
                if end.count != self.count {
                    return Err(SnapshotFault::Count { found: self.count, said: end.count });
                }
                let sum = self.sha256.finalize();
                let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                if hex != end.sha256 {
                    return Err(SnapshotFault::Sha256);
                }
                if end.digest != self.digest {
                    return Err(SnapshotFault::Digest);
                }
                if !self.trust.accepts(line) {
                    return Err(SnapshotFault::Signature);
                }
                return Ok(Progress::Whole(Snapshot {
                    cluster: header.cluster.clone(),
                    position: header.position,
                    records: self.records,
                }));
            }
            (Line::End(_) | Line::Header(_) | Line::Record { .. } | Line::Unknown { .. }, _)
            | (Line::Heartbeat(_) | Line::Txn(_), _) => {
                return Err(SnapshotFault::Misplaced(number));
            }
        }
        self.sha256.update(line);
        self.sha256.update(b"\n");
        Ok(Progress::More(self))
    }

    fn keep(&mut self, sum: RecordSum, line: &[u8]) {
        self.digest.add(sum);
        self.count += 1;
        self.records.extend_from_slice(line);
        self.records.push(b'\n');
    }
}

/// A snapshot after one more line.
pub(crate) enum Progress<'k> {
    More(SnapshotReader<'k>),
    Whole(Snapshot),
}

impl Snapshot {
    /// Reads a whole snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotFault`] names the line and what is wrong.
    pub(crate) fn read(bytes: &[u8], trust: Trust<'_>) -> Result<Self, SnapshotFault> {
        let mut reader = SnapshotReader::new(trust);
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        for (line, number) in lines.by_ref().zip(1..) {
            if line.len() > MAX_LINE + 1 {
                return Err(SnapshotFault::Line(number, LineError::TooLong));
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            match reader.take(line)? {
                Progress::More(more) => reader = more,
                Progress::Whole(snapshot) if lines.next().is_none() => return Ok(snapshot),
                Progress::Whole(_) => return Err(SnapshotFault::Misplaced(number + 1)),
            }
        }
        Err(SnapshotFault::Truncated)
    }

    /// The records, in the order in which they came.
    pub(crate) fn records(&self) -> impl Iterator<Item = SnapshotRecord> {
        let lines = self.records.split(|byte| *byte == b'\n');
        lines.filter_map(|line| match parse_line(line) {
            Ok(Line::Record { kind, id, record }) => Some(SnapshotRecord::Known(kind, id, record)),
            Ok(Line::Unknown { kind, id, record }) => {
                Some(SnapshotRecord::Unknown { kind, id, record })
            }
            // Only the piece after the last line end: every line was parsed before.
            Ok(_) | Err(_) => None,
        })
    }
}

impl Trust<'_> {
    /// Whether a line that must be signed is, or need not be.
    pub(crate) fn accepts(self, line: &[u8]) -> bool {
        let Some(key) = self.verify_key else { return true };
        // The signature covers the line as it came, members unknown to this build included.
        let Ok(Value::Object(mut members)) = parse_strict(line) else { return false };
        let Some(Value::String(sig)) = members.remove("sig") else { return false };
        let Ok(sig) = URL_SAFE_NO_PAD.decode(sig) else { return false };
        let Ok(sig) = Signature::from_slice(&sig) else { return false };
        let signed = canonical(&Value::Object(members));
        key.verify_strict(signed.as_bytes(), &sig).is_ok()
    }
}

#[cfg(test)]
mod tests;
