//! The feed's wire format, version 1: positions, records, changes and lines. What both planes, and
//! anybody's control plane, must agree on byte for byte lives here and nowhere else.

mod digest;
mod line;
mod record;
mod strict;

pub use digest::{RecordSum, StateDigest, canonical};
pub use line::{End, Header, Heartbeat, Line, LineError, Txn, parse_line, record_json};
pub(crate) use record::read;
pub use record::{
    AccountRecord, Alg, BlockMatch, BlockRecord, DigestRecord, KeyRecord, OnStale, OrgRecord,
    OrgState, PointRecord, PreviousRecord, RecordFault, ResourceRecord, RestrictRecord, RoleRecord,
    SetRecord, SignerAlg, SignerRecord, State,
};
pub use strict::{parse_distinct, parse_strict};

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format this build writes and reads.
pub const FORMAT: u64 = 1;

/// The longest line, in bytes without its newline.
pub const MAX_LINE: usize = 16 * 1024 * 1024;

/// A place in the one order of committed facts. `seq` rises by exactly 1 per transaction; `epoch`
/// rises only when history was rewritten by a restore.
#[derive(
    Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The lifetime of one history. Compared first.
    pub epoch: u64,
    /// The transaction within it.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.seq)
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What a record describes.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $variant,)* }

        impl Kind {
            /// Every kind, alphabetically.
            pub const ALL: &[Kind] = &[$(Kind::$variant),*];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl FromStr for Kind {
            type Err = KindError;

            fn from_str(text: &str) -> Result<Self, KindError> {
                match text { $($name => Ok(Self::$variant),)* _ => Err(KindError) }
            }
        }
    };
}

kinds! {
    /// A service account, or a user that owns keys.
    Account = "account";
    /// Something that is refused outright.
    Block = "block";
    /// An API key.
    Key = "key";
    /// An organization.
    Org = "org";
    /// A named set of limits.
    Plan = "plan";
    /// What of a quota is used.
    Quota = "quota";
    /// A node of an organization's resource tree.
    Resource = "resource";
    /// A named set of permissions.
    Role = "role";
    /// Grant points that several accounts share.
    Set = "set";
    /// A key that session tokens are signed with.
    Signer = "signer";
}

/// The text names no kind of record.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a kind is one of account, block, key, org, plan, quota, resource, role, set, signer")]
pub struct KindError;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Removes a record. Keys and accounts are revoked instead.
    Delete {
        /// What it describes.
        kind: Kind,
        /// Which one.
        id: String,
    },
    /// Replaces a whole record. Its content is judged when it is applied: a bad record refuses
    /// every other put and every delete of its transaction.
    Put {
        /// What it describes.
        kind: Kind,
        /// Which one.
        id: String,
        /// The whole record.
        record: Value,
    },
    /// Ends a key or an account for good. Carries nothing that could be malformed.
    Revoke {
        /// `key` or `account`.
        kind: Kind,
        /// Which one.
        id: String,
        /// When the tombstone may be forgotten, if known.
        expires_at_ms: Option<u64>,
    },
    /// Concerns a record of a kind that this build does not know. It cannot be applied, but counts
    /// in the digest.
    UnknownKind {
        /// What it describes.
        kind: String,
        /// Which one.
        id: String,
        /// The whole record; `None` = it goes.
        record: Option<Value>,
    },
    /// Does something that this build does not know. It cannot be applied.
    UnknownOp {
        /// What it does.
        op: String,
        /// What it describes.
        kind: String,
        /// Which one.
        id: String,
    },
}

impl Change {
    /// What it describes; `None` if it is unknown here what it is or what becomes of it.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Delete { kind, .. } | Self::Put { kind, .. } | Self::Revoke { kind, .. } => {
                Some(*kind)
            }
            Self::UnknownKind { .. } | Self::UnknownOp { .. } => None,
        }
    }

    /// Which one.
    pub fn id(&self) -> &str {
        match self {
            Self::Delete { id, .. }
            | Self::Put { id, .. }
            | Self::Revoke { id, .. }
            | Self::UnknownKind { id, .. }
            | Self::UnknownOp { id, .. } => id,
        }
    }
}

#[cfg(test)]
mod tests;
