//! The directory's one writer: folds the feed into views. A bad record refuses itself and is
//! reported; a tombstone outlives every snapshot; nothing un-revokes.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use serde_json::Value;

use crate::feed::{
    AccountRecord, BlockMatch, BlockRecord, Change, KeyRecord, Kind, OnStale, OrgRecord, OrgState,
    PointRecord, Position, RecordFault, RecordSum, ResourceRecord, RoleRecord, SetRecord, State,
    StateDigest, Txn, read,
};
use crate::key::{Digest, KeyId};
use crate::time::WallMs;

use super::extra::KeyExtra;
use super::grants::{Access, Patterns, Point, Symbols, number};
use super::keys::{Entry, MAX_PEPPER};
use super::{
    Account, Block, Blocked, Directory, Identity, KeyTable, MAX_CHAIN, Mixer, Node, Org, Places,
    Presence, Slab, Standing,
};

/// A record that was not applied because of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The transaction that brought it.
    pub seq: u64,
    /// What it describes.
    pub kind: Kind,
    /// Which one.
    pub id: String,
    /// The member and what is allowed there.
    pub why: String,
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
}

impl Books {
    /// Remembers the share of a record that is not a key.
    fn enter(
        &mut self,
        kind: Kind,
        id: &str,
        sum: RecordSum,
        found: &Result<Prepared, RecordFault>,
    ) {
        if let Ok(Prepared::Account(index, ..)) = found {
            let index = *index as usize;
            if self.account_sums.len() <= index {
                self.account_sums.resize(index + 1, RecordSum::default());
            }
            self.account_sums[index] = sum;
        } else {
            self.sums.insert((kind, id.into()), sum);
        }
    }
}

/// A record that was read and can be applied.
enum Prepared {
    Account(u32, Account, Identity),
    Block(Block),
    /// Kinds that concern later features: kept in the digest, not looked at.
    Opaque,
    Org(u32, Org),
    Resource(u32, Node),
    Role(u32, Patterns),
    Set(u32, Arc<[Point]>),
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

    /// Applies a transaction that [`Ledger::fit`] called next. Changes whose records are bad are
    /// refused one by one, the others take effect; the position advances either way.
    pub fn apply(&mut self, txn: &Txn) -> Outcome {
        let mut outcome = Outcome::default();
        for change in &txn.changes {
            let applied = match change {
                Change::Put { kind, id, record } => self.put(*kind, id, record, &mut outcome),
                Change::Delete { kind, id } => self.delete(*kind, id),
                Change::Revoke { kind, id, expires_at_ms: _ } => self.revoke(*kind, id),
            };
            match applied {
                Ok(true) => outcome.applied += 1,
                Ok(false) => {}
                Err(RecordFault(why)) => outcome.refused.push(Refused {
                    seq: txn.position.seq,
                    kind: change.kind(),
                    id: change.id().to_owned(),
                    why,
                }),
            }
        }
        self.live.position = txn.position;
        outcome
    }

    /// Replaces the whole state. Tombstones and generations already seen outlive it; a bad record
    /// leaves its old entry in place.
    ///
    /// # Errors
    ///
    /// [`SnapshotRefused`] if more than 1 % and more than 10 records are bad; nothing has changed
    /// then.
    pub fn load(
        &mut self,
        position: Position,
        records: impl IntoIterator<Item = (Kind, String, Value)>,
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
            // Numbers handed out stay good for ever, so what is found by them stays.
            ..self.live.clone()
        };
        let mut books = Books::default();
        let mut outcome = Outcome::default();
        let (mut total, mut resources) = (0, Vec::new());
        for (kind, id, record) in records {
            total += 1;
            let sum = RecordSum::of(kind, &id, &record);
            books.digest.add(sum);
            *books.counts.of(kind) += 1;
            let taken = if kind == Kind::Key {
                self.load_key(&mut fresh.keys, &id, &record, sum)
            } else {
                let found = self.prepare(kind, &id, &record);
                books.enter(kind, &id, sum, &found);
                found.map(|found| {
                    if let Prepared::Resource(index, _) = found {
                        resources.push((id.clone(), index));
                    }
                    let dead = self.is_dead(&found);
                    if !dead {
                        fresh.settle(found);
                    }
                    !dead
                })
            };
            match taken {
                Ok(true) => outcome.applied += 1,
                Ok(false) => outcome.held.push(Held { kind, id }),
                Err(RecordFault(why)) => {
                    if kind == Kind::Key {
                        books.sums.insert((kind, id.as_str().into()), sum);
                    }
                    outcome.refused.push(Refused { seq: position.seq, kind, id, why });
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
                let (kind, why) = (Kind::Resource, TREE.to_owned());
                outcome.refused.push(Refused { seq: position.seq, kind, id, why });
            }
        }
        self.books = books;
        Ok(outcome)
    }

    /// Old entries of records that a snapshot brought in a bad form.
    fn keep_refused(&mut self, refused: &[Refused], old: &Directory) {
        for Refused { kind, id, .. } in refused {
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
                    if let Some(slot) = slot.filter(|slot| slot.standing() != Standing::Revoked) {
                        self.live.keys.put_slot(slot.clone(), RecordSum::default());
                    }
                }
                Kind::Plan | Kind::Quota | Kind::Signer => {}
            }
        }
    }

    /// Takes a key of a snapshot into the table that is being filled; whether it is honoured.
    fn load_key(
        &mut self,
        keys: &mut KeyTable,
        id: &str,
        record: &Value,
        sum: RecordSum,
    ) -> Result<bool, RecordFault> {
        let (key, entry) = self.prepare_key(id, record)?;
        match self.live.keys.find(key) {
            Some(old) if is_held(old, entry.generation) => {
                keys.put_slot(old.clone(), sum);
                Ok(false)
            }
            Some(_) | None => {
                keys.put(key, entry, sum);
                Ok(true)
            }
        }
    }

    /// Whether a record would bring back a revoked account.
    fn is_dead(&self, found: &Prepared) -> bool {
        match found {
            Prepared::Account(index, ..) => {
                let old = self.live.accounts.get(*index);
                old.is_some_and(|old| old.presence() == Presence::Revoked)
            }
            Prepared::Block(_)
            | Prepared::Opaque
            | Prepared::Org(..)
            | Prepared::Resource(..)
            | Prepared::Role(..)
            | Prepared::Set(..) => false,
        }
    }

    fn put(
        &mut self,
        kind: Kind,
        id: &str,
        record: &Value,
        outcome: &mut Outcome,
    ) -> Result<bool, RecordFault> {
        let sum = RecordSum::of(kind, id, record);
        self.count_out(kind, id);
        self.books.digest.add(sum);
        *self.books.counts.of(kind) += 1;
        if kind == Kind::Key {
            let prepared = self.prepare_key(id, record);
            let (key, entry) = prepared.inspect_err(|_| {
                self.books.sums.insert((kind, id.into()), sum);
            })?;
            let old = self.live.keys.find(key);
            if old.is_some_and(|old| is_held(old, entry.generation)) {
                outcome.held.push(Held { kind, id: id.to_owned() });
                self.live.keys.set_sum(key, sum);
                return Ok(false);
            }
            self.live.keys.put(key, entry, sum);
            return Ok(true);
        }
        let found = self.prepare(kind, id, record);
        self.books.enter(kind, id, sum, &found);
        let found = found?;
        if self.is_dead(&found) {
            outcome.held.push(Held { kind, id: id.to_owned() });
            return Ok(false);
        }
        if let Prepared::Resource(index, node) = &found
            && !self.fits_tree(*index, node.parent)
        {
            return Err(RecordFault(TREE.to_owned()));
        }
        self.live.settle(found);
        Ok(true)
    }

    fn delete(&mut self, kind: Kind, id: &str) -> Result<bool, RecordFault> {
        match kind {
            Kind::Account | Kind::Key => {
                return Err(RecordFault::at("op", "keys and accounts are revoked, not deleted"));
            }
            Kind::Org => {
                if let Some(&index) = self.orgs.get(id) {
                    self.live.orgs.entry(index).presence = Presence::Absent;
                }
            }
            Kind::Resource => {
                if let Some(index) = self.live.places.get(id) {
                    self.live.nodes.entry(index).presence = Presence::Absent;
                }
            }
            Kind::Role => {
                let index = self.symbols.role(id);
                *self.live.roles.entry(index) = None;
            }
            Kind::Set => {
                let index = number(&mut self.sets, id);
                *self.live.sets.entry(index) = None;
            }
            Kind::Block => {
                let others = self.live.blocks.iter().filter(|block| *block.id != *id);
                self.live.blocks = others.cloned().collect();
            }
            Kind::Plan | Kind::Quota | Kind::Signer => {}
        }
        self.count_out(kind, id);
        Ok(true)
    }

    fn revoke(&mut self, kind: Kind, id: &str) -> Result<bool, RecordFault> {
        self.count_out(kind, id);
        match kind {
            Kind::Key => {
                let key: KeyId = id.parse().map_err(|error| RecordFault::at("id", error))?;
                if !self.live.keys.revoke(key) {
                    self.live.keys.put(key, GRAVE, RecordSum::default());
                }
                Ok(true)
            }
            Kind::Account => {
                let index = self.account_index(id);
                let account = self.live.accounts.entry(index);
                self.dead_accounts += usize::from(account.presence() != Presence::Revoked);
                *account = Account::new(Presence::Revoked, account.access());
                Ok(true)
            }
            Kind::Block
            | Kind::Org
            | Kind::Plan
            | Kind::Quota
            | Kind::Resource
            | Kind::Role
            | Kind::Set
            | Kind::Signer => Err(RecordFault::at("op", "only keys and accounts are revoked")),
        }
    }

    /// Takes the record that is live under this name out of digest and counts.
    fn count_out(&mut self, kind: Kind, id: &str) {
        let key = if kind == Kind::Key { id.parse().ok() } else { None };
        let account = if kind == Kind::Account { self.find_account(id) } else { None };
        let mut sum = RecordSum::default();
        if let Some(key) = key {
            sum = self.live.keys.sum(key).unwrap_or_default();
            if sum != RecordSum::default() {
                self.live.keys.set_sum(key, RecordSum::default());
            }
        }
        if let Some(slot) =
            account.and_then(|index| self.books.account_sums.get_mut(index as usize))
        {
            sum = std::mem::take(slot);
        }
        if sum == RecordSum::default() {
            sum = self.books.sums.remove(&(kind, id.into())).unwrap_or_default();
        }
        if sum != RecordSum::default() {
            self.books.digest.remove(sum);
            *self.books.counts.of(kind) -= 1;
        }
    }

    /// Whether a node may hang under this parent: no cycle, not too deep.
    fn fits_tree(&self, index: u32, parent: u32) -> bool {
        let Some(above) = self.live.chain(parent) else {
            // The parent may come later in the same transaction; until then nothing is granted.
            return parent != index;
        };
        !above.contains(&index) && above.len() < MAX_CHAIN
    }

    fn prepare(&mut self, kind: Kind, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        match kind {
            Kind::Account => self.prepare_account(id, record),
            Kind::Block => self.prepare_block(id, record),
            Kind::Org => self.prepare_org(id, record),
            Kind::Resource => self.prepare_resource(id, record),
            Kind::Role => {
                let record: RoleRecord = read(record, &[])?;
                if record.permissions.iter().any(|permission| permission.starts_with('@')) {
                    return Err(RecordFault::at("permissions", "a role names no other role"));
                }
                let patterns = self.symbols.patterns("permissions", &record.permissions)?;
                Ok(Prepared::Role(self.symbols.role(id), patterns))
            }
            Kind::Set => {
                let record: SetRecord = read(record, &[])?;
                let points = self.points(&record.org, "points", &record.points)?;
                Ok(Prepared::Set(number(&mut self.sets, id), points.into()))
            }
            Kind::Key | Kind::Plan | Kind::Quota | Kind::Signer => Ok(Prepared::Opaque),
        }
    }

    fn prepare_org(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        if id.is_empty() {
            return Err(RecordFault::at("id", "not empty"));
        }
        let record: OrgRecord = read(record, &[])?;
        let presence = match record.state {
            OrgState::Active => Presence::Active,
            OrgState::Suspended => Presence::Inactive,
        };
        let org = Org {
            id: Bytes::copy_from_slice(id.as_bytes()),
            presence,
            root: self.place(id, "org"),
            staleness: record
                .max_staleness_ms
                .map(|limit| (limit, record.on_stale.unwrap_or(OnStale::ServeRecorded))),
            reveal_reason: record.reveal_reason,
        };
        Ok(Prepared::Org(self.org_index(id), org))
    }

    fn prepare_resource(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        let record: ResourceRecord = read(record, &["archived"])?;
        let (org, place) = id
            .split_once(':')
            .filter(|(_, place)| is_place(place) && *place != "org")
            .ok_or_else(|| RecordFault::at("id", "`<organization>:<kind>/<ref>`"))?;
        if !is_place(&record.parent) {
            return Err(RecordFault::at("parent", "`org` or `<kind>/<ref>`"));
        }
        let index = self.place(org, place);
        let parent = self.place(org, &record.parent);
        if index == parent {
            return Err(RecordFault(TREE.to_owned()));
        }
        let node = Node { parent, presence: Presence::Active, archived: record.archived };
        Ok(Prepared::Resource(index, node))
    }

    fn prepare_account(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        let record: AccountRecord = read(record, &[])?;
        let points = self.points(&record.org, "grants", &record.grants)?;
        let sets = record.sets.iter().map(|set| number(&mut self.sets, set)).collect();
        let org = self.org_index(&record.org);
        let (number, fresh) = self.symbols.access(Access { org, points: points.into(), sets });
        if number > Account::MAX_ACCESS {
            return Err(RecordFault::at("grants", "too many different grants for one gateway"));
        }
        if let Some(access) = fresh {
            *self.live.accesses.entry(number) = Some(access);
        }
        let presence = match record.state {
            State::Active => Presence::Active,
            State::Inactive => Presence::Inactive,
        };
        let mut text = Vec::from(id);
        percent_encode(record.name.as_deref().unwrap_or_default(), &mut text);
        let identity = Identity {
            text: Bytes::from(text.into_boxed_slice()),
            id_len: u32::try_from(id.len()).unwrap_or(u32::MAX),
        };
        Ok(Prepared::Account(self.account_index(id), Account::new(presence, number), identity))
    }

    fn prepare_key(&mut self, id: &str, record: &Value) -> Result<(KeyId, Entry), RecordFault> {
        let key: KeyId = id.parse().map_err(|error| RecordFault::at("id", error))?;
        let record: KeyRecord = read(record, &["cnf", "restrict", "sources", "not_before_ms"])?;
        let digest = Digest::from_hex(&record.current.digest)
            .map_err(|error| RecordFault::at("current.digest", error))?;
        for (member, version) in [
            ("current.pepper", Some(record.current.pepper)),
            ("previous.pepper", record.previous.as_ref().map(|previous| previous.pepper)),
        ] {
            if version.is_some_and(|version| version > MAX_PEPPER) {
                return Err(RecordFault::at(member, format_args!("0 to {MAX_PEPPER}")));
            }
        }
        let account = self.account_index(&record.account);
        let extra = KeyExtra::read(&record, &mut self.symbols);
        let entry = Entry {
            digest,
            pepper: record.current.pepper,
            account,
            generation: record.generation,
            standing: match record.state {
                State::Active => Standing::Active,
                State::Inactive => Standing::Inactive,
            },
            expires_at: record.expires_at_ms.map(WallMs),
            extra: extra?.map(Arc::new),
        };
        Ok((key, entry))
    }

    fn prepare_block(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        let BlockRecord { matches, until_ms } = read(record, &[])?;
        let what = match matches {
            BlockMatch::Account(id) => Blocked::Account(self.account_index(&id)),
            BlockMatch::Key(id) => {
                Blocked::Key(id.parse().map_err(|error| RecordFault::at("match.key", error))?)
            }
            BlockMatch::Org(id) => Blocked::Org(id.into()),
            BlockMatch::Prefix(prefix) => Blocked::Prefix(prefix.into()),
            BlockMatch::Source(range) => Blocked::Source(
                range.parse().map_err(|error| RecordFault::at("match.source", error))?,
            ),
        };
        Ok(Prepared::Block(Block { id: id.into(), what, until: until_ms.map(WallMs) }))
    }

    fn points(
        &mut self,
        org: &str,
        member: &str,
        records: &[PointRecord],
    ) -> Result<Vec<Point>, RecordFault> {
        records
            .iter()
            .map(|PointRecord { at, self_, below }| {
                if !is_place(at) {
                    return Err(RecordFault::at(member, "`at` is `org` or `<kind>/<ref>`"));
                }
                Ok(Point {
                    at: self.place(org, at),
                    here: self.symbols.patterns(member, self_)?,
                    below: self.symbols.patterns(member, below)?,
                })
            })
            .collect()
    }

    fn place(&mut self, org: &str, place: &str) -> u32 {
        self.live.places.index(format!("{org}:{place}"))
    }

    fn org_index(&mut self, id: &str) -> u32 {
        number(&mut self.orgs, id)
    }

    fn find_account(&self, id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(id.as_bytes());
        self.accounts.find(hash, |&index| self.live.account_id(index) == id.as_bytes()).copied()
    }

    fn account_index(&mut self, id: &str) -> u32 {
        if let Some(index) = self.find_account(id) {
            return index;
        }
        let index = u32::try_from(self.accounts.len()).unwrap_or(u32::MAX);
        *self.live.identities.entry(index) = Identity {
            text: Bytes::copy_from_slice(id.as_bytes()),
            id_len: u32::try_from(id.len()).unwrap_or(u32::MAX),
        };
        let (live, hasher) = (&self.live, &self.hasher);
        let rehash = |&index: &u32| hasher.hash_one(live.account_id(index));
        self.accounts.insert_unique(hasher.hash_one(id.as_bytes()), index, rehash);
        index
    }
}

impl Directory {
    /// Takes a record in. Only the ledger calls this, on a view that nobody else holds yet.
    fn settle(&mut self, found: Prepared) {
        match found {
            Prepared::Account(index, account, identity) => {
                *self.accounts.entry(index) = account;
                *self.identities.entry(index) = identity;
            }
            Prepared::Block(block) => {
                let others = self.blocks.iter().filter(|other| other.id != block.id);
                self.blocks = others.cloned().chain([block.clone()]).collect();
            }
            Prepared::Opaque => {}
            Prepared::Org(index, org) => {
                self.plant_root(org.root);
                *self.orgs.entry(index) = org;
            }
            Prepared::Resource(index, node) => *self.nodes.entry(index) = node,
            Prepared::Role(index, patterns) => {
                *self.roles.entry(index) = Some(Arc::new(patterns));
            }
            Prepared::Set(index, points) => *self.sets.entry(index) = Some(points),
        }
    }

    fn plant_root(&mut self, root: u32) {
        *self.nodes.entry(root) =
            Node { parent: root, presence: Presence::Active, archived: false };
    }
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

/// A tombstone of a key that was never seen.
const GRAVE: Entry = Entry {
    digest: Digest::DUMMY,
    pepper: 0,
    account: 0,
    generation: 0,
    standing: Standing::Revoked,
    expires_at: None,
    extra: None,
};

/// Whether a key's record would bring back what has ended: a tombstone, or an earlier secret.
fn is_held(old: &super::Slot, generation: u32) -> bool {
    old.standing() == Standing::Revoked || generation < old.generation
}

fn is_place(text: &str) -> bool {
    text == "org"
        || text
            .split_once('/')
            .is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty() && text.len() <= 256)
}

/// Percent-encodes everything a header value of ours may not hold (RFC 3986 section 2.1).
fn percent_encode(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-') {
            out.push(byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
        }
    }
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
