//! The digest of a whole state: a sum over its records, so that it is kept up to date in constant
//! time per change and does not depend on order. It shows divergence, not attack.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Kind;

/// RFC 8785 form of a value that has ASCII member names and integers only, as the feed demands.
///
/// serde_json keeps members sorted and escapes exactly what RFC 8785 escapes, as long as its
/// `preserve_order` and `arbitrary_precision` features are off; a test holds both.
pub fn canonical(value: &Value) -> String {
    value.to_string()
}

/// One record's share of a [`StateDigest`]: the first 16 bytes of SHA-256 over
/// `kind 00 id 00 canonical record`, little-endian.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSum(pub u128);

impl RecordSum {
    /// The share of this record.
    pub fn of(kind: Kind, id: &str, record: &Value) -> Self {
        Self::of_canonical(kind, id, &canonical(record))
    }

    /// The share of a record of a kind that this build does not know.
    pub fn of_unknown(kind: &str, id: &str, record: &Value) -> Self {
        Self::of_texts(kind, id, &canonical(record))
    }

    /// The share of a record that is at hand in canonical form.
    pub fn of_canonical(kind: Kind, id: &str, canonical: &str) -> Self {
        Self::of_texts(kind.as_str(), id, canonical)
    }

    fn of_texts(kind: &str, id: &str, canonical: &str) -> Self {
        let hash = Sha256::new()
            .chain_update(kind)
            .chain_update([0])
            .chain_update(id)
            .chain_update([0])
            .chain_update(canonical)
            .finalize();
        let mut low = [0; 16];
        for (to, from) in low.iter_mut().zip(hash.iter()) {
            *to = *from;
        }
        Self(u128::from_le_bytes(low))
    }
}

/// Sum of the shares of all live records, modulo 2^128. Shown as 32 hex digits, most significant
/// first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StateDigest(pub u128);

impl StateDigest {
    /// Counts a record in.
    pub fn add(&mut self, sum: RecordSum) {
        self.0 = self.0.wrapping_add(sum.0);
    }

    /// Takes a record out.
    pub fn remove(&mut self, sum: RecordSum) {
        self.0 = self.0.wrapping_sub(sum.0);
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The text is not a state digest.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state digest is 32 lower-case hex digits")]
pub struct StateDigestError;

impl FromStr for StateDigest {
    type Err = StateDigestError;

    fn from_str(text: &str) -> Result<Self, StateDigestError> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 32 || !hex {
            return Err(StateDigestError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| StateDigestError)
    }
}
