//! Rows of first answers to calls with an `Idempotency-Key`.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::{StoreError, exactly_one};
use crate::instant::column;

/// Which call an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallName {
    pub(crate) principal: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) key: String,
}

/// A first answer, or the sign that a call is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct AnswerRow {
    pub(crate) digest: String,
    /// The status of success before gateways are asked.
    pub(crate) status: Option<i64>,
    pub(crate) version: Option<i64>,
    pub(crate) location: Option<String>,
    pub(crate) narrowing: Option<bool>,
    /// Where the change stands in the feed; absent if nothing was changed in one step.
    pub(crate) epoch: Option<i64>,
    pub(crate) seq: Option<i64>,
    /// Absent while the call is on its way, and for ever if it was cut off.
    pub(crate) body: Option<String>,
    pub(crate) sealed: Option<String>,
    pub(crate) sealed_until_ms: Option<i64>,
    pub(crate) created_ms: i64,
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    name: &CallName,
    oldest_ms: i64,
) -> Result<Option<AnswerRow>, StoreError> {
    let row = sqlx::query_as(
        "SELECT digest, status, version, location, narrowing, epoch, seq, body, sealed,
                sealed_until_ms, created_ms
         FROM idempotent_answers
         WHERE principal = $1 AND method = $2 AND path = $3 AND idempotency_key = $4
           AND created_ms > $5",
    )
    .bind(&name.principal)
    .bind(name.method)
    .bind(&name.path)
    .bind(&name.key)
    .bind(oldest_ms)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Writes the answer, in place of an older one or of the sign that the call is on its way.
pub(crate) async fn save(
    conn: &mut SqliteConnection,
    name: &CallName,
    row: &AnswerRow,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO idempotent_answers
             (principal, method, path, idempotency_key, digest, status, version, location,
              narrowing, epoch, seq, body, sealed, sealed_until_ms, created_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         ON CONFLICT (principal, method, path, idempotency_key) DO UPDATE
         SET digest = excluded.digest, status = excluded.status, version = excluded.version,
             location = excluded.location, narrowing = excluded.narrowing,
             epoch = excluded.epoch, seq = excluded.seq, body = excluded.body,
             sealed = excluded.sealed, sealed_until_ms = excluded.sealed_until_ms,
             created_ms = excluded.created_ms",
    )
    .bind(&name.principal)
    .bind(name.method)
    .bind(&name.path)
    .bind(&name.key)
    .bind(&row.digest)
    .bind(row.status)
    .bind(row.version)
    .bind(&row.location)
    .bind(row.narrowing)
    .bind(row.epoch)
    .bind(row.seq)
    .bind(&row.body)
    .bind(&row.sealed)
    .bind(row.sealed_until_ms)
    .bind(row.created_ms)
    .execute(conn)
    .await?;
    exactly_one(&done)
}

/// Forgets the sealed secrets of an answer; whether there were any.
pub(crate) async fn unseal(
    conn: &mut SqliteConnection,
    name: &CallName,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE idempotent_answers SET sealed = NULL
         WHERE principal = $1 AND method = $2 AND path = $3 AND idempotency_key = $4
           AND sealed IS NOT NULL",
    )
    .bind(&name.principal)
    .bind(name.method)
    .bind(&name.path)
    .bind(&name.key)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets answers from before `oldest_ms`, and secrets that are too old.
pub(crate) async fn prune(
    conn: &mut SqliteConnection,
    oldest_ms: i64,
    now: WallMs,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM idempotent_answers WHERE created_ms <= $1")
        .bind(oldest_ms)
        .execute(&mut *conn)
        .await?;
    sqlx::query(
        "UPDATE idempotent_answers SET sealed = NULL
         WHERE sealed IS NOT NULL AND sealed_until_ms <= $1",
    )
    .bind(column(now))
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether [`prune`] has anything to do.
pub(crate) async fn is_prunable(
    conn: &mut SqliteConnection,
    oldest_ms: i64,
    now: WallMs,
) -> Result<bool, StoreError> {
    let found: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (
             SELECT 1 FROM idempotent_answers WHERE created_ms <= $1
             UNION ALL
             SELECT 1 FROM idempotent_answers WHERE sealed IS NOT NULL AND sealed_until_ms <= $2
             LIMIT 1
         ) AS old",
    )
    .bind(oldest_ms)
    .bind(column(now))
    .fetch_one(conn)
    .await?;
    Ok(found > 0)
}
