//! Rows of takeovers: which account gets what a workspace's own account has.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::accounts::AccountRow;
use crate::instant::column;

/// A workspace's own account that somebody takes over.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct TakeoverRow {
    pub(crate) legacy_id: String,
    pub(crate) account_id: String,
    pub(crate) workspace_id: String,
    pub(crate) due_ms: i64,
    pub(crate) done_ms: Option<i64>,
}

/// Workspaces' own accounts of exactly this name that nobody takes over yet.
pub(crate) async fn list_free(
    conn: &mut SqliteConnection,
    org_id: &str,
    username: &str,
) -> Result<Vec<AccountRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM service_accounts
         WHERE org_id = $1 AND username = $2 AND legacy_workspace_id IS NOT NULL
             AND state IN ('active', 'inactive')
             AND id NOT IN (SELECT legacy_id FROM takeovers)
         ORDER BY created_ms, id",
    )
    .bind(org_id)
    .bind(username)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// What the account still has to take over in the workspace.
pub(crate) async fn list_due(
    conn: &mut SqliteConnection,
    account_id: &str,
    workspace_id: &str,
) -> Result<Vec<TakeoverRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM takeovers
         WHERE account_id = $1 AND workspace_id = $2 AND done_ms IS NULL
         ORDER BY due_ms, legacy_id",
    )
    .bind(account_id)
    .bind(workspace_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &TakeoverRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO takeovers (legacy_id, account_id, workspace_id, due_ms)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(&row.legacy_id)
    .bind(&row.account_id)
    .bind(&row.workspace_id)
    .bind(row.due_ms)
    .execute(conn)
    .await?;
    Ok(())
}

pub(crate) async fn finish(
    conn: &mut SqliteConnection,
    legacy_id: &str,
    now: WallMs,
) -> Result<(), StoreError> {
    let done =
        sqlx::query("UPDATE takeovers SET done_ms = $2 WHERE legacy_id = $1 AND done_ms IS NULL")
            .bind(legacy_id)
            .bind(column(now))
            .execute(conn)
            .await?;
    super::exactly_one(&done)
}
