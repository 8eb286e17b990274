//! Rows of any table as JSON: what an export is made of. It knows the tables and their order, and
//! nothing of what the rows mean.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{
    Column as _, Executor as _, QueryBuilder, Row as _, SqlSafeStr as _, Sqlite, SqliteConnection,
    TypeInfo as _, ValueRef as _,
};

use super::StoreError;

/// A table that an export holds.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What a row of one organization fulfils, before and after its id; absent if the table is the
    /// installation's own.
    of_org: Option<(&'static str, &'static str)>,
    order: &'static str,
}

const fn of_org(name: &'static str, order: &'static str) -> Table {
    Table { name, of_org: Some(("org_id = ", "")), order }
}

/// A parent comes before its children, whenever they were moved.
const BY_DEPTH: &str = "(WITH RECURSIVE up (id, step) AS (
     SELECT resources.parent_id, 0
     UNION ALL
     SELECT r.parent_id, up.step + 1 FROM resources r JOIN up ON r.id = up.id
     WHERE up.step < 16)
 SELECT MAX(step) FROM up), id";

/// Columns that follow from other rows: an export is without them, an import works them out.
const DERIVED: &[(&str, &str)] = &[("account_groups", "member_count")];

/// What refers to something comes after it.
pub(crate) const TABLES: &[Table] = &[
    Table { name: "installation_keys", of_org: None, order: "id" },
    Table { name: "organizations", of_org: Some(("id = ", "")), order: "id" },
    of_org("resources", BY_DEPTH),
    of_org("users", "id"),
    of_org("service_accounts", "id"),
    Table {
        name: "takeovers",
        of_org: Some(("account_id IN (SELECT id FROM service_accounts WHERE org_id = ", ")")),
        order: "legacy_id",
    },
    of_org("api_keys", "id"),
    Table {
        name: "imported_texts",
        of_org: Some(("key_id IN (SELECT id FROM api_keys WHERE org_id = ", ")")),
        order: "digest",
    },
    of_org("roles", "id"),
    of_org("account_groups", "id"),
    of_org("memberships", "id"),
    of_org("security_policies", "id"),
    of_org("role_bindings", "id"),
    of_org("usage_daily", "key_id, day"),
    of_org("org_usage_daily", "org_id, day"),
    of_org("audit_events", "org_id, seq"),
    of_org("audit_checkpoints", "org_id, seq"),
];

/// Tables that stay behind: what gateways hold is made anew from the rows, and the rest is only
/// about this database.
#[cfg(test)]
const LEFT_BEHIND: &[&str] = &[
    "_sqlx_migrations",
    "changes",
    "feed_records",
    "feed_state",
    "gateways",
    "idempotent_answers",
    "installation",
    "totals",
    "usage_reports",
];

impl Table {
    pub(crate) fn find(name: &str) -> Option<&'static Table> {
        TABLES.iter().find(|table| table.name == name)
    }

    /// Whether an export of one organization holds rows of it.
    pub(crate) fn has_org(&self) -> bool {
        self.of_org.is_some()
    }

    fn derives(&self, column: &str) -> bool {
        DERIVED.contains(&(self.name, column))
    }

    /// The rows: of one organization, or all.
    pub(crate) fn rows<'q>(
        &'static self,
        conn: &'q mut SqliteConnection,
        query: &'q mut QueryBuilder<Sqlite>,
        org_id: Option<&str>,
    ) -> BoxStream<'q, Result<Map<String, Value>, StoreError>> {
        query.push("SELECT * FROM ").push(self.name);
        if let (Some((before, after)), Some(id)) = (self.of_org, org_id) {
            query.push(" WHERE ").push(before).push_bind(id.to_owned()).push(after);
        }
        query.push(" ORDER BY ").push(self.order);
        let rows = query.build().fetch(conn).map_err(StoreError::from);
        let told = |row: SqliteRow| {
            let mut members = json_of(&row)?;
            members.retain(|name, _| !self.derives(name));
            Ok(members)
        };
        rows.map(move |row| row.and_then(told)).boxed()
    }

    /// The columns of an export with their types, as the schema has them now.
    pub(crate) async fn columns(
        &self,
        conn: &mut SqliteConnection,
    ) -> Result<Vec<ColumnType>, StoreError> {
        let text = format!("SELECT * FROM {} LIMIT 0", self.name);
        let statement = conn.prepare(sqlx::AssertSqlSafe(text).into_sql_str()).await?;
        let columns = sqlx::Statement::columns(&statement).iter();
        let columns = columns.filter(|column| !self.derives(column.name())).map(|column| {
            let kind = match column.type_info().name() {
                "TEXT" => Scalar::Text,
                "BOOLEAN" => Scalar::Boolean,
                _ => Scalar::Integer,
            };
            ColumnType { name: column.name().to_owned(), kind }
        });
        Ok(columns.collect())
    }

    /// Inserts a row that has exactly these columns.
    pub(crate) async fn insert(
        &self,
        conn: &mut SqliteConnection,
        columns: &[ColumnType],
        row: &Map<String, Value>,
    ) -> Result<(), InsertFault> {
        if let Some(name) = row.keys().find(|name| columns.iter().all(|has| has.name != **name)) {
            return Err(InsertFault::Row(format!("{} has no column {name}", self.name)));
        }
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO ");
        query.push(self.name).push(" (");
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        query.push(names.join(", ")).push(") VALUES (");
        let mut values = query.separated(", ");
        for ColumnType { name, kind } in columns {
            match (row.get(name), kind) {
                (None, _) => {
                    return Err(InsertFault::Row(format!("{}.{name} is missing", self.name)));
                }
                (Some(Value::Null), _) => values.push_bind(None::<String>),
                (Some(Value::String(text)), Scalar::Text) => values.push_bind(text.clone()),
                (Some(Value::Bool(truth)), Scalar::Boolean) => values.push_bind(*truth),
                (Some(Value::Number(number)), Scalar::Integer) => match number.as_i64() {
                    Some(number) => values.push_bind(number),
                    None => return Err(self.wrong(name)),
                },
                (Some(_), _) => return Err(self.wrong(name)),
            };
        }
        query.push(")");
        match query.build().execute(conn).await {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(InsertFault::Row(format!("{} has such a row already", self.name)))
            }
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Err(
                InsertFault::Row(format!("{} refers to something that is not there", self.name)),
            ),
            Err(sqlx::Error::Database(error)) if error.is_check_violation() => {
                Err(InsertFault::Row(format!("{} does not allow this row", self.name)))
            }
            Err(error) => Err(InsertFault::Store(error.into())),
        }
    }

    fn wrong(&self, column: &str) -> InsertFault {
        InsertFault::Row(format!("{}.{column} is of the wrong type", self.name))
    }
}

/// A column and what its values are.
pub(crate) struct ColumnType {
    name: String,
    kind: Scalar,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Scalar {
    Boolean,
    Integer,
    Text,
}

/// Why a row was not inserted.
pub(crate) enum InsertFault {
    /// It does not fit; the text says why, without the row's values.
    Row(String),
    Store(StoreError),
}

fn json_of(row: &SqliteRow) -> Result<Map<String, Value>, StoreError> {
    let mut members = Map::new();
    for column in row.columns() {
        let index = column.ordinal();
        let value = match (row.try_get_raw(index)?.is_null(), column.type_info().name()) {
            (true, _) => Value::Null,
            (false, "TEXT") => Value::String(row.try_get(index)?),
            (false, "BOOLEAN") => Value::Bool(row.try_get(index)?),
            (false, _) => Value::from(row.try_get::<i64, _>(index)?),
        };
        members.insert(column.name().to_owned(), value);
    }
    Ok(members)
}

/// Sums of rows that belong to two organizations at once, by table: all zero in any database of
/// ours (I-16).
pub(crate) async fn find_stray(
    conn: &mut SqliteConnection,
) -> Result<Option<&'static str>, StoreError> {
    for (table, statement) in [
        (
            "resources",
            "SELECT COUNT(*) FROM resources c JOIN resources p ON p.id = c.parent_id
             WHERE p.org_id <> c.org_id",
        ),
        (
            "role_bindings",
            "SELECT COUNT(*) FROM role_bindings b JOIN resources r ON r.id = b.resource_id
             WHERE r.org_id <> b.org_id",
        ),
        (
            "memberships",
            "SELECT COUNT(*) FROM memberships m JOIN account_groups g ON g.id = m.group_id
             WHERE g.org_id <> m.org_id",
        ),
        (
            "api_keys",
            "SELECT COUNT(*) FROM api_keys k
             WHERE NOT EXISTS (SELECT 1 FROM users u
                     WHERE u.id = k.owner_id AND u.org_id = k.org_id)
                 AND NOT EXISTS (SELECT 1 FROM service_accounts a
                     WHERE a.id = k.owner_id AND a.org_id = k.org_id)",
        ),
    ] {
        let count: i64 = sqlx::query_scalar(statement).fetch_one(&mut *conn).await?;
        if count > 0 {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::{LEFT_BEHIND, Table};

    #[tokio::test]
    async fn every_table_is_exported_or_left_behind_on_purpose() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("p.db"), u64::MAX).await.expect("a new database");
        let mut view = store.view().await.expect("a view");
        let statement = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let names: Vec<String> =
            sqlx::query_scalar(statement).fetch_all(view.conn()).await.expect("names");
        for name in names {
            let left = LEFT_BEHIND.contains(&name.as_str()) || name.starts_with("sqlite_");
            assert!(
                Table::find(&name).is_some() != left,
                "say in store/tables.rs whether the table {name} is part of an export"
            );
        }
    }
}
