//! What the control plane is started with, already validated; it never reads a file or the
//! environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use portcullis_core::key::{PepperRing, Prefix};
pub use portcullis_core::session::SessionSigner;

use crate::sealer::Sealer;

/// Everything the control plane is told by its assembly.
pub struct Settings {
    /// Address of the admin API and the feed; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The SQLite file; it is created if missing, its folder is not.
    pub database: PathBuf,
    /// Peppers for key digests; the first one is used for new secrets.
    pub peppers: Arc<PepperRing>,
    /// Prefix of new keys.
    pub prefix: Prefix,
    /// Seals secrets that an idempotent call may be given once more.
    pub sealer: Sealer,
    /// Signs the lines of the feed.
    pub signer: FeedSigner,
    /// Keys of session tokens: the first one signs, all of them verify.
    pub session_signers: Vec<SessionSigner>,
    /// What session tokens name as their issuer; `None` = `http://` and the address.
    pub public_url: Option<String>,
    /// How many committed changes a gateway may miss and still resume; older ones answer 410.
    pub change_log_length: u64,
    /// Up to this size the whole database is checked for damage before anything starts.
    pub integrity_check_bytes: u64,
}

impl Settings {
    /// Default of [`Settings::change_log_length`].
    pub const CHANGE_LOG_LENGTH: u64 = 100_000;
    /// Default of [`Settings::integrity_check_bytes`].
    pub const INTEGRITY_CHECK_BYTES: u64 = 256 << 20;
}

/// The Ed25519 key that signs `end`, `txn` and `heartbeat` lines.
pub struct FeedSigner(SigningKey);

impl FeedSigner {
    /// The signer of a 32-byte seed.
    pub fn from_seed(seed: &[u8; 32]) -> FeedSigner {
        FeedSigner(SigningKey::from_bytes(seed))
    }

    /// The public key as the gateway's `feed.verify_key` expects it: base64url without padding.
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes())
    }

    /// The signature over `message`, base64url without padding.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.0.sign(message).to_bytes())
    }
}

impl std::fmt::Debug for FeedSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FeedSigner")
    }
}
