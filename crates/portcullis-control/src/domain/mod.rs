//! What the control plane does, one module per noun. Each operation works inside one
//! [`crate::store::Unit`] and keeps the records that gateways hold in step with the rows.
//!
//! Nothing here knows about HTTP. A refusal is a [`Problem`], which both the API and the audit log
//! understand.

pub(crate) mod accounts;
pub(crate) mod bindings;
pub(crate) mod explain;
pub(crate) mod groups;
pub(crate) mod imports;
pub(crate) mod keys;
pub(crate) mod legacy;
pub(crate) mod organizations;
pub(crate) mod policy;
pub(crate) mod rebuild;
pub(crate) mod records;
pub(crate) mod remedy;
pub(crate) mod resources;
pub(crate) mod retirement;
pub(crate) mod roles;
pub(crate) mod secrets;
pub(crate) mod security_policies;
pub(crate) mod sessions;
pub(crate) mod stakes;
pub(crate) mod usage;
pub(crate) mod users;

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::WallMs;
use serde::{Deserialize, Serialize};
use uuid::Builder;

pub(crate) use crate::api::problem::{Code, Problem};

/// A new UUIDv7: ordered by creation, unguessable within a millisecond.
pub(crate) fn new_id(now: WallMs, entropy: &dyn Entropy) -> Result<String, EntropyFailure> {
    let mut random = [0; 10];
    entropy.fill(&mut random)?;
    Ok(Builder::from_unix_timestamp_millis(now.0, &random).into_uuid().hyphenated().to_string())
}

/// Who made something; kept with it, and unaffected by what happens to the maker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Author {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) display: String,
}

impl Author {
    /// Somebody outside all organizations: the installation itself.
    pub(crate) fn system() -> Author {
        Author { kind: "system".into(), id: "system".into(), display: "Portcullis".into() }
    }

    pub(crate) fn to_column(&self) -> String {
        serde_json::to_string(self).expect("three strings are JSON")
    }

    pub(crate) fn of_column(column: &str) -> Author {
        serde_json::from_str(column).unwrap_or_else(|_| Author::system())
    }
}

/// How far a change reaches: what the caller may have to wait for (service-accounts.md 7).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Names and descriptions: nobody's access changes.
    Label,
    /// Something is withdrawn.
    Narrowing,
    /// Something is given.
    Widening,
}
