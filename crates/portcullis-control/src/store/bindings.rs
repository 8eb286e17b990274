//! Rows of role bindings.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Found, Order, Slice};
use crate::instant::column;

/// Who has which role where.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct BindingRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) role_id: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: String,
    pub(crate) resource_id: String,
    pub(crate) propagate: bool,
    /// The security policy that it is part of.
    pub(crate) policy_id: Option<String>,
    pub(crate) managed_by: String,
    /// JSON of the author.
    pub(crate) created_by: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<BindingRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM role_bindings WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// All bindings of a subject, oldest first.
pub(crate) async fn list_of_subject(
    conn: &mut SqliteConnection,
    subject_id: &str,
) -> Result<Vec<BindingRow>, StoreError> {
    let rows =
        sqlx::query_as("SELECT * FROM role_bindings WHERE subject_id = $1 ORDER BY created_ms, id")
            .bind(subject_id)
            .fetch_all(conn)
            .await?;
    Ok(rows)
}

/// A binding and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct SwitchedRow {
    #[sqlx(flatten)]
    pub(crate) row: BindingRow,
    /// False while the binding's policy is off.
    pub(crate) enabled: bool,
}

/// All bindings of a subject and of the groups that it is in, oldest first.
pub(crate) async fn list_switched(
    conn: &mut SqliteConnection,
    subject_id: &str,
) -> Result<Vec<SwitchedRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT b.*, COALESCE(p.enabled, TRUE) AS enabled
         FROM role_bindings b LEFT JOIN security_policies p ON p.id = b.policy_id
         WHERE b.subject_id IN (
             SELECT $1 UNION ALL SELECT group_id FROM memberships WHERE principal_id = $1)
         ORDER BY b.created_ms, b.id",
    )
    .bind(subject_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// All bindings of a policy, oldest first.
pub(crate) async fn list_of_policy(
    conn: &mut SqliteConnection,
    policy_id: &str,
) -> Result<Vec<BindingRow>, StoreError> {
    let rows =
        sqlx::query_as("SELECT * FROM role_bindings WHERE policy_id = $1 ORDER BY created_ms, id")
            .bind(policy_id)
            .fetch_all(conn)
            .await?;
    Ok(rows)
}

/// Where a role is bound, and whether it reaches below from there.
pub(crate) async fn list_places_of_role(
    conn: &mut SqliteConnection,
    role_id: &str,
) -> Result<Vec<(String, bool)>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT DISTINCT resource_id, propagate FROM role_bindings WHERE role_id = $1
         ORDER BY resource_id, propagate",
    )
    .bind(role_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Kind and id of every subject with a binding on this very resource.
pub(crate) async fn list_subjects_on(
    conn: &mut SqliteConnection,
    resource_id: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT DISTINCT subject_kind, subject_id FROM role_bindings WHERE resource_id = $1
         ORDER BY subject_id",
    )
    .bind(resource_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Kind and id of every principal of an organization that has a binding or is in a group.
pub(crate) async fn list_principals(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT subject_kind, subject_id FROM role_bindings
         WHERE org_id = $1 AND subject_kind <> 'group'
         UNION
         SELECT principal_kind, principal_id FROM memberships WHERE org_id = $1
         ORDER BY 2",
    )
    .bind(org_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Kind and id of every subject with a binding on the resource or below it.
pub(crate) async fn list_subjects_below(
    conn: &mut SqliteConnection,
    resource_id: &str,
) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query_as(
        "WITH RECURSIVE down (id) AS (
             SELECT $1
             UNION
             SELECT r.id FROM resources r JOIN down ON r.parent_id = down.id)
         SELECT DISTINCT b.subject_kind, b.subject_id
         FROM role_bindings b JOIN down ON b.resource_id = down.id
         ORDER BY b.subject_id",
    )
    .bind(resource_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// How many active users hold the role on the resource, by themselves or through a group, while no
/// switched-off policy stands in between; service accounts never count. Few have the role and many
/// are bound on the root, so the comparison of the resource keeps its index out of use.
pub(crate) async fn count_users_with(
    conn: &mut SqliteConnection,
    role_id: &str,
    resource_id: &str,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(DISTINCT u.id) FROM role_bindings b
         LEFT JOIN security_policies p ON p.id = b.policy_id
         LEFT JOIN memberships m ON b.subject_kind = 'group' AND m.group_id = b.subject_id
         JOIN users u ON u.id = COALESCE(m.principal_id, b.subject_id)
         WHERE b.role_id = $1 AND b.resource_id || '' = $2 AND COALESCE(p.enabled, TRUE)
             AND u.state = 'active'",
    )
    .bind(role_id)
    .bind(resource_id)
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// Filters of a list of bindings.
#[derive(Clone, Debug, Default)]
pub(crate) struct BindingFilter {
    pub(crate) role_id: Option<String>,
    pub(crate) subject_id: Option<String>,
    pub(crate) subject_kind: Option<String>,
    pub(crate) resource_id: Option<String>,
    pub(crate) policy_id: Option<String>,
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &BindingFilter,
    slice: &Slice,
) -> Result<Found<BindingRow>, StoreError> {
    let BindingFilter { role_id, subject_id, subject_kind, resource_id, policy_id } = filter;
    let mut filters = slice.filters("role_bindings");
    filters.within("org_id", org_id);
    for (column, wanted) in [
        ("role_id", role_id),
        ("subject_id", subject_id),
        ("subject_kind", subject_kind),
        ("resource_id", resource_id),
        ("policy_id", policy_id),
    ] {
        if let Some(value) = wanted {
            filters.indexed(column, value);
        }
    }
    Order::search(conn, filters, slice).await
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &BindingRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO role_bindings (id, org_id, role_id, subject_kind, subject_id, resource_id,
             propagate, policy_id, managed_by, created_by, created_ms, updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.role_id)
    .bind(&row.subject_kind)
    .bind(&row.subject_id)
    .bind(&row.resource_id)
    .bind(row.propagate)
    .bind(&row.policy_id)
    .bind(&row.managed_by)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed binding: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut BindingRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE role_bindings SET role_id = $3, propagate = $4, updated_ms = $5, version = $6
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.role_id)
    .bind(row.propagate)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

pub(crate) async fn erase(conn: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    let done =
        sqlx::query("DELETE FROM role_bindings WHERE id = $1").bind(id).execute(conn).await?;
    super::exactly_one(&done)
}

/// Erases every binding of a subject.
pub(crate) async fn erase_of_subject(
    conn: &mut SqliteConnection,
    subject_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM role_bindings WHERE subject_id = $1")
        .bind(subject_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Erases every binding on a resource.
pub(crate) async fn erase_on_resource(
    conn: &mut SqliteConnection,
    resource_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM role_bindings WHERE resource_id = $1")
        .bind(resource_id)
        .execute(conn)
        .await?;
    Ok(())
}
