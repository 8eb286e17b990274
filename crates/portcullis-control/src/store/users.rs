//! Rows of human users. In this version only the owner that the first start or a new organization
//! brings.

use sqlx::SqliteConnection;

use super::StoreError;

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
