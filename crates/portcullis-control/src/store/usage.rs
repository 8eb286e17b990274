//! What keys did: counts per key, account, organization and day, and when each secret was last
//! proven. Observations, not changes: they leave versions alone and tell gateways nothing.

use std::collections::{BTreeMap, HashMap};

use portcullis_core::entropy::Entropy;
use portcullis_core::time::WallMs;
use portcullis_core::verdict::DenyReason;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::audit::{self, Event, Scribe};
use super::unit::Ledger;
use super::{Store, StoreError};
use crate::instant::column;

/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 86_400_000;
/// How long the ids of counted bodies are remembered; a gateway gives up on a body sooner.
const REMEMBERED_MS: i64 = 2 * DAY_MS;
/// How long days are kept.
const KEPT_DAYS: i64 = 400;
/// Rows of one statement.
const ROWS: usize = 500;

/// What a key did in one window and day, apart by secret and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) key_id: String,
    /// Generation of the secret that was proven; `None` if none was, or nobody said.
    pub(crate) generation: Option<i64>,
    pub(crate) allowed: i64,
    pub(crate) denied: i64,
    pub(crate) at_ms: i64,
    pub(crate) source: Option<String>,
    pub(crate) reason: Option<DenyReason>,
}

impl Used {
    /// Whether the key's secret was proven, so that this counts as its last use.
    fn is_proven(&self) -> bool {
        self.allowed > 0 || self.generation.is_some()
    }
}

/// What is counted in one transaction.
pub(crate) struct Report<'a> {
    /// The id of the body; `None` for what this process has counted itself.
    pub(crate) id: Option<&'a str>,
    pub(crate) used: &'a [Used],
    /// Refused credentials, of which the audit log gets one per key, reason and minute.
    pub(crate) denials: Vec<Event>,
}

/// Counts a report. The organizations whose keys it names, or nothing if its body was counted
/// before.
pub(crate) async fn record(
    store: &Store,
    ledger: &Ledger,
    report: Report<'_>,
    now: WallMs,
    entropy: &dyn Entropy,
) -> Result<Option<Vec<String>>, StoreError> {
    let Report { id, used, denials } = report;
    let mut turn = store.writer.turn().await?;
    if let Some(id) = id
        && !remember(turn.conn(), id, column(now)).await?
    {
        return Ok(None);
    }
    let keys = find_keys(turn.conn(), used).await?;
    let mut of_keys: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut of_accounts: BTreeMap<&str, Sum> = BTreeMap::new();
    let mut of_days: BTreeMap<(&str, i64), Sum> = BTreeMap::new();
    let mut of_orgs: BTreeMap<(&str, i64), Sum> = BTreeMap::new();
    for one in used {
        // A key that is not ours any more, or never was.
        let Some(key) = keys.get(&one.key_id) else { continue };
        let day = one.at_ms / DAY_MS;
        of_keys.entry(&one.key_id).or_default().add(one, key.generation);
        of_days.entry((&one.key_id, day)).or_default().add(one, key.generation);
        of_orgs.entry((&key.org_id, day)).or_default().add(one, key.generation);
        if key.owner_kind == "service_account" {
            of_accounts.entry(&key.owner_id).or_default().add(one, key.generation);
        }
    }
    add_to_keys(turn.conn(), &of_keys).await?;
    add_to_accounts(turn.conn(), &of_accounts).await?;
    add_to_days(turn.conn(), &of_days, &keys).await?;
    add_to_orgs(turn.conn(), &of_orgs).await?;
    let scribe = Scribe { signer: &ledger.signer, entropy };
    for denial in denials {
        audit::append_refusal(turn.conn(), denial, now, &scribe).await?;
    }
    let mut orgs: Vec<String> = of_orgs.keys().map(|(org_id, _)| (*org_id).to_owned()).collect();
    orgs.dedup();
    turn.keep(None).await?;
    Ok(Some(orgs))
}

/// Notes the body's id; false if it is known.
async fn remember(conn: &mut SqliteConnection, id: &str, now_ms: i64) -> Result<bool, StoreError> {
    let statement =
        "INSERT INTO usage_reports (id, taken_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    let done = sqlx::query(statement).bind(id).bind(now_ms).execute(&mut *conn).await?;
    sqlx::query("DELETE FROM usage_reports WHERE taken_ms < $1")
        .bind(now_ms - REMEMBERED_MS)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What a key's counts depend on.
#[derive(sqlx::FromRow)]
struct Owned {
    id: String,
    org_id: String,
    owner_kind: String,
    owner_id: String,
    generation: i64,
}

async fn find_keys(
    conn: &mut SqliteConnection,
    used: &[Used],
) -> Result<HashMap<String, Owned>, StoreError> {
    let mut found = HashMap::new();
    for some in used.chunks(ROWS) {
        let start =
            "SELECT id, org_id, owner_kind, owner_id, generation FROM api_keys WHERE id IN (";
        let mut query = QueryBuilder::<Sqlite>::new(start);
        let mut ids = query.separated(", ");
        for one in some {
            ids.push_bind(one.key_id.clone());
        }
        query.push(")");
        let rows: Vec<Owned> = query.build_query_as().fetch_all(&mut *conn).await?;
        found.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
    }
    Ok(found)
}

/// Several uses together.
#[derive(Default)]
struct Sum {
    calls: i64,
    denied: i64,
    /// The newest use with a proven secret.
    last: Option<(i64, Option<String>)>,
    /// The newest use or refusal.
    seen: (i64, Option<String>),
    current_ms: Option<i64>,
    previous_ms: Option<i64>,
}

impl Sum {
    fn add(&mut self, one: &Used, generation: i64) {
        self.calls = self.calls.saturating_add(one.allowed);
        self.denied = self.denied.saturating_add(one.denied);
        if one.at_ms >= self.seen.0 {
            self.seen = (one.at_ms, one.source.clone());
        }
        if one.is_proven() && self.last.as_ref().is_none_or(|(at_ms, _)| one.at_ms >= *at_ms) {
            self.last = Some((one.at_ms, one.source.clone()));
        }
        // A secret before the previous one is gone and has no place of its own.
        match one.generation {
            Some(proven) if proven == generation => {
                self.current_ms = self.current_ms.max(Some(one.at_ms));
            }
            Some(proven) if proven == generation - 1 => {
                self.previous_ms = self.previous_ms.max(Some(one.at_ms));
            }
            Some(_) | None => {}
        }
    }

    fn last_ms(&self) -> Option<i64> {
        self.last.as_ref().map(|(at_ms, _)| *at_ms)
    }

    fn last_ip(&self) -> Option<String> {
        self.last.as_ref().and_then(|(_, source)| source.clone())
    }
}

async fn add_to_keys(
    conn: &mut SqliteConnection,
    sums: &BTreeMap<&str, Sum>,
) -> Result<(), StoreError> {
    let sums: Vec<_> = sums.iter().collect();
    for some in sums.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "WITH seen (key_id, calls, refusals, at_ms, ip, current_ms, previous_ms) AS (",
        );
        query.push_values(some, |mut row, (id, sum)| {
            row.push_bind((**id).to_owned()).push_bind(sum.calls).push_bind(sum.denied);
            row.push_bind(sum.last_ms()).push_bind(sum.last_ip());
            row.push_bind(sum.current_ms).push_bind(sum.previous_ms);
        });
        query.push(
            ") UPDATE api_keys SET
                 use_count = use_count + seen.calls,
                 denied_count = denied_count + seen.refusals,
                 last_used_ip = CASE WHEN seen.at_ms >= COALESCE(last_used_ms, 0)
                     THEN seen.ip ELSE last_used_ip END,
                 last_used_ms = CASE WHEN seen.at_ms >= COALESCE(last_used_ms, 0)
                     THEN seen.at_ms ELSE last_used_ms END,
                 current_used_ms = CASE WHEN seen.current_ms >= COALESCE(current_used_ms, 0)
                     THEN seen.current_ms ELSE current_used_ms END,
                 previous_used_ms = CASE WHEN seen.previous_ms >= COALESCE(previous_used_ms, 0)
                     THEN seen.previous_ms ELSE previous_used_ms END
             FROM seen WHERE api_keys.id = seen.key_id",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn add_to_accounts(
    conn: &mut SqliteConnection,
    sums: &BTreeMap<&str, Sum>,
) -> Result<(), StoreError> {
    let sums: Vec<_> = sums.iter().collect();
    for some in sums.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Sqlite>::new("WITH seen (account_id, calls, refusals, at_ms, ip) AS (");
        query.push_values(some, |mut row, (id, sum)| {
            row.push_bind((**id).to_owned()).push_bind(sum.calls).push_bind(sum.denied);
            row.push_bind(sum.last_ms()).push_bind(sum.last_ip());
        });
        query.push(
            ") UPDATE service_accounts SET
                 use_count = use_count + seen.calls,
                 denied_count = denied_count + seen.refusals,
                 last_used_ip = CASE WHEN seen.at_ms >= COALESCE(last_used_ms, 0)
                     THEN seen.ip ELSE last_used_ip END,
                 last_used_ms = CASE WHEN seen.at_ms >= COALESCE(last_used_ms, 0)
                     THEN seen.at_ms ELSE last_used_ms END
             FROM seen WHERE service_accounts.id = seen.account_id",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn add_to_days(
    conn: &mut SqliteConnection,
    sums: &BTreeMap<(&str, i64), Sum>,
    keys: &HashMap<String, Owned>,
) -> Result<(), StoreError> {
    let owned = sums.iter().filter_map(|(at, sum)| Some((at, sum, keys.get(at.0)?)));
    let owned: Vec<_> = owned.collect();
    for some in owned.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO usage_daily
                 (key_id, day, org_id, owner_id, calls, denied, last_ip, last_ms) ",
        );
        query.push_values(some, |mut row, ((id, day), sum, key)| {
            row.push_bind((*id).to_owned()).push_bind(*day);
            row.push_bind(key.org_id.clone()).push_bind(key.owner_id.clone());
            row.push_bind(sum.calls).push_bind(sum.denied);
            row.push_bind(sum.seen.1.clone()).push_bind(sum.seen.0);
        });
        query.push(
            " ON CONFLICT (key_id, day) DO UPDATE SET
                 calls = usage_daily.calls + excluded.calls,
                 denied = usage_daily.denied + excluded.denied,
                 last_ip = CASE WHEN excluded.last_ms >= usage_daily.last_ms
                     THEN excluded.last_ip ELSE usage_daily.last_ip END,
                 last_ms = CASE WHEN excluded.last_ms >= usage_daily.last_ms
                     THEN excluded.last_ms ELSE usage_daily.last_ms END",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn add_to_orgs(
    conn: &mut SqliteConnection,
    sums: &BTreeMap<(&str, i64), Sum>,
) -> Result<(), StoreError> {
    let sums: Vec<_> = sums.iter().collect();
    for some in sums.chunks(ROWS) {
        let start = "INSERT INTO org_usage_daily (org_id, day, calls, denied) ";
        let mut query = QueryBuilder::<Sqlite>::new(start);
        query.push_values(some, |mut row, ((org_id, day), sum)| {
            row.push_bind((*org_id).to_owned()).push_bind(*day);
            row.push_bind(sum.calls).push_bind(sum.denied);
        });
        query.push(
            " ON CONFLICT (org_id, day) DO UPDATE SET
                 calls = org_usage_daily.calls + excluded.calls,
                 denied = org_usage_daily.denied + excluded.denied",
        );
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets days that nobody can ask for any more.
pub(crate) async fn prune(store: &Store, now: WallMs) -> Result<(), StoreError> {
    let last = column(now) / DAY_MS - KEPT_DAYS;
    let mut turn = store.writer.turn().await?;
    for statement in
        ["DELETE FROM usage_daily WHERE day < $1", "DELETE FROM org_usage_daily WHERE day < $1"]
    {
        sqlx::query(statement).bind(last).execute(turn.conn()).await?;
    }
    turn.keep(None).await
}

/// One day of a key or an account.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct DayRow {
    pub(crate) day: i64,
    pub(crate) calls: i64,
    pub(crate) denied: i64,
    pub(crate) last_ip: Option<String>,
}

/// The days of one key from `first` to `last`, both included, that saw anything.
pub(crate) async fn list_of_key(
    conn: &mut SqliteConnection,
    key_id: &str,
    (first, last): (i64, i64),
) -> Result<Vec<DayRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT day, calls, denied, last_ip FROM usage_daily
         WHERE key_id = $1 AND day >= $2 AND day <= $3 ORDER BY day",
    )
    .bind(key_id)
    .bind(first)
    .bind(last)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The same for all keys of an owner, also deleted ones. A day's address is that of the key that
/// was used last.
pub(crate) async fn list_of_owner(
    conn: &mut SqliteConnection,
    owner_id: &str,
    (first, last): (i64, i64),
) -> Result<Vec<DayRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT day, SUM(calls) AS calls, SUM(denied) AS denied,
             (SELECT newest.last_ip FROM usage_daily AS newest
              WHERE newest.owner_id = $1 AND newest.day = usage_daily.day
              ORDER BY newest.last_ms DESC LIMIT 1) AS last_ip
         FROM usage_daily
         WHERE owner_id = $1 AND day >= $2 AND day <= $3 GROUP BY day ORDER BY day",
    )
    .bind(owner_id)
    .bind(first)
    .bind(last)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// An organization in numbers.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct OrgUsageRow {
    pub(crate) seats: i64,
    pub(crate) service_accounts: i64,
    pub(crate) keys: i64,
    pub(crate) calls: i64,
    pub(crate) denied: i64,
}

/// How many there are now, and what they did from `first` to `last`.
pub(crate) async fn count_of_org(
    conn: &mut SqliteConnection,
    org_id: &str,
    (first, last): (i64, i64),
) -> Result<OrgUsageRow, StoreError> {
    let row = sqlx::query_as(
        "SELECT
             (SELECT COUNT(*) FROM users WHERE org_id = $1 AND state = 'active') AS seats,
             (SELECT COUNT(*) FROM service_accounts WHERE org_id = $1 AND state <> 'deleted')
                 AS service_accounts,
             (SELECT COUNT(*) FROM api_keys WHERE org_id = $1 AND state <> 'deleted') AS keys,
             (SELECT CAST(COALESCE(SUM(calls), 0) AS BIGINT) FROM org_usage_daily
              WHERE org_id = $1 AND day >= $2 AND day <= $3) AS calls,
             (SELECT CAST(COALESCE(SUM(denied), 0) AS BIGINT) FROM org_usage_daily
              WHERE org_id = $1 AND day >= $2 AND day <= $3) AS denied",
    )
    .bind(org_id)
    .bind(first)
    .bind(last)
    .fetch_one(conn)
    .await?;
    Ok(row)
}
