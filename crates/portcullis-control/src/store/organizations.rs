//! Rows of organizations.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;
use super::page::{Order, Slice};
use crate::instant::column;
use crate::policy::OrgPolicy;
use portcullis_core::time::WallMs;

/// An organization.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct OrganizationRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) profile: String,
    #[sqlx(try_from = "String")]
    pub(crate) policy: OrgPolicy,
    pub(crate) plan: String,
    pub(crate) allows_accounts: bool,
    pub(crate) state: String,
    pub(crate) root_resource_id: String,
    pub(crate) owner_group_id: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
}

impl OrganizationRow {
    pub(crate) const ACTIVE: &str = "active";
    pub(crate) const SUSPENDED: &str = "suspended";

    /// Whether keys of these owners work: nobody's in a suspended organization, and no account's
    /// where the plan does not include accounts. People can still put that right.
    pub(crate) fn serves(&self, owner_kind: &str) -> bool {
        self.state == OrganizationRow::ACTIVE
            && (self.allows_accounts || owner_kind != "service_account")
    }
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    id: &str,
) -> Result<Option<OrganizationRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM organizations WHERE id = $1")
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// Whether there is any.
pub(crate) async fn exists(conn: &mut SqliteConnection) -> Result<bool, StoreError> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT id FROM organizations LIMIT 1").fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// The ids of all.
pub(crate) async fn list_ids(conn: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let ids =
        sqlx::query_scalar("SELECT id FROM organizations ORDER BY id").fetch_all(conn).await?;
    Ok(ids)
}

/// The policies of these organizations.
pub(crate) async fn list_policies(
    conn: &mut SqliteConnection,
    ids: &[String],
) -> Result<Vec<OrgPolicy>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(try_from = "String")]
        policy: OrgPolicy,
    }
    let mut policies = Vec::new();
    for some in ids.chunks(500) {
        let start = "SELECT policy FROM organizations WHERE id IN (";
        let mut query = QueryBuilder::<Sqlite>::new(start);
        let mut list = query.separated(", ");
        for id in some {
            list.push_bind(id.clone());
        }
        query.push(")");
        let rows: Vec<Row> = query.build_query_as().fetch_all(&mut *conn).await?;
        policies.extend(rows.into_iter().map(|row| row.policy));
    }
    Ok(policies)
}

/// One page of all organizations; `only` limits it to one.
pub(crate) async fn list(
    conn: &mut SqliteConnection,
    only: Option<&str>,
    slice: &Slice,
) -> Result<(Vec<OrganizationRow>, Option<i64>), StoreError> {
    let mut filters = slice.filters("organizations");
    if let Some(id) = only {
        filters.equal("id", id);
    }
    Order::read(conn, filters, slice).await
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &OrganizationRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO organizations (id, name, profile, policy, plan, allows_accounts, state,
             root_resource_id, owner_group_id, created_ms, updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&row.id)
    .bind(&row.name)
    .bind(&row.profile)
    .bind(row.policy.to_column())
    .bind(&row.plan)
    .bind(row.allows_accounts)
    .bind(&row.state)
    .bind(&row.root_resource_id)
    .bind(&row.owner_group_id)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// All organizations that are older than groups.
pub(crate) async fn list_without_groups(
    conn: &mut SqliteConnection,
) -> Result<Vec<OrganizationRow>, StoreError> {
    let rows = sqlx::query_as("SELECT * FROM organizations WHERE owner_group_id = '' ORDER BY id")
        .fetch_all(conn)
        .await?;
    Ok(rows)
}

/// Notes which group the owners are in: once, and not a change of the organization.
pub(crate) async fn set_owner_group(
    conn: &mut SqliteConnection,
    id: &str,
    group_id: &str,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE organizations SET owner_group_id = $2 WHERE id = $1")
        .bind(id)
        .bind(group_id)
        .execute(conn)
        .await?;
    super::exactly_one(&done)
}

/// Saves a changed organization: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut OrganizationRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE organizations SET name = $3, profile = $4, policy = $5, plan = $6,
             allows_accounts = $7, state = $8, updated_ms = $9, version = $10
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.name)
    .bind(&row.profile)
    .bind(row.policy.to_column())
    .bind(&row.plan)
    .bind(row.allows_accounts)
    .bind(&row.state)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}
