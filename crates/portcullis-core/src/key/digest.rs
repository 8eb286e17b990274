//! Keyed digests of secrets and the peppers they are keyed with. Digests are compared in constant
//! time and never printed; peppers leave memory only by being zeroized.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::HASHED_LEN;

/// BLAKE3, keyed with a pepper, over `<id>_<secret>`.
#[derive(Copy, Clone)]
pub struct Digest([u8; 32]);

impl Digest {
    /// A digest no key has: compared against where there is nothing to compare, so that a miss
    /// costs what a hit costs.
    pub const DUMMY: Digest = Digest([0; 32]);

    /// The digest with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both digests are equal, in time that does not depend on where they differ.
    pub fn matches(&self, other: &Digest) -> bool {
        // By words: the same guarantee as by bytes at an eighth of the steps.
        let [a, b]: [[u64; 4]; 2] = [bytemuck::cast(self.0), bytemuck::cast(other.0)];
        let differing = a.iter().zip(&b).fold(0, |differing, (a, b)| differing | (a ^ b));
        differing.ct_eq(&0).into()
    }

    /// 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
            text
        })
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    ///
    /// [`DigestTextError`] for any other text.
    pub fn from_hex(text: &str) -> Result<Self, DigestTextError> {
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(DigestTextError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let &[high, low] = pair else { return Err(DigestTextError) };
            *byte = (nibble(high)? << 4) | nibble(low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, DigestTextError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestTextError),
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

/// The text is not a digest.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hex digits")]
pub struct DigestTextError;

/// The secret that digests are keyed with; lives outside the database.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Pepper {
    version: u32,
    bytes: [u8; 32],
}

impl Pepper {
    /// The pepper with this version and these bytes.
    pub fn new(version: u32, bytes: [u8; 32]) -> Self {
        Self { version, bytes }
    }

    /// The number that records name it by.
    pub fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn digest(&self, hashed: &[u8; HASHED_LEN]) -> Digest {
        Digest(*blake3::keyed_hash(&self.bytes, hashed).as_bytes())
    }

    /// The same over `<id>_<secret>` where the secret has any length.
    pub(super) fn digest_parts(&self, id: &[u8], secret: &[u8]) -> Digest {
        let mut hasher = blake3::Hasher::new_keyed(&self.bytes);
        hasher.update(id).update(b"_").update(secret);
        Digest(*hasher.finalize().as_bytes())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.version)
    }
}

/// The peppers in force: the first is for new secrets, the others keep old records valid.
#[derive(Debug)]
pub struct PepperRing(Vec<Pepper>);

/// A ring of peppers that cannot be.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PepperRingError {
    /// Not 1 to 4 peppers.
    #[error("{0} peppers given, 1 to 4 are allowed")]
    Count(usize),
    /// Two peppers of one version.
    #[error("pepper {0} is given twice, every version is allowed once")]
    Repeated(u32),
}

impl PepperRing {
    /// Most peppers a ring holds.
    pub const MAX: usize = 4;

    /// A ring of 1 to 4 peppers of distinct versions, current first.
    ///
    /// # Errors
    ///
    /// [`PepperRingError`] otherwise.
    pub fn new(peppers: Vec<Pepper>) -> Result<Self, PepperRingError> {
        if peppers.is_empty() || peppers.len() > Self::MAX {
            return Err(PepperRingError::Count(peppers.len()));
        }
        for (place, pepper) in peppers.iter().enumerate() {
            if peppers.iter().take(place).any(|earlier| earlier.version == pepper.version) {
                return Err(PepperRingError::Repeated(pepper.version));
            }
        }
        Ok(Self(peppers))
    }

    /// The pepper for new secrets.
    pub fn current(&self) -> &Pepper {
        self.0.first().expect("a ring holds at least one pepper")
    }

    /// The pepper of this version.
    pub fn find(&self, version: u32) -> Option<&Pepper> {
        self.0.iter().find(|pepper| pepper.version == version)
    }
}
