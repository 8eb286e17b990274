//! OrgPolicy: every point where the five products differ is a field here, and a profile presets
//! them all (service-accounts.md 3.2, 3.3). This module holds values and never acts on them.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use portcullis_core::access::Inheritance;
use portcullis_core::feed::OnStale;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What may be done to service accounts besides creating and editing them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccountOp {
    /// Brings `activate` with it.
    Deactivate,
    Delete,
    Revoke,
}

/// What may be done to keys besides creating and editing them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyOp {
    Delete,
    Revoke,
    Rotate,
    /// Activate and deactivate.
    Toggle,
}

/// What deactivating an account does to its keys.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeysOfInactive {
    Delete,
    Preserve,
}

/// What a rotation without `expires` does to the key's expiry.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RotateExpiry {
    Keep,
    Never,
}

/// How a key's value is written for its bearer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyRender {
    Native,
    Zenpro,
}

/// How a username is made from a display name.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UsernameFrom {
    Slug,
    Verbatim,
}

/// Whether a session token is checked again on each use.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenMode {
    Bound,
    Detached,
}

/// How a console asks before something is destroyed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ConfirmStyle {
    Click,
    Typed,
}

/// The policy of one organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrgPolicy {
    pub(crate) sa_ops: BTreeSet<AccountOp>,
    pub(crate) sa_deactivate_keys: KeysOfInactive,
    pub(crate) key_ops: BTreeSet<KeyOp>,
    pub(crate) rotate_max_retain_minutes: u32,
    pub(crate) rotate_expiry_default: RotateExpiry,
    pub(crate) max_keys_per_sa: Option<u32>,
    /// Seconds.
    pub(crate) key_ttl_default: Option<u64>,
    /// Seconds.
    pub(crate) key_ttl_max: Option<u64>,
    pub(crate) allow_never_expires: bool,
    pub(crate) key_render: KeyRender,
    #[serde(with = "inheritance_name")]
    pub(crate) inheritance: Inheritance,
    pub(crate) deny_enabled: bool,
    pub(crate) max_direct_roles_per_resource: Option<u32>,
    pub(crate) sa_forbidden_groups: BTreeSet<String>,
    pub(crate) sa_forbidden_roles: BTreeSet<String>,
    pub(crate) sa_warn_roles: BTreeSet<String>,
    pub(crate) username_from_name: UsernameFrom,
    pub(crate) username_reuse_after_delete: bool,
    pub(crate) session_token_mode: BTreeMap<String, TokenMode>,
    pub(crate) session_token_ttl: u32,
    pub(crate) detached_max_ttl: u32,
    pub(crate) sa_interactive_login: bool,
    pub(crate) confirm_style: ConfirmStyle,
    pub(crate) retire_after_days: u32,
    pub(crate) last_used_flush_s: u32,
    pub(crate) reveal_reason_to_client: bool,
    pub(crate) require_if_match: bool,
    /// Published only when `on_stale` limits something.
    pub(crate) max_staleness_s: u32,
    pub(crate) on_stale: OnStale,
    pub(crate) replay_secret_once: bool,
}

impl Default for OrgPolicy {
    /// The defaults of service-accounts.md 3.2, except that a gateway without contact serves on
    /// (docs/adr/0013).
    fn default() -> OrgPolicy {
        OrgPolicy {
            sa_ops: BTreeSet::from([AccountOp::Deactivate, AccountOp::Delete, AccountOp::Revoke]),
            sa_deactivate_keys: KeysOfInactive::Preserve,
            key_ops: BTreeSet::from([KeyOp::Delete, KeyOp::Revoke, KeyOp::Rotate, KeyOp::Toggle]),
            rotate_max_retain_minutes: 525_600,
            rotate_expiry_default: RotateExpiry::Keep,
            max_keys_per_sa: None,
            key_ttl_default: None,
            key_ttl_max: None,
            allow_never_expires: true,
            key_render: KeyRender::Native,
            inheritance: Inheritance::Override,
            deny_enabled: false,
            max_direct_roles_per_resource: None,
            sa_forbidden_groups: BTreeSet::new(),
            sa_forbidden_roles: BTreeSet::new(),
            sa_warn_roles: BTreeSet::new(),
            username_from_name: UsernameFrom::Slug,
            username_reuse_after_delete: true,
            session_token_mode: BTreeMap::new(),
            session_token_ttl: 3600,
            detached_max_ttl: 3600,
            sa_interactive_login: false,
            confirm_style: ConfirmStyle::Click,
            retire_after_days: 90,
            last_used_flush_s: 60,
            reveal_reason_to_client: false,
            require_if_match: false,
            max_staleness_s: 30,
            on_stale: OnStale::ServeRecorded,
            replay_secret_once: true,
        }
    }
}

impl OrgPolicy {
    /// The policy as it is stored.
    pub(crate) fn to_column(&self) -> String {
        serde_json::to_string(self).expect("a policy has only string keys")
    }
}

/// A change of a policy. Its members were checked one by one; what they mean together is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyPatch {
    /// Every field goes back to this preset first.
    pub(crate) profile: Option<Profile>,
    /// Fields of [`OrgPolicy`] with their new values.
    pub(crate) members: Map<String, Value>,
}

impl PolicyPatch {
    /// The profile and policy that the change makes of the present ones.
    pub(crate) fn applied_to(&self, profile: Profile, policy: &OrgPolicy) -> (Profile, OrgPolicy) {
        let base = match self.profile {
            Some(preset) => preset.policy(),
            None => policy.clone(),
        };
        let Value::Object(mut fields) = json!(base) else { unreachable!("a policy is an object") };
        for (name, wanted) in &self.members {
            match (fields.get_mut(name), wanted) {
                (Some(Value::Object(inner)), Value::Object(changes)) => {
                    inner.extend(changes.clone());
                    inner.retain(|_, value| !value.is_null());
                }
                _ => {
                    fields.insert(name.clone(), wanted.clone());
                }
            }
        }
        let changed = serde_json::from_value(Value::Object(fields));
        (self.profile.unwrap_or(profile), changed.expect("each member was checked by its field"))
    }
}

impl TryFrom<String> for OrgPolicy {
    type Error = serde_json::Error;

    fn try_from(column: String) -> Result<OrgPolicy, serde_json::Error> {
        serde_json::from_str(&column)
    }
}

/// A preset: one of the five products, or none of them.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Profile {
    Aihub,
    Castai,
    #[default]
    Default,
    Dezifi,
    Precisely,
    Zenml,
}

impl Profile {
    pub(crate) const ALL: [Profile; 6] = [
        Profile::Aihub,
        Profile::Castai,
        Profile::Default,
        Profile::Dezifi,
        Profile::Precisely,
        Profile::Zenml,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Profile::Aihub => "aihub",
            Profile::Castai => "castai",
            Profile::Default => "default",
            Profile::Dezifi => "dezifi",
            Profile::Precisely => "precisely",
            Profile::Zenml => "zenml",
        }
    }

    /// The preset of every field (service-accounts.md 3.3; `–` there is the default here).
    pub(crate) fn policy(self) -> OrgPolicy {
        let text = |id: &str| BTreeSet::from([id.to_owned()]);
        let base = OrgPolicy::default();
        match self {
            Profile::Aihub => OrgPolicy {
                sa_ops: BTreeSet::from([AccountOp::Deactivate, AccountOp::Delete]),
                sa_deactivate_keys: KeysOfInactive::Delete,
                key_ops: BTreeSet::from([KeyOp::Rotate, KeyOp::Delete]),
                rotate_max_retain_minutes: 0,
                rotate_expiry_default: RotateExpiry::Never,
                max_direct_roles_per_resource: Some(1),
                sa_warn_roles: text("admin"),
                confirm_style: ConfirmStyle::Typed,
                ..base
            },
            Profile::Castai => OrgPolicy {
                sa_ops: BTreeSet::from([AccountOp::Delete]),
                key_ops: BTreeSet::from([KeyOp::Toggle, KeyOp::Delete]),
                deny_enabled: true,
                max_direct_roles_per_resource: Some(1),
                sa_warn_roles: text("owner"),
                ..base
            },
            Profile::Default => base,
            Profile::Dezifi => OrgPolicy {
                sa_ops: BTreeSet::from([AccountOp::Revoke]),
                key_ops: BTreeSet::from([KeyOp::Revoke]),
                inheritance: Inheritance::Union,
                max_direct_roles_per_resource: Some(1),
                sa_warn_roles: text("admin"),
                ..base
            },
            Profile::Precisely => OrgPolicy {
                sa_ops: BTreeSet::from([AccountOp::Delete]),
                key_ops: BTreeSet::from([KeyOp::Rotate, KeyOp::Delete]),
                rotate_max_retain_minutes: 0,
                max_keys_per_sa: Some(2),
                inheritance: Inheritance::Union,
                sa_forbidden_groups: text("owner"),
                username_from_name: UsernameFrom::Verbatim,
                ..base
            },
            Profile::Zenml => OrgPolicy {
                sa_ops: BTreeSet::from([AccountOp::Deactivate, AccountOp::Delete]),
                key_ops: BTreeSet::from([KeyOp::Toggle, KeyOp::Rotate, KeyOp::Delete]),
                inheritance: Inheritance::Union,
                sa_warn_roles: text("admin"),
                session_token_mode: BTreeMap::from([("workspace".to_owned(), TokenMode::Detached)]),
                sa_interactive_login: true,
                key_render: KeyRender::Zenpro,
                ..base
            },
        }
    }
}

/// A text that names no profile.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a profile is one of aihub, castai, default, dezifi, precisely, zenml")]
pub(crate) struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        Profile::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or(UnknownProfile)
    }
}

/// Core's enum in its own words; core does not depend on serde for it.
mod inheritance_name {
    use portcullis_core::access::Inheritance;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        inheritance: &Inheritance,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(inheritance.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Inheritance, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{AccountOp, KeyOp, OnStale, OrgPolicy, Profile};

    #[test]
    fn every_profile_survives_the_store() {
        for profile in Profile::ALL {
            let policy = profile.policy();
            let read = OrgPolicy::try_from(policy.to_column());
            assert_eq!(read.ok(), Some(policy), "{}", profile.as_str());
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
    }

    #[test]
    fn no_profile_makes_traffic_depend_on_the_control_plane() {
        for profile in Profile::ALL {
            assert_eq!(profile.policy().on_stale, OnStale::ServeRecorded, "{}", profile.as_str());
        }
    }

    #[test]
    fn a_profile_differs_from_the_defaults_only_where_its_product_does() {
        let precisely = Profile::Precisely.policy();
        assert_eq!(precisely.max_keys_per_sa, Some(2));
        assert!(!precisely.key_ops.contains(&KeyOp::Toggle));
        let dezifi = Profile::Dezifi.policy();
        assert!(dezifi.sa_ops.contains(&AccountOp::Revoke));
        assert!(!dezifi.sa_ops.contains(&AccountOp::Delete));
        assert_eq!(Profile::Default.policy(), OrgPolicy::default());
    }
}
