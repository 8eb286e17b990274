//! Rows of the installation itself: its settings, and the keys that belong to no organization.

use portcullis_core::key::KeyId;
use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use crate::instant::column;

/// What an installation key is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Gateway,
    Operator,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }
}

/// A key of the installation.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct InstallationKeyRow {
    pub(crate) purpose: String,
    pub(crate) pepper: i64,
    pub(crate) digest: String,
}

impl InstallationKeyRow {
    pub(crate) fn is_for(&self, purpose: Purpose) -> bool {
        self.purpose == purpose.as_str()
    }
}

/// The cluster id: every snapshot carries it, so that a gateway never follows another installation.
pub(crate) const CLUSTER: &str = "cluster";
/// The key of the cursors' MAC, hexadecimal.
pub(crate) const CURSOR_KEY: &str = "cursor_key";

pub(crate) async fn find_setting(
    conn: &mut SqliteConnection,
    name: &'static str,
) -> Result<Option<String>, StoreError> {
    let value = sqlx::query_scalar("SELECT value FROM installation WHERE name = $1")
        .bind(name)
        .fetch_optional(conn)
        .await?;
    Ok(value)
}

/// Writes a setting that has no value yet.
pub(super) async fn insert_setting(
    conn: &mut SqliteConnection,
    name: &'static str,
    value: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO installation (name, value) VALUES ($1, $2)")
        .bind(name)
        .bind(value)
        .execute(conn)
        .await?;
    Ok(())
}

/// Gives a setting that has a value another one.
pub(crate) async fn replace_setting(
    conn: &mut SqliteConnection,
    name: &'static str,
    value: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE installation SET value = $2 WHERE name = $1")
        .bind(name)
        .bind(value)
        .execute(conn)
        .await?;
    super::exactly_one(&done)
}

pub(crate) async fn find_key(
    conn: &mut SqliteConnection,
    id: KeyId,
) -> Result<Option<InstallationKeyRow>, StoreError> {
    let row = sqlx::query_as("SELECT purpose, pepper, digest FROM installation_keys WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

pub(crate) async fn insert_key(
    conn: &mut SqliteConnection,
    id: KeyId,
    purpose: Purpose,
    secret: &super::keys::Secret,
    now: WallMs,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO installation_keys (id, purpose, pepper, digest, created_ms)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.to_string())
    .bind(purpose.as_str())
    .bind(secret.pepper)
    .bind(&secret.digest)
    .bind(column(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Versions of all peppers that some digest still needs.
pub(crate) async fn list_peppers(conn: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let versions = sqlx::query_scalar(
        "SELECT pepper FROM installation_keys
         UNION SELECT current_pepper FROM api_keys
             WHERE current_alg = 'b3' AND state IN ('active', 'inactive')
         UNION SELECT previous_pepper FROM api_keys
             WHERE COALESCE(previous_alg, 'b3') = 'b3' AND previous_pepper IS NOT NULL
                 AND state IN ('active', 'inactive')",
    )
    .fetch_all(conn)
    .await?;
    Ok(versions)
}
