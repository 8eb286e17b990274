//! Rows of API keys. A row holds digests and display hints, never a secret.

use std::collections::HashMap;

use portcullis_core::account::KeyState;
use portcullis_core::directory::Which;
use portcullis_core::key::Uid;
use portcullis_core::time::WallMs;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;
use super::page::{Found, Order, Slice};
use crate::instant::column;

/// What is stored of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secret {
    /// How the digest was made, as feed records name it.
    pub(crate) alg: String,
    /// Version of the pepper; 0 where there is none.
    pub(crate) pepper: i64,
    /// 64 hexadecimal digits; for bcrypt its own form.
    pub(crate) digest: String,
    pub(crate) created_ms: i64,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) uid: String,
    pub(crate) org_id: String,
    pub(crate) owner_kind: String,
    pub(crate) owner_id: String,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) state: String,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) generation: i64,
    pub(crate) prefix: String,
    /// Empty where nobody knows the secret: it was imported.
    pub(crate) last4: String,
    /// Whose spelling it came with.
    pub(crate) style: String,
    pub(crate) current_alg: String,
    pub(crate) current_pepper: i64,
    pub(crate) current_digest: String,
    pub(crate) current_created_ms: i64,
    pub(crate) previous_alg: Option<String>,
    pub(crate) previous_pepper: Option<i64>,
    pub(crate) previous_digest: Option<String>,
    pub(crate) previous_created_ms: Option<i64>,
    pub(crate) retained_until_ms: Option<i64>,
    /// JSON of the restriction.
    pub(crate) restriction: Option<String>,
    /// JSON of the author.
    pub(crate) created_by: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) last_used_ms: Option<i64>,
    pub(crate) last_used_ip: Option<String>,
    pub(crate) last_login_ms: Option<i64>,
    pub(crate) last_rotated_ms: Option<i64>,
    pub(crate) use_count: i64,
    pub(crate) denied_count: i64,
    /// When each secret was last proven.
    pub(crate) current_used_ms: Option<i64>,
    pub(crate) previous_used_ms: Option<i64>,
    /// After how long without use the replaced secret goes.
    pub(crate) retire_quiet_ms: Option<i64>,
    pub(crate) version: i64,
}

impl KeyRow {
    pub(crate) fn state(&self) -> Result<KeyState, StoreError> {
        self.state.parse().map_err(|_| StoreError::Broken("state of a key"))
    }

    /// Whether the replaced secret is still accepted and was not used for as long as the rotation
    /// said, counted from then at the earliest.
    pub(crate) fn is_quiet(&self, now_ms: i64) -> bool {
        let (Some(until_ms), Some(quiet_ms)) = (self.retained_until_ms, self.retire_quiet_ms)
        else {
            return false;
        };
        let since_ms = self.previous_used_ms.max(self.last_rotated_ms).unwrap_or(self.created_ms);
        now_ms < until_ms && since_ms.saturating_add(quiet_ms) <= now_ms
    }

    /// Its uid, if that does not follow from its id.
    pub(crate) fn foreign_uid(&self) -> Option<&str> {
        let uid: Option<Uid> = self.uid.parse().ok();
        uid.is_none_or(|uid| uid.key_id().is_none()).then_some(self.uid.as_str())
    }

    /// Drops the replaced secret.
    pub(crate) fn forget_previous(&mut self) {
        self.previous_alg = None;
        self.previous_pepper = None;
        self.previous_digest = None;
        self.previous_created_ms = None;
        self.previous_used_ms = None;
        self.retained_until_ms = None;
        self.retire_quiet_ms = None;
    }
}

/// The key, whatever its organization and state: for verification only.
pub(crate) async fn find_by_id(
    conn: &mut SqliteConnection,
    id: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM api_keys WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The key with the uid, whatever its organization and state: for verification only.
pub(crate) async fn find_by_uid(
    conn: &mut SqliteConnection,
    uid: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM api_keys WHERE uid = $1")
        .bind(uid)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The key that was imported with this SHA-256 of its text: for verification only.
pub(crate) async fn find_by_text(
    conn: &mut SqliteConnection,
    digest: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row = sqlx::query_as(
        "SELECT api_keys.* FROM api_keys JOIN imported_texts ON imported_texts.key_id = api_keys.id
         WHERE imported_texts.digest = $1",
    )
    .bind(digest)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Remembers for ever that this text was imported as this key.
pub(crate) async fn insert_text(
    conn: &mut SqliteConnection,
    digest: &str,
    key_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO imported_texts (digest, key_id) VALUES ($1, $2)")
        .bind(digest)
        .bind(key_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The key was exchanged for a session token: it and its account logged in and were used.
pub(crate) async fn record_login(
    conn: &mut SqliteConnection,
    row: &KeyRow,
    now: WallMs,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_keys SET last_login_ms = $2, last_used_ms = $2 WHERE id = $1")
        .bind(&row.id)
        .bind(column(now))
        .execute(&mut *conn)
        .await?;
    if row.owner_kind == "service_account" {
        sqlx::query(
            "UPDATE service_accounts SET last_login_ms = $2, last_used_ms = $2 WHERE id = $1",
        )
        .bind(&row.owner_id)
        .bind(column(now))
        .execute(conn)
        .await?;
    }
    Ok(())
}

/// Puts the fast digest of a secret in place of the slow one. The key itself has not changed, so
/// neither does its version. False if the key has another secret by now.
pub(crate) async fn replace_slow(
    conn: &mut SqliteConnection,
    row: &KeyRow,
    which: Which,
    fast: &Secret,
) -> Result<bool, StoreError> {
    let text = match which {
        Which::Current => {
            "UPDATE api_keys SET current_alg = $3, current_pepper = $4, current_digest = $5
             WHERE id = $1 AND generation = $2 AND current_alg = 'bcrypt'"
        }
        Which::Previous => {
            "UPDATE api_keys SET previous_alg = $3, previous_pepper = $4, previous_digest = $5
             WHERE id = $1 AND generation = $2 AND previous_alg = 'bcrypt'"
        }
    };
    let done = sqlx::query(text)
        .bind(&row.id)
        .bind(row.generation)
        .bind(&fast.alg)
        .bind(fast.pepper)
        .bind(&fast.digest)
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The key of this owner, deleted or not.
pub(crate) async fn find(
    conn: &mut SqliteConnection,
    owner_id: &str,
    id: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM api_keys WHERE owner_id = $1 AND id = $2")
        .bind(owner_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The owner's key that has this name now.
pub(crate) async fn find_by_name(
    conn: &mut SqliteConnection,
    owner_id: &str,
    name: &str,
) -> Result<Option<KeyRow>, StoreError> {
    let row = sqlx::query_as(
        "SELECT * FROM api_keys WHERE owner_id = $1 AND name = $2 AND state <> 'deleted'",
    )
    .bind(owner_id)
    .bind(name)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Keys that count towards the limit: neither revoked nor deleted.
pub(crate) async fn count_of_owner(
    conn: &mut SqliteConnection,
    owner_id: &str,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT COUNT(*) FROM api_keys WHERE owner_id = $1 AND state IN ('active', 'inactive')",
    )
    .bind(owner_id)
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// The same for the owners of one page. Those without keys are absent.
pub(crate) async fn count_of_owners(
    conn: &mut SqliteConnection,
    owner_ids: &[&str],
) -> Result<HashMap<String, i64>, StoreError> {
    if owner_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let start = "SELECT owner_id, COUNT(*) FROM api_keys WHERE state IN ('active', 'inactive')
         AND owner_id IN (";
    let mut query = QueryBuilder::<Sqlite>::new(start);
    let mut ids = query.separated(", ");
    for id in owner_ids {
        ids.push_bind((*id).to_owned());
    }
    query.push(") GROUP BY owner_id");
    let rows: Vec<(String, i64)> = query.build_query_as().fetch_all(conn).await?;
    Ok(rows.into_iter().collect())
}

/// All keys of an owner that still have a gateway record.
pub(crate) async fn list_living(
    conn: &mut SqliteConnection,
    owner_id: &str,
) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM api_keys WHERE owner_id = $1 AND state IN ('active', 'inactive')
         ORDER BY created_ms, id",
    )
    .bind(owner_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// All keys of an owner that are listed.
pub(crate) async fn list_undeleted(
    conn: &mut SqliteConnection,
    owner_id: &str,
) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM api_keys WHERE owner_id = $1 AND state <> 'deleted'
         ORDER BY created_ms, id",
    )
    .bind(owner_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Living keys of an organization that are restricted to some resources.
pub(crate) async fn list_restricted(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Vec<KeyRow>, StoreError> {
    let rows = sqlx::query_as(
        "SELECT * FROM api_keys WHERE org_id = $1 AND restriction IS NOT NULL
             AND state IN ('active', 'inactive')",
    )
    .bind(org_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Keys whose replaced secret has been quiet for as long as their rotation said; [`KeyRow::is_quiet`]
/// is the same of a row.
pub(crate) async fn list_quiet(
    conn: &mut SqliteConnection,
    now_ms: i64,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT id FROM api_keys
         WHERE retire_quiet_ms IS NOT NULL AND retained_until_ms > $1
             AND COALESCE(last_rotated_ms, created_ms) + retire_quiet_ms <= $1
             AND COALESCE(previous_used_ms, 0) + retire_quiet_ms <= $1
         LIMIT $2",
    )
    .bind(now_ms)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

/// Filters of a list of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFilter {
    pub(crate) owner_id: Option<String>,
    pub(crate) owner_kind: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) expired: Option<bool>,
    pub(crate) unused_since_ms: Option<i64>,
    pub(crate) older_than_ms: Option<i64>,
    /// The instant before which a secret is stale, and whether stale or fresh keys are wanted.
    pub(crate) stale_before_ms: Option<(i64, bool)>,
    pub(crate) now_ms: i64,
}

/// Deleted keys are in no list.
pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &KeyFilter,
    slice: &Slice,
) -> Result<Found<KeyRow>, StoreError> {
    let KeyFilter {
        owner_id,
        owner_kind,
        state,
        name,
        expired,
        unused_since_ms,
        older_than_ms,
        stale_before_ms,
        now_ms,
    } = filter;
    let mut filters = slice.filters("api_keys");
    filters.within("org_id", org_id);
    if let Some(id) = owner_id {
        filters.within("owner_id", id);
    }
    filters.undeleted();
    for (column, wanted) in [("owner_kind", owner_kind), ("state", state)] {
        if let Some(value) = wanted {
            filters.indexed(column, value);
        }
    }
    if let Some(value) = name {
        filters.equal("name", value);
    }
    if let Some(wanted) = expired {
        filters.reached("expires_ms", *now_ms, *wanted);
    }
    if let Some(ms) = unused_since_ms {
        filters.never_or_before("last_used_ms", *ms);
    }
    let secret_made = "COALESCE(last_rotated_ms, created_ms)";
    if let Some(ms) = older_than_ms {
        filters.before(secret_made, *ms);
    }
    if let Some((ms, wanted)) = stale_before_ms {
        filters.reached(secret_made, *ms - 1, *wanted);
    }
    Order::search(conn, filters, slice).await
}

pub(crate) async fn insert(conn: &mut SqliteConnection, row: &KeyRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_keys (id, uid, org_id, owner_kind, owner_id, name, description,
             state, expires_ms, generation, prefix, last4, current_pepper, current_digest,
             current_created_ms, restriction, created_by, created_ms, updated_ms, use_count,
             version, style, current_alg, previous_alg, previous_pepper, previous_digest,
             previous_created_ms, retained_until_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
             $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)",
    )
    .bind(&row.id)
    .bind(&row.uid)
    .bind(&row.org_id)
    .bind(&row.owner_kind)
    .bind(&row.owner_id)
    .bind(&row.name)
    .bind(&row.description)
    .bind(&row.state)
    .bind(row.expires_ms)
    .bind(row.generation)
    .bind(&row.prefix)
    .bind(&row.last4)
    .bind(row.current_pepper)
    .bind(&row.current_digest)
    .bind(row.current_created_ms)
    .bind(&row.restriction)
    .bind(&row.created_by)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.use_count)
    .bind(row.version)
    .bind(&row.style)
    .bind(&row.current_alg)
    .bind(&row.previous_alg)
    .bind(row.previous_pepper)
    .bind(&row.previous_digest)
    .bind(row.previous_created_ms)
    .bind(row.retained_until_ms)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed key: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut KeyRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE api_keys SET name = $3, description = $4, state = $5, expires_ms = $6,
             generation = $7, prefix = $8, last4 = $9, current_pepper = $10,
             current_digest = $11, current_created_ms = $12, previous_pepper = $13,
             previous_digest = $14, previous_created_ms = $15, retained_until_ms = $16,
             restriction = $17, last_rotated_ms = $18, updated_ms = $19, version = $20,
             current_used_ms = $21, previous_used_ms = $22, retire_quiet_ms = $23,
             current_alg = $24, previous_alg = $25
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.name)
    .bind(&row.description)
    .bind(&row.state)
    .bind(row.expires_ms)
    .bind(row.generation)
    .bind(&row.prefix)
    .bind(&row.last4)
    .bind(row.current_pepper)
    .bind(&row.current_digest)
    .bind(row.current_created_ms)
    .bind(row.previous_pepper)
    .bind(&row.previous_digest)
    .bind(row.previous_created_ms)
    .bind(row.retained_until_ms)
    .bind(&row.restriction)
    .bind(row.last_rotated_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .bind(row.current_used_ms)
    .bind(row.previous_used_ms)
    .bind(row.retire_quiet_ms)
    .bind(&row.current_alg)
    .bind(&row.previous_alg)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}
