//! Session tokens: JSON Web Tokens in the profile of RFC 9068, signed with Ed25519, with ECDSA on
//! P-256 or with RSA. Both planes make and read them here, byte for byte alike.
//!
//! A token is read in one way only: three parts of strict base64url, a header of exactly `alg`,
//! `kid` and `typ`, every claim present once and of its exact type, no other. Nothing in a token is
//! believed before its signature was verified by the key that its `kid` names; that key's record,
//! not the token, says which algorithm counts. What a token says of an account is compared with the
//! live key afterwards, by whoever holds it.

mod claims;
mod rsa256;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use p256::ecdsa;
use p256::ecdsa::signature::Verifier as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::entropy::Entropy;
use crate::feed::{RecordFault, SignerAlg, SignerRecord, parse_strict};
use crate::time::WallMs;
use crate::verdict::DenyReason;

pub use claims::{Claims, Mode};
use rsa256::{RsaPrivate, RsaPublic};

/// What every token begins with: base64url of `{"`.
pub const BEGINNING: &str = "eyJ";
/// Longest token, in bytes.
pub const LONGEST: usize = 4096;
/// Longest life of a token, in seconds.
pub const LONGEST_LIFE_S: u64 = 3600;
/// How far a token may seem to have been issued in the future, in seconds.
const SKEW_S: u64 = 5;

const TYP: &str = "at+jwt";

/// A key that signs tokens.
pub struct SessionSigner {
    key: Private,
    kid: String,
}

/// Its private half.
enum Private {
    Ed25519(SigningKey),
    P256(ecdsa::SigningKey),
    Rsa(Box<RsaPrivate>),
}

impl SignerAlg {
    /// As the header of a token says it.
    pub fn as_str(self) -> &'static str {
        match self {
            SignerAlg::EdDsa => "EdDSA",
            SignerAlg::Es256 => "ES256",
            SignerAlg::Rs256 => "RS256",
        }
    }

    fn of_header(text: &str) -> Option<SignerAlg> {
        let all = [SignerAlg::EdDsa, SignerAlg::Es256, SignerAlg::Rs256];
        all.into_iter().find(|alg| alg.as_str() == text)
    }
}

impl SessionSigner {
    /// The signer of a 32-byte seed; `None` for the few that are no scalar of P-256, and for RS256,
    /// whose keys have no seed.
    pub fn from_seed(alg: SignerAlg, seed: &[u8; 32]) -> Option<SessionSigner> {
        match alg {
            SignerAlg::EdDsa => Some(Self::of(Private::Ed25519(SigningKey::from_bytes(seed)))),
            SignerAlg::Es256 => {
                ecdsa::SigningKey::from_slice(seed).ok().map(|key| Self::of(Private::P256(key)))
            }
            SignerAlg::Rs256 => None,
        }
    }

    /// The RS256 signer of an RSA key in PKCS#8 PEM; `None` unless it has 2048 to 4096 bits and the
    /// exponent 65537.
    pub fn from_pkcs8(pem: &str) -> Option<SessionSigner> {
        RsaPrivate::from_pkcs8(pem).map(|key| Self::of(Private::Rsa(Box::new(key))))
    }

    fn of(key: Private) -> SessionSigner {
        let mut signer = SessionSigner { key, kid: String::new() };
        signer.kid = thumbprint(&signer.required());
        signer
    }

    /// What it signs with.
    pub fn alg(&self) -> SignerAlg {
        match self.key {
            Private::Ed25519(_) => SignerAlg::EdDsa,
            Private::P256(_) => SignerAlg::Es256,
            Private::Rsa(_) => SignerAlg::Rs256,
        }
    }

    /// Its name: the JWK thumbprint of its public half (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its public half, base64url without padding.
    pub fn public(&self) -> String {
        match &self.key {
            Private::Ed25519(key) => URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes()),
            Private::P256(key) => {
                URL_SAFE_NO_PAD.encode(key.verifying_key().to_sec1_point(false).as_bytes())
            }
            Private::Rsa(key) => URL_SAFE_NO_PAD.encode(key.modulus()),
        }
    }

    /// A token with these claims; `None` if the random generator failed that RSA needs.
    pub fn sign(&self, claims: &Claims, entropy: &dyn Entropy) -> Option<Zeroizing<String>> {
        let header = json!({"alg": self.alg().as_str(), "kid": self.kid, "typ": TYP}).to_string();
        let payload = Zeroizing::new(claims.to_json().to_string());
        let mut text = Zeroizing::new(String::with_capacity(1024));
        URL_SAFE_NO_PAD.encode_string(header, &mut text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(payload.as_bytes(), &mut text);
        let signature = self.signature_of(text.as_bytes(), entropy)?;
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        Some(text)
    }

    /// All are deterministic: chance only blinds RSA's arithmetic.
    fn signature_of(&self, text: &[u8], entropy: &dyn Entropy) -> Option<Vec<u8>> {
        match &self.key {
            Private::Ed25519(key) => Some(key.sign(text).to_bytes().to_vec()),
            Private::P256(key) => {
                let signature: ecdsa::Signature = key.sign(text);
                Some(signature.to_bytes().to_vec())
            }
            Private::Rsa(key) => key.sign(text, entropy),
        }
    }

    /// The key as everybody may know it (RFC 7517, RFC 8037).
    pub fn jwk(&self) -> Value {
        let mut jwk = self.required();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg().as_str());
        jwk
    }

    /// The members of its JWK that make it this key.
    fn required(&self) -> Value {
        match &self.key {
            Private::Ed25519(_) => json!({"crv": "Ed25519", "kty": "OKP", "x": self.public()}),
            Private::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let (x, y) = point.as_bytes().get(1..).unwrap_or_default().split_at(32);
                let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                json!({"crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y)})
            }
            Private::Rsa(_) => json!({"e": "AQAB", "kty": "RSA", "n": self.public()}),
        }
    }
}

impl fmt::Debug for SessionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSigner")
    }
}

/// RFC 7638: of the required members, sorted and without blanks; which is how JSON is written here.
fn thumbprint(required: &Value) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(required.to_string()))
}

/// A key that tokens are verified with, and what they must say of themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    kid: Box<str>,
    key: Public,
    iss: Box<str>,
    aud: Box<str>,
    not_after: Option<WallMs>,
}

/// The public half of a signer; it alone says which algorithm counts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    Ed25519(Box<VerifyingKey>),
    P256(Box<ecdsa::VerifyingKey>),
    Rsa(Box<RsaPublic>),
}

impl Public {
    fn read(alg: SignerAlg, text: &str) -> Result<Public, RecordFault> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        match alg {
            SignerAlg::EdDsa => bytes
                .and_then(|bytes| bytes.try_into().ok())
                .and_then(|bytes: [u8; 32]| VerifyingKey::from_bytes(&bytes).ok())
                .filter(|key| !key.is_weak())
                .map(|key| Public::Ed25519(Box::new(key)))
                .ok_or_else(|| {
                    let allowed = "an Ed25519 public key, 43 characters of base64url";
                    RecordFault::at("public", allowed)
                }),
            SignerAlg::Es256 => bytes
                .filter(|bytes| bytes.len() == 65)
                .and_then(|bytes| ecdsa::VerifyingKey::from_sec1_bytes(&bytes).ok())
                .map(|key| Public::P256(Box::new(key)))
                .ok_or_else(|| {
                    let allowed = "an uncompressed point of P-256, 87 characters of base64url";
                    RecordFault::at("public", allowed)
                }),
            SignerAlg::Rs256 => bytes
                .and_then(|bytes| RsaPublic::from_modulus(&bytes))
                .map(|key| Public::Rsa(Box::new(key)))
                .ok_or_else(|| {
                    let allowed = "the modulus of an RSA key of 2048 to 4096 bits, in base64url";
                    RecordFault::at("public", allowed)
                }),
        }
    }

    /// Whether it made the signature, with its own algorithm and no other.
    fn has_signed(&self, signed: &[u8], (alg, bytes): (SignerAlg, &[u8])) -> bool {
        match (self, alg) {
            (Public::Ed25519(key), SignerAlg::EdDsa) => Signature::from_slice(bytes)
                .is_ok_and(|signature| key.verify_strict(signed, &signature).is_ok()),
            (Public::P256(key), SignerAlg::Es256) => ecdsa::Signature::from_slice(bytes)
                .is_ok_and(|signature| key.verify(signed, &signature).is_ok()),
            (Public::Rsa(key), SignerAlg::Rs256) => key.has_signed(signed, bytes),
            (Public::Ed25519(_), SignerAlg::Es256 | SignerAlg::Rs256)
            | (Public::P256(_), SignerAlg::EdDsa | SignerAlg::Rs256)
            | (Public::Rsa(_), SignerAlg::EdDsa | SignerAlg::Es256) => false,
        }
    }
}

impl Verifier {
    /// The verifier of a feed record.
    ///
    /// # Errors
    ///
    /// The member that is wrong and what is allowed there.
    pub fn of_record(kid: &str, record: &SignerRecord) -> Result<Verifier, RecordFault> {
        let SignerRecord { alg, public, iss, aud, not_after_ms } = record;
        let key = Public::read(*alg, public)?;
        if kid.is_empty() || iss.is_empty() || aud.is_empty() {
            return Err(RecordFault::at("iss, aud, id", "not empty"));
        }
        Ok(Verifier {
            kid: kid.into(),
            key,
            iss: iss.as_str().into(),
            aud: aud.as_str().into(),
            not_after: not_after_ms.map(WallMs),
        })
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What tokens must name among their audiences.
    pub fn aud(&self) -> &str {
        &self.aud
    }
}

/// A token as it was presented: well-formed, and nothing in it believed yet. Zeroized on drop.
pub struct Token {
    kid: Box<str>,
    text: Zeroizing<Box<[u8]>>,
    /// Bytes of the text that are signed.
    signed: usize,
    /// Where the payload begins.
    payload: usize,
    alg: SignerAlg,
    signature: Box<[u8]>,
}

/// A text that is no token of ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session token is `<header>.<claims>.<signature>` in base64url, at most {LONGEST} bytes")]
pub struct TokenError;

impl Token {
    /// Reads the form of a token and the name of its key.
    ///
    /// # Errors
    ///
    /// [`TokenError`] for anything but the one form that we make.
    pub fn parse(text: &[u8]) -> Result<Token, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError);
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError);
        };
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError);
        let signature = decode(signature)?.into_boxed_slice();
        let Ok(Value::Object(header_members)) = parse_strict(&decode(header)?) else {
            return Err(TokenError);
        };
        let member = |name: &str| header_members.get(name).and_then(Value::as_str);
        let alg = member("alg").and_then(SignerAlg::of_header);
        let (Some(alg), Some(TYP), Some(kid), 3) =
            (alg, member("typ"), member("kid"), header_members.len())
        else {
            return Err(TokenError);
        };
        Ok(Token {
            kid: kid.into(),
            signed: header.len() + 1 + claims.len(),
            payload: header.len() + 1,
            text: Zeroizing::new(text.into()),
            alg,
            signature,
        })
    }

    /// The name of the key that is said to have signed it.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Its claims, if the key signed them and they hold at this instant.
    ///
    /// # Errors
    ///
    /// `TokenInvalid`, `TokenExpired` or `Audience`.
    pub fn verify(&self, by: &Verifier, now: WallMs) -> Result<Claims, DenyReason> {
        let signed = self.text.get(..self.signed).unwrap_or_default();
        let valid = *self.kid == *by.kid && by.key.has_signed(signed, (self.alg, &self.signature));
        if !valid || by.not_after.is_some_and(|end| now >= end) {
            return Err(DenyReason::TokenInvalid);
        }
        let payload = signed.get(self.payload..).unwrap_or_default();
        let claims = URL_SAFE_NO_PAD
            .decode(payload)
            .ok()
            .map(Zeroizing::new)
            .and_then(|json| parse_strict(&json).ok())
            .and_then(Claims::of_json)
            .ok_or(DenyReason::TokenInvalid)?;
        let seconds = now.0 / 1000;
        if *claims.iss != *by.iss || claims.iat_s > seconds.saturating_add(SKEW_S) {
            return Err(DenyReason::TokenInvalid);
        }
        if now.0 >= claims.exp_s.saturating_mul(1000) {
            return Err(DenyReason::TokenExpired);
        }
        if !claims.aud.iter().any(|aud| **aud == *by.aud) {
            return Err(DenyReason::Audience);
        }
        Ok(claims)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests;
