//! Pages of lists: every list is ordered by creation and then id, and continues after the last row
//! shown. So a row that exists throughout a listing appears exactly once.
//!
//! Filters that no index answers are searched for, and a search looks at no more than
//! [`MOST_SEARCHED`] rows for a page. What it found by then is the page, be it short or empty, and
//! the list continues from there. So no filter makes a page slow, however large the table is.

use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

use super::StoreError;

/// Rows that are looked at for one page of a search.
pub(super) const MOST_SEARCHED: i64 = 10_000;

/// Tables whose totals are kept by organization and state (`migrations/0009_totals.sql`).
const TOTALLED: [&str; 3] = ["api_keys", "role_bindings", "service_accounts"];

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
            kept: QueryBuilder::new(format!(
                "SELECT COALESCE(SUM(total), 0) FROM totals WHERE of_table = '{table}'"
            )),
            table,
            bounds: Vec::new(),
            indexed: Vec::new(),
            searches: false,
            few: false,
            has_total: TOTALLED.contains(&table),
        }
    }
}

/// The rows of a page, which may be one more than the page.
pub(crate) struct Found<T> {
    pub(crate) rows: Vec<T>,
    /// All rows that pass the filters, if asked.
    pub(crate) total: Option<i64>,
    /// Where the search ended, if that is not the end of the list.
    pub(crate) horizon: Option<(i64, String)>,
}

impl<T> From<(Vec<T>, Option<i64>)> for Found<T> {
    fn from((rows, total): (Vec<T>, Option<i64>)) -> Found<T> {
        Found { rows, total, horizon: None }
    }
}

/// Conditions, built once for the page and twice for the total, by counting and as kept. Column names are literals of ours;
/// values are always bound.
pub(super) struct Filters {
    page: QueryBuilder<Sqlite>,
    total: QueryBuilder<Sqlite>,
    kept: QueryBuilder<Sqlite>,
    table: &'static str,
    /// What the whole list is limited to.
    bounds: Vec<(&'static str, String)>,
    /// Conditions that have an index, together with the bounds and in the list's order.
    indexed: Vec<(&'static str, String)>,
    /// Whether there are conditions without.
    searches: bool,
    /// Whether the list is a short one, of rows that are found by their ids.
    few: bool,
    /// Whether the total is kept: no condition is about anything but organization and state.
    has_total: bool,
}

impl Filters {
    /// Limits the list, like [`Filters::equal`]; an index has these columns and then the order.
    pub(super) fn within(&mut self, column: &'static str, value: &str) {
        self.compare(column, " = ", value);
        self.has_total &= column == "org_id";
        self.bounds.push((column, value.to_owned()));
    }

    /// Like [`Filters::equal`], where an index has the bounds, this column, and then the order.
    pub(super) fn indexed(&mut self, column: &'static str, value: &str) {
        self.compare(column, " = ", value);
        self.has_total &= column == "state";
        self.indexed.push((column, value.to_owned()));
    }

    pub(super) fn equal(&mut self, column: &'static str, value: &str) {
        self.searches();
        self.compare(column, " = ", value);
    }

    /// The row's id is among those of a literal query of ours, which ends where the value belongs.
    /// They are few, and are looked up one by one.
    pub(super) fn among(&mut self, select: &'static str, value: &str) {
        self.few = true;
        self.has_total = false;
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND id IN (").push(select).push_bind(value.to_owned()).push(")");
        }
    }

    /// A literal query of ours finds something for the row; it ends where the value belongs.
    pub(super) fn exists(&mut self, select: &'static str, value: &str) {
        self.searches();
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND EXISTS (").push(select).push_bind(value.to_owned()).push(")");
        }
    }

    /// The columns' row was created or, as the column says, used before `ms`, or never.
    pub(super) fn never_or_before(&mut self, column: &'static str, ms: i64) {
        self.searches();
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND (").push(column).push(" IS NULL OR ").push(column).push(" < ");
            query.push_bind(ms).push(")");
        }
    }

    pub(super) fn before(&mut self, column: &'static str, ms: i64) {
        self.searches();
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(column).push(" < ").push_bind(ms);
        }
    }

    /// The instant in the column is set and not later than `ms` (or, inverted, absent or later).
    pub(super) fn reached(&mut self, column: &'static str, ms: i64, wanted: bool) {
        self.searches();
        for query in [&mut self.page, &mut self.total] {
            query.push(" AND ").push(if wanted { "" } else { "NOT " });
            query.push("(").push(column).push(" IS NOT NULL AND ").push(column).push(" <= ");
            query.push_bind(ms).push(")");
        }
    }

    /// Any of the columns contains the text; wildcards in it stand for themselves.
    pub(super) fn contains(&mut self, columns: &[&'static str], text: &str) {
        self.searches();
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

    /// Leaves out what is only a tombstone.
    pub(super) fn undeleted(&mut self) {
        self.searches = true;
        for query in [&mut self.page, &mut self.total, &mut self.kept] {
            query.push(" AND state <> 'deleted'");
        }
    }

    /// A condition that no index answers.
    fn searches(&mut self) {
        self.searches = true;
        self.has_total = false;
    }

    fn compare(&mut self, column: &'static str, operator: &'static str, value: &str) {
        for query in [&mut self.page, &mut self.total, &mut self.kept] {
            query.push(" AND ").push(column).push(operator).push_bind(value.to_owned());
        }
    }
}

impl Order {
    /// Reads the rows of the page and, if asked, the total. For small tables: it looks at as many
    /// rows as it takes.
    pub(super) async fn read<T>(
        conn: &mut SqliteConnection,
        filters: Filters,
        slice: &Slice,
    ) -> Result<(Vec<T>, Option<i64>), StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let Found { rows, total, .. } = page(conn, filters, slice, None).await?;
        Ok((rows, total))
    }

    /// The same for large tables: a search ends at its horizon.
    pub(super) async fn search<T>(
        conn: &mut SqliteConnection,
        filters: Filters,
        slice: &Slice,
    ) -> Result<Found<T>, StoreError>
    where
        T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let horizon = filters.horizon(conn, slice).await?;
        page(conn, filters, slice, horizon).await
    }

    fn comparison(self) -> &'static str {
        match self {
            Order::NewestFirst => " < ",
            Order::OldestFirst => " > ",
        }
    }

    fn direction(self) -> &'static str {
        match self {
            Order::NewestFirst => " DESC",
            Order::OldestFirst => "",
        }
    }
}

impl Filters {
    /// The last row that a search looks at; none if it reaches the end, or if an index answers all.
    ///
    /// Of two indexed conditions the engine may follow either index, so then the horizon is that of
    /// the list without them: whichever it follows, it meets no more rows than these.
    async fn horizon(
        &self,
        conn: &mut SqliteConnection,
        slice: &Slice,
    ) -> Result<Option<(i64, String)>, StoreError> {
        let followed = match self.indexed.as_slice() {
            _ if self.few => return Ok(None),
            [] | [_] if !self.searches => return Ok(None),
            [one] => Some(one),
            _ => None,
        };
        let start = format!("SELECT created_ms, id FROM {} WHERE TRUE", self.table);
        let mut query = QueryBuilder::<Sqlite>::new(start);
        for (column, value) in self.bounds.iter().chain(followed) {
            query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
        }
        continue_after(&mut query, slice);
        query.push(" LIMIT 1 OFFSET ").push_bind(MOST_SEARCHED - 1);
        Ok(query.build_query_as().fetch_optional(conn).await?)
    }
}

fn continue_after(query: &mut QueryBuilder<Sqlite>, slice: &Slice) {
    if let Some((created_ms, id)) = &slice.after {
        query.push(" AND (created_ms, id)").push(slice.order.comparison()).push("(");
        query.push_bind(*created_ms).push(", ").push_bind(id.clone()).push(")");
    }
    let direction = slice.order.direction();
    query.push(" ORDER BY created_ms").push(direction).push(", id").push(direction);
}

async fn page<T>(
    conn: &mut SqliteConnection,
    mut filters: Filters,
    slice: &Slice,
    horizon: Option<(i64, String)>,
) -> Result<Found<T>, StoreError>
where
    T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
{
    let query = &mut filters.page;
    if let Some((created_ms, id)) = &horizon {
        let comparison = match slice.order {
            Order::NewestFirst => " >= (",
            Order::OldestFirst => " <= (",
        };
        query.push(" AND (created_ms, id)").push(comparison);
        query.push_bind(*created_ms).push(", ").push_bind(id.clone()).push(")");
    }
    continue_after(query, slice);
    query.push(" LIMIT ").push_bind(slice.limit);
    let rows = query.build_query_as::<T>().fetch_all(&mut *conn).await?;
    let total = match slice.count {
        true => {
            let total = if filters.has_total { &mut filters.kept } else { &mut filters.total };
            Some(total.build_query_scalar::<i64>().fetch_one(conn).await?)
        }
        false => None,
    };
    Ok(Found { rows, total, horizon })
}
