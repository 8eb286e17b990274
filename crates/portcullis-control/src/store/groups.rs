//! Rows of groups and of who is in them.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Found, Order, Slice};
use crate::instant::column;

/// A set of service accounts and users that can have roles.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct GroupRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) name: String,
    /// The name as it is compared.
    pub(crate) name_key: String,
    pub(crate) kind: String,
    pub(crate) description: Option<String>,
    /// JSON of the author.
    pub(crate) created_by: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
    /// Kept by [`insert_member`] and those that erase members.
    pub(crate) member_count: i64,
}

impl GroupRow {
    pub(crate) const CUSTOM: &str = "custom";
    pub(crate) const DEFAULT: &str = "default";
    pub(crate) const OWNER: &str = "owner";
}

/// One principal in one group.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct MembershipRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) group_id: String,
    pub(crate) principal_kind: String,
    pub(crate) principal_id: String,
    /// JSON of the author.
    pub(crate) created_by: String,
    pub(crate) created_ms: i64,
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<GroupRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM account_groups WHERE org_id = $1 AND id = $2")
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
) -> Result<Option<GroupRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM account_groups WHERE org_id = $1 AND name_key = $2")
        .bind(org_id)
        .bind(name_key)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The groups that a principal is in, in the order of their ids.
pub(crate) async fn list_of_principal(
    conn: &mut SqliteConnection,
    principal_id: &str,
) -> Result<Vec<GroupRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT g.* FROM memberships m JOIN account_groups g ON g.id = m.group_id
         WHERE m.principal_id = $1 ORDER BY g.id",
    )
    .bind(principal_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// One page of the groups that a principal is in.
pub(crate) async fn list_page_of_principal(
    conn: &mut SqliteConnection,
    principal_id: &str,
    slice: &Slice,
) -> Result<(Vec<GroupRow>, Option<i64>), StoreError> {
    let mut filters = slice.filters("account_groups");
    filters.among("SELECT group_id FROM memberships WHERE principal_id = ", principal_id);
    Order::read(conn, filters, slice).await
}

/// All groups of an organization.
pub(crate) async fn list_all(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Vec<GroupRow>, StoreError> {
    let rows = sqlx::query_as("SELECT * FROM account_groups WHERE org_id = $1 ORDER BY id")
        .bind(org_id)
        .fetch_all(conn)
        .await?;
    Ok(rows)
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    kind: Option<&str>,
    slice: &Slice,
) -> Result<(Vec<GroupRow>, Option<i64>), StoreError> {
    let mut filters = slice.filters("account_groups");
    filters.equal("org_id", org_id);
    if let Some(kind) = kind {
        filters.equal("kind", kind);
    }
    Order::read(conn, filters, slice).await
}

pub(crate) async fn insert(conn: &mut SqliteConnection, row: &GroupRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO account_groups (id, org_id, name, name_key, kind, description, created_by,
             created_ms, updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(&row.kind)
    .bind(&row.description)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed group: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut GroupRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE account_groups SET name = $3, name_key = $4, description = $5, updated_ms = $6,
             version = $7
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.name)
    .bind(&row.name_key)
    .bind(&row.description)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

/// Erases a group with its memberships. Its bindings must be gone.
pub(crate) async fn erase(conn: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM memberships WHERE group_id = $1").bind(id).execute(&mut *conn).await?;
    let done =
        sqlx::query("DELETE FROM account_groups WHERE id = $1").bind(id).execute(conn).await?;
    super::exactly_one(&done)
}

pub(crate) async fn find_member(
    conn: &mut SqliteConnection,
    group_id: &str,
    principal_id: &str,
) -> Result<Option<MembershipRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM memberships WHERE group_id = $1 AND principal_id = $2")
        .bind(group_id)
        .bind(principal_id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

pub(crate) async fn list_members(
    conn: &mut SqliteConnection,
    group_id: &str,
    kind: Option<&str>,
    slice: &Slice,
) -> Result<Found<MembershipRow>, StoreError> {
    let mut filters = slice.filters("memberships");
    filters.within("group_id", group_id);
    if let Some(kind) = kind {
        filters.equal("principal_kind", kind);
    }
    Order::search(conn, filters, slice).await
}

pub(crate) async fn count_members(
    conn: &mut SqliteConnection,
    group_id: &str,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar("SELECT member_count FROM account_groups WHERE id = $1")
        .bind(group_id)
        .fetch_one(conn)
        .await?;
    Ok(count)
}

/// Whether the group has so few members that finding each by its id is fast.
pub(super) async fn is_small(
    conn: &mut SqliteConnection,
    group_id: &str,
) -> Result<bool, StoreError> {
    const FEW: i64 = 1000;
    let members: Option<i64> =
        sqlx::query_scalar("SELECT member_count FROM account_groups WHERE id = $1")
            .bind(group_id)
            .fetch_optional(conn)
            .await?;
    Ok(members.unwrap_or(0) <= FEW)
}

/// Whether any member of the group is of this kind.
pub(crate) async fn has_members(
    conn: &mut SqliteConnection,
    group_id: &str,
    kind: &str,
) -> Result<bool, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM memberships WHERE group_id = $1 AND principal_kind = $2 LIMIT 1",
    )
    .bind(group_id)
    .bind(kind)
    .fetch_optional(conn)
    .await?;
    Ok(found.is_some())
}

pub(crate) async fn insert_member(
    conn: &mut SqliteConnection,
    row: &MembershipRow,
) -> Result<(), StoreError> {
    add_to_count(conn, &row.group_id, 1).await?;
    sqlx::query(
        "INSERT INTO memberships (id, org_id, group_id, principal_kind, principal_id, created_by,
             created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.group_id)
    .bind(&row.principal_kind)
    .bind(&row.principal_id)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn erase_member(
    conn: &mut SqliteConnection,
    row: &MembershipRow,
) -> Result<(), StoreError> {
    add_to_count(conn, &row.group_id, -1).await?;
    let done =
        sqlx::query("DELETE FROM memberships WHERE id = $1").bind(&row.id).execute(conn).await?;
    super::exactly_one(&done)
}

async fn add_to_count(
    conn: &mut SqliteConnection,
    group_id: &str,
    members: i64,
) -> Result<(), StoreError> {
    let done =
        sqlx::query("UPDATE account_groups SET member_count = member_count + $2 WHERE id = $1")
            .bind(group_id)
            .bind(members)
            .execute(conn)
            .await?;
    super::exactly_one(&done)
}

/// Takes a principal out of all its groups.
pub(crate) async fn erase_of_principal(
    conn: &mut SqliteConnection,
    principal_id: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE account_groups SET member_count = member_count - 1
         WHERE id IN (SELECT group_id FROM memberships WHERE principal_id = $1)",
    )
    .bind(principal_id)
    .execute(&mut *conn)
    .await?;
    sqlx::query("DELETE FROM memberships WHERE principal_id = $1")
        .bind(principal_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts the members of all groups anew: an export does not say how many there are.
pub(crate) async fn recount_members(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE account_groups SET member_count = (
             SELECT COUNT(*) FROM memberships WHERE memberships.group_id = account_groups.id)",
    )
    .execute(conn)
    .await?;
    Ok(())
}
