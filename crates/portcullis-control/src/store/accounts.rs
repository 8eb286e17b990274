//! Rows of service accounts.

use portcullis_core::account::AccountState;
use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::groups;
use super::page::{Found, Order, Slice};
use crate::instant::column;

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct AccountRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    pub(crate) username: String,
    /// The username as it is compared.
    pub(crate) username_key: String,
    pub(crate) display_name: String,
    pub(crate) description: Option<String>,
    pub(crate) owning_team: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) state: String,
    /// JSON of the author.
    pub(crate) author: String,
    pub(crate) managed_by: String,
    /// JSON array.
    pub(crate) external_refs: String,
    /// The workspace it belongs to, if it is no account of the organization.
    pub(crate) legacy_workspace_id: Option<String>,
    pub(crate) last_used_ms: Option<i64>,
    pub(crate) last_used_ip: Option<String>,
    pub(crate) use_count: i64,
    pub(crate) denied_count: i64,
    pub(crate) last_login_ms: Option<i64>,
    pub(crate) deactivated_ms: Option<i64>,
    pub(crate) deactivated_by: Option<String>,
    pub(crate) revoked_ms: Option<i64>,
    pub(crate) revoked_by: Option<String>,
    pub(crate) deleted_ms: Option<i64>,
    pub(crate) deleted_by: Option<String>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
}

impl AccountRow {
    pub(crate) fn state(&self) -> Result<AccountState, StoreError> {
        self.state.parse().map_err(|_| StoreError::Broken("state of a service account"))
    }
}

/// The account, deleted or not.
pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<AccountRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM service_accounts WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// The account that has the username now; with `deleted`, also one that had it.
pub(crate) async fn find_by_username(
    conn: &mut SqliteConnection,
    org_id: &str,
    username_key: &str,
    deleted: bool,
) -> Result<Option<AccountRow>, StoreError> {
    let row = sqlx::query_as(
        "SELECT * FROM service_accounts
         WHERE org_id = $1 AND username_key = $2 AND ($3 OR state <> 'deleted')
         ORDER BY state = 'deleted' LIMIT 1",
    )
    .bind(org_id)
    .bind(username_key)
    .bind(deleted)
    .fetch_optional(conn)
    .await?;
    Ok(row)
}

/// Filters of a list of accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountFilter {
    pub(crate) state: Option<String>,
    pub(crate) username_key: Option<String>,
    pub(crate) q: Option<String>,
    pub(crate) managed_by: Option<String>,
    pub(crate) group_id: Option<String>,
    pub(crate) unused_since_ms: Option<i64>,
    pub(crate) include_deleted: bool,
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &AccountFilter,
    slice: &Slice,
) -> Result<Found<AccountRow>, StoreError> {
    let AccountFilter {
        state,
        username_key,
        q,
        managed_by,
        group_id,
        unused_since_ms,
        include_deleted,
    } = filter;
    let few_of_group = match group_id {
        Some(id) => groups::is_small(conn, id).await?,
        None => false,
    };
    let mut filters = slice.filters("service_accounts");
    match few_of_group {
        // Not the column itself, so that no index leads through all accounts to the few.
        true => filters.equal("COALESCE(org_id, '')", org_id),
        false => filters.within("org_id", org_id),
    }
    for (column, wanted) in
        [("state", state), ("username_key", username_key), ("managed_by", managed_by)]
    {
        if let Some(value) = wanted {
            filters.indexed(column, value);
        }
    }
    if let Some(id) = group_id {
        if few_of_group {
            filters.among("SELECT principal_id FROM memberships WHERE group_id = ", id);
        } else {
            let member = "SELECT 1 FROM memberships
                 WHERE principal_id = service_accounts.id AND group_id = ";
            filters.exists(member, id);
        }
    }
    if let Some(text) = q {
        filters.contains(&["username_key", "display_name"], text);
    }
    if let Some(ms) = unused_since_ms {
        filters.never_or_before("last_used_ms", *ms);
    }
    if !include_deleted {
        filters.undeleted();
    }
    Order::search(conn, filters, slice).await
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &AccountRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO service_accounts (id, org_id, username, username_key, display_name,
             description, owning_team, avatar_url, state, author, managed_by, external_refs,
             created_ms, updated_ms, version, legacy_workspace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.username)
    .bind(&row.username_key)
    .bind(&row.display_name)
    .bind(&row.description)
    .bind(&row.owning_team)
    .bind(&row.avatar_url)
    .bind(&row.state)
    .bind(&row.author)
    .bind(&row.managed_by)
    .bind(&row.external_refs)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .bind(&row.legacy_workspace_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed account: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut AccountRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE service_accounts SET username = $3, username_key = $4, display_name = $5,
             description = $6, owning_team = $7, avatar_url = $8, state = $9, external_refs = $10,
             deactivated_ms = $11, deactivated_by = $12, revoked_ms = $13, revoked_by = $14,
             deleted_ms = $15, deleted_by = $16, updated_ms = $17, version = $18
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.username)
    .bind(&row.username_key)
    .bind(&row.display_name)
    .bind(&row.description)
    .bind(&row.owning_team)
    .bind(&row.avatar_url)
    .bind(&row.state)
    .bind(&row.external_refs)
    .bind(row.deactivated_ms)
    .bind(&row.deactivated_by)
    .bind(row.revoked_ms)
    .bind(&row.revoked_by)
    .bind(row.deleted_ms)
    .bind(&row.deleted_by)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}
