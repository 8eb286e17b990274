//! Request ids: 32 hex digits from a generator of the worker's own. They tell requests apart, and
//! name the trace and the span of a request that brings no trace; they are not secret, and nothing
//! that is may be derived from one.

use std::cell::Cell;

use portcullis_core::entropy::{Entropy, EntropyFailure};

/// Digits of an id.
const DIGITS: usize = 32;
/// Both digits of every byte.
static PAIRS: [[u8; 2]; 256] = {
    let hex = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [hex[byte >> 4], hex[byte & 15]];
        byte += 1;
    }
    pairs
};

/// One request's id.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RequestId([u8; DIGITS]);

impl RequestId {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn digits(&self) -> [u8; DIGITS] {
        self.0
    }

    /// Its second half, which tells requests of one trace apart.
    pub(crate) fn half(&self) -> &[u8] {
        self.0.get(DIGITS / 2..).unwrap_or_default()
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A worker's source of ids.
pub(crate) struct RequestIds {
    state: Cell<u64>,
}

impl RequestIds {
    /// A source seeded from `entropy`.
    pub(crate) fn new(entropy: &dyn Entropy) -> Result<Self, EntropyFailure> {
        let mut seed = [0; 8];
        entropy.fill(&mut seed)?;
        Ok(Self { state: Cell::new(u64::from_le_bytes(seed)) })
    }

    /// A fresh id.
    pub(crate) fn next(&self) -> RequestId {
        let mut digits = [b'0'; DIGITS];
        for half in digits.chunks_exact_mut(16) {
            let bytes = self.random().to_be_bytes();
            for (pair, byte) in half.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&PAIRS[usize::from(byte)]);
            }
        }
        RequestId(digits)
    }

    /// True with probability `share`.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    pub(crate) fn chance(&self, share: f64) -> bool {
        share >= 1.0 || ((self.random() >> 11) as f64) / ((1_u64 << 53) as f64) < share
    }

    /// SplitMix64.
    fn random(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
            out.fill(7);
            Ok(())
        }
    }

    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let ids = RequestIds::new(&Sevens).unwrap();
        let seen: HashSet<String> = (0..1000).map(|_| ids.next().as_str().to_owned()).collect();
        assert_eq!(seen.len(), 1000);
        assert!(seen.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn an_id_has_the_digits_of_its_random_numbers() {
        let (ids, same) = (RequestIds::new(&Sevens).unwrap(), RequestIds::new(&Sevens).unwrap());
        let (first, second) = (same.random(), same.random());
        assert_eq!(ids.next().as_str(), format!("{first:016x}{second:016x}"));
    }

    #[test]
    fn chance_keeps_its_share() {
        let ids = RequestIds::new(&Sevens).unwrap();
        assert_eq!((0..1000).filter(|_| ids.chance(1.0)).count(), 1000);
        assert_eq!((0..1000).filter(|_| ids.chance(0.0)).count(), 0);
        assert!((400..600).contains(&(0..1000).filter(|_| ids.chance(0.5)).count()));
    }
}
