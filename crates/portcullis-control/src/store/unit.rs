//! The write transaction: change, audit event, feed line and feed records commit together.
//!
//! While it lives, [`Unit`] has the only writable connection, and [`Unit::commit`] wants the audit
//! event. So there is no way to change something without telling auditors and gateways, and none to
//! tell gateways something that did not happen. A unit that is dropped leaves nothing behind.
//!
//! Units that wait for each other become durable together ([`super::writer`]); each still has its
//! own `seq` and its own line.

use std::sync::Arc;

use portcullis_core::entropy::Entropy;
use portcullis_core::feed::{Change, Kind, Position, RecordSum, Txn, canonical};
use portcullis_core::key::Digest;
use portcullis_core::time::WallMs;
use serde_json::Value;
use sqlx::SqliteConnection;
use tokio::sync::watch;

use super::answers::{self, AnswerRow, CallName};
use super::audit::{self, Event, Scribe};
use super::feed::{self, FeedHead};
use super::writer::{News, Settlement, Turn};
use super::{Store, StoreError, installation};
use crate::resolve::AsOf;
use crate::settings::FeedSigner;

/// What every write needs besides the database: it outlives single transactions.
pub(crate) struct Ledger {
    pub(crate) cluster: String,
    pub(crate) signer: FeedSigner,
    pub(crate) change_log_length: u64,
    /// The newest durable position; publishers watch it.
    pub(crate) head: watch::Sender<Position>,
}

/// One open write transaction.
pub(crate) struct Unit {
    turn: Turn,
    ledger: Arc<Ledger>,
    now: WallMs,
    head: FeedHead,
    changes: Vec<Change>,
    /// Whether gateways have to start over, so that no single change is told.
    rewrites: bool,
    /// Whether a record changed that access rests on: any that was there before, but keys.
    touches_access: bool,
}

/// A committed unit, or one that found nothing to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The position of the change; the current one if there was nothing to do.
    pub(crate) position: Position,
    /// Whether any record that gateways hold was changed.
    pub(crate) reaches_gateways: bool,
}

impl Unit {
    /// Waits for its turn and begins. `now` is the instant of everything written.
    pub(crate) async fn begin(
        store: &Store,
        ledger: Arc<Ledger>,
        now: WallMs,
    ) -> Result<Unit, StoreError> {
        let mut turn = store.writer.turn().await?;
        let head = match turn.head.take() {
            Some(head) => head,
            None => feed::find_head(turn.conn()).await?,
        };
        let (changes, rewrites, touches_access) = (Vec::new(), false, false);
        Ok(Unit { turn, ledger, now, head, changes, rewrites, touches_access })
    }

    /// The connection for the statements of the store.
    pub(crate) fn conn(&mut self) -> &mut SqliteConnection {
        self.turn.conn()
    }

    /// When what this unit reads is durable. A unit may read what was written just before it; an
    /// answer that rests on that, whatever it is, must not be given earlier.
    pub(crate) fn settlement(&self) -> Settlement {
        self.turn.settlement()
    }

    /// Under which count of access changes it reads.
    pub(crate) fn as_of(&self) -> AsOf {
        self.turn.as_of
    }

    /// The instant of everything that this unit writes.
    pub(crate) fn now(&self) -> WallMs {
        self.now
    }

    /// Gives gateways a record, replacing the one with its id. An equal record is no change.
    pub(crate) async fn put(
        &mut self,
        kind: Kind,
        id: &str,
        record: Value,
    ) -> Result<(), StoreError> {
        let new = canonical(&record);
        match feed::find_record(self.turn.conn(), kind, id).await? {
            Some(old) if old == new => return Ok(()),
            Some(old) => {
                self.touches_access |= kind != Kind::Key;
                self.head.digest.remove(RecordSum::of_canonical(kind, id, &old));
            }
            None => {
                // Nobody who is new has been resolved before.
                self.touches_access |= !matches!(kind, Kind::Account | Kind::Key);
                self.head.records += 1;
            }
        }
        self.head.digest.add(RecordSum::of_canonical(kind, id, &new));
        feed::save_record(self.turn.conn(), kind, id, &new).await?;
        if !self.rewrites {
            self.changes.push(Change::Put { kind, id: id.to_owned(), record });
        }
        Ok(())
    }

    /// Takes a record away from gateways. Keys and accounts are revoked instead.
    pub(crate) async fn delete(&mut self, kind: Kind, id: &str) -> Result<(), StoreError> {
        if self.forget(kind, id).await? {
            self.changes.push(Change::Delete { kind, id: id.to_owned() });
        }
        Ok(())
    }

    /// Takes a key or an account away for ever: gateways keep a tombstone.
    pub(crate) async fn revoke(
        &mut self,
        kind: Kind,
        id: &str,
        expires_at_ms: Option<u64>,
    ) -> Result<(), StoreError> {
        if self.forget(kind, id).await? {
            self.changes.push(Change::Revoke { kind, id: id.to_owned(), expires_at_ms });
        }
        Ok(())
    }

    async fn forget(&mut self, kind: Kind, id: &str) -> Result<bool, StoreError> {
        let Some(old) = feed::find_record(self.turn.conn(), kind, id).await? else {
            return Ok(false);
        };
        self.head.digest.remove(RecordSum::of_canonical(kind, id, &old));
        self.head.records = self.head.records.saturating_sub(1);
        self.touches_access |= kind != Kind::Key;
        feed::erase_record(self.turn.conn(), kind, id).await?;
        Ok(true)
    }

    /// The position of the change if it commits.
    pub(crate) fn next_position(&self) -> Position {
        Position { epoch: self.head.position.epoch, seq: self.head.position.seq + 1 }
    }

    /// History goes on after `position`, in the next epoch: whatever gateways hold, they start over.
    /// For a database that has no history of its own.
    pub(crate) fn rewrite_history(&mut self, position: Position) {
        self.rewrites = true;
        self.head.position = Position { epoch: position.epoch + 1, seq: position.seq };
    }

    /// The newest position before this unit.
    pub(crate) fn position(&self) -> Position {
        self.head.position
    }

    /// Whether gateways will learn anything from this unit.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Ends a unit that found its goal already reached: nothing is written.
    pub(crate) fn unchanged(self) -> Committed {
        Committed { position: self.head.position, reaches_gateways: false }
    }

    /// Writes the audit event and the feed line, and returns when they are durable. Publishers are
    /// woken then, even if the caller goes away meanwhile.
    pub(crate) async fn commit(
        mut self,
        event: Event,
        entropy: &dyn Entropy,
    ) -> Result<Committed, StoreError> {
        let org_id = event.org_id.clone();
        // Of other objects not everything that counts has a record.
        let of_keys_and_accounts =
            ["api_key.", "service_account."].iter().any(|start| event.action.starts_with(start));
        let touches_access = self.touches_access || !of_keys_and_accounts;
        let scribe = Scribe { signer: &self.ledger.signer, entropy };
        audit::append(self.turn.conn(), event, self.now, &scribe).await?;
        let position = self.next_position();
        let changes = std::mem::take(&mut self.changes);
        let reaches_gateways = !changes.is_empty();
        let txn = Txn { position, at_ms: self.now.0, changes, sig: None };
        let line = feed::signed_txn(txn, &self.ledger.signer);
        self.head.position = position;
        feed::append_change(self.turn.conn(), position, &org_id, &line).await?;
        let news = News { ledger: self.ledger, head: self.head, touches_access };
        self.turn.keep(Some(news)).await?;
        Ok(Committed { position, reaches_gateways })
    }
}

/// Records an admin call that was denied. It changes nothing else, so there is no feed line.
pub(crate) async fn record_denial(
    store: &Store,
    ledger: &Ledger,
    event: Event,
    now: WallMs,
    entropy: &dyn Entropy,
) -> Result<(), StoreError> {
    let scribe = Scribe { signer: &ledger.signer, entropy };
    let mut turn = store.writer.turn().await?;
    match event.action == audit::CREDENTIAL_DENIED {
        true => audit::append_refusal(turn.conn(), event, now, &scribe).await?,
        false => audit::append(turn.conn(), event, now, &scribe).await?,
    }
    turn.keep(None).await
}

/// Writes the answer of an idempotent call that changed nothing in a transaction of its own.
pub(crate) async fn record_answer(
    store: &Store,
    name: &CallName,
    row: &AnswerRow,
    oldest_ms: i64,
    now: WallMs,
) -> Result<(), StoreError> {
    let mut turn = store.writer.turn().await?;
    answers::prune(turn.conn(), oldest_ms, now).await?;
    answers::save(turn.conn(), name, row).await?;
    turn.keep(None).await
}

/// Forgets the sealed secrets of an answer, durably; whether there were any.
pub(crate) async fn record_handing_out(store: &Store, name: &CallName) -> Result<bool, StoreError> {
    let mut turn = store.writer.turn().await?;
    let was_sealed = answers::unseal(turn.conn(), name).await?;
    turn.keep(None).await?;
    Ok(was_sealed)
}

/// Forgets answers from before `oldest_ms`, and secrets that are too old.
pub(crate) async fn prune_answers(
    store: &Store,
    oldest_ms: i64,
    now: WallMs,
) -> Result<(), StoreError> {
    let mut turn = store.writer.turn().await?;
    answers::prune(turn.conn(), oldest_ms, now).await?;
    turn.keep(None).await
}

/// What a database is given at its first opening and keeps: the cluster id and the cursors' key.
pub(crate) async fn settle_installation(
    store: &Store,
    entropy: &dyn Entropy,
) -> Result<(String, [u8; 32]), StoreError> {
    let mut turn = store.writer.turn().await?;
    let cluster = settle(turn.conn(), installation::CLUSTER, entropy).await?;
    let key_text = settle(turn.conn(), installation::CURSOR_KEY, entropy).await?;
    turn.keep(None).await?;
    let key = Digest::from_hex(&key_text).map_err(|_| StoreError::Broken("cursor key"))?;
    Ok((cluster.chars().take(16).collect(), *key.as_bytes()))
}

/// The setting, or 64 random hexadecimal digits which it has from now on.
async fn settle(
    conn: &mut SqliteConnection,
    name: &'static str,
    entropy: &dyn Entropy,
) -> Result<String, StoreError> {
    if let Some(value) = installation::find_setting(conn, name).await? {
        return Ok(value);
    }
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes).map_err(|_| StoreError::Broken("random generator"))?;
    let value = Digest::from_bytes(bytes).to_hex();
    installation::insert_setting(conn, name, &value).await?;
    Ok(value)
}

/// Saves when a gateway was last seen: an observation, not a change of what anybody may do.
pub(crate) async fn record_gateway(
    store: &Store,
    seen: &super::gateways::GatewayRow,
) -> Result<(), StoreError> {
    let mut turn = store.writer.turn().await?;
    super::gateways::save(turn.conn(), seen).await?;
    turn.keep(None).await
}

/// Saves that a key was exchanged for a session token: an observation, not a change.
pub(crate) async fn record_login(
    store: &Store,
    key: &super::keys::KeyRow,
    now: WallMs,
) -> Result<(), StoreError> {
    let mut turn = store.writer.turn().await?;
    super::keys::record_login(turn.conn(), key, now).await?;
    turn.keep(None).await
}
