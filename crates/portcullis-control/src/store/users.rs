//! Rows of human users: who takes a seat, and who took one.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Order, Slice};
use crate::instant::column;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct UserRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) username: String,
    pub(crate) username_key: String,
    pub(crate) email: Option<String>,
    pub(crate) state: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
    pub(crate) removed_ms: Option<i64>,
    /// JSON of the author.
    pub(crate) removed_by: Option<String>,
}

impl UserRow {
    pub(crate) const ACTIVE: &str = "active";
    pub(crate) const REMOVED: &str = "removed";

    pub(crate) fn is_active(&self) -> bool {
        self.state == UserRow::ACTIVE
    }
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<UserRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM users WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The active user that has the username.
pub(crate) async fn find_by_username(
    conn: &mut SqliteConnection,
    org_id: &str,
    username_key: &str,
) -> Result<Option<UserRow>, StoreError> {
    let row = sqlx::query_as(
        "SELECT * FROM users WHERE org_id = $1 AND username_key = $2 AND state = 'active'",
    )
    .bind(org_id)
    .bind(username_key)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Filters of a list of users.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserFilter {
    pub(crate) state: Option<String>,
    pub(crate) username_key: Option<String>,
    pub(crate) q: Option<String>,
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &UserFilter,
    slice: &Slice,
) -> Result<(Vec<UserRow>, Option<i64>), StoreError> {
    let UserFilter { state, username_key, q } = filter;
    let mut filters = slice.filters("users");
    filters.equal("org_id", org_id);
    for (column, wanted) in [("state", state), ("username_key", username_key)] {
        if let Some(value) = wanted {
            filters.equal(column, value);
        }
    }
    if let Some(text) = q {
        filters.contains(&["username_key", "email"], text);
    }
    Order::read(conn, filters, slice).await
}

/// Saves a changed user: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut UserRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE users SET email = $3, state = $4, removed_ms = $5, removed_by = $6,
             updated_ms = $7, version = $8
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.email)
    .bind(&row.state)
    .bind(row.removed_ms)
    .bind(&row.removed_by)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

pub(crate) async fn insert(conn: &mut SqliteConnection, row: &UserRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO users (id, org_id, username, username_key, email, state, created_ms,
             updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.username)
    .bind(&row.username_key)
    .bind(&row.email)
    .bind(&row.state)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}
