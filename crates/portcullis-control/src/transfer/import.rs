//! Reading an export into a database without history: all of it, or nothing. Ids, digests,
//! generations and audit logs stay as they were; what gateways hold is made anew in the next epoch,
//! so every gateway starts over.

use std::collections::HashMap;
use std::io::{BufRead, Read as _};

use portcullis_core::entropy::EntropyFailure;
use portcullis_core::feed::Position;
use portcullis_core::key;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{FORMAT, Header, LONGEST_LINE, Scope, Seal, check_of};
use crate::api::App;
use crate::bootstrap::FreshTokens;
use crate::domain::secrets::digest_of;
use crate::domain::{Problem, rebuild};
use crate::store::audit::{Actor, Event, INSTALLATION, Origin, Outcome, Target};
use crate::store::installation::{self, Purpose};
use crate::store::tables::{self, ColumnType, InsertFault, Table};
use crate::store::{StoreError, Unit, checkpoints, groups, organizations};

/// What an import found and made.
#[derive(Debug)]
pub struct Imported {
    /// Rows of all tables.
    pub rows: u64,
    /// Organizations whose audit log is not proven: it was changed before the export, or sealed with
    /// another signing key than the one at hand.
    pub broken_audit_logs: Vec<String>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The tokens could not be stored.
    #[error("the new tokens could not be stored: {0}")]
    Deliver(#[source] std::io::Error),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyFailure),
    /// A line is damaged, or does not belong there.
    #[error("line {line}: {reason}; nothing was imported")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There is something already.
    #[error("this installation is not empty; an import needs a new data directory")]
    NotEmpty,
    /// The file cannot be read.
    #[error("the export cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The database refused.
    #[error("the database could not be filled: {0}; nothing was imported")]
    Store(String),
    /// The export ends before its last line.
    #[error(
        "the export ends after line {0} without its last line: it is cut off; nothing was imported"
    )]
    Truncated(u64),
    /// A digest needs a pepper that is not here, or another of the same number.
    #[error(
        "the export needs pepper {0} of the installation that it comes from: copy its file, or name \
         it in keys.peppers; nothing was imported"
    )]
    WrongPepper(u32),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> ImportError {
        ImportError::Store(error.to_string())
    }
}

fn refused(problem: &Problem) -> ImportError {
    ImportError::Store(problem.internal.as_deref().unwrap_or(&problem.detail).to_owned())
}

/// Imports. `progress` is told the number of lines read so far; `deliver` stores new tokens, if any
/// are wanted, before the commit.
pub(crate) async fn run(
    app: &App,
    input: impl BufRead + Send,
    fresh_tokens: bool,
    mut progress: impl FnMut(u64) + Send,
    deliver: impl FnOnce(&FreshTokens) -> std::io::Result<()> + Send,
) -> Result<Imported, ImportError> {
    let now = app.now();
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), now).await?;
    if unit.position().seq > 0 || organizations::exists(unit.conn()).await? {
        return Err(ImportError::NotEmpty);
    }
    let mut lines = Lines { input, seal: Seal::default(), line: 0 };
    let header = read_header(app, &mut lines)?;
    let rows = fill(&mut unit, &mut lines, &header, &mut progress).await?;
    if let Some(table) = tables::find_stray(unit.conn()).await? {
        let reason = format!("a row of {table} refers to another organization");
        return Err(ImportError::Line { line: lines.line, reason });
    }
    groups::recount_members(unit.conn()).await?;
    if let Some(cluster) = &header.cluster {
        installation::replace_setting(unit.conn(), installation::CLUSTER, cluster).await?;
    }
    unit.rewrite_history(Position { epoch: header.epoch, seq: header.seq });
    rebuild::publish_all(&mut unit).await.map_err(|problem| refused(&problem))?;
    let mut broken_audit_logs = Vec::new();
    for org_id in organizations::list_ids(unit.conn()).await? {
        let public_key = app.ledger.signer.public_key();
        if !checkpoints::verify(unit.conn(), &org_id, public_key).await?.ok {
            broken_audit_logs.push(org_id);
        }
    }
    if fresh_tokens {
        let operator = key::mint(&app.prefix, app.entropy.as_ref())?;
        let gateway = key::mint(&app.prefix, app.entropy.as_ref())?;
        for (purpose, plain) in [(Purpose::Operator, &operator), (Purpose::Gateway, &gateway)] {
            let secret = digest_of(app, plain, now);
            installation::insert_key(unit.conn(), plain.id(), purpose, &secret, now).await?;
        }
        deliver(&FreshTokens { operator, gateway }).map_err(ImportError::Deliver)?;
    }
    unit.commit(event(&header, rows), app.entropy.as_ref()).await?;
    Ok(Imported { rows, broken_audit_logs })
}

fn event(header: &Header, rows: u64) -> Event {
    let (org_id, kind, action) = match &header.org_id {
        Some(org_id) => (org_id.clone(), "organization", "organization.import"),
        None => (INSTALLATION.to_owned(), "installation", "installation.import"),
    };
    Event {
        actor: Actor::installation(),
        action: action.to_owned(),
        target: Target { kind, id: org_id.clone(), name: String::new() },
        org_id,
        resource_id: None,
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: None,
        after: Some(json!({
            "rows": rows, "exported_at": header.at, "epoch": header.epoch, "seq": header.seq,
        })),
    }
}

/// The lines of the file, each with a right sum.
struct Lines<R> {
    input: R,
    seal: Seal,
    /// The number of the last one read.
    line: u64,
}

impl<R: BufRead> Lines<R> {
    /// The body of the next line, closed again as an object; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<String>, ImportError> {
        let mut bytes = Vec::new();
        let mut limited = self.input.by_ref().take(LONGEST_LINE);
        limited.read_until(b'\n', &mut bytes).map_err(ImportError::Read)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let Some(line) = bytes.strip_suffix(b"\n") else {
            return Err(ImportError::Truncated(self.line));
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.seal.open(line) {
            Ok(body) => Ok(Some(format!("{body}}}"))),
            Err(reason) => Err(self.fault(reason)),
        }
    }

    fn fault(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Line { line: self.line, reason: reason.into() }
    }
}

fn read_header<R: BufRead>(app: &App, lines: &mut Lines<R>) -> Result<Header, ImportError> {
    #[derive(Deserialize)]
    struct First {
        export: Header,
    }
    let first = lines.next()?.ok_or(ImportError::Truncated(0))?;
    let first: First = serde_json::from_str(&first)
        .map_err(|_| lines.fault("it is not the first line of an export of this version"))?;
    let header = first.export;
    let fits = match header.scope {
        Scope::Installation => header.org_id.is_none() && header.cluster.is_some(),
        Scope::Organization => header.org_id.is_some() && header.cluster.is_none(),
    };
    if header.format != FORMAT || !fits {
        return Err(lines.fault("it is not the first line of an export of this version"));
    }
    for (version, check) in &header.peppers {
        let pepper = app.peppers.find(*version);
        if pepper.is_none_or(|pepper| check_of(pepper) != *check) {
            return Err(ImportError::WrongPepper(*version));
        }
    }
    Ok(header)
}

/// Inserts every row up to the last line.
async fn fill<R: BufRead>(
    unit: &mut Unit,
    lines: &mut Lines<R>,
    header: &Header,
    progress: &mut (impl FnMut(u64) + Send),
) -> Result<u64, ImportError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Line {
        End { end: End },
        Row { table: String, row: Map<String, Value> },
    }
    #[derive(Deserialize)]
    struct End {
        rows: u64,
    }
    let mut known: HashMap<&'static str, Vec<ColumnType>> = HashMap::new();
    let mut rows: u64 = 0;
    loop {
        let Some(text) = lines.next()? else { return Err(ImportError::Truncated(lines.line)) };
        let line =
            serde_json::from_str(&text).map_err(|_| lines.fault("it is no row and no end"))?;
        let (name, row) = match line {
            Line::End { end } if end.rows == rows => break,
            Line::End { end } => {
                return Err(lines.fault(format!("it counts {} rows, {rows} are here", end.rows)));
            }
            Line::Row { table, row } => (table, row),
        };
        let table = Table::find(&name).filter(|table| header.org_id.is_none() || table.has_org());
        let table = table.ok_or_else(|| lines.fault(format!("{name} is no table of an export")))?;
        if !known.contains_key(table.name) {
            known.insert(table.name, table.columns(unit.conn()).await?);
        }
        let columns = known.get(table.name).map(Vec::as_slice).unwrap_or_default();
        match table.insert(unit.conn(), columns, &row).await {
            Ok(()) => rows += 1,
            Err(InsertFault::Row(reason)) => return Err(lines.fault(reason)),
            Err(InsertFault::Store(error)) => return Err(error.into()),
        }
        progress(lines.line);
    }
    match lines.next()? {
        None => Ok(rows),
        Some(_) => Err(lines.fault("something follows the last line")),
    }
}
