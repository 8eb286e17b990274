//! Writes the rows of many accounts. Nobody else may have the database open: while it works, a
//! power failure leaves rubbish.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use portcullis_core::entropy::Entropy as _;
use portcullis_core::feed::{Kind, RecordSum, StateDigest, canonical};
use portcullis_core::key::{Pepper, PlainKey, Prefix, mint};
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params_from_iter};
use serde_json::{Map, Value as Json};
use sha2::{Digest as _, Sha256};

use crate::plant::Pools;
use crate::seeded::Seeded;
use crate::shape::{AUDIT, Cell, Gap, Piece, RowShape, Shape};

/// Accounts are spread over this long before now.
const SPAN_MS: i64 = 2 * 365 * 86_400_000;

/// Accounts that are written down for those who measure.
const SAMPLES: u32 = 2500;

/// What is wanted.
pub(crate) struct Plan<'a> {
    pub(crate) accounts: u32,
    pub(crate) audited: u32,
    pub(crate) seed: u64,
    pub(crate) pepper: &'a [u8; 32],
    pub(crate) pools: &'a Pools,
}

/// What was made.
#[derive(Default)]
pub(crate) struct Made {
    pub(crate) rows: u64,
    pub(crate) records: u64,
    /// Ids of some active accounts, each with the id of an active key.
    pub(crate) samples: Vec<(String, String)>,
}

/// The database while it is filled.
pub(crate) struct Multiplier {
    conn: Connection,
}

impl Multiplier {
    pub(crate) fn open(database: &Path) -> Result<Multiplier> {
        let conn = Connection::open(database)?;
        conn.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000000;
             PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY;",
        )?;
        Ok(Multiplier { conn })
    }

    /// Writes everything, and leaves the file as the control plane expects it.
    pub(crate) fn run(self, plan: &Plan<'_>, shapes: &[Shape]) -> Result<Made> {
        let indexes = self.drop_indexes()?;
        self.conn.execute_batch("BEGIN")?;
        let made = self.write(plan, shapes)?;
        for sql in indexes {
            eprintln!("{}", sql.split('(').next().unwrap_or_default().trim());
            self.conn.execute_batch(&sql)?;
        }
        self.conn.execute_batch(
            "UPDATE account_groups SET member_count = (
                 SELECT COUNT(*) FROM memberships WHERE memberships.group_id = account_groups.id)",
        )?;
        self.conn.execute_batch("COMMIT; PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL;")?;
        Ok(made)
    }

    /// Indexes are built faster when all rows are there.
    fn drop_indexes(&self) -> Result<Vec<String>> {
        let sql = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
        let mut statement = self.conn.prepare(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: Vec<(String, String)> = found.collect::<rusqlite::Result<_>>()?;
        drop(statement);
        for (name, _) in &found {
            self.conn.execute_batch(&format!("DROP INDEX {name}"))?;
        }
        Ok(found.into_iter().map(|(_, sql)| sql).collect())
    }

    fn write(&self, plan: &Plan<'_>, shapes: &[Shape]) -> Result<Made> {
        let seeded = Seeded::new(plan.seed);
        let pepper = Pepper::new(1, *plan.pepper);
        let newest: i64 =
            self.conn
                .query_row("SELECT MAX(created_ms) FROM service_accounts", [], |row| row.get(0))?;
        let mut writer = Writer::open(&self.conn, shapes)?;
        for number in 0..plan.accounts {
            let shape = pick(shapes, seeded.below(1000));
            let age = i64::from(plan.accounts - number) * SPAN_MS / i64::from(plan.accounts);
            let copy = Copy::new(number, newest - age, shape, plan.pools, &pepper, &seeded)?;
            let audited = number >= plan.accounts.saturating_sub(plan.audited);
            for row in &shape.rows {
                if row.table != AUDIT || audited {
                    writer.write(row, &copy, newest, &seeded)?;
                }
            }
            let wanted = plan.accounts.div_ceil(SAMPLES).max(1);
            if shape.is_active && number % wanted == wanted / 2 {
                writer.made.samples.extend(copy.sample(shape));
            }
            report(number, plan.accounts);
        }
        writer.finish()
    }
}

fn pick(shapes: &[Shape], drawn: usize) -> &Shape {
    let mut left = drawn;
    for shape in shapes {
        let share = shape.share as usize;
        if left < share {
            return shape;
        }
        left -= share;
    }
    shapes.last().unwrap_or_else(|| unreachable!("there is a shape"))
}

/// What is special about one account.
struct Copy<'p> {
    created: i64,
    username: String,
    cluster: &'p (String, String),
    group: &'p str,
    keys: Vec<PlainKey>,
    digests: Vec<String>,
    key_ids: Vec<String>,
    uuids: Vec<String>,
}

impl<'p> Copy<'p> {
    fn new(
        number: u32,
        created: i64,
        shape: &Shape,
        pools: &'p Pools,
        pepper: &Pepper,
        seeded: &Seeded,
    ) -> Result<Copy<'p>> {
        let prefix = Prefix::default();
        let keys =
            (0..shape.keys).map(|_| Ok(mint(&prefix, seeded)?)).collect::<Result<Vec<_>>>()?;
        let cluster = pools.clusters.get(seeded.below(pools.clusters.len()));
        let group = pools.groups.get(seeded.below(pools.groups.len()));
        Ok(Copy {
            created,
            username: format!("{}-{number:08}", shape.name),
            cluster: cluster.context("no clusters")?,
            group: group.context("no groups")?,
            digests: keys.iter().map(|key| key.parsed().digest(pepper).to_hex()).collect(),
            key_ids: keys.iter().map(|key| key.id().to_string()).collect(),
            keys,
            uuids: (0..shape.uuids).map(|_| uuid(created, seeded)).collect(),
        })
    }

    /// The ids of the account and of its first key.
    fn sample(&self, shape: &Shape) -> Option<(String, String)> {
        Some((self.text(shape.account?).to_owned(), self.key_ids.first()?.clone()))
    }

    fn text(&self, gap: Gap) -> &str {
        match gap {
            Gap::ClusterId => &self.cluster.0,
            Gap::ClusterRef => &self.cluster.1,
            Gap::Digest(number) => self.digests.get(number).map_or("", String::as_str),
            Gap::Group => self.group,
            Gap::KeyId(number) => self.key_ids.get(number).map_or("", String::as_str),
            Gap::Username => &self.username,
            Gap::Uuid(number) => self.uuids.get(number).map_or("", String::as_str),
        }
    }

    fn value(&self, cell: &Cell, newest: i64, seeded: &Seeded) -> Value {
        match cell {
            Cell::Fixed(value) => value.clone(),
            Cell::Instant(after) => Value::Integer(self.created + after),
            Cell::Last4(number) => {
                let key = self.keys.get(*number);
                Value::Text(key.map_or("", PlainKey::last4).to_owned())
            }
            Cell::LastUsed => {
                let span = usize::try_from(newest - self.created).unwrap_or(0) + 1;
                let used = i64::try_from(seeded.below(span)).unwrap_or(0);
                match seeded.below(5) {
                    0 => Value::Null,
                    _ => Value::Integer(self.created + used),
                }
            }
            Cell::Text(pieces) => {
                let mut text = String::with_capacity(512);
                for piece in pieces {
                    match piece {
                        Piece::Fixed(fixed) => text.push_str(fixed),
                        Piece::Gap(Gap::ClusterRef) => {
                            text.push_str("cluster/");
                            text.push_str(&self.cluster.1);
                        }
                        Piece::Gap(gap) => text.push_str(self.text(*gap)),
                    }
                }
                Value::Text(text)
            }
        }
    }
}

/// A UUIDv7 of that instant.
fn uuid(ms: i64, seeded: &Seeded) -> String {
    let mut bytes = [0_u8; 16];
    // The generator of seeds does not fail.
    let _ = seeded.fill(&mut bytes);
    let ms = ms.to_be_bytes();
    bytes[..6].copy_from_slice(&ms[2..]);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The statements, and what is carried from row to row.
struct Writer<'c> {
    conn: &'c Connection,
    inserts: HashMap<&'static str, Statement<'c>>,
    chain: Chain,
    digest: StateDigest,
    made: Made,
}

impl<'c> Writer<'c> {
    fn open(conn: &'c Connection, shapes: &[Shape]) -> Result<Writer<'c>> {
        let mut inserts = HashMap::new();
        for row in shapes.iter().flat_map(|shape| &shape.rows) {
            if !inserts.contains_key(row.table) {
                let gaps = vec!["?"; row.columns.len()].join(", ");
                let columns = row.columns.join(", ");
                let sql = format!("INSERT INTO {} ({columns}) VALUES ({gaps})", row.table);
                inserts.insert(row.table, conn.prepare(&sql)?);
            }
        }
        let digest: String =
            conn.query_row("SELECT digest FROM feed_state WHERE id = 1", [], |row| row.get(0))?;
        let digest = digest.parse().context("the digest of the feed")?;
        let chain = Chain::read(conn)?;
        Ok(Writer { conn, inserts, chain, digest, made: Made::default() })
    }

    fn write(
        &mut self,
        row: &RowShape,
        copy: &Copy<'_>,
        newest: i64,
        seeded: &Seeded,
    ) -> Result<()> {
        let mut values: Vec<Value> =
            row.cells.iter().map(|cell| copy.value(cell, newest, seeded)).collect();
        if row.table == AUDIT {
            self.chain.append(&row.columns, &mut values)?;
        }
        if let ("feed_records", [Value::Text(kind), Value::Text(id), Value::Text(record)]) =
            (row.table, values.as_slice())
        {
            let kind: Kind = kind.parse()?;
            self.digest.add(RecordSum::of_canonical(kind, id, record));
            self.made.records += 1;
        }
        let insert = self.inserts.get_mut(row.table).context("every table has its statement")?;
        insert.execute(params_from_iter(values))?;
        self.made.rows += 1;
        Ok(())
    }

    /// One position further without a line: gateways that followed before start over.
    fn finish(self) -> Result<Made> {
        let Writer { conn, digest, made, .. } = self;
        let records = i64::try_from(made.records)?;
        let done = conn.execute(
            "UPDATE feed_state SET seq = seq + 1, digest = ?1, records = records + ?2",
            (digest.to_string(), records),
        )?;
        ensure!(done == 1, "the feed has no head");
        Ok(made)
    }
}

/// The end of the audit log.
struct Chain {
    seq: i64,
    hash: String,
}

impl Chain {
    /// Checks that the newest event's hash is computed as it is here.
    fn read(conn: &Connection) -> Result<Chain> {
        let sql = "SELECT * FROM audit_events WHERE org_id <> '' ORDER BY seq DESC LIMIT 1";
        let mut statement = conn.prepare(sql)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let values = statement.query_row([], |row| {
            (0..columns.len()).map(|index| row.get(index)).collect::<rusqlite::Result<Vec<Value>>>()
        })?;
        let mut chain = Chain { seq: 0, hash: String::new() };
        for (column, value) in columns.iter().zip(&values) {
            match (column.as_str(), value) {
                ("seq", Value::Integer(seq)) => chain.seq = *seq,
                ("hash", Value::Text(hash)) => hash.clone_into(&mut chain.hash),
                _ => {}
            }
        }
        ensure!(hash_of(&columns, &values)? == chain.hash, "the audit log is hashed otherwise");
        Ok(chain)
    }

    fn append(&mut self, columns: &[String], values: &mut [Value]) -> Result<()> {
        self.seq += 1;
        let mut set = |name: &str, value: Value| -> Result<()> {
            let index = columns.iter().position(|column| column == name);
            let cell = index.and_then(|index| values.get_mut(index));
            *cell.with_context(|| format!("no column {name}"))? = value;
            Ok(())
        };
        set("seq", Value::Integer(self.seq))?;
        set("prev_hash", Value::Text(std::mem::take(&mut self.hash)))?;
        let hash = hash_of(columns, values)?;
        if let Some(index) = columns.iter().position(|column| column == "hash")
            && let Some(cell) = values.get_mut(index)
        {
            *cell = Value::Text(hash.clone());
        }
        self.hash = hash;
        Ok(())
    }
}

/// SHA-256 over the canonical JSON of all columns but the hash.
fn hash_of(columns: &[String], values: &[Value]) -> Result<String> {
    let mut members = Map::new();
    for (column, value) in columns.iter().zip(values).filter(|(column, _)| *column != "hash") {
        let value = match value {
            Value::Null => Json::Null,
            Value::Integer(number) => Json::from(*number),
            Value::Text(text) => Json::from(text.as_str()),
            Value::Real(_) | Value::Blob(_) => bail!("an event with a column we do not know"),
        };
        members.insert(column.clone(), value);
    }
    let hash = Sha256::digest(canonical(&Json::Object(members)).as_bytes());
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A moving line on a terminal, ten lines elsewhere.
fn report(number: u32, of: u32) {
    let terminal = std::io::stderr().is_terminal();
    let step = if terminal { of.div_ceil(200) } else { of.div_ceil(10) };
    if (number + 1).is_multiple_of(step) || number + 1 == of {
        let share = f64::from(number + 1) / f64::from(of) * 100.0;
        let (start, end) = if terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        eprint!("{start}{:>9} accounts  {share:>3.0} %{end}", number + 1);
        let _ = std::io::stderr().flush();
        if terminal && number + 1 == of {
            eprintln!();
        }
    }
}
