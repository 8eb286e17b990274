//! Signed checkpoints of the audit log's chains: one with the first event and every hundredth, in
//! the event's own transaction, and now and then one of each chain's last event.

use std::collections::BTreeMap;

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::audit::{self, AuditFilter, INSTALLATION};
use super::page::{Order, Slice};
use super::{Store, StoreError};
use crate::chain::{ChainVerdict, Checkpoint, Walk, is_sealed_at_once};
use crate::settings::FeedSigner;

/// Events that are read at a time.
const STEP: i64 = 500;

/// Saves a checkpoint. One that is there stays.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    checkpoint: &Checkpoint,
) -> Result<(), StoreError> {
    let Checkpoint { org_id, seq, at_ms, hash, public_key, signature } = checkpoint;
    sqlx::query(
        "INSERT INTO audit_checkpoints (org_id, seq, at_ms, hash, public_key, signature)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(org_id)
    .bind(seq)
    .bind(at_ms)
    .bind(hash)
    .bind(public_key)
    .bind(signature)
    .execute(conn)
    .await?;
    Ok(())
}

/// The checkpoints of the events after the first and up to the second.
pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    (after, through): (i64, i64),
) -> Result<Vec<Checkpoint>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM audit_checkpoints WHERE org_id = $1 AND seq > $2 AND seq <= $3 ORDER BY seq",
    )
    .bind(org_id)
    .bind(after)
    .bind(through)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Checkpoints after `after` whose event is gone.
pub(crate) async fn list_orphans(
    conn: &mut SqliteConnection,
    org_id: &str,
    after: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM audit_checkpoints WHERE org_id = $1 AND seq > $2 AND NOT EXISTS
             (SELECT 1 FROM audit_events WHERE audit_events.org_id = audit_checkpoints.org_id
              AND audit_events.seq = audit_checkpoints.seq)
         ORDER BY seq",
    )
    .bind(org_id)
    .bind(after)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The last events that have no checkpoint: organization, number, hash.
async fn list_open_heads(
    conn: &mut SqliteConnection,
) -> Result<Vec<(String, i64, String)>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT head.org_id, head.seq, head.hash
         FROM (SELECT id FROM organizations UNION ALL SELECT $1 AS id) AS chain
         JOIN audit_events AS head ON head.org_id = chain.id AND head.seq =
             (SELECT MAX(seq) FROM audit_events WHERE org_id = chain.id)
         WHERE head.seq > COALESCE(
             (SELECT MAX(seq) FROM audit_checkpoints WHERE org_id = chain.id), 0)",
    )
    .bind(INSTALLATION)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Signs the last event of every chain that has grown since. What was signed.
pub(crate) async fn seal_heads(
    store: &Store,
    signer: &FeedSigner,
    now: WallMs,
) -> Result<Vec<Checkpoint>, StoreError> {
    let mut view = store.view().await?;
    let open = list_open_heads(view.conn()).await?;
    drop(view);
    let sign = |(org_id, seq, hash): &(String, i64, String)| {
        Checkpoint::sign(org_id, (*seq, hash), now, signer)
    };
    let signed: Vec<Checkpoint> = open.iter().map(sign).collect();
    if !signed.is_empty() {
        let mut turn = store.writer.turn().await?;
        for checkpoint in &signed {
            insert(turn.conn(), checkpoint).await?;
        }
        turn.keep(None).await?;
    }
    Ok(signed)
}

/// Gives chains that are older than checkpoints those that they lack. Only where there is none at
/// all: a checkpoint that was taken out later must be missed.
pub(crate) async fn seal_old_chains(
    store: &Store,
    signer: &FeedSigner,
    now: WallMs,
) -> Result<(), StoreError> {
    let mut view = store.view().await?;
    // The cheapest question that both databases answer: is there any row?
    let (known, events): (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT 1 FROM audit_checkpoints), EXISTS (SELECT 1 FROM audit_events)",
    )
    .fetch_one(view.conn())
    .await?;
    drop(view);
    if known || !events {
        return Ok(());
    }
    let mut turn = store.writer.turn().await?;
    let conn = turn.conn();
    let heads: Vec<(String, i64, String)> =
        sqlx::query_as("SELECT org_id, seq, hash FROM audit_events WHERE seq = 1 OR seq % 100 = 0")
            .fetch_all(&mut *conn)
            .await?;
    for (org_id, seq, hash) in heads.iter().filter(|(_, seq, _)| is_sealed_at_once(*seq)) {
        insert(conn, &Checkpoint::sign(org_id, (*seq, hash), now, signer)).await?;
    }
    turn.keep(None).await
}

/// Walks the chain of an organization from its first event, with its checkpoints.
pub(crate) async fn verify(
    conn: &mut SqliteConnection,
    org_id: &str,
    trusted: String,
) -> Result<ChainVerdict, StoreError> {
    let mut walk = Walk::new(vec![trusted]);
    let everything = AuditFilter::default();
    let mut after = 0;
    loop {
        let place = Some((after, String::new()));
        let slice = Slice { order: Order::OldestFirst, after: place, limit: STEP, count: false };
        let rows = audit::list(conn, org_id, &everything, &slice).await?.rows;
        let through = rows.last().map_or(i64::MAX, |row| row.seq);
        let checkpoints = list(conn, org_id, (after, through)).await?;
        let mut checkpoints: BTreeMap<i64, Checkpoint> =
            checkpoints.into_iter().map(|checkpoint| (checkpoint.seq, checkpoint)).collect();
        for row in &rows {
            walk.event(row);
            if let Some(checkpoint) = checkpoints.remove(&row.seq) {
                walk.checkpoint(checkpoint);
            }
        }
        // Those whose event is missing.
        checkpoints.into_values().for_each(|checkpoint| walk.checkpoint(checkpoint));
        if rows.is_empty() {
            return Ok(walk.finish());
        }
        after = through;
    }
}
