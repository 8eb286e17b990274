//! The sealing of secrets that have to outlive their answer for a few minutes. The key lives in a
//! file beside the pepper and never in the database, so a copy of the database opens nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::key::Digest;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

const NONCE: usize = 24;

/// What seals, and what digests bodies that can hold secrets.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    digest_key: Zeroizing<[u8; 32]>,
}

impl Sealer {
    /// The sealer of a 32-byte key. Its two uses get keys of their own.
    pub fn new(key: &[u8; 32]) -> Sealer {
        let mut sealing = derived(key, "seal");
        let cipher = XChaCha20Poly1305::new(&Key::from(sealing));
        sealing.zeroize();
        Sealer { cipher, digest_key: Zeroizing::new(derived(key, "digest")) }
    }

    /// The text sealed for this context; it opens for no other.
    pub(crate) fn seal(
        &self,
        context: &str,
        text: &str,
        entropy: &dyn Entropy,
    ) -> Result<String, EntropyFailure> {
        let mut nonce = [0_u8; NONCE];
        entropy.fill(&mut nonce)?;
        let payload = Payload { msg: text.as_bytes(), aad: context.as_bytes() };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.expect("the cipher takes texts of up to 256 GiB"));
        Ok(STANDARD_NO_PAD.encode(bytes))
    }

    /// What was sealed for this context with this key.
    pub(crate) fn open(&self, context: &str, sealed: &str) -> Option<Zeroizing<String>> {
        let bytes = STANDARD_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let payload = Payload { msg: sealed, aad: context.as_bytes() };
        let text = self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()?;
        String::from_utf8(text).ok().map(Zeroizing::new)
    }

    /// A digest that tells two texts apart and without the key nothing about either. Hashed twice,
    /// as in [`crate::cursor`].
    pub(crate) fn digest(&self, parts: &[&[u8]]) -> String {
        let mut inner = Sha256::new().chain_update(*self.digest_key);
        for part in parts {
            inner.update(part.len().to_le_bytes());
            inner.update(part);
        }
        let outer = Sha256::new().chain_update(*self.digest_key).chain_update(inner.finalize());
        Digest::from_bytes(outer.finalize().into()).to_hex()
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

fn derived(key: &[u8; 32], purpose: &str) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update(key).finalize().into()
}

#[cfg(test)]
mod tests {
    use portcullis_core::entropy::{Entropy, EntropyFailure};

    use super::Sealer;

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
            out.fill(7);
            Ok(())
        }
    }

    #[test]
    fn what_is_sealed_opens_only_unaltered_in_its_context_and_with_its_key() {
        let sealer = Sealer::new(&[1; 32]);
        let Ok(sealed) = sealer.seal("here", "ptc_secret", &Sevens) else { panic!("sealed") };
        assert!(!sealed.contains("ptc"));
        let opened = sealer.open("here", &sealed).expect("opened");
        assert_eq!(opened.as_str(), "ptc_secret");
        assert_eq!(sealer.open("there", &sealed), None);
        assert_eq!(Sealer::new(&[2; 32]).open("here", &sealed), None);
        assert_eq!(sealer.open("here", &sealed.replacen(&sealed[40..41], "+", 1)), None);
        for foreign in ["", "AAAA", "%"] {
            assert_eq!(sealer.open("here", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn digests_tell_parts_apart_and_depend_on_the_key() {
        let sealer = Sealer::new(&[1; 32]);
        let digest = sealer.digest(&[b"ab", b"c"]);
        assert_eq!(digest, sealer.digest(&[b"ab", b"c"]));
        assert_ne!(digest, sealer.digest(&[b"a", b"bc"]));
        assert_ne!(digest, Sealer::new(&[2; 32]).digest(&[b"ab", b"c"]));
    }
}
