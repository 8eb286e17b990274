//! What the making of one account wrote, as rows with gaps where another account differs.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use crate::plant::{Pools, Recipe};

/// The tables whose rows belong to an account, in the order of writing. The events of the audit
/// log come last, for their chain is computed.
pub(crate) const TABLES: [&str; 6] =
    ["service_accounts", "api_keys", "role_bindings", "memberships", "feed_records", AUDIT];
pub(crate) const AUDIT: &str = "audit_events";

/// The newest row of each table.
pub(crate) struct Marks(HashMap<&'static str, i64>);

impl Marks {
    pub(crate) fn read(database: &Path) -> Result<Marks> {
        let conn = open(database)?;
        let mut marks = HashMap::new();
        for table in TABLES {
            let sql = format!("SELECT COALESCE(MAX(rowid), 0) FROM {table}");
            marks.insert(table, conn.query_row(&sql, [], |row| row.get(0))?);
        }
        Ok(Marks(marks))
    }
}

/// A row to be written for every account of a shape.
pub(crate) struct RowShape {
    pub(crate) table: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) cells: Vec<Cell>,
}

/// How a column is filled.
pub(crate) enum Cell {
    Fixed(Value),
    /// Milliseconds after the creation of the account.
    Instant(i64),
    /// The last characters of a key.
    Last4(usize),
    /// When it was last used, if ever.
    LastUsed,
    Text(Vec<Piece>),
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Fixed(String),
    Gap(Gap),
}

/// What is different in every account.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    ClusterId,
    ClusterRef,
    /// Of the key with this number.
    Digest(usize),
    Group,
    KeyId(usize),
    Username,
    /// One of the ids that nothing depends on but the rows of this account.
    Uuid(usize),
}

/// All rows of one account.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) share: u32,
    pub(crate) rows: Vec<RowShape>,
    pub(crate) keys: usize,
    pub(crate) uuids: usize,
    /// What stands for the id of the account.
    pub(crate) account: Option<Gap>,
    /// Whether it and its keys work.
    pub(crate) is_active: bool,
}

/// A row as it was found.
struct Found {
    table: &'static str,
    columns: Vec<String>,
    values: Vec<Value>,
}

impl Found {
    fn text(&self, column: &str) -> Option<&str> {
        let index = self.columns.iter().position(|name| name == column)?;
        match self.values.get(index) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn integer(&self, column: &str) -> Option<i64> {
        let index = self.columns.iter().position(|name| name == column)?;
        match self.values.get(index) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }
}

impl Shape {
    /// What was written since the marks.
    pub(crate) fn since(
        database: &Path,
        marks: &Marks,
        recipe: &Recipe,
        pools: &Pools,
    ) -> Result<Shape> {
        let conn = open(database)?;
        let mut found = Vec::new();
        for table in TABLES {
            found.extend(rows_after(&conn, table, marks.0.get(table).copied().unwrap_or(0))?);
        }
        let account = found.iter().find(|row| row.table == "service_accounts");
        let account = account.context("no account was made")?;
        let created = account.integer("created_ms").context("an account without an instant")?;
        let mut gaps = Gaps::default();
        gaps.learn(&found, account.text("username").context("an account without a name")?);
        gaps.learn_pools(pools);
        ensure!(gaps.keys > 0, "an account without keys");
        let mut key = 0;
        let mut rows = Vec::new();
        for row in &found {
            let number = key;
            key += usize::from(row.table == "api_keys");
            let cells = row.columns.iter().zip(&row.values);
            rows.push(RowShape {
                table: row.table,
                columns: row.columns.clone(),
                cells: cells.map(|(name, value)| gaps.cell(name, value, created, number)).collect(),
            });
        }
        let Recipe { name, share, .. } = recipe;
        let id = account.text("id").unwrap_or_default();
        let gap = gaps.texts.iter().find(|(text, _)| text == id).map(|(_, gap)| *gap);
        let is_active = account.text("state") == Some("active");
        let (keys, uuids) = (gaps.keys, gaps.uuids);
        Ok(Shape { name, share: *share, rows, keys, uuids, account: gap, is_active })
    }
}

/// The texts that stand for something that differs.
#[derive(Default)]
struct Gaps {
    texts: Vec<(String, Gap)>,
    keys: usize,
    uuids: usize,
}

impl Gaps {
    fn learn(&mut self, found: &[Found], username: &str) {
        self.texts.push((username.to_owned(), Gap::Username));
        for row in found {
            if row.table == "api_keys" {
                for (column, gap) in
                    [("id", Gap::KeyId(self.keys)), ("current_digest", Gap::Digest(self.keys))]
                {
                    if let Some(text) = row.text(column) {
                        self.texts.push((text.to_owned(), gap));
                    }
                }
                self.keys += 1;
            }
            let of_its_own = match row.table {
                "feed_records" => &[][..],
                "api_keys" => &["uid"][..],
                _ => &["id"][..],
            };
            for text in of_its_own.iter().filter_map(|column| row.text(column)) {
                self.texts.push((text.to_owned(), Gap::Uuid(self.uuids)));
                self.uuids += 1;
            }
        }
    }

    fn learn_pools(&mut self, pools: &Pools) {
        if let Some((id, reference)) = pools.clusters.first() {
            self.texts.push((id.clone(), Gap::ClusterId));
            self.texts.push((format!("cluster/{reference}"), Gap::ClusterRef));
        }
        if let Some(id) = pools.groups.first() {
            self.texts.push((id.clone(), Gap::Group));
        }
    }

    fn cell(&self, column: &str, value: &Value, created: i64, key: usize) -> Cell {
        match value {
            Value::Text(_) if column == "last4" => Cell::Last4(key),
            Value::Text(text) => match self.pieces(text) {
                pieces if pieces.iter().all(|piece| matches!(piece, Piece::Fixed(_))) => {
                    Cell::Fixed(value.clone())
                }
                pieces => Cell::Text(pieces),
            },
            Value::Integer(ms) if column.ends_with("_ms") => Cell::Instant(ms - created),
            Value::Null if column == "last_used_ms" => Cell::LastUsed,
            other => Cell::Fixed(other.clone()),
        }
    }

    fn pieces(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = text;
        loop {
            let next = self.texts.iter().filter_map(|(known, gap)| {
                rest.find(known.as_str()).map(|at| (at, known.len(), *gap))
            });
            let Some((at, length, gap)) = next.min_by_key(|(at, _, _)| *at) else { break };
            let (before, from) = rest.split_at(at);
            if !before.is_empty() {
                pieces.push(Piece::Fixed(before.to_owned()));
            }
            pieces.push(Piece::Gap(gap));
            rest = from.get(length..).unwrap_or_default();
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Fixed(rest.to_owned()));
        }
        pieces
    }
}

fn open(database: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY);
    conn.with_context(|| format!("opening {}", database.display()))
}

fn rows_after(conn: &Connection, table: &'static str, rowid: i64) -> Result<Vec<Found>> {
    let sql = format!("SELECT * FROM {table} WHERE rowid > ?1 ORDER BY rowid");
    let mut statement = conn.prepare(&sql)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([rowid], |row| {
        let values = (0..columns.len()).map(|index| row.get(index));
        let values = values.collect::<rusqlite::Result<Vec<Value>>>()?;
        Ok(Found { table, columns: columns.clone(), values })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_everything_that_differs_and_at_nothing_else() {
        let texts = vec![("abc".to_owned(), Gap::Username), ("def".to_owned(), Gap::Uuid(3))];
        let gaps = Gaps { texts, keys: 0, uuids: 0 };
        let fixed = |text: &str| Piece::Fixed(text.to_owned());
        assert_eq!(
            gaps.pieces("{def:abc}"),
            [
                fixed("{"),
                Piece::Gap(Gap::Uuid(3)),
                fixed(":"),
                Piece::Gap(Gap::Username),
                fixed("}")
            ]
        );
        assert_eq!(gaps.pieces("abcdef"), [Piece::Gap(Gap::Username), Piece::Gap(Gap::Uuid(3))]);
        assert_eq!(gaps.pieces("other"), [fixed("other")]);
        assert_eq!(gaps.pieces(""), [fixed("")]);
    }
}
