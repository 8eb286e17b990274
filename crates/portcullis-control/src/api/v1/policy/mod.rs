//! `O/policy`: the fields of OrgPolicy and what each may be (service-accounts.md 3.2). The policy is
//! part of its organization and shares its version.

pub(super) mod read;
pub(super) mod update;

use serde_json::{Map, Value, json};

use crate::api::fields::{self, Faults, Fields};
use crate::api::problem::FieldCode;
use crate::api::readers::Reader;
use crate::instant::Stamp;
use crate::policy::{PolicyPatch, Profile};
use crate::store::organizations::OrganizationRow;

/// A hundred years, in seconds.
const LONGEST_TTL_S: u64 = 100 * 366 * 86_400;
/// Kinds of resources that a session token can be for.
const AUDIENCES: &[&str] = &["cluster", "custom", "organization", "project", "workspace"];

/// Every field with the values that it may have.
pub(in crate::api) fn readers() -> [(&'static str, Box<dyn Reader<Value = Value>>); 30] {
    use fields::{as_it_is as just, as_it_is_or_null as or_null, boolean, integer, one_of};
    [
        ("sa_ops", just(subset(&["deactivate", "delete", "revoke"]))),
        ("sa_deactivate_keys", just(one_of(&["delete", "preserve"]))),
        ("key_ops", just(subset(&["delete", "revoke", "rotate", "toggle"]))),
        ("rotate_max_retain_minutes", just(integer(0..=525_600))),
        ("rotate_expiry_default", just(one_of(&["keep", "never"]))),
        ("max_keys_per_sa", or_null(integer(1..=1_000_000))),
        ("key_ttl_default", or_null(integer(1..=LONGEST_TTL_S))),
        ("key_ttl_max", or_null(integer(1..=LONGEST_TTL_S))),
        ("allow_never_expires", just(boolean)),
        ("key_render", just(one_of(&["native", "zenpro"]))),
        ("inheritance", just(one_of(&["override", "union"]))),
        ("deny_enabled", just(boolean)),
        ("max_direct_roles_per_resource", or_null(integer(1..=1_000_000))),
        ("sa_forbidden_groups", just(ids())),
        ("sa_forbidden_roles", just(ids())),
        ("sa_warn_roles", just(ids())),
        ("username_from_name", just(one_of(&["slug", "verbatim"]))),
        ("username_reuse_after_delete", just(boolean)),
        ("session_token_mode", just(token_modes())),
        ("session_token_ttl", just(integer(60..=3600))),
        ("detached_max_ttl", just(integer(60..=3600))),
        ("sa_interactive_login", just(boolean)),
        ("confirm_style", just(one_of(&["click", "typed"]))),
        ("retire_after_days", just(integer(0..=36_500))),
        ("last_used_flush_s", just(integer(1..=3600))),
        ("reveal_reason_to_client", just(boolean)),
        ("require_if_match", just(boolean)),
        ("max_staleness_s", just(integer(1..=3600))),
        ("on_stale", just(one_of(&["fail_closed", "safe_methods", "serve_recorded"]))),
        ("replay_secret_once", just(boolean)),
    ]
}

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
    let profile = body.patched("profile", profile());
    let read: Vec<_> =
        readers().map(|(name, reader)| (name, body.checked(name, reader.as_ref()))).into();
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

/// The name of a preset.
pub(in crate::api::v1) fn profile() -> impl Reader<Value = Profile> {
    let names = Profile::ALL.map(Profile::as_str);
    fields::custom(json!({"type": "string", "enum": names}), |value| {
        let text = value.as_str().unwrap_or_default();
        text.parse::<Profile>().map_err(Faults::format)
    })
}

fn subset(words: &'static [&'static str]) -> impl Reader<Value = Vec<&'static str>> {
    fields::list(0..=words.len(), fields::one_of(words))
}

fn ids() -> impl Reader<Value = Vec<String>> {
    fields::list(0..=200, fields::id)
}

/// A member that is null returns its audience to the default, as merge patches do.
fn token_modes() -> impl Reader<Value = ()> {
    let mode = || fields::as_it_is_or_null(fields::one_of(&["bound", "detached"]));
    let schema: Map<String, Value> =
        AUDIENCES.iter().map(|audience| ((*audience).to_owned(), mode().schema())).collect();
    let schema = json!({"type": "object", "properties": schema, "additionalProperties": false});
    fields::custom(schema, move |value| {
        let Value::Object(modes) = value else {
            return Err(Faults::format("an object of audience kinds is wanted"));
        };
        for (audience, value) in modes {
            if !AUDIENCES.contains(&audience.as_str()) {
                let detail = format!("audience kinds are {}", AUDIENCES.join(", "));
                return Err(Faults::one(FieldCode::UnknownField, detail));
            }
            mode().read(value)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{patch, readers};
    use crate::api::fields::Fields;
    use crate::policy::{OrgPolicy, Profile};

    fn members(value: Value) -> Map<String, Value> {
        let Value::Object(members) = value else { panic!("an object") };
        members
    }

    #[test]
    fn every_field_of_the_policy_can_be_written_and_no_other() {
        let stored = members(json!(OrgPolicy::default()));
        let mut known: Vec<&str> = readers().map(|(name, _)| name).into();
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
