//! Transactions. Every change is read before any takes effect: what a transaction grants and what
//! it takes away belong together, so one change that cannot be applied refuses the others. Only
//! revocations always apply. A record that is merely held refuses nothing.

use crate::directory::grants::number;
use crate::directory::keys::{Entry, Standing};
use crate::directory::{Account, Directory, MAX_CHAIN, Presence};
use crate::feed::{Change, Kind, RecordFault, RecordSum, Txn};
use crate::key::{Digest, KeyId};

use super::prepare::Prepared;
use super::{Held, Ledger, Outcome, Refused, TREE, is_held, unknown_kind};

/// Why a change that could be applied was not.
const OTHERS: &str = "another change of the transaction cannot be applied";

/// A change that was read: names are numbers, a record is what the directory stores.
enum Step {
    Delete(Gone),
    Put(Prepared),
    Revoke(Ended),
}

/// What is removed.
enum Gone {
    Block(String),
    /// Of a kind that is not looked at, or was never there.
    Nothing,
    Org(u32),
    Resource(u32),
    Role(u32),
    Set(u32),
    Signer(String),
}

/// What is ended for good.
#[derive(Copy, Clone)]
enum Ended {
    Account(u32),
    Key(KeyId),
}

/// What became of a step.
enum Taken {
    Applied,
    /// Applied, and an account lives no more.
    Died,
    Held(Kind),
}

impl Ledger {
    /// Applies a transaction that [`Ledger::fit`] called next. If any of its changes cannot be
    /// applied, only its revocations are, and every other change is refused. The position advances
    /// and the digest becomes the control plane's either way.
    pub fn apply(&mut self, txn: &Txn) -> Outcome {
        let steps: Vec<_> = txn.changes.iter().map(|change| self.read(change)).collect();
        for change in &txn.changes {
            self.count(change);
        }
        let mut outcome = Outcome::default();
        let mut faults = vec![None; steps.len()];
        // Places and names of other keys show only when the changes are put together. A copy shares
        // all that they do not touch.
        let mut trial = self.live.clone();
        let mut died = 0;
        for ((step, change), fault) in steps.into_iter().zip(&txn.changes).zip(&mut faults) {
            match step.and_then(|step| trial.take(step)) {
                Ok(Taken::Applied) => outcome.applied += 1,
                Ok(Taken::Died) => {
                    outcome.applied += 1;
                    died += 1;
                }
                Ok(Taken::Held(kind)) => {
                    outcome.held.push(Held { kind, id: change.id().to_owned() });
                }
                Err(RecordFault(why)) => *fault = Some(why),
            }
        }
        if faults.iter().all(Option::is_none) {
            self.live = trial;
            self.dead_accounts += died;
            self.place_sums(&txn.changes);
        } else {
            outcome = self.refuse(txn, faults);
        }
        self.live.position = txn.position;
        outcome
    }

    /// Applies the revocations of a transaction alone.
    fn refuse(&mut self, txn: &Txn, faults: Vec<Option<String>>) -> Outcome {
        let mut outcome = Outcome::default();
        for (change, fault) in txn.changes.iter().zip(faults) {
            if let Change::Revoke { kind, id, expires_at_ms: _ } = change
                && let Ok(ended) = self.read_revoke(*kind, id)
            {
                self.dead_accounts += usize::from(self.live.end(ended));
                outcome.applied += 1;
                continue;
            }
            outcome.refused.push(Refused {
                seq: txn.position.seq,
                kind: change.kind(),
                id: change.id().to_owned(),
                why: fault.unwrap_or_else(|| OTHERS.to_owned()),
            });
        }
        outcome
    }

    /// Reads a change. Interns names, and changes nothing that a decision looks at.
    fn read(&mut self, change: &Change) -> Result<Step, RecordFault> {
        match change {
            Change::Delete { kind, id } => self.read_delete(*kind, id).map(Step::Delete),
            Change::Put { kind, id, record } => self.prepare(*kind, id, record).map(Step::Put),
            Change::Revoke { kind, id, expires_at_ms: _ } => {
                self.read_revoke(*kind, id).map(Step::Revoke)
            }
            Change::UnknownKind { kind, .. } => Err(RecordFault(unknown_kind(kind))),
            Change::UnknownOp { op, .. } => {
                Err(RecordFault::at("op", format_args!("{op:?} is not known here")))
            }
        }
    }

    fn read_delete(&mut self, kind: Kind, id: &str) -> Result<Gone, RecordFault> {
        Ok(match kind {
            Kind::Account | Kind::Key => {
                return Err(RecordFault::at("op", "keys and accounts are revoked, not deleted"));
            }
            Kind::Block => Gone::Block(id.to_owned()),
            Kind::Org => self.orgs.get(id).map_or(Gone::Nothing, |&index| Gone::Org(index)),
            Kind::Plan | Kind::Quota => Gone::Nothing,
            Kind::Resource => self.live.places.get(id).map_or(Gone::Nothing, Gone::Resource),
            Kind::Role => Gone::Role(self.symbols.role(id)),
            Kind::Set => Gone::Set(number(&mut self.sets, id)),
            Kind::Signer => Gone::Signer(id.to_owned()),
        })
    }

    fn read_revoke(&mut self, kind: Kind, id: &str) -> Result<Ended, RecordFault> {
        match kind {
            Kind::Account => Ok(Ended::Account(self.account_index(id))),
            Kind::Key => {
                let key = id.parse().map_err(|error| RecordFault::at("id", error))?;
                Ok(Ended::Key(key))
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

    /// Takes a change into the digest and the counts, which follow the control plane whatever this
    /// gateway makes of the change.
    fn count(&mut self, change: &Change) {
        match change {
            Change::Delete { kind, id } | Change::Revoke { kind, id, expires_at_ms: _ } => {
                self.count_out(*kind, id);
            }
            Change::Put { kind, id, record } => {
                self.count_out(*kind, id);
                let sum = RecordSum::of(*kind, id, record);
                self.books.digest.add(sum);
                *self.books.counts.of(*kind) += 1;
                self.books.sums.insert((*kind, id.as_str().into()), sum);
            }
            Change::UnknownKind { kind, id, record } => {
                self.books.enter_stranger(kind, id, record.as_ref());
            }
            // If it changes the digest, the next heartbeat shows it, and a snapshot follows.
            Change::UnknownOp { .. } => {}
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
        self.books.leave(kind, sum);
    }

    /// Moves the shares of keys and accounts that were just put to where such shares stand: there
    /// may be a million of each.
    fn place_sums(&mut self, changes: &[Change]) {
        for change in changes {
            let Change::Put { kind: kind @ (Kind::Account | Kind::Key), id, record: _ } = change
            else {
                continue;
            };
            let place = (*kind, id.as_str().into());
            // None if the same transaction has ended it again.
            let Some(sum) = self.books.sums.remove(&place) else { continue };
            if *kind == Kind::Account {
                let index = self.account_index(id);
                self.books.enter_account(index, sum);
            } else if let Ok(key) = id.parse() {
                self.live.keys.set_sum(key, sum);
            }
        }
    }
}

impl Directory {
    /// Takes a step on a view that nobody else holds yet.
    fn take(&mut self, step: Step) -> Result<Taken, RecordFault> {
        let found = match step {
            Step::Delete(gone) => {
                self.remove(&gone);
                return Ok(Taken::Applied);
            }
            Step::Put(found) => found,
            Step::Revoke(ended) => {
                return Ok(if self.end(ended) { Taken::Died } else { Taken::Applied });
            }
        };
        if let Prepared::Key(key, entry) = &found {
            self.foreign.admits(*key, entry)?;
        }
        if let Some(kind) = self.holds(&found) {
            return Ok(Taken::Held(kind));
        }
        if let Prepared::Resource(index, node) = &found
            && !self.fits_tree(*index, node.parent)
        {
            return Err(RecordFault(TREE.to_owned()));
        }
        self.settle(found);
        Ok(Taken::Applied)
    }

    /// Whether a record would bring back what has ended, and of which kind that is.
    pub(super) fn holds(&self, found: &Prepared) -> Option<Kind> {
        match found {
            Prepared::Account(index, ..) => {
                let old = self.accounts.get(*index)?;
                (old.presence() == Presence::Revoked).then_some(Kind::Account)
            }
            Prepared::Key(key, entry) => {
                let old = self.keys.find(*key)?;
                is_held(old, entry.generation).then_some(Kind::Key)
            }
            Prepared::Block(_)
            | Prepared::Opaque
            | Prepared::Org(..)
            | Prepared::Resource(..)
            | Prepared::Role(..)
            | Prepared::Set(..)
            | Prepared::Signer(_) => None,
        }
    }

    /// Whether a node may hang under this parent: no cycle, not too deep.
    fn fits_tree(&self, index: u32, parent: u32) -> bool {
        let Some(above) = self.chain(parent) else {
            // The parent may come later in the same transaction; until then nothing is granted.
            return parent != index;
        };
        !above.contains(&index) && above.len() < MAX_CHAIN
    }

    fn remove(&mut self, gone: &Gone) {
        match gone {
            Gone::Block(id) => {
                let others = self.blocks.iter().filter(|block| *block.id != **id);
                self.blocks = others.cloned().collect();
            }
            Gone::Nothing => {}
            Gone::Org(index) => self.orgs.entry(*index).presence = Presence::Absent,
            Gone::Resource(index) => self.nodes.entry(*index).presence = Presence::Absent,
            Gone::Role(index) => *self.roles.entry(*index) = None,
            Gone::Set(index) => *self.sets.entry(*index) = None,
            Gone::Signer(id) => {
                let others = self.signers.iter().filter(|signer| signer.kid() != id);
                self.signers = others.cloned().collect();
            }
        }
    }

    /// Leaves a tombstone; whether it is a new one of an account.
    fn end(&mut self, ended: Ended) -> bool {
        match ended {
            Ended::Account(index) => {
                let account = self.accounts.entry(index);
                let lived = account.presence() != Presence::Revoked;
                *account = Account::new(Presence::Revoked, account.access());
                lived
            }
            Ended::Key(key) => {
                if !self.keys.revoke(key) {
                    self.keys.put(key, GRAVE, RecordSum::default());
                }
                false
            }
        }
    }
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
