//! Rows of the feed: the head, the records of a snapshot, and the lines of committed changes.
//! Only [`super::Unit`] writes them.

use portcullis_core::feed::{Kind, Line, Position, StateDigest, Txn};
use sqlx::{Row as _, SqliteConnection};

use super::StoreError;
use crate::settings::FeedSigner;

/// The newest committed position and what the state there adds up to.
#[derive(Clone, Debug)]
pub(crate) struct FeedHead {
    pub(crate) position: Position,
    pub(crate) digest: StateDigest,
    pub(crate) records: u64,
}

impl FeedHead {
    /// Before the first commit of a new database.
    const START: FeedHead =
        FeedHead { position: Position { epoch: 1, seq: 0 }, digest: StateDigest(0), records: 0 };
}

/// A counter for a BIGINT column.
fn column_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One record of a snapshot, already canonical JSON.
#[derive(sqlx::FromRow)]
pub(crate) struct FeedRecordRow {
    pub(crate) id: String,
    pub(crate) record: String,
}

/// One committed line.
#[derive(sqlx::FromRow)]
pub(crate) struct ChangeRow {
    pub(crate) seq: i64,
    pub(crate) line: String,
}

pub(crate) async fn find_head(conn: &mut SqliteConnection) -> Result<FeedHead, StoreError> {
    let row = sqlx::query("SELECT epoch, seq, digest, records FROM feed_state WHERE id = 1")
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else {
        return Ok(FeedHead::START);
    };
    let number = |name| Ok::<u64, StoreError>(row.try_get::<i64, _>(name)?.unsigned_abs());
    let digest = row.try_get::<String, _>("digest")?;
    Ok(FeedHead {
        position: Position { epoch: number("epoch")?, seq: number("seq")? },
        digest: digest.parse().map_err(|_| StoreError::Broken("digest of the feed"))?,
        records: number("records")?,
    })
}

pub(super) async fn save_head(
    conn: &mut SqliteConnection,
    head: &FeedHead,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO feed_state (id, epoch, seq, digest, records) VALUES (1, $1, $2, $3, $4)
         ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq,
             digest = excluded.digest, records = excluded.records",
    )
    .bind(column_of(head.position.epoch))
    .bind(column_of(head.position.seq))
    .bind(head.digest.to_string())
    .bind(column_of(head.records))
    .execute(conn)
    .await?;
    Ok(())
}

/// The record in its canonical form.
pub(crate) async fn find_record(
    conn: &mut SqliteConnection,
    kind: Kind,
    id: &str,
) -> Result<Option<String>, StoreError> {
    let canonical =
        sqlx::query_scalar("SELECT record FROM feed_records WHERE kind = $1 AND id = $2")
            .bind(kind.as_str())
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(canonical)
}

pub(super) async fn save_record(
    conn: &mut SqliteConnection,
    kind: Kind,
    id: &str,
    canonical: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO feed_records (kind, id, record) VALUES ($1, $2, $3)
         ON CONFLICT (kind, id) DO UPDATE SET record = excluded.record",
    )
    .bind(kind.as_str())
    .bind(id)
    .bind(canonical)
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn erase_record(
    conn: &mut SqliteConnection,
    kind: Kind,
    id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM feed_records WHERE kind = $1 AND id = $2")
        .bind(kind.as_str())
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Up to `limit` records of one kind with an id above `after`, in the order of ids.
pub(crate) async fn list_records(
    conn: &mut SqliteConnection,
    kind: Kind,
    after: &str,
    limit: i64,
) -> Result<Vec<FeedRecordRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT id, record FROM feed_records WHERE kind = $1 AND id > $2
         ORDER BY id LIMIT $3",
    )
    .bind(kind.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

pub(super) async fn append_change(
    conn: &mut SqliteConnection,
    position: Position,
    org_id: &str,
    line: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO changes (epoch, seq, org_id, line) VALUES ($1, $2, $3, $4)")
        .bind(column_of(position.epoch))
        .bind(column_of(position.seq))
        .bind(org_id)
        .bind(line)
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops the lines up to a position: in the steady state one line for each that is appended.
pub(super) async fn prune_changes(
    conn: &mut SqliteConnection,
    last: Position,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM changes WHERE (epoch, seq) <= ($1, $2)")
        .bind(column_of(last.epoch))
        .bind(column_of(last.seq))
        .execute(conn)
        .await?;
    Ok(())
}

/// Up to `limit` lines after `after`, in order.
pub(crate) async fn list_changes(
    conn: &mut SqliteConnection,
    after: Position,
    limit: i64,
) -> Result<Vec<ChangeRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT seq, line FROM changes WHERE epoch = $1 AND seq > $2 ORDER BY seq LIMIT $3",
    )
    .bind(column_of(after.epoch))
    .bind(column_of(after.seq))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The organization in which the change at `position` was made.
pub(crate) async fn find_change_org(
    conn: &mut SqliteConnection,
    position: Position,
) -> Result<Option<String>, StoreError> {
    let org = sqlx::query_scalar("SELECT org_id FROM changes WHERE epoch = $1 AND seq = $2")
        .bind(column_of(position.epoch))
        .bind(column_of(position.seq))
        .fetch_optional(conn)
        .await?;
    Ok(org)
}

/// The line of a transaction with its signature.
pub(super) fn signed_txn(mut txn: Txn, signer: &FeedSigner) -> String {
    let unsigned = Line::Txn(txn.clone());
    txn.sig = Some(signer.sign(unsigned.signed_form().as_bytes()));
    Line::Txn(txn).to_json()
}
