//! Rows of the audit log: append-only, one hash chain per organization ([`crate::chain`]).

use portcullis_core::entropy::Entropy;
use portcullis_core::feed::canonical;
use portcullis_core::time::WallMs;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::page::{Found, MOST_SEARCHED, Order, Slice};
use super::{StoreError, checkpoints};
use crate::chain::{Checkpoint, GENESIS, is_sealed_at_once};
use crate::domain::new_id;
use crate::instant::column;
use crate::settings::FeedSigner;

/// The organization id of the installation's own chain.
pub(crate) const INSTALLATION: &str = "";

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    /// `service_account`, `user`, `operator`, `gateway` or `system`.
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) key_id: Option<String>,
    /// The state of the principal at the event.
    pub(crate) state: String,
}

impl Actor {
    /// The installation itself.
    pub(crate) fn installation() -> Actor {
        Actor {
            kind: "system",
            id: "system".to_owned(),
            name: "Portcullis".to_owned(),
            key_id: None,
            state: "active".to_owned(),
        }
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) name: String,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Denied { reason: String },
    Ok,
}

/// Where the call came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) ip: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// An event that is not in the chain yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) org_id: String,
    pub(crate) actor: Actor,
    /// `<object>.<operation>`.
    pub(crate) action: String,
    pub(crate) target: Target,
    pub(crate) resource_id: Option<String>,
    pub(crate) outcome: Outcome,
    pub(crate) origin: Origin,
    /// The object before and after, as the API shows it: no secrets.
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// An event in the chain.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct AuditRow {
    pub(crate) org_id: String,
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) at_ms: i64,
    pub(crate) actor_kind: String,
    pub(crate) actor_id: String,
    pub(crate) actor_name: String,
    pub(crate) actor_key_id: Option<String>,
    pub(crate) actor_state: String,
    pub(crate) action: String,
    pub(crate) target_kind: String,
    pub(crate) target_id: String,
    pub(crate) target_name: String,
    pub(crate) resource_id: Option<String>,
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    pub(crate) ip: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) before_json: Option<String>,
    pub(crate) after_json: Option<String>,
    pub(crate) prev_hash: String,
    pub(crate) hash: String,
}

impl AuditRow {
    /// The hash that the row must have: SHA-256 over the canonical JSON of all other columns.
    pub(crate) fn computed_hash(&self) -> String {
        let AuditRow {
            org_id,
            seq,
            id,
            at_ms,
            actor_kind,
            actor_id,
            actor_name,
            actor_key_id,
            actor_state,
            action,
            target_kind,
            target_id,
            target_name,
            resource_id,
            outcome,
            reason,
            ip,
            user_agent,
            request_id,
            before_json,
            after_json,
            prev_hash,
            hash: _,
        } = self;
        let covered = json!({
            "org_id": org_id, "seq": seq, "id": id, "at_ms": at_ms, "actor_kind": actor_kind,
            "actor_id": actor_id, "actor_name": actor_name, "actor_key_id": actor_key_id,
            "actor_state": actor_state, "action": action, "target_kind": target_kind,
            "target_id": target_id, "target_name": target_name, "resource_id": resource_id,
            "outcome": outcome, "reason": reason, "ip": ip, "user_agent": user_agent,
            "request_id": request_id, "before_json": before_json, "after_json": after_json,
            "prev_hash": prev_hash,
        });
        let hash = Sha256::digest(canonical(&covered).as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What writing an event needs besides the event.
pub(super) struct Scribe<'a> {
    pub(super) signer: &'a FeedSigner,
    pub(super) entropy: &'a dyn Entropy,
}

/// Puts the event at the end of its organization's chain.
pub(super) async fn append(
    conn: &mut SqliteConnection,
    event: Event,
    now: WallMs,
    scribe: &Scribe<'_>,
) -> Result<(), StoreError> {
    let last = find_head(conn, &event.org_id).await?;
    let (last_seq, prev_hash) = last.unwrap_or((0, GENESIS.to_owned()));
    let Event { org_id, actor, action, target, resource_id, outcome, origin, before, after } =
        event;
    let (outcome, reason) = match outcome {
        Outcome::Denied { reason } => ("denied", Some(reason)),
        Outcome::Ok => ("ok", None),
    };
    let mut row = AuditRow {
        org_id,
        seq: last_seq + 1,
        id: new_id(now, scribe.entropy).map_err(|_| StoreError::Broken("random generator"))?,
        at_ms: column(now),
        actor_kind: actor.kind.to_owned(),
        actor_id: actor.id,
        actor_name: actor.name,
        actor_key_id: actor.key_id,
        actor_state: actor.state,
        action,
        target_kind: target.kind.to_owned(),
        target_id: target.id,
        target_name: target.name,
        resource_id,
        outcome: outcome.to_owned(),
        reason,
        ip: origin.ip,
        user_agent: origin.user_agent,
        request_id: origin.request_id,
        // A null is no state; an export shows both alike.
        before_json: before.filter(|state| !state.is_null()).as_ref().map(canonical),
        after_json: after.filter(|state| !state.is_null()).as_ref().map(canonical),
        prev_hash,
        hash: String::new(),
    };
    row.hash = row.computed_hash();
    insert(conn, &row).await?;
    if is_sealed_at_once(row.seq) {
        let head = (row.seq, row.hash.as_str());
        let checkpoint = Checkpoint::sign(&row.org_id, head, now, scribe.signer);
        checkpoints::insert(conn, &checkpoint).await?;
    }
    Ok(())
}

/// Number and hash of the chain's last event.
pub(crate) async fn find_head(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Option<(i64, String)>, StoreError> {
    let head = sqlx::query_as(
        "SELECT seq, hash FROM audit_events WHERE org_id = $1 ORDER BY seq DESC LIMIT 1",
    )
    .bind(org_id)
    .fetch_optional(conn)
    .await?;
    Ok(head)
}

/// What refusals of credentials are called.
pub(crate) const CREDENTIAL_DENIED: &str = "credential.denied";
/// Refusals of one key are audited once per reason and this long.
const REFUSAL_MS: u64 = 60_000;
/// Newest events of a key among which its last refusal is looked for.
const LATELY: i64 = 64;

/// Puts a refused credential at the end of the chain, unless the key has been refused for the same
/// reason in the same minute: a stranger who knows a key's id must not fill the disk.
pub(super) async fn append_refusal(
    conn: &mut SqliteConnection,
    event: Event,
    now: WallMs,
    scribe: &Scribe<'_>,
) -> Result<(), StoreError> {
    let Outcome::Denied { reason } = &event.outcome else {
        return Err(StoreError::Broken("outcome of a refusal"));
    };
    let known: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (
             SELECT action, reason, at_ms FROM audit_events
             WHERE org_id = $1 AND target_id = $2 ORDER BY seq DESC LIMIT $3
         ) AS lately WHERE action = $4 AND reason = $5 AND at_ms >= $6",
    )
    .bind(&event.org_id)
    .bind(&event.target.id)
    .bind(LATELY)
    .bind(CREDENTIAL_DENIED)
    .bind(reason)
    .bind(column(WallMs(now.0 - now.0 % REFUSAL_MS)))
    .fetch_one(&mut *conn)
    .await?;
    if known > 0 {
        return Ok(());
    }
    append(conn, event, now, scribe).await
}

async fn insert(conn: &mut SqliteConnection, row: &AuditRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_events (org_id, seq, id, at_ms, actor_kind, actor_id, actor_name,
             actor_key_id, actor_state, action, target_kind, target_id, target_name, resource_id,
             outcome, reason, ip, user_agent, request_id, before_json, after_json, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21, $22, $23)",
    )
    .bind(&row.org_id)
    .bind(row.seq)
    .bind(&row.id)
    .bind(row.at_ms)
    .bind(&row.actor_kind)
    .bind(&row.actor_id)
    .bind(&row.actor_name)
    .bind(&row.actor_key_id)
    .bind(&row.actor_state)
    .bind(&row.action)
    .bind(&row.target_kind)
    .bind(&row.target_id)
    .bind(&row.target_name)
    .bind(&row.resource_id)
    .bind(&row.outcome)
    .bind(&row.reason)
    .bind(&row.ip)
    .bind(&row.user_agent)
    .bind(&row.request_id)
    .bind(&row.before_json)
    .bind(&row.after_json)
    .bind(&row.prev_hash)
    .bind(&row.hash)
    .execute(conn)
    .await?;
    Ok(())
}

/// Filters of a list of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditFilter {
    pub(crate) after_seq: Option<i64>,
    pub(crate) since_ms: Option<i64>,
    pub(crate) until_ms: Option<i64>,
    pub(crate) actor_id: Option<String>,
    pub(crate) target_id: Option<String>,
    pub(crate) action: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) ip: Option<String>,
}

impl AuditFilter {
    /// Whether anything is asked that no single index answers in the order of `seq`.
    fn searches(&self) -> bool {
        let AuditFilter {
            after_seq: _,
            since_ms,
            until_ms,
            actor_id,
            target_id,
            action,
            outcome,
            ip,
        } = self;
        let indexed = [actor_id, target_id, action, outcome];
        let indexed = indexed.into_iter().filter(|wanted| wanted.is_some()).count();
        since_ms.is_some() || until_ms.is_some() || ip.is_some() || indexed > 1
    }
}

/// One page of the events that pass the filter, in the order of `seq`, and if asked their number.
pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &AuditFilter,
    slice: &Slice,
) -> Result<Found<AuditRow>, StoreError> {
    let mut query = filtered("SELECT * FROM audit_events WHERE org_id = ", org_id, filter);
    let horizon = match filter.searches() {
        true => horizon(conn, org_id, filter, slice).await?,
        false => None,
    };
    let (after, until, direction) = match slice.order {
        Order::NewestFirst => (" AND seq < ", " AND seq >= ", " ORDER BY seq DESC LIMIT "),
        Order::OldestFirst => (" AND seq > ", " AND seq <= ", " ORDER BY seq LIMIT "),
    };
    if let Some((seq, _)) = &slice.after {
        query.push(after).push_bind(*seq);
    }
    if let Some(seq) = horizon {
        query.push(until).push_bind(seq);
    }
    query.push(direction).push_bind(slice.limit);
    let rows = query.build_query_as().fetch_all(&mut *conn).await?;
    let total = match slice.count {
        // A chain begins with 1 and has no gaps.
        true if *filter == AuditFilter::default() => Some(newest(conn, org_id).await?),
        true => {
            let start = "SELECT COUNT(*) FROM audit_events WHERE org_id = ";
            let mut query = filtered(start, org_id, filter);
            Some(query.build_query_scalar().fetch_one(conn).await?)
        }
        false => None,
    };
    Ok(Found { rows, total, horizon: horizon.map(|seq| (seq, String::new())) })
}

/// The number of the last event, 0 before the first.
async fn newest(conn: &mut SqliteConnection, org_id: &str) -> Result<i64, StoreError> {
    let newest: Option<i64> =
        sqlx::query_scalar("SELECT MAX(seq) FROM audit_events WHERE org_id = $1")
            .bind(org_id)
            .fetch_one(conn)
            .await?;
    Ok(newest.unwrap_or(0))
}

/// The last event that a search looks at, if that is not the last of all.
async fn horizon(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &AuditFilter,
    slice: &Slice,
) -> Result<Option<i64>, StoreError> {
    let newest = newest(conn, org_id).await?;
    let after = slice.after.as_ref().map(|(seq, _)| *seq);
    Ok(match slice.order {
        Order::NewestFirst => {
            let last = after.unwrap_or(newest + 1) - MOST_SEARCHED;
            (last > filter.after_seq.unwrap_or(0) + 1).then_some(last)
        }
        Order::OldestFirst => {
            let last = after.max(filter.after_seq).unwrap_or(0) + MOST_SEARCHED;
            (last < newest).then_some(last)
        }
    })
}

fn filtered(start: &str, org_id: &str, filter: &AuditFilter) -> QueryBuilder<Sqlite> {
    let AuditFilter { after_seq, since_ms, until_ms, actor_id, target_id, action, outcome, ip } =
        filter;
    let mut query = QueryBuilder::new(start);
    query.push_bind(org_id.to_owned());
    for (condition, bound) in
        [(" AND seq > ", after_seq), (" AND at_ms >= ", since_ms), (" AND at_ms < ", until_ms)]
    {
        if let Some(bound) = bound {
            query.push(condition).push_bind(*bound);
        }
    }
    for (condition, wanted) in [
        (" AND actor_id = ", actor_id),
        (" AND target_id = ", target_id),
        (" AND action = ", action),
        (" AND outcome = ", outcome),
        (" AND ip = ", ip),
    ] {
        if let Some(value) = wanted {
            query.push(condition).push_bind(value.clone());
        }
    }
    query
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<AuditRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM audit_events WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}
