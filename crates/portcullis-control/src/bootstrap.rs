//! The first start: fills an empty database. It never touches one which is filled.

use portcullis_core::entropy::EntropyFailure;
use portcullis_core::key::PlainKey;

/// The three keys that exist after the first start. Each is shown here and nowhere else.
pub struct FirstTokens {
    /// Key of the owner of the organization `default`.
    pub admin: PlainKey,
    /// The installation operator's key.
    pub operator: PlainKey,
    /// What gateways present at the feed.
    pub gateway: PlainKey,
}

/// What [`crate::Control::bootstrap`] found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The database was filled before.
    Existing,
    /// The database was empty and is filled now.
    New,
}

/// Why a new database could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The caller could not store the tokens; nothing was committed.
    #[error("the first tokens could not be stored: {0}")]
    Deliver(#[source] std::io::Error),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyFailure),
    /// The database refused.
    #[error("the new database could not be filled: {0}")]
    Store(String),
}
