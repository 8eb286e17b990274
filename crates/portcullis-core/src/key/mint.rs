//! Making plaintext keys. The only place where a plaintext is born.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{CRC_LEN, HASHED_LEN, KeyId, ParsedKey, Prefix, TAIL_LEN, base62};
use crate::entropy::{Entropy, EntropyFailure};

/// A freshly minted key in plaintext, to be handed over once. Zeroized on drop.
pub struct PlainKey {
    text: Zeroizing<String>,
    id: KeyId,
}

impl PlainKey {
    /// The whole text, for the one response or file it is handed over in.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The public id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The 49 characters after the id: secret and checksum.
    pub fn tail(&self) -> &str {
        self.last(TAIL_LEN)
    }

    /// The last four characters, kept for display.
    pub fn last4(&self) -> &str {
        self.last(4)
    }

    /// The key as a gateway sees it.
    pub fn parsed(&self) -> ParsedKey {
        super::parse(self.text.as_bytes()).expect("a minted key is well-formed")
    }

    fn last(&self, characters: usize) -> &str {
        self.text.get(self.text.len().saturating_sub(characters)..).unwrap_or_default()
    }
}

impl fmt::Debug for PlainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainKey")
    }
}

/// Mints a key with a new id.
///
/// # Errors
///
/// [`EntropyFailure`] if the generator fails; nothing is minted then.
pub fn mint(prefix: &Prefix, entropy: &dyn Entropy) -> Result<PlainKey, EntropyFailure> {
    let mut id = [0; 8];
    entropy.fill(&mut id)?;
    mint_for(KeyId::from_u64(u64::from_be_bytes(id)), prefix, entropy)
}

/// Mints a new secret for an existing id, as a rotation does.
///
/// # Errors
///
/// [`EntropyFailure`] if the generator fails; nothing is minted then.
pub fn mint_for(
    id: KeyId,
    prefix: &Prefix,
    entropy: &dyn Entropy,
) -> Result<PlainKey, EntropyFailure> {
    let mut secret = Zeroizing::new([0; 32]);
    entropy.fill(secret.as_mut())?;
    Ok(render(id, prefix, &secret))
}

pub(super) fn render(id: KeyId, prefix: &Prefix, secret: &[u8; 32]) -> PlainKey {
    let mut digits = base62::encode_secret(secret);
    // Sized up front: growing would leave a copy of the secret behind in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(Prefix::MAX + 1 + HASHED_LEN + CRC_LEN));
    text.push_str(prefix.as_str());
    text.push('_');
    text.extend(id.digits().map(char::from));
    text.push('_');
    text.extend(digits.iter().copied().map(char::from));
    digits.zeroize();
    let crc = crc32fast::hash(text.as_bytes());
    text.extend(base62::encode_crc(crc).map(char::from));
    PlainKey { text, id }
}
