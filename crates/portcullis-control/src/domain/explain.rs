//! Why something is allowed or refused: the same resolution as everywhere, with its steps. It only
//! reads.

use portcullis_core::access::{Permission, contributing};
use portcullis_core::account::{AccountState, Expiry, KeyState};
use portcullis_core::key::{ParsedKey, PepperRing};
use portcullis_core::time::WallMs;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::Problem;
use crate::caller::{self, SecretMatch};
use crate::instant::{Stamp, wall};
use crate::resolve::{Access, Restriction, bound_role, is_forbidden};
use crate::store::bindings::{self, BindingRow};
use crate::store::keys::KeyRow;
use crate::store::organizations::OrganizationRow;

/// What an explanation is about.
pub(crate) struct Question<'a> {
    pub(crate) org: &'a OrganizationRow,
    pub(crate) subject_id: &'a str,
    /// Whether owner and key, as far as asked about, are in force.
    pub(crate) in_force: bool,
    pub(crate) restriction: Option<Restriction>,
    pub(crate) resource_id: &'a str,
    pub(crate) permission: Option<&'a Permission>,
}

/// The permissions on a resource and the bindings that give them, or would.
pub(crate) async fn explain(
    conn: &mut SqliteConnection,
    question: Question<'_>,
) -> Result<Value, Problem> {
    let Question { org, subject_id, in_force, restriction, resource_id, permission } = question;
    let mut access = Access::of_subject(conn, subject_id, &org.policy).await?;
    access.locate(conn, &org.id, resource_id).await?;
    let access = access.narrowed(restriction.unwrap_or_default());
    let permissions = if in_force { access.permission_texts(resource_id) } else { Vec::new() };
    let allowed = permission.map(|needed| in_force && access.permits(needed, resource_id));

    let path: Vec<&str> = access.paths.up(resource_id).collect();
    let distance = |row: &BindingRow| path.iter().position(|up| *up == row.resource_id);
    let mut all = bindings::list_of_subject(conn, subject_id).await?;
    all.retain(|row| distance(row).is_some());
    all.sort_by_key(distance);
    let counted: Vec<_> =
        all.iter().filter(|row| !is_forbidden(row, &org.policy)).filter_map(bound_role).collect();
    let chosen = contributing(org.policy.inheritance, &counted, &access.paths, resource_id);
    let excluded = |row: &BindingRow| -> Option<&'static str> {
        let direct = row.resource_id == resource_id;
        let bound = bound_role(row)?;
        if is_forbidden(row, &org.policy) {
            Some("forbidden")
        } else if !direct && !bound.propagate {
            Some("not_propagated")
        } else if !chosen.contains(&bound) {
            Some("overridden")
        } else if access.restricts(&row.role_id, resource_id) {
            Some("restricted")
        } else {
            None
        }
    };
    let contributions: Vec<Value> = all
        .iter()
        .map(|row| {
            let excluded = excluded(row);
            json!({
                "binding_id": row.id,
                "subject": {"kind": row.subject_kind, "id": row.subject_id},
                "role_id": row.role_id,
                "resource_id": row.resource_id,
                "via": if row.resource_id == resource_id { "direct" } else { "inherited" },
                "policy_id": null,
                "sticky": bound_role(row).is_some_and(|bound| bound.sticky),
                "applied": excluded.is_none(),
                "excluded": excluded,
            })
        })
        .collect();
    let mut body = json!({"permissions": permissions, "contributions": contributions});
    if let (Some(allowed), Value::Object(members)) = (allowed, &mut body) {
        members.insert("allowed".to_owned(), json!(allowed));
    }
    Ok(body)
}

/// A key that is said not to work.
pub(crate) struct Suspect<'a> {
    pub(crate) org: &'a OrganizationRow,
    pub(crate) key: &'a KeyRow,
    /// Absent if only the id was given.
    pub(crate) presented: Option<&'a ParsedKey>,
}

/// The checks a key passes, or where it fails.
pub(crate) async fn diagnose(
    conn: &mut SqliteConnection,
    suspect: Suspect<'_>,
    peppers: &PepperRing,
    now: WallMs,
) -> Result<Value, Problem> {
    let Suspect { org, key, presented } = suspect;
    let owner = caller::find_owner(conn, key).await?;
    let secret = presented.map(|presented| caller::secret_of(key, presented, peppers, now));
    let mut checks = Vec::new();
    let mut reason: Option<&'static str> = None;
    let mut check = |name: &str, fault: Option<&'static str>, detail: String| {
        checks.push(json!({"check": name, "ok": fault.is_none(), "detail": detail}));
        reason = reason.or(fault);
    };
    check("format", None, "the value or id has the right form".to_owned());
    check("known", None, format!("key {} belongs to {}", key.id, owner.name));
    if let Some(secret) = secret {
        let (fault, detail) = match secret {
            SecretMatch::Current => (None, "it is the current secret"),
            SecretMatch::None => (Some("bad_secret"), "it is neither the current nor the last one"),
            SecretMatch::Retained => (None, "it is the secret before the last rotation"),
            SecretMatch::RetentionOver => (None, "it is the secret before the last rotation"),
        };
        check("secret", fault, detail.to_owned());
    }
    let state = key.state()?;
    let fault = match state {
        KeyState::Active => None,
        KeyState::Deleted | KeyState::Revoked => Some("key_revoked"),
        KeyState::Inactive => Some("key_inactive"),
    };
    check("key_state", fault, format!("the key is {state}"));
    let expiry = Expiry::from(key.expires_ms.map(wall));
    let detail = match expiry.at() {
        Some(at) => format!("it expires at {}", Stamp(at)),
        None => "it never expires".to_owned(),
    };
    check("expiry", expiry.is_past(now).then_some("key_expired"), detail);
    let over = secret == Some(SecretMatch::RetentionOver);
    let detail = match key.retained_until_ms {
        Some(ms) => format!("the last secret is retained until {}", Stamp::of_column(ms)),
        None => "no earlier secret is retained".to_owned(),
    };
    check("retention", over.then_some("retention_over"), detail);
    let fault = match owner.state {
        AccountState::Active => None,
        AccountState::Deleted | AccountState::Revoked => Some("sa_revoked"),
        AccountState::Inactive => Some("sa_inactive"),
    };
    check("owner_state", fault, format!("{} is {}", owner.name, owner.state));
    let suspended = org.state != OrganizationRow::ACTIVE;
    check("org_state", suspended.then_some("org_suspended"), format!("it is {}", org.state));
    Ok(json!({
        "usable": reason.is_none(),
        "reason": reason,
        "key_id": key.id,
        "checks": checks,
    }))
}
