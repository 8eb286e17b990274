//! Pages of lists: every list is ordered by creation and then id, and continues after the last row
//! shown. So a row that exists throughout a listing appears exactly once.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;

/// Direction of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    NewestFirst,
    OldestFirst,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) order: Order,
    /// `created_ms` and id of the last row already shown.
    pub(crate) after: Option<(i64, String)>,
    /// Rows to read: one more than the page, to know whether there is another.
    pub(crate) limit: i64,
    /// Whether all rows that pass the filters are counted too.
    pub(crate) count: bool,
}

impl Slice {
    /// Starts the conditions of a list over `table`.
    pub(super) fn filters(&self, table: &'static str) -> Filters {
        Filters {
            page: QueryBuilder::new(format!("SELECT * FROM {table} WHERE TRUE")),
            total: QueryBuilder::new(format!("SELECT COUNT(*) FROM {table} WHERE TRUE")),
        }
    }
}

/// Conditions, built once for the page and once for the total. Column names are literals of ours;
/// values are always bound.
pub(super) struct Filters {
    page: QueryBuilder<Sqlite>,
    total: QueryBuilder<Sqlite>,
}

impl Filters {
    pub(super) fn equal(&mut self, column: &'static str, value: &str) {
        self.compare(column, " = ", value);
    }

    /// The columns' row was created or, as the column says, used before `ms`, or never.
    pub(super) fn never_or_before(&mut self, column: &'static str, ms: i64) {
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND (").push(column).push(" IS NULL OR ").push(column).push(" < ");
            query.push_bind(ms).push(")");
        }
    }

    pub(super) fn before(&mut self, column: &'static str, ms: i64) {
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(column).push(" < ").push_bind(ms);
        }
    }

    /// The instant in the column is set and not later than `ms` (or, inverted, absent or later).
    pub(super) fn reached(&mut self, column: &'static str, ms: i64, wanted: bool) {
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(if wanted { "" } else { "NOT " });
            query.push("(").push(column).push(" IS NOT NULL AND ").push(column).push(" <= ");
            query.push_bind(ms).push(")");
        }
    }

    /// Any of the columns contains the text; wildcards in it stand for themselves.
    pub(super) fn contains(&mut self, columns: &[&'static str], text: &str) {
        let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND (FALSE");
            for column in columns {
                query.push(" OR LOWER(").push(column).push(") LIKE ");
                query.push_bind(format!("%{}%", escaped.to_lowercase())).push(" ESCAPE '\\'");
            }
            query.push(")");
        }
    }

    /// A condition without values, a literal of ours.
    pub(super) fn plain(&mut self, condition: &'static str) {
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(condition);
        }
    }

    fn compare(&mut self, column: &'static str, operator: &'static str, value: &str) {
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(column).push(operator).push_bind(value.to_owned());
        }
    }
}

impl Order {
    /// Reads the rows of the page and, if asked, the total.
    pub(super) async fn read<T>(
        conn: &mut SqliteConnection,
        mut filters: Filters,
        slice: &Slice,
    ) -> Result<(Vec<T>, Option<i64>), StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let (comparison, direction) = match slice.order {
            Order::NewestFirst => (" < ", " DESC"),
            Order::OldestFirst => (" > ", ""),
        };
        let page = &mut filters.page;
        if let Some((created_ms, id)) = &slice.after {
            page.push(" AND (created_ms, id)").push(comparison).push("(");
            page.push_bind(*created_ms).push(", ").push_bind(id.clone()).push(")");
        }
        page.push(" ORDER BY created_ms").push(direction).push(", id").push(direction);
        page.push(" LIMIT ").push_bind(slice.limit);
        let rows = page.build_query_as::<T>().fetch_all(&mut *conn).await?;
        let total = match slice.count {
            true => Some(filters.total.build_query_scalar::<i64>().fetch_one(conn).await?),
            false => None,
        };
        Ok((rows, total))
    }
}
