//! Rows of security policies: named bundles of bindings that are switched together.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Order, Slice};
use crate::instant::column;

/// A bundle of bindings. While it is off, they count as absent.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct SecurityPolicyRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) name: String,
    /// The name as it is compared.
    pub(crate) name_key: String,
    pub(crate) kind: String,
    pub(crate) enabled: bool,
    /// JSON of the author.
    pub(crate) created_by: String,
    pub(crate) created_ms: i64,
    /// JSON of whoever changed it last.
    pub(crate) updated_by: String,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
}

impl SecurityPolicyRow {
    pub(crate) const CUSTOM: &str = "custom";
    pub(crate) const DEFAULT: &str = "default";
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<SecurityPolicyRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM security_policies WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

pub(crate) async fn find_by_name(
    conn: &mut SqliteConnection,
    org_id: &str,
    name_key: &str,
) -> Result<Option<SecurityPolicyRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM security_policies WHERE org_id = $1 AND name_key = $2")
        .bind(org_id)
        .bind(name_key)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    kind: Option<&str>,
    slice: &Slice,
) -> Result<(Vec<SecurityPolicyRow>, Option<i64>), StoreError> {
    let mut filters = slice.filters("security_policies");
    filters.equal("org_id", org_id);
    if let Some(kind) = kind {
        filters.equal("kind", kind);
    }
    Order::read(conn, filters, slice).await
}

/// How many groups, users and roles a policy's bindings name.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct PolicyCounts {
    pub(crate) groups: i64,
    pub(crate) users: i64,
    pub(crate) accounts: i64,
    pub(crate) roles: i64,
}

pub(crate) async fn count(
    conn: &mut SqliteConnection,
    id: &str,
) -> Result<PolicyCounts, StoreError> {
    let counts = sqlx::query_as(
        "SELECT
             COUNT(DISTINCT CASE WHEN subject_kind = 'group' THEN subject_id END) AS \"groups\",
             COUNT(DISTINCT CASE WHEN subject_kind = 'user' THEN subject_id END) AS users,
             COUNT(DISTINCT CASE WHEN subject_kind = 'service_account' THEN subject_id END)
                 AS accounts,
             COUNT(DISTINCT role_id) AS roles
         FROM role_bindings WHERE policy_id = $1",
    )
    .bind(id)
    .fetch_one(conn)
    .await?;
    Ok(counts)
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &SecurityPolicyRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO security_policies (id, org_id, name, name_key, kind, enabled, created_by,
             created_ms, updated_by, updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(&row.kind)
    .bind(row.enabled)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .bind(&row.updated_by)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed policy: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut SecurityPolicyRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE security_policies SET name = $3, name_key = $4, enabled = $5, updated_by = $6,
             updated_ms = $7, version = $8
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(row.enabled)
    .bind(&row.updated_by)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

/// Erases a policy. Its bindings must be gone.
pub(crate) async fn erase(conn: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    let done =
        sqlx::query("DELETE FROM security_policies WHERE id = $1").bind(id).execute(conn).await?;
    super::exactly_one(&done)
}
