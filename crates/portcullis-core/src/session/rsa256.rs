//! RSA for RS256: keys of 2048 to 4096 bits with the exponent 65537, which is what validators take and
//! what their owners make. Everybody else's numbers are refused before anything is computed with them.
//!
//! Signing takes the same time whatever the key is, and is blinded besides; that is why this is
//! `rsa` 0.10, which no earlier version was (RUSTSEC-2023-0071). Nothing is ever decrypted.

use std::ops::RangeInclusive;

use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::sha2::{Digest as _, Sha256};
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, Pkcs1v15Sign, PrivateKey, PublicKey};

use crate::entropy::{Entropy, EntropyFailure};

/// Bytes of a modulus and of a signature.
const BYTES: RangeInclusive<usize> = 256..=512;
/// The exponent of every key.
const EXPONENT: u32 = 65_537;

/// The private half. Zeroized on drop.
pub(super) struct RsaPrivate(PrivateKey);

impl RsaPrivate {
    pub(super) fn from_pkcs8(pem: &str) -> Option<RsaPrivate> {
        let key = PrivateKey::from_pkcs8_pem(pem).ok()?;
        let is_usual = *key.e() == BoxedUint::from(EXPONENT);
        RsaPublic::from_modulus(&key.n_bytes()).filter(|_| is_usual).map(|_| RsaPrivate(key))
    }

    /// The modulus, most significant byte first.
    pub(super) fn modulus(&self) -> Box<[u8]> {
        self.0.n_bytes()
    }

    /// The signature of a text; `None` if the random generator failed.
    pub(super) fn sign(&self, text: &[u8], entropy: &dyn Entropy) -> Option<Vec<u8>> {
        let hash = Sha256::digest(text);
        self.0.sign_with_rng(&mut Blinding(entropy), scheme(), &hash).ok()
    }
}

/// The public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RsaPublic(PublicKey);

impl RsaPublic {
    /// The key with this modulus, if its first byte is used in full: another size has no use.
    pub(super) fn from_modulus(modulus: &[u8]) -> Option<RsaPublic> {
        if !BYTES.contains(&modulus.len()) || modulus.first().is_none_or(|byte| *byte < 0x80) {
            return None;
        }
        let bits = u32::try_from(modulus.len() * 8).ok()?;
        let modulus = BoxedUint::from_be_slice(modulus, bits).ok()?;
        PublicKey::new(modulus, BoxedUint::from(EXPONENT)).ok().map(RsaPublic)
    }

    pub(super) fn has_signed(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.verify(scheme(), &Sha256::digest(text), signature).is_ok()
    }
}

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign::new::<Sha256>()
}

/// Our random generator as `rsa` asks for one.
struct Blinding<'e>(&'e dyn Entropy);

impl TryRng for Blinding<'_> {
    type Error = EntropyFailure;

    fn try_next_u32(&mut self) -> Result<u32, EntropyFailure> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, EntropyFailure> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        self.0.fill(out)
    }
}

impl TryCryptoRng for Blinding<'_> {}
