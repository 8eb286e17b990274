//! The directory's one writer: folds the feed into views. A bad record refuses itself and is
//! reported; a tombstone outlives every snapshot; nothing un-revokes.

mod apply;
mod prepare;

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;
use serde_json::Value;

use crate::feed::{Kind, Position, RecordFault, RecordSum, StateDigest};

use super::foreign::{ForeignIndex, Rehash};
use super::grants::{Access, Symbols, number};
use super::{Directory, KeyTable, Mixer, Org, Places, Presence, Slab, Standing};
use prepare::Prepared;

/// A record that was not applied because of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The transaction that brought it.
    pub seq: u64,
    /// What it describes; `None` if that, or what becomes of it, is unknown here.
    pub kind: Option<Kind>,
    /// Which one.
    pub id: String,
    /// The member and what is allowed there.
    pub why: String,
}

/// A record of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotRecord {
    /// Kind, id and content.
    Known(Kind, String, Value),
    /// Of a kind that this build does not know.
    Unknown {
        /// What it describes.
        kind: String,
        /// Which one.
        id: String,
        /// Its content.
        record: Value,
    },
}

impl From<(Kind, String, Value)> for SnapshotRecord {
    fn from((kind, id, record): (Kind, String, Value)) -> Self {
        Self::Known(kind, id, record)
    }
}

/// A record that was not honoured because it would bring back what has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// `key` or `account`.
    pub kind: Kind,
    /// Which one.
    pub id: String,
}

/// What became of a transaction or snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes that took effect.
    pub applied: usize,
    /// Records refused for their content.
    pub refused: Vec<Refused>,
    /// Records held against a tombstone or a later generation.
    pub held: Vec<Held>,
}

/// A snapshot with too many bad records: nothing of it was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of {records} records are bad, at most 1 % or 10 may be", refused.len())]
pub struct SnapshotRefused {
    /// How many records it had.
    pub records: usize,
    /// The bad ones.
    pub refused: Vec<Refused>,
}

/// How a position fits behind the present one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Already applied.
    Duplicate,
    /// Something in between is missing, or the epoch is another.
    Gap,
    /// It comes next.
    Next,
}

/// Number of live records by kind, and what they take.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Live records of keys.
    pub keys: usize,
    /// Live records of accounts.
    pub accounts: usize,
    /// Live records of all other kinds.
    pub others: usize,
    /// Revoked keys and accounts that are remembered.
    pub tombstones: usize,
    /// Bytes of the key table.
    pub bytes: usize,
}

/// Folds the feed; hands out views.
pub struct Ledger {
    live: Directory,
    books: Books,
    symbols: Symbols,
    /// Account indices, hashed and compared by the ids in the view's identities.
    accounts: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    orgs: HashMap<Box<str>, u32>,
    sets: HashMap<Box<str>, u32>,
    dead_accounts: usize,
    mixer: Mixer,
}

/// What is known of the live records besides their content.
#[derive(Default)]
struct Books {
    digest: StateDigest,
    counts: Counts,
    /// Share of the state digest of each account, 0 where it has no record.
    account_sums: Vec<RecordSum>,
    /// Shares of all other records but keys, and of keys that were refused.
    sums: HashMap<(Kind, Box<str>), RecordSum>,
    /// Shares of records whose kind is unknown here, by that kind and their id.
    strangers: HashMap<(Box<str>, Box<str>), RecordSum>,
}

impl Books {
    /// Remembers the share of a record that is not a key; the result is the one it replaces there.
    fn enter(
        &mut self,
        kind: Kind,
        id: &str,
        sum: RecordSum,
        found: &Result<Prepared, RecordFault>,
    ) -> RecordSum {
        if let Ok(Prepared::Account(index, ..)) = found {
            self.enter_account(*index, sum)
        } else {
            self.sums.insert((kind, id.into()), sum).unwrap_or_default()
        }
    }

    fn enter_account(&mut self, index: u32, sum: RecordSum) -> RecordSum {
        let index = index as usize;
        if self.account_sums.len() <= index {
            self.account_sums.resize(index + 1, RecordSum::default());
        }
        std::mem::replace(&mut self.account_sums[index], sum)
    }

    /// Replaces the share of a record whose kind is unknown here; `None` = it goes.
    fn enter_stranger(&mut self, kind: &str, id: &str, record: Option<&Value>) {
        let name = (kind.into(), id.into());
        let old = match record.map(|record| RecordSum::of_unknown(kind, id, record)) {
            Some(sum) => {
                self.digest.add(sum);
                self.counts.others += 1;
                self.strangers.insert(name, sum)
            }
            None => self.strangers.remove(&name),
        };
        if let Some(old) = old {
            self.digest.remove(old);
            self.counts.others -= 1;
        }
    }

    /// Takes the share of a record out, if it had one.
    fn leave(&mut self, kind: Kind, sum: RecordSum) {
        if sum != RecordSum::default() {
            self.digest.remove(sum);
            *self.counts.of(kind) -= 1;
        }
    }
}

impl Ledger {
    /// A ledger without any record. `seed` comes from the random generator and makes the key
    /// table's hash unpredictable.
    pub fn new(seed: u64) -> Self {
        let mixer = Mixer(seed);
        Self {
            live: Directory {
                position: Position::default(),
                keys: KeyTable::new(mixer),
                accounts: Slab::new(),
                accesses: nobody(),
                identities: Slab::new(),
                orgs: none(),
                nodes: Slab::new(),
                places: Places::new(),
                roles: Slab::new(),
                sets: Slab::new(),
                blocks: Arc::from([]),
                foreign: ForeignIndex::new(),
                signers: Arc::from([]),
            },
            books: Books::default(),
            symbols: Symbols::new(),
            accounts: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            // No organization has an empty id: number 0 is the one that is always absent.
            orgs: HashMap::from([("".into(), 0)]),
            sets: HashMap::new(),
            dead_accounts: 0,
            mixer,
        }
    }

    /// The present state, to be shared with readers.
    pub fn view(&self) -> Arc<Directory> {
        Arc::new(self.live.clone())
    }

    /// Where in the feed's order it stands.
    pub fn position(&self) -> Position {
        self.live.position
    }

    /// The digest of all live records, refused and held ones included.
    pub fn digest(&self) -> StateDigest {
        self.books.digest
    }

    /// Number of live records and tombstones.
    pub fn counts(&self) -> Counts {
        let keys = &self.live.keys;
        let tombstones = keys.tombstones() + self.dead_accounts;
        Counts { tombstones, bytes: keys.bytes(), ..self.books.counts }
    }

    /// Interns the permissions that routes require.
    pub fn symbols(&mut self) -> &mut Symbols {
        &mut self.symbols
    }

    /// How a position fits behind the present one.
    pub fn fit(&self, position: Position) -> Fit {
        let here = self.live.position;
        if position <= here {
            Fit::Duplicate
        } else if position.epoch == here.epoch && position.seq == here.seq + 1 {
            Fit::Next
        } else {
            Fit::Gap
        }
    }

    /// Replaces the whole state. Tombstones and generations already seen outlive it; a bad record
    /// leaves its old entry in place.
    ///
    /// # Errors
    ///
    /// [`SnapshotRefused`] if more than 1 % and more than 10 records are bad; nothing has changed
    /// then.
    pub fn load<R: Into<SnapshotRecord>>(
        &mut self,
        position: Position,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Outcome, SnapshotRefused> {
        let mut fresh = Directory {
            position,
            keys: KeyTable::new(self.mixer),
            orgs: none(),
            nodes: Slab::new(),
            accounts: Slab::new(),
            roles: Slab::new(),
            sets: Slab::new(),
            blocks: Arc::from([]),
            foreign: ForeignIndex::new(),
            signers: Arc::from([]),
            // Numbers handed out stay good for ever, so what is found by them stays.
            ..self.live.clone()
        };
        let mut books = Books::default();
        let mut outcome = Outcome::default();
        let (mut total, mut resources) = (0, Vec::new());
        for record in records {
            total += 1;
            let (kind, id, record) = match record.into() {
                SnapshotRecord::Known(kind, id, record) => (kind, id, record),
                SnapshotRecord::Unknown { kind, id, record } => {
                    books.enter_stranger(&kind, &id, Some(&record));
                    let why = unknown_kind(&kind);
                    outcome.refused.push(Refused { seq: position.seq, kind: None, id, why });
                    continue;
                }
            };
            let sum = RecordSum::of(kind, &id, &record);
            books.digest.add(sum);
            *books.counts.of(kind) += 1;
            let taken = if kind == Kind::Key {
                let loaded = self.load_key(&mut fresh, &id, &record, sum);
                loaded.map(|(honoured, replaced)| {
                    books.leave(kind, replaced);
                    honoured
                })
            } else {
                let found = self.prepare(kind, &id, &record);
                let replaced = books.enter(kind, &id, sum, &found);
                books.leave(kind, replaced);
                found.map(|found| {
                    if let Prepared::Resource(index, _) = found {
                        resources.push((id.clone(), index));
                    }
                    let dead = self.live.holds(&found).is_some();
                    if !dead {
                        fresh.settle(found);
                    }
                    !dead
                })
            };
            if taken.is_err() || !outcome.refused.is_empty() {
                self.leave_elsewhere(&mut books, &mut fresh.keys, (kind, &id), taken.is_ok());
            }
            match taken {
                Ok(true) => outcome.applied += 1,
                Ok(false) => outcome.held.push(Held { kind, id }),
                Err(RecordFault(why)) => {
                    if kind == Kind::Key {
                        let replaced = books.sums.insert((kind, id.as_str().into()), sum);
                        books.leave(kind, replaced.unwrap_or_default());
                    }
                    outcome.refused.push(Refused { seq: position.seq, kind: Some(kind), id, why });
                }
            }
        }
        if outcome.refused.len() > 10 && outcome.refused.len() * 100 > total {
            return Err(SnapshotRefused { records: total, refused: outcome.refused });
        }
        fresh.places = self.live.places.clone();
        // Ids of accounts that are only referred to stay; names come from the records just read.
        let named = std::mem::replace(&mut fresh.identities, self.live.identities.clone());
        for (identity, index) in named.iter().zip(0..) {
            if !identity.text.is_empty() {
                *fresh.identities.entry(index) = identity.clone();
            }
        }
        fresh.accesses = self.live.accesses.clone();
        let old = std::mem::replace(&mut self.live, fresh);
        for (account, index) in old.accounts.iter().zip(0..) {
            if account.presence() == Presence::Revoked {
                *self.live.accounts.entry(index) = *account;
            }
        }
        self.keep_refused(&outcome.refused, &old);
        self.live.keys.bury(&old.keys);
        self.live.keys.settle();
        for (id, index) in resources {
            if self.live.chain(index).is_none() {
                self.live.nodes.entry(index).presence = Presence::Absent;
                let (kind, why) = (Some(Kind::Resource), TREE.to_owned());
                outcome.refused.push(Refused { seq: position.seq, kind, id, why });
            }
        }
        self.books = books;
        Ok(outcome)
    }

    /// Old entries of records that a snapshot brought in a bad form.
    fn keep_refused(&mut self, refused: &[Refused], old: &Directory) {
        for Refused { kind, id, .. } in refused {
            let Some(kind) = kind else { continue };
            match kind {
                Kind::Account => {
                    if let Some(index) = self.find_account(id)
                        && let Some(account) = old.accounts.get(index)
                    {
                        *self.live.accounts.entry(index) = *account;
                    }
                }
                Kind::Org => {
                    if let Some(&index) = self.orgs.get(id.as_str())
                        && let Some(org) = old.orgs.get(index)
                    {
                        self.live.plant_root(org.root);
                        *self.live.orgs.entry(index) = org.clone();
                    }
                }
                Kind::Resource => {
                    if let Some(index) = self.live.places.get(id)
                        && let Some(node) = old.nodes.get(index)
                    {
                        *self.live.nodes.entry(index) = *node;
                    }
                }
                Kind::Role => {
                    let index = self.symbols.role(id);
                    *self.live.roles.entry(index) = old.roles.get(index).cloned().flatten();
                }
                Kind::Set => {
                    let index = number(&mut self.sets, id);
                    *self.live.sets.entry(index) = old.sets.get(index).cloned().flatten();
                }
                Kind::Block => {
                    let kept = old.blocks.iter().filter(|block| *block.id == **id).cloned();
                    self.live.blocks = self.live.blocks.iter().cloned().chain(kept).collect();
                }
                Kind::Key => {
                    let slot = id.parse().ok().and_then(|key| old.keys.find(key));
                    if let (Ok(key), Some(slot)) = (
                        id.parse(),
                        slot.filter(|slot: &&super::Slot| slot.standing() != Standing::Revoked),
                    ) {
                        self.live.foreign.enter(key, slot.digest(), slot.extra.as_deref());
                        self.live.keys.put_slot(slot.clone(), RecordSum::default());
                    }
                }
                Kind::Signer => {
                    let kept = old.signers.iter().filter(|signer| signer.kid() == id).cloned();
                    self.live.signers = self.live.signers.iter().cloned().chain(kept).collect();
                }
                Kind::Plan | Kind::Quota => {}
            }
        }
    }

    /// A snapshot that holds a record twice counts the later one alone. Shares of keys and accounts
    /// stand in another place when they are good than when they are bad: clears the other one.
    fn leave_elsewhere(
        &self,
        books: &mut Books,
        keys: &mut KeyTable,
        (kind, id): (Kind, &str),
        good: bool,
    ) {
        let key = if kind == Kind::Key { id.parse().ok() } else { None };
        let account = if kind == Kind::Account { self.find_account(id) } else { None };
        let other = match (key, account) {
            (None, None) => return,
            _ if good => books.sums.remove(&(kind, id.into())),
            (Some(key), _) => keys.sum(key).inspect(|_| keys.set_sum(key, RecordSum::default())),
            (None, Some(index)) => books.account_sums.get_mut(index as usize).map(std::mem::take),
        };
        books.leave(kind, other.unwrap_or_default());
    }

    /// Takes a key of a snapshot into the table that is being filled: whether it is honoured, and
    /// the share of the one it replaces there.
    fn load_key(
        &mut self,
        fresh: &mut Directory,
        id: &str,
        record: &Value,
        sum: RecordSum,
    ) -> Result<(bool, RecordSum), RecordFault> {
        let (key, entry) = self.prepare_key(id, record)?;
        fresh.foreign.admits(key, &entry)?;
        match self.live.keys.find(key) {
            Some(old) if is_held(old, entry.generation) => {
                fresh.foreign.enter(key, old.digest(), old.extra.as_deref());
                Ok((false, fresh.keys.put_slot(old.clone(), sum)))
            }
            Some(_) | None => {
                fresh.foreign.enter(key, entry.digest, entry.extra.as_deref());
                Ok((true, fresh.keys.put(key, entry, sum)))
            }
        }
    }

    /// Puts the fast digest that a slow check found in place of the slow one, until the control
    /// plane's record says so too. Whether the key still has that very secret.
    pub fn rehash(&mut self, found: &Rehash) -> bool {
        let Some(slot) = self.live.keys.find(found.key) else { return false };
        let Some(fast) = found.applied_to(slot) else { return false };
        let sum = self.live.keys.sum(found.key).unwrap_or_default();
        self.live.keys.put(found.key, fast, sum);
        true
    }
}

fn unknown_kind(kind: &str) -> String {
    format!("kind: {kind:?} is not known here")
}

const TREE: &str = "parent: a known place that is not below this one, at most 16 levels deep";

/// The access of accounts that keys or revocations named before any record described them: of an
/// organization that has none.
fn nobody() -> Slab<Option<Arc<Access>>> {
    let mut accesses = Slab::new();
    *accesses.entry(0) = Some(Arc::new(Access::default()));
    accesses
}

/// Organizations before any was described: number 0 exists, and is absent.
fn none() -> Slab<Org> {
    let mut orgs = Slab::new();
    *orgs.entry(0) = Org::default();
    orgs
}

/// Whether a key's record would bring back what has ended: a tombstone, or an earlier secret.
fn is_held(old: &super::Slot, generation: u32) -> bool {
    old.standing() == Standing::Revoked || generation < old.generation
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Account => &mut self.accounts,
            Kind::Key => &mut self.keys,
            Kind::Block
            | Kind::Org
            | Kind::Plan
            | Kind::Quota
            | Kind::Resource
            | Kind::Role
            | Kind::Set
            | Kind::Signer => &mut self.others,
        }
    }
}
