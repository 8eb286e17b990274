//! Reading a presented key. Every cheap refusal comes before any hash: shape, alphabet, width and
//! checksum are decided here, so that random bytes cost nothing downstream.

use std::fmt;

use zeroize::ZeroizeOnDrop;

use super::{
    CRC_LEN, Digest, HASHED_LEN, ID_LEN, KeyId, Pepper, Prefix, SECRET_LEN, TAIL_LEN, base62,
};

/// A well-formed key as presented: its id and the bytes to hash, not its text. Zeroized on drop.
#[derive(ZeroizeOnDrop)]
pub struct ParsedKey {
    #[zeroize(skip)]
    prefix: Prefix,
    #[zeroize(skip)]
    id: KeyId,
    /// The bytes to hash, in words: they are wiped eight at a time.
    hashed: [u64; WORDS],
}

const WORDS: usize = HASHED_LEN.div_ceil(8);

impl ParsedKey {
    /// The prefix it came with.
    pub fn prefix(&self) -> Prefix {
        self.prefix
    }

    /// Its public id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The digest under this pepper.
    pub fn digest(&self, pepper: &Pepper) -> Digest {
        let bytes = bytemuck::bytes_of(&self.hashed);
        pepper.digest(bytes.first_chunk().expect("the words hold all hashed bytes"))
    }
}

impl fmt::Debug for ParsedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParsedKey({})", self.id)
    }
}

/// Why a text is not a key. None of these depends on a secret being right.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// A byte outside base62 in id, secret or checksum.
    #[error("id, secret and checksum are characters of 0-9, A-Z, a-z")]
    Alphabet,
    /// The checksum is not that of the text: most likely a typo or a cut-off copy.
    #[error("the checksum does not fit: the key was mistyped or not copied whole")]
    Checksum,
    /// Too short or too long for any prefix.
    #[error("a key has 64 to 78 characters: a prefix of 2 to 16, `_`, 11, `_`, 49")]
    Length,
    /// The prefix has a character that is not alphanumeric, or is too short or too long.
    #[error("a key begins with a prefix of 2 to 16 characters of A-Z, a-z, 0-9")]
    Prefix,
    /// A foreign spelling that cannot be read.
    #[error(
        "after `ZENPROKEY_` or `ZENKEY_` comes base64 of {{\"id\":\"<uuid>\",\"key\":\"<secret>\"}}"
    )]
    Rendering,
    /// The underscores are not where they belong.
    #[error("a key is `<prefix>_<id>_<secret and checksum>`")]
    Shape,
    /// A part is a number that exceeds its bits.
    #[error("a part of the key exceeds its width: id 64, secret 256, checksum 32 bits")]
    Width,
}

/// Bytes after the prefix: `_<id>_<secret><crc>`.
const AFTER_PREFIX: usize = 1 + ID_LEN + 1 + TAIL_LEN;

/// Reads a key text. Allocates nothing and hashes nothing.
///
/// # Errors
///
/// [`Malformed`] names the first rule the text breaks.
pub fn parse(text: &[u8]) -> Result<ParsedKey, Malformed> {
    let prefix_len = text.len().checked_sub(AFTER_PREFIX).ok_or(Malformed::Length)?;
    if !(Prefix::MIN..=Prefix::MAX).contains(&prefix_len) {
        return Err(Malformed::Length);
    }
    let (before_crc, crc) = text.split_at(text.len() - CRC_LEN);
    let (prefix, rest) = before_crc.split_at(prefix_len);
    let [b'_', hashed @ ..] = rest else { return Err(Malformed::Shape) };
    let hashed: &[u8; HASHED_LEN] = hashed.try_into().map_err(|_| Malformed::Length)?;
    let (id, rest) = hashed.split_at(ID_LEN);
    let [b'_', secret @ ..] = rest else { return Err(Malformed::Shape) };
    let secret: &[u8; SECRET_LEN] = secret.try_into().map_err(|_| Malformed::Length)?;

    let prefix = Prefix::from_bytes(prefix).ok_or(Malformed::Prefix)?;
    if !base62::all_digits(id) || !base62::all_digits(secret) || !base62::all_digits(crc) {
        return Err(Malformed::Alphabet);
    }
    let id = base62::decode_id(id).ok_or(Malformed::Width)?;
    let crc = base62::decode_crc(crc).ok_or(Malformed::Width)?;
    if !base62::secret_fits(secret) {
        return Err(Malformed::Width);
    }
    if crc32fast::hash(before_crc) != crc {
        return Err(Malformed::Checksum);
    }
    let mut parsed = ParsedKey { prefix, id: KeyId::from_u64(id), hashed: [0; WORDS] };
    if let Some(bytes) = bytemuck::bytes_of_mut(&mut parsed.hashed).first_chunk_mut() {
        *bytes = *hashed;
    }
    Ok(parsed)
}
