//! Objects as the API and the audit log show them. None contains a digest, a pepper or a secret.

use portcullis_core::access::BuiltinRole;
use portcullis_core::account::{AccountState, Expiry, KeyState, OrgState, age_days, usable};
use portcullis_core::time::WallMs;
use serde_json::{Value, json};

use super::problem::Problem;
use crate::domain::Author;
use crate::instant::{Stamp, wall};
use crate::publisher::GatewayStatus;
use crate::resolve::texts;
use crate::store::accounts::AccountRow;
use crate::store::audit::AuditRow;
use crate::store::bindings::BindingRow;
use crate::store::groups::{GroupRow, MembershipRow};
use crate::store::keys::KeyRow;
use crate::store::organizations::OrganizationRow;
use crate::store::resources::ResourceRow;
use crate::store::roles::RoleRow;
use crate::store::security_policies::{PolicyCounts, SecurityPolicyRow};
use crate::store::users::UserRow;

/// Milliseconds of an hour.
pub(crate) const HOUR_MS: i64 = 3_600_000;

pub(crate) fn organization(row: &OrganizationRow) -> Value {
    json!({
        "id": row.id,
        "name": row.name,
        "plan": row.plan,
        "entitlements": {"service_accounts": row.allows_accounts},
        "profile": row.profile,
        "policy": row.policy,
        "root_resource_id": row.root_resource_id,
        "owner_group_id": row.owner_group_id,
        "state": row.state,
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

/// `above` is the resource and everything above it, nearest first.
pub(crate) fn resource(row: &ResourceRow, above: &[ResourceRow]) -> Value {
    let path: Vec<&str> = above.iter().rev().map(|up| up.id.as_str()).collect();
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "parent_id": row.parent_id,
        "kind": row.kind,
        "name": row.name,
        "ref": row.reference,
        "path": path,
        "state": row.state,
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

/// A removed user is a tombstone: the name, and who removed it when.
pub(crate) fn user(row: &UserRow) -> Value {
    if !row.is_active() {
        return json!({
            "id": row.id,
            "org_id": row.org_id,
            "username": row.username,
            "state": row.state,
            "seat": false,
            "removed_at": row.removed_ms.map(Stamp::of_column),
            "removed_by": row.removed_by.as_deref().map(Author::of_column),
            "version": row.version,
        });
    }
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "username": row.username,
        "email": row.email,
        "state": row.state,
        "seat": true,
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

/// A deleted account is a tombstone: its names, and who deleted it when.
pub(crate) fn account(row: &AccountRow, key_count: i64) -> Value {
    let stamp = |ms: Option<i64>| ms.map(Stamp::of_column);
    let author = |column: &Option<String>| column.as_deref().map(Author::of_column);
    if row.state == AccountState::Deleted.as_str() {
        return json!({
            "id": row.id,
            "org_id": row.org_id,
            "username": row.username,
            "display_name": row.display_name,
            "state": row.state,
            "deleted_at": stamp(row.deleted_ms),
            "deleted_by": author(&row.deleted_by),
            "version": row.version,
        });
    }
    let external_refs: Value = serde_json::from_str(&row.external_refs).unwrap_or_default();
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "username": row.username,
        "display_name": row.display_name,
        "description": row.description,
        "owning_team": row.owning_team,
        "avatar_url": row.avatar_url,
        "state": row.state,
        "is_bot": true,
        "author": Author::of_column(&row.author),
        "managed_by": row.managed_by,
        "external_refs": external_refs,
        "key_count": key_count,
        "last_used_at": stamp(row.last_used_ms),
        "last_used_ip": row.last_used_ip,
        "use_count": row.use_count,
        "denied_count": row.denied_count,
        "last_login_at": stamp(row.last_login_ms),
        "deactivated_at": stamp(row.deactivated_ms),
        "deactivated_by": author(&row.deactivated_by),
        "revoked_at": stamp(row.revoked_ms),
        "revoked_by": author(&row.revoked_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

/// What a key's derived fields depend on besides its row.
#[derive(Copy, Clone, Debug)]
pub(crate) struct KeyContext<'a> {
    pub(crate) org: &'a OrganizationRow,
    pub(crate) owner: AccountState,
    pub(crate) now: WallMs,
}

pub(crate) fn key(row: &KeyRow, context: KeyContext<'_>) -> Result<Value, Problem> {
    let KeyContext { org, owner, now } = context;
    let stamp = |ms: Option<i64>| ms.map(Stamp::of_column);
    let state: KeyState = row.state()?;
    let expiry = Expiry::from(row.expires_ms.map(wall));
    let org_state = match org.serves(&row.owner_kind) {
        true => OrgState::Active,
        false => OrgState::Suspended,
    };
    let age = age_days(wall(row.created_ms), row.last_rotated_ms.map(wall), now);
    let previous = row.retained_until_ms.filter(|until| now < wall(*until)).map(|until| {
        json!({
            "generation": row.generation - 1,
            "retained_until": Stamp::of_column(until),
            "last_used_at": stamp(row.previous_used_ms),
            "retire_after_quiet_hours": row.retire_quiet_ms.map(|ms| ms / HOUR_MS),
        })
    });
    // Of a secret that was made elsewhere there is nothing to hint at.
    let hint = (!row.last4.is_empty())
        .then(|| json!({"prefix": format!("{}_{}", row.prefix, row.id), "last4": row.last4}));
    let restriction: Option<Value> =
        row.restriction.as_deref().and_then(|text| serde_json::from_str(text).ok());
    Ok(json!({
        "id": row.id,
        "uid": row.uid,
        "org_id": row.org_id,
        "owner": {"kind": row.owner_kind, "id": row.owner_id},
        "name": row.name,
        "description": row.description,
        "state": row.state,
        "expires_at": stamp(row.expires_ms),
        "generation": row.generation,
        "current": {
            "created_at": Stamp::of_column(row.current_created_ms),
            "last_used_at": stamp(row.current_used_ms),
        },
        "previous": previous,
        "hint": hint,
        "style": row.style,
        "alg": row.current_alg,
        "restriction": restriction,
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "last_used_at": stamp(row.last_used_ms),
        "last_used_ip": row.last_used_ip,
        "last_login_at": stamp(row.last_login_ms),
        "last_rotated_at": stamp(row.last_rotated_ms),
        "use_count": row.use_count,
        "denied_count": row.denied_count,
        "expired": expiry.is_past(now),
        "usable": usable(state, expiry, owner, org_state, now),
        "age_days": age,
        "stale": age >= u64::from(org.policy.retire_after_days),
        "version": row.version,
    }))
}

pub(crate) fn built_in_role(role: &BuiltinRole) -> Value {
    json!({
        "id": role.id,
        "org_id": null,
        "name": role.label,
        "description": role.description,
        "base_role_id": null,
        "permissions": role.permissions,
        "deny": [],
        "level": role.level,
        "sticky": role.sticky,
        "sa_assignable": true,
        "binding_kinds": role.binding_kinds,
        "built_in": true,
        "deprecated": false,
        "version": 1,
    })
}

pub(crate) fn role(row: &RoleRow) -> Value {
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "name": row.name,
        "description": row.description,
        "base_role_id": row.base_role_id,
        "permissions": texts(&row.permissions),
        "deny": texts(&row.deny),
        "level": row.level,
        "sticky": row.sticky,
        "sa_assignable": row.sa_assignable,
        "binding_kinds": texts(&row.binding_kinds),
        "built_in": false,
        "deprecated": false,
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

pub(crate) fn group(row: &GroupRow, member_count: i64) -> Value {
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "name": row.name,
        "kind": row.kind,
        "description": row.description,
        "member_count": member_count,
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

pub(crate) fn membership(row: &MembershipRow) -> Value {
    json!({
        "id": row.id,
        "group_id": row.group_id,
        "principal": {"kind": row.principal_kind, "id": row.principal_id},
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
    })
}

/// A policy with how much it concerns; its bindings only where one policy is shown.
pub(crate) fn security_policy(
    row: &SecurityPolicyRow,
    counts: &PolicyCounts,
    bindings: Option<&[BindingRow]>,
) -> Value {
    let mut shown = json!({
        "id": row.id,
        "org_id": row.org_id,
        "name": row.name,
        "kind": row.kind,
        "enabled": row.enabled,
        "group_count": counts.groups,
        "user_count": counts.users,
        "service_account_count": counts.accounts,
        "role_count": counts.roles,
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_by": Author::of_column(&row.updated_by),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    });
    if let (Some(bindings), Value::Object(members)) = (bindings, &mut shown) {
        let bindings = bindings.iter().map(binding).collect();
        members.insert("bindings".to_owned(), Value::Array(bindings));
    }
    shown
}

pub(crate) fn binding(row: &BindingRow) -> Value {
    json!({
        "id": row.id,
        "org_id": row.org_id,
        "role_id": row.role_id,
        "subject": {"kind": row.subject_kind, "id": row.subject_id},
        "resource_id": row.resource_id,
        "propagate": row.propagate,
        "policy_id": row.policy_id,
        "managed_by": row.managed_by,
        "created_by": Author::of_column(&row.created_by),
        "created_at": Stamp::of_column(row.created_ms),
        "updated_at": Stamp::of_column(row.updated_ms),
        "version": row.version,
    })
}

pub(crate) fn audit_event(row: &AuditRow) -> Value {
    let parsed = |text: &Option<String>| -> Value {
        text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    json!({
        "seq": row.seq,
        "id": row.id,
        "ts": Stamp::of_column(row.at_ms),
        "org_id": row.org_id,
        "actor": {
            "kind": row.actor_kind,
            "id": row.actor_id,
            "username": row.actor_name,
            "key_id": row.actor_key_id,
        },
        "action": row.action,
        "target": {"kind": row.target_kind, "id": row.target_id, "name": row.target_name},
        "outcome": row.outcome,
        "reason": row.reason,
        "ip": row.ip,
        "user_agent": row.user_agent,
        "request_id": row.request_id,
        "resource_id": row.resource_id,
        "before": parsed(&row.before_json),
        "after": parsed(&row.after_json),
        "principal_state_at_event": row.actor_state,
        "prev_hash": row.prev_hash,
        "hash": row.hash,
    })
}

pub(crate) fn gateway(status: &GatewayStatus, lag_ms: u64) -> Value {
    json!({
        "id": status.row.id,
        "name": status.row.id,
        "state": status.standing,
        "epoch": status.applied.epoch,
        "applied_seq": status.applied.seq,
        "lag_ms": lag_ms,
        "last_seen_at": Stamp::of_column(status.row.last_seen_ms),
        "build": status.row.build,
    })
}
