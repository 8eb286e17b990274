//! Rows of gateways: who follows the feed, so that a restart of the control plane forgets nobody it
//! has to wait for.

use sqlx::SqliteConnection;

use super::StoreError;

/// A gateway as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct GatewayRow {
    pub(crate) id: String,
    pub(crate) build: Option<String>,
    pub(crate) first_seen_ms: i64,
    pub(crate) last_seen_ms: i64,
    pub(crate) epoch: i64,
    pub(crate) applied_seq: i64,
    pub(crate) fence_ms: Option<i64>,
    /// Removed by the operator: its id is void for ever.
    pub(crate) removed_ms: Option<i64>,
}

pub(crate) async fn list(conn: &mut SqliteConnection) -> Result<Vec<GatewayRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT id, build, first_seen_ms, last_seen_ms, epoch, applied_seq, fence_ms, removed_ms
         FROM gateways ORDER BY id",
    )
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Never brings back a gateway that was removed.
pub(super) async fn save(conn: &mut SqliteConnection, row: &GatewayRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO gateways
             (id, build, first_seen_ms, last_seen_ms, epoch, applied_seq, fence_ms, removed_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)
         ON CONFLICT (id) DO UPDATE SET build = excluded.build,
             last_seen_ms = excluded.last_seen_ms, epoch = excluded.epoch,
             applied_seq = excluded.applied_seq, fence_ms = excluded.fence_ms",
    )
    .bind(&row.id)
    .bind(&row.build)
    .bind(row.first_seen_ms)
    .bind(row.last_seen_ms)
    .bind(row.epoch)
    .bind(row.applied_seq)
    .bind(row.fence_ms)
    .execute(conn)
    .await?;
    Ok(())
}

/// Voids a gateway's id. False if there is none, or it was removed before.
pub(crate) async fn remove(
    conn: &mut SqliteConnection,
    id: &str,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let done =
        sqlx::query("UPDATE gateways SET removed_ms = $2 WHERE id = $1 AND removed_ms IS NULL")
            .bind(id)
            .bind(now_ms)
            .execute(conn)
            .await?;
    Ok(done.rows_affected() == 1)
}
