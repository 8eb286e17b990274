//! Rows of custom roles. The built-in ones are in core and have no row.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Order, Slice};
use crate::instant::column;

/// A role that an organization made.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct RoleRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) name: String,
    /// The name as it is compared.
    pub(crate) name_key: String,
    pub(crate) description: Option<String>,
    /// The role that it was made from.
    pub(crate) base_role_id: Option<String>,
    /// JSON array of patterns.
    pub(crate) permissions: String,
    /// JSON array of patterns.
    pub(crate) deny: String,
    pub(crate) level: i64,
    pub(crate) sticky: bool,
    pub(crate) sa_assignable: bool,
    /// JSON array of resource kinds.
    pub(crate) binding_kinds: String,
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
) -> Result<Option<RoleRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM roles WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The custom roles that the subject or one of its groups is bound to.
pub(crate) async fn list_of_subject(
    conn: &mut SqliteConnection,
    subject_id: &str,
) -> Result<Vec<RoleRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM roles WHERE id IN (
             SELECT role_id FROM role_bindings WHERE subject_id IN (
                 SELECT $1 UNION ALL
                 SELECT group_id FROM memberships WHERE principal_id = $1))",
    )
    .bind(subject_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

pub(crate) async fn find_by_name(
    conn: &mut SqliteConnection,
    org_id: &str,
    name_key: &str,
) -> Result<Option<RoleRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM roles WHERE org_id = $1 AND name_key = $2")
        .bind(org_id)
        .bind(name_key)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// Whether a binding names the role, or another role was made from it.
pub(crate) async fn is_in_use(conn: &mut SqliteConnection, id: &str) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM role_bindings WHERE role_id = $1)
             OR EXISTS (SELECT 1 FROM roles WHERE base_role_id = $1)",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

/// All custom roles of an organization.
pub(crate) async fn list_all(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Vec<RoleRow>, StoreError> {
    let rows = sqlx::query_as("SELECT * FROM roles WHERE org_id = $1 ORDER BY id")
        .bind(org_id)
        .fetch_all(conn)
        .await?;
    Ok(rows)
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    slice: &Slice,
) -> Result<(Vec<RoleRow>, Option<i64>), StoreError> {
    let mut filters = slice.filters("roles");
    filters.equal("org_id", org_id);
    Order::read(conn, filters, slice).await
}

pub(crate) async fn insert(conn: &mut SqliteConnection, row: &RoleRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO roles (id, org_id, name, name_key, description, base_role_id, permissions,
             deny, level, sticky, sa_assignable, binding_kinds, created_by, created_ms,
             updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(&row.description)
    .bind(&row.base_role_id)
    .bind(&row.permissions)
    .bind(&row.deny)
    .bind(row.level)
    .bind(row.sticky)
    .bind(row.sa_assignable)
    .bind(&row.binding_kinds)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed role: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut RoleRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE roles SET name = $3, name_key = $4, description = $5, permissions = $6, deny = $7,
             level = $8, sticky = $9, sa_assignable = $10, binding_kinds = $11, updated_ms = $12,
             version = $13
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(&row.description)
    .bind(&row.permissions)
    .bind(&row.deny)
    .bind(row.level)
    .bind(row.sticky)
    .bind(row.sa_assignable)
    .bind(&row.binding_kinds)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

pub(crate) async fn erase(conn: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM roles WHERE id = $1").bind(id).execute(conn).await?;
    super::exactly_one(&done)
}
