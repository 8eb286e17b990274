//! `O/policy`: the fields of OrgPolicy and what each may be (service-accounts.md 3.2). The policy is
//! part of its organization and shares its version.

pub(super) mod read;
pub(super) mod update;

use serde_json::{Map, Value, json};

use crate::api::fields::{self, Faults, Fields};
use crate::api::problem::FieldCode;
use crate::instant::Stamp;
use crate::policy::{PolicyPatch, Profile};
use crate::store::organizations::OrganizationRow;

/// A hundred years, in seconds.
const LONGEST_TTL_S: u64 = 100 * 366 * 86_400;
/// Kinds of resources that a session token can be for.
const AUDIENCES: &[&str] = &["cluster", "custom", "organization", "project", "workspace"];

type Check = fn(&Value) -> Result<(), Faults>;

/// Every field with the values that it may have.
const FIELDS: &[(&str, Check)] = &[
    ("sa_ops", |value| subset(value, &["deactivate", "delete", "revoke"])),
    ("sa_deactivate_keys", |value| word(value, &["delete", "preserve"])),
    ("key_ops", |value| subset(value, &["delete", "revoke", "rotate", "toggle"])),
    ("rotate_max_retain_minutes", |value| number(value, 0..=525_600)),
    ("rotate_expiry_default", |value| word(value, &["keep", "never"])),
    ("max_keys_per_sa", |value| nullable(value, |value| number(value, 1..=1_000_000))),
    ("key_ttl_default", |value| nullable(value, |value| number(value, 1..=LONGEST_TTL_S))),
    ("key_ttl_max", |value| nullable(value, |value| number(value, 1..=LONGEST_TTL_S))),
    ("allow_never_expires", boolean),
    ("key_render", |value| word(value, &["native", "zenpro"])),
    ("inheritance", |value| word(value, &["override", "union"])),
    ("deny_enabled", boolean),
    ("max_direct_roles_per_resource", |value| {
        nullable(value, |value| number(value, 1..=1_000_000))
    }),
    ("sa_forbidden_groups", ids),
    ("sa_forbidden_roles", ids),
    ("sa_warn_roles", ids),
    ("username_from_name", |value| word(value, &["slug", "verbatim"])),
    ("username_reuse_after_delete", boolean),
    ("session_token_mode", token_modes),
    ("session_token_ttl", |value| number(value, 60..=3600)),
    ("detached_max_ttl", |value| number(value, 60..=3600)),
    ("sa_interactive_login", boolean),
    ("confirm_style", |value| word(value, &["click", "typed"])),
    ("retire_after_days", |value| number(value, 1..=36_500)),
    ("last_used_flush_s", |value| number(value, 1..=3600)),
    ("reveal_reason_to_client", boolean),
    ("require_if_match", boolean),
    ("max_staleness_s", |value| number(value, 1..=3600)),
    ("on_stale", |value| word(value, &["fail_closed", "safe_methods", "serve_recorded"])),
    ("replay_secret_once", boolean),
];

/// A policy as the API shows it.
pub(super) fn shown(org: &OrganizationRow) -> Value {
    let mut body = json!({
        "org_id": org.id,
        "profile": org.profile,
        "updated_at": Stamp::of_column(org.updated_ms),
        "version": org.version,
    });
    if let (Value::Object(members), Value::Object(fields)) = (&mut body, json!(org.policy)) {
        members.extend(fields);
    }
    body
}

/// What is to change: `{profile}` resets every field to its preset before the others apply.
pub(in crate::api::v1) fn patch(mut body: Fields) -> Result<PolicyPatch, Faults> {
    let profile = body.patched("profile", |value| {
        let text = value.as_str().unwrap_or_default();
        text.parse::<Profile>().map_err(Faults::format)
    });
    let read: Vec<_> =
        FIELDS.iter().map(|(name, check)| (*name, body.checked(name, check))).collect();
    body.read_only(&["org_id", "updated_at", "version"]);
    let complete = body.finish()?;
    let mut members = Map::new();
    for (name, field) in read {
        if let Some(value) = field.value(&complete) {
            members.insert(name.to_owned(), value);
        }
    }
    Ok(PolicyPatch { profile: profile.value(&complete), members })
}

fn boolean(value: &Value) -> Result<(), Faults> {
    fields::boolean(value).map(drop)
}

fn number(value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<(), Faults> {
    fields::integer(range)(value).map(drop)
}

fn word(value: &Value, words: &'static [&'static str]) -> Result<(), Faults> {
    fields::one_of(words)(value).map(drop)
}

fn subset(value: &Value, words: &'static [&'static str]) -> Result<(), Faults> {
    fields::list(0..=words.len(), |item| word(item, words))(value).map(drop)
}

fn ids(value: &Value) -> Result<(), Faults> {
    fields::list(0..=200, fields::id)(value).map(drop)
}

fn nullable(value: &Value, check: Check) -> Result<(), Faults> {
    if value.is_null() { Ok(()) } else { check(value) }
}

/// A member that is null returns its audience to the default, as merge patches do.
fn token_modes(value: &Value) -> Result<(), Faults> {
    let Value::Object(modes) = value else {
        return Err(Faults::format("an object of audience kinds is wanted"));
    };
    for (audience, mode) in modes {
        if !AUDIENCES.contains(&audience.as_str()) {
            let detail = format!("audience kinds are {}", AUDIENCES.join(", "));
            return Err(Faults::one(FieldCode::UnknownField, detail));
        }
        nullable(mode, |mode| word(mode, &["bound", "detached"]))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{FIELDS, patch};
    use crate::api::fields::Fields;
    use crate::policy::{OrgPolicy, Profile};

    fn members(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("an object") };
        members
    }

    #[test]
    fn every_field_of_the_policy_can_be_written_and_no_other() {
        let stored = members(json!(OrgPolicy::default()));
        let mut known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        known.sort_unstable();
        let mut fields: Vec<&str> = stored.keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(known, fields);
    }

    #[test]
    fn what_a_profile_presets_passes_the_checks_and_comes_out_the_same() {
        for profile in Profile::ALL {
            let preset = members(json!(profile.policy()));
            let Ok(change) = patch(Fields::new(preset)) else { panic!("{}", profile.as_str()) };
            let other = Profile::Default.policy();
            assert_eq!(change.applied_to(Profile::Default, &other).1, profile.policy());
        }
    }
}
