//! Rows of the resource tree.

use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use super::StoreError;
use super::page::{Found, Order, Slice};
use crate::instant::column;

/// A node of an organization's tree.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ResourceRow {
    pub(crate) id: String,
    pub(crate) org_id: String,
    /// Absent for the root only.
    pub(crate) parent_id: Option<String>,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// How upstream paths and the feed call it; unique per organization and kind, never changed.
    #[sqlx(rename = "ref")]
    pub(crate) reference: String,
    pub(crate) state: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) version: i64,
}

impl ResourceRow {
    pub(crate) const ACTIVE: &str = "active";
    pub(crate) const ARCHIVED: &str = "archived";

    pub(crate) fn is_root(&self) -> bool {
        self.parent_id.is_none()
    }

    /// The name in grant points and restrictions: `org`, or `kind/ref`.
    pub(crate) fn place(&self) -> String {
        if self.is_root() { "org".to_owned() } else { format!("{}/{}", self.kind, self.reference) }
    }

    /// The id of its feed record. The root has none.
    pub(crate) fn feed_id(&self) -> String {
        format!("{}:{}/{}", self.org_id, self.kind, self.reference)
    }
}

pub(crate) async fn find(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Option<ResourceRow>, StoreError> {
    let row = sqlx::query_as("SELECT * FROM resources WHERE org_id = $1 AND id = $2")
        .bind(org_id)
        .bind(id)
        .fetch_optional(conn)
        .await?;
    Ok(row)
}

/// All resources of an organization.
pub(crate) async fn list_all(
    conn: &mut SqliteConnection,
    org_id: &str,
) -> Result<Vec<ResourceRow>, StoreError> {
    let rows = sqlx::query_as("SELECT * FROM resources WHERE org_id = $1 ORDER BY created_ms, id")
        .bind(org_id)
        .fetch_all(conn)
        .await?;
    Ok(rows)
}

pub(crate) async fn find_by_ref(
    conn: &mut SqliteConnection,
    org_id: &str,
    kind: &str,
    reference: &str,
) -> Result<Option<ResourceRow>, StoreError> {
    let row =
        sqlx::query_as("SELECT * FROM resources WHERE org_id = $1 AND kind = $2 AND ref = $3")
            .bind(org_id)
            .bind(kind)
            .bind(reference)
            .fetch_optional(conn)
            .await?;
    Ok(row)
}

/// The resource and everything above it, nearest first; empty if there is no such resource here.
pub(crate) async fn list_path(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<Vec<ResourceRow>, StoreError> {
    let rows = sqlx::query_as(
        "WITH RECURSIVE up (id, step) AS (
             SELECT id, 0 FROM resources WHERE org_id = $1 AND id = $2
             UNION ALL
             SELECT r.parent_id, up.step + 1 FROM resources r JOIN up ON r.id = up.id
             WHERE r.parent_id IS NOT NULL AND up.step < 16)
         SELECT resources.* FROM resources JOIN up ON resources.id = up.id ORDER BY up.step",
    )
    .bind(org_id)
    .bind(id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// Every resource on which the subject or one of its groups has a binding, and everything above.
pub(crate) async fn list_paths_of_subject(
    conn: &mut SqliteConnection,
    subject_id: &str,
) -> Result<Vec<ResourceRow>, StoreError> {
    let rows = sqlx::query_as(
        "WITH RECURSIVE up (id) AS (
             SELECT resource_id FROM role_bindings WHERE subject_id IN (
                 SELECT $1 UNION ALL SELECT group_id FROM memberships WHERE principal_id = $1)
             UNION
             SELECT r.parent_id FROM resources r JOIN up ON r.id = up.id
             WHERE r.parent_id IS NOT NULL)
         SELECT resources.* FROM resources JOIN up ON resources.id = up.id",
    )
    .bind(subject_id)
    .fetch_all(conn)
    .await?;
    Ok(rows)
}

/// The longest chain below a resource: 0 if it has no children.
pub(crate) async fn height_below(conn: &mut SqliteConnection, id: &str) -> Result<i64, StoreError> {
    let height = sqlx::query_scalar(
        "WITH RECURSIVE down (id, step) AS (
             SELECT id, 0 FROM resources WHERE id = $1
             UNION ALL
             SELECT r.id, down.step + 1 FROM resources r JOIN down ON r.parent_id = down.id
             WHERE down.step < 16)
         SELECT MAX(step) FROM down",
    )
    .bind(id)
    .fetch_one(conn)
    .await?;
    Ok(height)
}

pub(crate) async fn has_children(
    conn: &mut SqliteConnection,
    id: &str,
) -> Result<bool, StoreError> {
    let child: Option<String> =
        sqlx::query_scalar("SELECT id FROM resources WHERE parent_id = $1 LIMIT 1")
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(child.is_some())
}

/// Filters of a list of resources.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceFilter {
    pub(crate) parent_id: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) state: Option<String>,
}

pub(crate) async fn list(
    conn: &mut SqliteConnection,
    org_id: &str,
    filter: &ResourceFilter,
    slice: &Slice,
) -> Result<Found<ResourceRow>, StoreError> {
    let ResourceFilter { parent_id, kind, state } = filter;
    let mut filters = slice.filters("resources");
    filters.within("org_id", org_id);
    if let Some(id) = parent_id {
        filters.indexed("parent_id", id);
    }
    for (column, wanted) in [("kind", kind), ("state", state)] {
        if let Some(value) = wanted {
            filters.equal(column, value);
        }
    }
    Order::search(conn, filters, slice).await
}

pub(crate) async fn insert(
    conn: &mut SqliteConnection,
    row: &ResourceRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO resources (id, org_id, parent_id, kind, name, ref, state, created_ms,
             updated_ms, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(&row.id)
    .bind(&row.org_id)
    .bind(&row.parent_id)
    .bind(&row.kind)
    .bind(&row.name)
    .bind(&row.reference)
    .bind(&row.state)
    .bind(row.created_ms)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// Saves a changed resource: its version grows by one.
pub(crate) async fn update(
    conn: &mut SqliteConnection,
    row: &mut ResourceRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let before = row.version;
    row.version += 1;
    row.updated_ms = column(now);
    let done = sqlx::query(
        "UPDATE resources SET parent_id = $3, name = $4, state = $5, updated_ms = $6, version = $7
         WHERE id = $1 AND version = $2",
    )
    .bind(&row.id)
    .bind(before)
    .bind(&row.parent_id)
    .bind(&row.name)
    .bind(&row.state)
    .bind(row.updated_ms)
    .bind(row.version)
    .execute(conn)
    .await?;
    super::exactly_one(&done)
}

pub(crate) async fn erase(conn: &mut SqliteConnection, id: &str) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM resources WHERE id = $1").bind(id).execute(conn).await?;
    super::exactly_one(&done)
}
