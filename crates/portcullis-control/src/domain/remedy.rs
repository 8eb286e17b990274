//! Why a principal lacks a permission on a resource, and which binding would give it (Z-55). It
//! suggests and never grants.

use portcullis_core::access::{Permission, allows};
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::Problem;
use crate::resolve::{Access, Grounds, Holder, Restriction, Role, allows_role};
use crate::store::organizations::OrganizationRow;
use crate::store::resources::ResourceRow;

/// Most suggestions in one answer.
const MOST: usize = 5;

/// What is missed where.
pub(crate) struct Missing<'a> {
    pub(crate) org: &'a OrganizationRow,
    /// Kind and id of the principal.
    pub(crate) kind: &'a str,
    pub(crate) subject_id: &'a str,
    pub(crate) restriction: Option<Restriction>,
    pub(crate) resource: &'a ResourceRow,
    pub(crate) permission: &'a Permission,
}

/// Whether the permission is there, why not, and what would help.
pub(crate) struct Remedy {
    pub(crate) held: bool,
    pub(crate) detail: String,
    /// Bindings as they could be created, the one with the least power first.
    pub(crate) suggestions: Vec<Value>,
}

pub(crate) async fn remedy(
    conn: &mut SqliteConnection,
    missing: Missing<'_>,
) -> Result<Remedy, Problem> {
    let Missing { org, kind, subject_id, restriction, resource, permission } = missing;
    let holder = Holder::of_kind(kind);
    let grounds = Grounds::of(conn, holder, subject_id).await?;
    let mut access = grounds.whole(&org.policy);
    access.locate(conn, &org.id, &resource.id).await?;
    let narrowed = access.clone().narrowed(restriction.unwrap_or_default());
    let place = resource.place();
    if narrowed.permits(permission, &resource.id) {
        let detail = format!("it has {permission} on {place}");
        return Ok(Remedy { held: true, detail, suggestions: Vec::new() });
    }
    let hindered = |detail: String| Ok(Remedy { held: false, detail, suggestions: Vec::new() });
    let rights = access.rights_at(&resource.id);
    if access.permits(permission, &resource.id) {
        return hindered(format!(
            "the key or token is restricted to less than {permission} on {place}"
        ));
    }
    if allows(&rights.denied, permission) {
        return hindered(format!(
            "a role denies {permission} on {place}; no binding overrides that"
        ));
    }
    if rights.allow(permission) {
        return hindered(format!("{place} is archived: of it only reading is left"));
    }
    let unused = unused_binding(&grounds, &access, org, &resource.id, permission);
    let roles = Role::list(conn, &org.id).await?;
    let mut helpful: Vec<&Role> = roles
        .iter()
        .filter(|role| {
            allows(&role.permissions, permission)
                && !allows(&role.deny, permission)
                && role.binding_kinds.contains(&resource.kind)
                && (holder == Holder::User || allows_role(&org.policy, role))
        })
        .collect();
    helpful.sort_by_key(|role| (role.level, role.permissions.len()));
    let suggestions: Vec<Value> = helpful
        .iter()
        .take(MOST)
        .map(|role| {
            json!({
                "role_id": role.id,
                "subject": {"kind": kind, "id": subject_id},
                "resource_id": resource.id,
            })
        })
        .collect();
    let advice = match helpful.first() {
        Some(role) => format!("the role {} on {place} would give it", role.name),
        None => "no role that can be bound there would give it".to_owned(),
    };
    let detail = format!("no binding gives {permission} on {place}{unused}; {advice}");
    Ok(Remedy { held: false, detail, suggestions })
}

/// A binding that would give the permission if it counted.
fn unused_binding(
    grounds: &Grounds,
    access: &Access,
    org: &OrganizationRow,
    resource_id: &str,
    permission: &Permission,
) -> String {
    grounds
        .contributions(&org.policy, &access.paths, resource_id)
        .iter()
        .find_map(|one| {
            let excluded = one.excluded?;
            let gives = allows(&one.role.as_ref()?.permissions, permission);
            gives.then(|| format!(" (binding {} would, but is {})", one.row.id, excluded.as_str()))
        })
        .unwrap_or_default()
}
