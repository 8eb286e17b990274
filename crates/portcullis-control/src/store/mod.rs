//! The database: opening it, reading from it, and [`Unit`], the one way to change it.
//!
//! It never decides anything; operations do. Every statement has bound parameters only, and the
//! text of each is meant to run on PostgreSQL as well.
//!
//! SQLite has one writer at a time. Here that is one connection which is lent in the order of asking
//! ([`writer`]), so a unit waits for the one before it and never meets `SQLITE_BUSY` of our own
//! making. Readers have their own connections and see the last commit (WAL).

pub(crate) mod accounts;
pub(crate) mod answers;
pub(crate) mod audit;
pub(crate) mod bindings;
pub(crate) mod checkpoints;
mod error;
pub(crate) mod feed;
pub(crate) mod gateways;
pub(crate) mod groups;
pub(crate) mod installation;
pub(crate) mod keys;
pub(crate) mod organizations;
pub(crate) mod page;
pub(crate) mod resources;
pub(crate) mod roles;
pub(crate) mod security_policies;
pub(crate) mod states;
pub(crate) mod tables;
pub(crate) mod takeovers;
mod thread;
pub(crate) mod unit;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod writer;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use crate::resolve::{AccessCount, AsOf};
pub use error::OpenError;
pub(crate) use error::StoreError;
use thread::ChangeThread;
pub(crate) use unit::{Committed, Unit};
use writer::Writer;

/// The oldest SQLite without the WAL-reset corruption of 3.7.0 to 3.51.2.
const OLDEST_SQLITE: (u32, u32, u32) = (3, 51, 3);
/// How long a statement waits for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection before it is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages of 4 KiB that the write-ahead log takes before they are moved into the database, which the
/// commit that is then at work pays for. SQLite's own 1000 are those of two or three groups.
const LOG_PAGES: &str = "8192";
/// Connections that only read.
const READERS: u32 = 4;
/// Connections for what is read as slowly as somebody takes it.
const LONG_READERS: u32 = 8;

/// Both ends of the database.
pub(crate) struct Store {
    readers: SqlitePool,
    long_readers: SqlitePool,
    writer: Writer,
    changes: ChangeThread,
    access_count: AccessCount,
}

impl Store {
    /// Opens or creates the file and brings its schema up to date. A file that may not be written
    /// is opened all the same: every unit fails, everything else works. A file of up to
    /// `checked_bytes` is first searched for damage, all of it.
    pub(crate) async fn open(file: &Path, checked_bytes: u64) -> Result<Store, OpenError> {
        let failed = |source| OpenError::of(file, source);
        create_private(file).map_err(|source| failed(sqlx::Error::Io(source)))?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let options = if is_writable(file) {
            options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full)
        } else {
            refuse_unread_log(file)?;
            tracing::warn!(
                file = %file.display(),
                "the database cannot be written: it is read as it is, and every change is refused \
                 until a restart finds it writable"
            );
            // Nobody else changes it either: the data directory is ours.
            options.read_only(true).immutable(true)
        };
        let changes = ChangeThread::start().map_err(|source| failed(sqlx::Error::Io(source)))?;
        let writing = options.clone().pragma("wal_autocheckpoint", LOG_PAGES);
        let writer = sound_connections().max_connections(1).connect_with(writing);
        let writer = changes.run(writer).await.map_err(failed)?.map_err(failed)?;
        refuse_old_sqlite(&writer, file).await?;
        match std::fs::metadata(file) {
            Ok(found) if found.len() > checked_bytes => tracing::info!(
                bytes = found.len(),
                "the database is larger than control.integrity_check_mib and starts unchecked"
            ),
            Ok(_) | Err(_) => refuse_damage(&writer, file).await?,
        }
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(|source| OpenError::Schema { file: PathBuf::from(file), source })?;
        let reading = options.pragma("query_only", "true");
        let long_readers =
            sound_connections().max_connections(LONG_READERS).connect_lazy_with(reading.clone());
        let readers = sound_connections()
            .min_connections(READERS)
            .max_connections(READERS)
            .connect_with(reading)
            .await
            .map_err(failed)?;
        let access_count = AccessCount::default();
        let writer = Writer::start(&changes, writer, ACQUIRE_TIMEOUT, access_count.clone());
        Ok(Store { readers, long_readers, writer, changes, access_count })
    }

    /// A consistent view of the last commit. Dropping it ends it.
    pub(crate) async fn view(&self) -> Result<View, StoreError> {
        self.view_through(&self.readers).await
    }

    /// The same for what is sent while it is read, as fast as somebody takes it: whoever takes it
    /// slowly keeps nobody else from a view.
    pub(crate) async fn long_view(&self) -> Result<View, StoreError> {
        self.view_through(&self.long_readers).await
    }

    async fn view_through(&self, readers: &SqlitePool) -> Result<View, StoreError> {
        // Before the first read, so that what changes meanwhile is not remembered.
        let as_of = self.access_count.current();
        Ok(View { tx: readers.begin().await?, as_of })
    }

    /// Runs a change where changes run fastest. Whoever stops waiting stops it.
    ///
    /// # Errors
    ///
    /// The store was closed.
    pub(crate) async fn run_change<W>(&self, change: W) -> Result<W::Output, StoreError>
    where
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        self.changes.run(change).await.map_err(StoreError::Unavailable)
    }

    /// Waits until nothing is running and closes the file.
    pub(crate) async fn close(&self) {
        self.long_readers.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// A new database is its owner's alone; SQLite's side files take the mode of the database.
fn create_private(file: &Path) -> std::io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether SQLite could change the file: it needs the file and room for side files next to it.
fn is_writable(file: &Path) -> bool {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let may_write = |path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    may_write(file) && may_write(directory)
}

/// What a process that was killed had committed may still stand in the log alone, and reading the
/// log takes writing. To go on without it would bring revoked keys back.
fn refuse_unread_log(file: &Path) -> Result<(), OpenError> {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    match std::fs::metadata(&log) {
        Ok(found) if found.len() > 0 => Err(OpenError::UnreadLog(PathBuf::from(log))),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::of(file, sqlx::Error::Io(error))),
    }
}

/// A pool that hands out no connection whose last transaction it believes to be open. After a full
/// disk or an I/O error SQLite ends the transaction by itself, the roll-back then finds none, and
/// the connection would refuse every later one.
///
/// A connection stays open: its thread keeps to the cores of the thread that opened it
/// ([`thread`]), and there is no server that would want it back.
fn sound_connections() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .before_acquire(|conn, _| Box::pin(async move { Ok(!conn.is_in_transaction()) }))
}

/// A read transaction: everything read through it belongs to one commit.
pub(crate) struct View {
    tx: Transaction<'static, Sqlite>,
    as_of: AsOf,
}

impl View {
    /// Under which count of access changes it reads.
    pub(crate) fn as_of(&self) -> AsOf {
        self.as_of
    }

    /// The connection for the statements of the store.
    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }
}

async fn refuse_old_sqlite(pool: &SqlitePool, file: &Path) -> Result<(), OpenError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(pool)
        .await
        .map_err(|source| OpenError::of(file, source))?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite { version });
    }
    Ok(())
}

/// A damaged file is found at the start, not in the middle of a revocation.
async fn refuse_damage(pool: &SqlitePool, file: &Path) -> Result<(), OpenError> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(pool)
        .await
        .map_err(|source| OpenError::of(file, source))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged { file: PathBuf::from(file), verdict })
}

/// Writes check their row count: an update that met no row, or a row of another version, must not
/// look like success.
fn exactly_one(done: &sqlx::sqlite::SqliteQueryResult) -> Result<(), StoreError> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Broken("row version")) }
}

#[cfg(test)]
mod tests {
    use super::{Store, StoreError};

    /// What SQLite says when the disk is full and when the file may not be written.
    #[tokio::test]
    async fn a_full_disk_and_a_read_only_file_are_passing_faults_that_change_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("p.db"), u64::MAX).await.expect("a new database");
        let fill = "INSERT INTO installation (name, value) VALUES ('big', $1)";
        let big = "x".repeat(1 << 20);
        for (break_it, mend_it) in [
            ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 4294967294"),
            ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
        ] {
            let mut turn = store.writer.turn().await.expect("a turn");
            sqlx::query(break_it).execute(turn.conn()).await.expect("a pragma");
            let refused = sqlx::query(fill).bind(&big).execute(turn.conn()).await;
            let refused = refused.map_err(StoreError::from);
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
            sqlx::query(mend_it).execute(turn.conn()).await.expect("a pragma");
        }
        let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM installation WHERE name = 'big'")
            .fetch_one(&store.readers)
            .await
            .expect("a count");
        assert_eq!(rows, 0);
        let mut turn = store.writer.turn().await.expect("a turn");
        sqlx::query(fill).bind(&big).execute(turn.conn()).await.expect("room again");
        turn.keep(None).await.expect("the disk has room again");
    }

    #[tokio::test]
    async fn long_reading_keeps_nobody_from_a_view() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("p.db"), u64::MAX).await.expect("a new database");
        let mut long = Vec::new();
        for _ in 0..super::LONG_READERS {
            long.push(store.long_view().await.expect("a view"));
        }
        store.view().await.expect("another one");
        long.pop();
        store.long_view().await.expect("room again");
    }

    #[tokio::test]
    async fn the_database_is_opened_for_durability() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("p.db"), u64::MAX).await.expect("a new database");
        let pragma = async |name: &'static str| -> String {
            let mut turn = store.writer.turn().await.expect("a turn");
            sqlx::query_scalar(name).fetch_one(turn.conn()).await.expect("one")
        };
        assert_eq!(pragma("SELECT journal_mode FROM pragma_journal_mode").await, "wal");
        // 2 is FULL.
        assert_eq!(pragma("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
        assert_eq!(pragma("SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys").await, "1");
    }
}
