//! The installation's keys for session tokens, and the name it issues them under. Holds them; says
//! nothing about who gets a token.

use std::sync::OnceLock;

use portcullis_core::entropy::Entropy;
use portcullis_core::feed::SignerRecord;
use portcullis_core::session::{Claims, SessionSigner, Token, Verifier};
use portcullis_core::time::WallMs;
use portcullis_core::verdict::DenyReason;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The keys and, once the listener's address is known, the issuer.
pub(crate) struct Sessions {
    /// The first one signs; all of them verify and are published.
    signers: Vec<SessionSigner>,
    settled: OnceLock<Settled>,
}

struct Settled {
    issuer: String,
    verifiers: Vec<Verifier>,
}

impl Sessions {
    pub(crate) fn new(signers: Vec<SessionSigner>, public_url: Option<String>) -> Sessions {
        let sessions = Sessions { signers, settled: OnceLock::new() };
        if let Some(issuer) = public_url {
            sessions.settle(issuer);
        }
        sessions
    }

    /// Takes the issuer's name, unless it has one.
    pub(crate) fn settle(&self, issuer: String) {
        let verifiers = self
            .signers
            .iter()
            .filter_map(|signer| Verifier::of_record(signer.kid(), &record(signer, &issuer)).ok())
            .collect();
        let _ = self.settled.set(Settled { issuer, verifiers });
    }

    /// Whether the issuer's name is known: it was configured, or something listens.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get().is_some()
    }

    /// What tokens name as their issuer and, unless they are for somebody else, as their audience.
    /// Empty before it is known.
    pub(crate) fn issuer(&self) -> &str {
        self.settled.get().map_or("", |settled| settled.issuer.as_str())
    }

    /// Whether cookies may travel over plain HTTP.
    pub(crate) fn is_plain(&self) -> bool {
        !self.issuer().starts_with("https://")
    }

    /// What gateways verify tokens with, by kid.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&str, SignerRecord)> {
        let issuer = self.issuer();
        self.signers.iter().map(move |signer| (signer.kid(), record(signer, issuer)))
    }

    /// The public keys (RFC 7517).
    pub(crate) fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.signers.iter().map(SessionSigner::jwk).collect();
        json!({"keys": keys})
    }

    /// A token with these claims; `None` without any key, or without the chance that it needs.
    pub(crate) fn sign(&self, claims: &Claims, entropy: &dyn Entropy) -> Option<Zeroizing<String>> {
        self.signers.first().and_then(|signer| signer.sign(claims, entropy))
    }

    /// The claims of a token of ours.
    pub(crate) fn verify(&self, token: &Token, now: WallMs) -> Result<Claims, DenyReason> {
        let verifiers = self.settled.get().map(|settled| settled.verifiers.as_slice());
        let found =
            verifiers.unwrap_or_default().iter().find(|verifier| verifier.kid() == token.kid());
        token.verify(found.ok_or(DenyReason::TokenInvalid)?, now)
    }
}

fn record(signer: &SessionSigner, issuer: &str) -> SignerRecord {
    SignerRecord {
        alg: signer.alg(),
        public: signer.public(),
        iss: issuer.to_owned(),
        aud: issuer.to_owned(),
        not_after_ms: None,
    }
}
