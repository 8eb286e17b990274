//! The writer: a task that owns the only writable connection and lends it to one unit after the
//! other.
//!
//! Units that wait for their turn while another one writes share its durable transaction, each
//! inside a savepoint of its own, so that many of them pay for one write to the disk:
//!
//! ```text
//! BEGIN IMMEDIATE
//!   SAVEPOINT unit … RELEASE unit                      kept
//!   SAVEPOINT unit … ROLLBACK TO unit, RELEASE unit     undone: it failed, or was dropped
//!   …until nobody waits any more, or MOST_UNITS had their turn
//! COMMIT                                                durable: announced, then answered
//! ```
//!
//! Promises:
//! * A unit that is undone takes nothing of its neighbours along.
//! * Nobody is told about a group before it is durable: neither the caller of a kept unit, nor
//!   gateways, nor the caller of an undone one, which may have read what its neighbours wrote.
//! * If the group cannot be made durable, every unit in it fails, and nothing is announced.
//! * The head of the feed is written once, for the newest kept unit.
//! * A caller who goes away changes nothing about any of this: the connection comes back by drop.

use std::sync::Arc;
use std::time::Duration;

use portcullis_core::feed::Position;
use sqlx::sqlite::SqlitePool;
use sqlx::{Sqlite, SqliteConnection, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::StoreError;
use super::feed::{self, FeedHead};
use super::thread::ChangeThread;
use super::unit::Ledger;
use crate::resolve::{AccessCount, AsOf};

/// Units that one durable transaction holds at most: a caller waits for no more than these.
const MOST_UNITS: usize = 64;
/// Callers that wait for their turn; more are held back, in order.
const MOST_WAITING: usize = 1024;

/// Where units ask for their turn.
pub(super) struct Writer {
    asks: mpsc::Sender<Ask>,
    patience: Duration,
}

enum Ask {
    Close(oneshot::Sender<()>),
    Turn(Asker),
}

type Asker = oneshot::Sender<Result<Turn, StoreError>>;

impl Writer {
    /// Starts the task. It ends when it is closed or its last asker is gone. `patience` is how long
    /// a unit waits for its turn.
    pub(super) fn start(
        thread: &ChangeThread,
        pool: SqlitePool,
        patience: Duration,
        count: AccessCount,
    ) -> Writer {
        let (asks, asked) = mpsc::channel(MOST_WAITING);
        thread.spawn(serve(pool, asked, count));
        Writer { asks, patience }
    }

    /// Waits for a turn, in the order of asking.
    pub(super) async fn turn(&self) -> Result<Turn, StoreError> {
        let turn = async {
            let (asker, turn) = oneshot::channel();
            let closed = || StoreError::Unavailable(sqlx::Error::PoolClosed);
            self.asks.send(Ask::Turn(asker)).await.map_err(|_| closed())?;
            turn.await.map_err(|_| closed())?
        };
        let in_time = tokio::time::timeout(self.patience, turn).await;
        in_time.map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))?
    }

    /// Waits until what was asked for before is done, and closes the connection.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.asks.send(Ask::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// How many wait for their turn.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.asks.max_capacity() - self.asks.capacity()
    }
}

/// The connection, lent for one unit. Dropping it undoes the unit.
pub(crate) struct Turn {
    /// Both absent once given back.
    tx: Option<Transaction<'static, Sqlite>>,
    back: Option<oneshot::Sender<Back>>,
    settlement: Settlement,
    /// The head of the feed that the units before left behind.
    pub(super) head: Option<FeedHead>,
    /// Under which count of access changes it reads.
    pub(super) as_of: AsOf,
}

/// What comes back from a turn.
struct Back {
    tx: Transaction<'static, Sqlite>,
    end: End,
}

/// How a turn ended.
enum End {
    Kept(Option<News>),
    Undone,
}

/// The feed after a unit: what publishers learn when the group is durable.
pub(crate) struct News {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) head: FeedHead,
    /// Whether the unit could alter anybody's access.
    pub(crate) touches_access: bool,
}

impl Turn {
    /// The connection for the statements of the store.
    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        self.tx.as_mut().expect("a turn has the connection until it gives it back, by value")
    }

    /// Becomes known when the group does.
    pub(crate) fn settlement(&self) -> Settlement {
        self.settlement.clone()
    }

    /// Ends the turn with its work kept, and waits until it is durable.
    pub(crate) async fn keep(mut self, news: Option<News>) -> Result<(), StoreError> {
        self.give_back(End::Kept(news));
        self.settlement().wait().await
    }

    fn give_back(&mut self, end: End) {
        if let (Some(tx), Some(back)) = (self.tx.take(), self.back.take()) {
            // Without a writer the transaction ends here, which rolls it back.
            let _ = back.send(Back { tx, end });
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back(End::Undone);
    }
}

/// What became of a group: durable, or why not.
#[derive(Clone, Debug)]
pub(crate) struct Settlement(watch::Receiver<Option<Result<(), Lost>>>);

/// Why nothing of a group was kept.
type Lost = Arc<str>;

impl Settlement {
    /// Waits until everything that the unit wrote or read is durable.
    pub(crate) async fn wait(mut self) -> Result<(), StoreError> {
        let settled = self.0.wait_for(Option::is_some).await;
        let settled = settled.map_err(|_| StoreError::Unavailable(sqlx::Error::PoolClosed))?;
        match &*settled {
            Some(Err(lost)) => {
                Err(StoreError::Unavailable(sqlx::Error::Protocol(lost.to_string())))
            }
            Some(Ok(())) | None => Ok(()),
        }
    }
}

async fn serve(pool: SqlitePool, mut asked: mpsc::Receiver<Ask>, count: AccessCount) {
    while let Some(ask) = asked.recv().await {
        let closing = match ask {
            Ask::Close(done) => Some(done),
            Ask::Turn(asker) if asker.is_closed() => None,
            Ask::Turn(asker) => write_group(&pool, asker, &mut asked, &count).await,
        };
        if let Some(done) = closing {
            asked.close();
            pool.close().await;
            let _ = done.send(());
            return;
        }
    }
}

/// Lends the connection to `first` and to all that wait by then; returns who asked to close.
async fn write_group(
    pool: &SqlitePool,
    first: Asker,
    asked: &mut mpsc::Receiver<Ask>,
    count: &AccessCount,
) -> Option<oneshot::Sender<()>> {
    let tx = match pool.begin_with("BEGIN IMMEDIATE").await {
        Ok(tx) => tx,
        Err(error) => {
            let _ = first.send(Err(error.into()));
            return None;
        }
    };
    let (settle, settled) = watch::channel(None);
    let mut group =
        Group { tx, settlement: Settlement(settled), kept: 0, news: None, as_of: count.current() };
    let mut closing = None;
    let mut next = Some(first);
    let mut turns = 0;
    let outcome = loop {
        let Some(asker) = next.take() else { break group.finish(count).await };
        group = match group.lend(asker).await {
            Ok(group) => group,
            Err(lost) => break Err(lost),
        };
        turns += 1;
        if turns < MOST_UNITS {
            match asked.try_recv() {
                Ok(Ask::Turn(asker)) => next = Some(asker),
                Ok(Ask::Close(done)) => closing = Some(done),
                Err(_) => {}
            }
        }
    };
    if let Err(lost) = &outcome {
        tracing::warn!(%lost, "a transaction was lost; all changes in it were refused");
    }
    settle.send_replace(Some(outcome));
    closing
}

/// A durable transaction in the making.
struct Group {
    tx: Transaction<'static, Sqlite>,
    settlement: Settlement,
    kept: usize,
    /// Of the newest kept unit.
    news: Option<News>,
    /// Unsettled once a kept unit could alter anybody's access.
    as_of: AsOf,
}

impl Group {
    /// One turn. An error means that the transaction is gone: after a full disk or an I/O error
    /// SQLite ends it by itself.
    async fn lend(mut self, asker: Asker) -> Result<Group, Lost> {
        if asker.is_closed() {
            return Ok(self);
        }
        if let Err(error) = run(&mut self.tx, "SAVEPOINT unit").await {
            let lost = lost(&error);
            let _ = asker.send(Err(error.into()));
            return Err(lost);
        }
        let (back, returned) = oneshot::channel();
        let settlement = self.settlement.clone();
        // An asker who went away drops the turn, which brings it back as undone.
        let head = self.news.as_ref().map(|news| news.head.clone());
        let as_of = self.as_of;
        let turn = Turn { tx: Some(self.tx), back: Some(back), settlement, head, as_of };
        let _ = asker.send(Ok(turn));
        let Back { mut tx, end } =
            returned.await.map_err(|_| Lost::from("the connection did not come back"))?;
        let ended = match end {
            End::Kept(news) => {
                self.kept += 1;
                if news.as_ref().is_some_and(|news| news.touches_access) {
                    self.as_of = AsOf::UNSETTLED;
                }
                self.news = news.or(self.news);
                run(&mut tx, "RELEASE unit").await
            }
            End::Undone => match run(&mut tx, "ROLLBACK TO unit").await {
                Ok(()) => run(&mut tx, "RELEASE unit").await,
                Err(error) => Err(error),
            },
        };
        ended.map_err(|error| lost(&error))?;
        Ok(Group { tx, ..self })
    }

    async fn finish(mut self, count: &AccessCount) -> Result<(), Lost> {
        if self.kept == 0 {
            return self.tx.rollback().await.map_err(|error| lost(&error));
        }
        if let Some(news) = &self.news {
            news.write(&mut self.tx).await.map_err(|error| Lost::from(error.to_string()))?;
        }
        self.tx.commit().await.map_err(|error| lost(&error))?;
        if self.as_of == AsOf::UNSETTLED {
            count.rise();
        }
        if let Some(News { ledger, head, .. }) = self.news {
            ledger.head.send_replace(head.position);
        }
        Ok(())
    }
}

impl News {
    /// The head, and as many lines as gateways can resume from.
    async fn write(&self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        feed::save_head(conn, &self.head).await?;
        let Position { epoch, seq } = self.head.position;
        let last_dropped = seq.saturating_sub(self.ledger.change_log_length);
        feed::prune_changes(conn, Position { epoch, seq: last_dropped }).await
    }
}

async fn run(conn: &mut SqliteConnection, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(conn).await.map(|_| ())
}

fn lost(error: &sqlx::Error) -> Lost {
    Lost::from(error.to_string())
}

#[cfg(test)]
mod tests;
