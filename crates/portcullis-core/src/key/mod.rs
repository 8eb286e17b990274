//! API keys: minting, parsing and digests. A plaintext never leaves [`PlainKey`], [`ParsedKey`] or
//! [`ForeignKey`] except through [`PlainKey::expose`], [`PlainKey::tail`] and [`render_zenpro`],
//! and none of them can be cloned, printed or serialized.
//!
//! The text is `<prefix>_<id>_<secret><crc>`: prefix 2–16 of `[A-Za-z0-9]`, then big-endian base62
//! numbers (`0-9A-Za-z`, left-padded with `0`) of 64, 256 and 32 bits, 11, 43 and 6 digits wide.
//! The crc is CRC-32 (ISO-HDLC) of every byte before it: it catches typos and has no bearing on
//! security. What is stored is BLAKE3, keyed with a pepper, over the 55 bytes `<id>_<secret>`.

mod base62;
mod digest;
mod foreign;
mod mint;
mod parse;

pub use digest::{Digest, DigestTextError, Pepper, PepperRing, PepperRingError};
pub use foreign::{
    BcryptTextError, Finder, ForeignKey, Spelled, Spellings, Uid, UidError, check_bcrypt,
    is_importable, parse_halves, read, read_pair, render_zenpro,
};
pub use mint::{PlainKey, mint, mint_for};
pub use parse::{Malformed, ParsedKey, parse};

use std::fmt;
use std::str::FromStr;

/// Digits of a key id.
pub const ID_LEN: usize = 11;
/// Digits of a secret without its checksum.
pub const SECRET_LEN: usize = 43;
/// Digits of the checksum.
pub const CRC_LEN: usize = 6;
/// Digits of the tail that a client sees as "the secret": secret and checksum.
pub const TAIL_LEN: usize = SECRET_LEN + CRC_LEN;
/// Bytes that are hashed: `<id>_<secret>`, one BLAKE3 block.
pub const HASHED_LEN: usize = ID_LEN + 1 + SECRET_LEN;

/// The public part of a key: 64 random bits, written as 11 base62 digits.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// The id with this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number behind the digits.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The 11 digits, without allocating.
    pub fn digits(self) -> [u8; ID_LEN] {
        base62::encode_u64(self.0)
    }

    /// Reads 11 base62 digits; `None` for anything else, including a number over 64 bits.
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        base62::decode_id(digits).map(Self)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().iter().try_for_each(|&digit| fmt::Write::write_char(f, char::from(digit)))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a key id.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 11 characters of 0-9, A-Z, a-z and fits 64 bits")]
pub struct KeyIdError;

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        Self::from_digits(text.as_bytes()).ok_or(KeyIdError)
    }
}

/// What a key text begins with; names the installation, so that scanners can tell whose key leaked.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct Prefix {
    bytes: [u8; Prefix::MAX],
    len: u8,
}

impl Prefix {
    /// Longest prefix, in bytes.
    pub const MAX: usize = 16;
    /// Shortest prefix, in bytes.
    pub const MIN: usize = 2;

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII alphanumerics get past the constructor.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn from_bytes(text: &[u8]) -> Option<Self> {
        let fits = (Self::MIN..=Self::MAX).contains(&text.len());
        if !fits || !text.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes, len: u8::try_from(text.len()).ok()? })
    }
}

impl Default for Prefix {
    fn default() -> Self {
        let mut bytes = [0; Self::MAX];
        let [a, b, c, ..] = &mut bytes;
        (*a, *b, *c) = (b'p', b't', b'c');
        Self { bytes, len: 3 }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a key prefix.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key prefix is 2 to 16 characters of A-Z, a-z, 0-9")]
pub struct PrefixError;

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        Self::from_bytes(text.as_bytes()).ok_or(PrefixError)
    }
}

#[cfg(test)]
mod tests;
