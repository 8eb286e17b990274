//! The records' members. Unknown members are ignored, for an older gateway must follow a newer
//! control plane; but an unknown name in `crit`, or an unknown word where the set is closed,
//! refuses the record, for then ignoring would grant more than was meant.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Whether an organization is served.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrgState {
    /// It is.
    Active,
    /// All its keys are refused.
    Suspended,
}

/// Whether an account or key is switched on. Revoked ones have no record.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Active,
    /// It is switched off and can be switched on again.
    Inactive,
}

/// What a gateway does that has been without contact for too long.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnStale {
    /// Answers 503.
    FailClosed,
    /// Serves GET, HEAD and OPTIONS.
    SafeMethods,
    /// Serves, and says so in the access record.
    #[default]
    ServeRecorded,
}

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrgRecord {
    /// Whether it is served.
    pub state: OrgState,
    /// Longest time without contact, if limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_staleness_ms: Option<u64>,
    /// What happens after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_stale: Option<OnStale>,
    /// Whether a caller that proved possession is told why it was refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reveal_reason: bool,
}

/// A node of the resource tree; its id is `org:kind/ref`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceRecord {
    /// `org` or `kind/ref`.
    pub parent: String,
    /// Only `read` passes. Always listed in `crit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archived: bool,
    /// Members a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// A role's permissions, and what it takes away where points of denial name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleRecord {
    /// Permission patterns.
    pub permissions: Vec<String>,
    /// Permission patterns. Always listed in `crit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Members a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// What is granted at a place: the first point met on the way from the resource to the root
/// decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointRecord {
    /// `org` or `kind/ref`.
    pub at: String,
    /// Permission patterns or `@role` at the place itself.
    #[serde(rename = "self")]
    pub self_: Vec<String>,
    /// Permission patterns or `@role` below it.
    pub below: Vec<String>,
}

/// Grant points that several accounts share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The organization.
    pub org: String,
    /// The points.
    pub points: Vec<PointRecord>,
    /// Points of denial. Always listed in `crit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<PointRecord>,
    /// Members a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// An account that owns keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRecord {
    /// Its organization.
    pub org: String,
    /// Whether it is switched on.
    pub state: State,
    /// Its name, for the upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Points of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<PointRecord>,
    /// Ids of shared sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Points of denial of its own: permission patterns, or `@role` for what the role denies, that
    /// are taken away whatever grants them. Listed in `crit`, also where only a set has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denials: Vec<PointRecord>,
    /// Members a reader must understand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
}

/// How a digest was made.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alg {
    /// BLAKE3, keyed with a pepper, over `<id>_<secret>`.
    B3,
    /// A bcrypt hash of an imported key's secret; found by the key's `uid`, and replaced at its
    /// first use.
    Bcrypt,
    /// SHA-256 of an imported key's secret: of its whole text, unless the key has a `uid`.
    Sha256,
}

/// The digest of the secret in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestRecord {
    /// How it was made.
    pub alg: Alg,
    /// The pepper's version, from 1; absent where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pepper: u32,
    /// 64 lower-case hex digits; for `bcrypt` its own form.
    pub digest: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The digest of the secret that a rotation replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousRecord {
    /// How it was made.
    pub alg: Alg,
    /// The pepper's version, from 1; absent where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pepper: u32,
    /// 64 lower-case hex digits; for `bcrypt` its own form.
    pub digest: String,
    /// It is accepted strictly before this instant.
    pub retained_until_ms: u64,
}

/// What a key is narrowed to; each member narrows if present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestrictRecord {
    /// Permission patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Vec<String>>,
    /// `org` or `kind/ref`: the resource or an ancestor must be among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<String>>,
    /// HTTP methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its account.
    pub account: String,
    /// Whether it is switched on.
    pub state: State,
    /// How many secrets it has had.
    pub generation: u32,
    /// The secret in force.
    pub current: DigestRecord,
    /// The replaced secret, while retained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousRecord>,
    /// Not accepted before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_ms: Option<u64>,
    /// Accepted strictly before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// What it is narrowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restrict: Option<RestrictRecord>,
    /// CIDRs it may be used from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// The client certificate it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Value>,
    /// The UUID in the key's rendering, unless it follows from the key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How session tokens are signed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignerAlg {
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).
    #[serde(rename = "ES256")]
    Es256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
    #[serde(rename = "RS256")]
    Rs256,
}

/// A key that session tokens are signed with; its id is the tokens' `kid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerRecord {
    /// The algorithm, whatever a token says.
    pub alg: SignerAlg,
    /// The public key, base64url without padding: 32 bytes, for ES256 the uncompressed point,
    /// for RS256 the modulus, whose exponent is 65537.
    pub public: String,
    /// What a token must name as its issuer.
    pub iss: String,
    /// What a token must name among its audiences.
    pub aud: String,
    /// Nothing it signed is accepted from this instant on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<u64>,
}

/// Something refused outright; exactly one member besides `until_ms` is present in `match`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// What is refused.
    #[serde(rename = "match")]
    pub matches: BlockMatch,
    /// Until when, if limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// What a block covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockMatch {
    /// An account.
    Account(String),
    /// A key.
    Key(String),
    /// An organization.
    Org(String),
    /// Every key with this prefix.
    Prefix(String),
    /// Every caller from this CIDR.
    Source(String),
}

/// Why a record was refused: the member and what is allowed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RecordFault(pub String);

impl RecordFault {
    /// A fault at `member`.
    pub fn at(member: &str, allowed: impl std::fmt::Display) -> Self {
        Self(format!("{member}: {allowed}"))
    }
}

/// Reads a record, after its `crit` names were found among `known`.
pub(crate) fn read<T: serde::de::DeserializeOwned>(
    record: &Value,
    known: &[&str],
) -> Result<T, RecordFault> {
    if let Some(crit) = record.get("crit") {
        let names = crit.as_array().ok_or_else(|| RecordFault::at("crit", "an array of names"))?;
        for name in names {
            let understood = name.as_str().is_some_and(|name| known.contains(&name));
            if !understood {
                return Err(RecordFault::at("crit", format_args!("{name} is not understood here")));
            }
        }
    }
    T::deserialize(record).map_err(|error| RecordFault(error.to_string()))
}
