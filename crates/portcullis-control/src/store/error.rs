//! What can go wrong with the database: at the start, with the file's name, and during a call.

use std::path::{Path, PathBuf};

use sqlx::error::DatabaseError;

/// Why the control plane could not open its database.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is damaged.
    #[error(
        "the database {} is damaged ({verdict}); restore it from a backup or move it away",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What SQLite says.
        verdict: String,
    },
    /// The file is something else.
    #[error("{} is not a SQLite database; give the path of another file", .0.display())]
    NotADatabase(PathBuf),
    /// The bundled SQLite has a known corruption bug.
    #[error("SQLite {version} can corrupt its log; at least 3.51.3 is needed")]
    OldSqlite {
        /// The version found.
        version: String,
    },
    /// The schema is from a newer program, or was changed by hand.
    #[error("the schema of the database {} is not ours: {source}", file.display())]
    Schema {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A secret of the database belongs to a pepper that is not configured.
    #[error("the database {} names pepper {version}, which is not configured", file.display())]
    UnknownPepper {
        /// The file.
        file: PathBuf,
        /// The pepper's version.
        version: i64,
    },
    /// The file opens but its content cannot be used.
    #[error("the database {} cannot be used: {reason}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The database may not be written, and its log holds commits.
    #[error(
        "{} holds commits, and the database they belong to may not be written; make it and its \
         directory writable, so that nothing of them is lost",
        .0.display()
    )]
    UnreadLog(PathBuf),
    /// The file cannot be opened or read.
    #[error("the database {} cannot be opened: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system or SQLite says.
        #[source]
        source: sqlx::Error,
    },
}

impl OpenError {
    pub(crate) fn unusable(file: &Path, error: &StoreError) -> OpenError {
        OpenError::Unusable { file: PathBuf::from(file), reason: error.to_string() }
    }

    pub(super) fn of(file: &Path, source: sqlx::Error) -> OpenError {
        let file = PathBuf::from(file);
        match primary_code(&source) {
            Some(NOT_A_DATABASE) => OpenError::NotADatabase(file),
            Some(CORRUPT) => OpenError::Damaged { file, verdict: source.to_string() },
            Some(_) | None => OpenError::Unreadable { file, source },
        }
    }
}

const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const READ_ONLY: u32 = 8;
const IO: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const NOT_A_DATABASE: u32 = 26;

/// Why a statement failed during a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A row does not hold what we wrote.
    #[error("a stored {0} is not readable")]
    Broken(&'static str),
    /// A statement that we wrote does not fit the schema, or an invariant of it was violated.
    #[error("the database refused a statement: {0}")]
    Refused(sqlx::Error),
    /// Full disk, read-only file, lock held by another program, no connection in time. Nothing was
    /// changed; the same call may work later.
    #[error("the database cannot be used now: {0}")]
    Unavailable(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> StoreError {
        let passing = match &error {
            sqlx::Error::Io(_) | sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut => true,
            sqlx::Error::WorkerCrashed => true,
            other => matches!(
                primary_code(other),
                Some(
                    BUSY | LOCKED | READ_ONLY | IO | CORRUPT | FULL | CANNOT_OPEN | NOT_A_DATABASE
                )
            ),
        };
        if passing { StoreError::Unavailable(error) } else { StoreError::Refused(error) }
    }
}

/// SQLite's primary result code: the low byte of the extended one.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error().and_then(DatabaseError::code)?;
    code.parse::<u32>().ok().map(|extended| extended & 0xff)
}
