//! Keys that are not found by their own id: imported ones by the SHA-256 of their text, renderings
//! by their UUID. The index is persistent like all tables of a directory and empty where nobody
//! imports anything; natively presented keys never come here.
//!
//! A secret that is only known by a slow hash cannot be judged on the spot: [`Directory`] then asks
//! for a [`SlowCheck`], which somebody with time runs, and which alone makes a [`Proof`].

use std::net::IpAddr;
use std::sync::Arc;

use crate::feed::RecordFault;
use crate::key::{Digest, Finder, ForeignKey, KeyId, PepperRing, Uid};
use crate::time::WallMs;
use crate::verdict::DenyReason;

use super::extra::{Hashing, KeyExtra};
use super::keys::{Entry, Slot};
use super::{Directory, Principal, Refusal};

/// What keys are found by.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
enum Name {
    Text([u8; 32]),
    Uid(Uid),
}

/// Name → key, persistent; hashed with a seed of the process.
#[derive(Clone)]
pub(super) struct ForeignIndex(
    imbl::GenericHashMap<
        Name,
        KeyId,
        foldhash::fast::RandomState,
        imbl::shared_ptr::DefaultSharedPtr,
    >,
);

impl ForeignIndex {
    pub(super) fn new() -> Self {
        Self(imbl::GenericHashMap::with_hasher(foldhash::fast::RandomState::default()))
    }

    /// Refuses a key whose names belong to another one: a credential stands for one key.
    pub(super) fn admits(&self, key: KeyId, entry: &Entry) -> Result<(), RecordFault> {
        for name in names(entry.digest, entry.extra.as_deref()) {
            if self.0.get(&name).is_some_and(|owner| *owner != key) {
                let member = if matches!(name, Name::Uid(_)) { "uid" } else { "current.digest" };
                return Err(RecordFault::at(member, "none that another key has"));
            }
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, key: KeyId, digest: Digest, extra: Option<&KeyExtra>) {
        for name in names(digest, extra) {
            self.0.insert(name, key);
        }
    }

    pub(super) fn leave(&mut self, key: KeyId, digest: Digest, extra: Option<&KeyExtra>) {
        for name in names(digest, extra) {
            if self.0.get(&name) == Some(&key) {
                self.0.remove(&name);
            }
        }
    }

    fn find(&self, presented: &ForeignKey) -> Option<KeyId> {
        let name = match presented.finder() {
            Finder::Text => Name::Text(*presented.sha256().as_bytes()),
            Finder::Uid(uid) => Name::Uid(uid),
        };
        self.0.get(&name).copied()
    }
}

/// What a key with this digest and extra is found by, besides its id.
fn names(digest: Digest, extra: Option<&KeyExtra>) -> impl Iterator<Item = Name> {
    let uid = extra.and_then(|extra| extra.uid);
    let text = |hashing: &Hashing, digest: Digest| {
        (uid.is_none() && matches!(hashing, Hashing::Sha256))
            .then(|| Name::Text(*digest.as_bytes()))
    };
    let current = extra.and_then(|extra| text(&extra.hashing, digest));
    let previous = extra
        .and_then(|extra| extra.previous.as_ref())
        .and_then(|previous| text(&previous.hashing, previous.digest));
    [uid.map(Name::Uid), current, previous].into_iter().flatten()
}

/// Why a foreign key is no principal yet.
pub enum Unproven {
    /// It is none, and whose key it claims to be, if that is known.
    Refused(Refusal, Option<KeyId>),
    /// It must be compared with slow hashes first.
    Slow(SlowCheck),
}

/// Which of a key's secrets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in force.
    Current,
    /// The one that a rotation replaced.
    Previous,
}

/// A comparison that takes up to a second: never to be run where requests are served.
pub struct SlowCheck {
    key: KeyId,
    generation: u32,
    hashes: Vec<(Which, Arc<str>)>,
}

impl SlowCheck {
    /// Runs it.
    pub fn run(self, presented: &ForeignKey) -> Proof {
        let Self { key, generation, hashes } = self;
        let matching = hashes.into_iter().find(|(_, hash)| presented.matches_bcrypt(hash));
        Proof { key, generation, matching }
    }
}

/// What a slow check found. Only [`SlowCheck::run`] makes one.
pub struct Proof {
    key: KeyId,
    generation: u32,
    matching: Option<(Which, Arc<str>)>,
}

impl Proof {
    /// The fast digest that may replace the slow one from now on.
    pub fn rehash(&self, presented: &ForeignKey, peppers: &PepperRing) -> Option<Rehash> {
        let (which, hash) = self.matching.clone()?;
        let pepper = peppers.current();
        Some(Rehash {
            key: self.key,
            generation: self.generation,
            which,
            pepper: pepper.version(),
            digest: presented.keyed(self.key, pepper),
            hash,
        })
    }
}

/// A fast digest found for a secret that was known by a slow hash.
#[derive(Clone)]
pub struct Rehash {
    /// The key.
    pub key: KeyId,
    /// Its generation when the secret was checked.
    pub generation: u32,
    /// Which of its secrets.
    pub which: Which,
    /// The pepper's version.
    pub pepper: u32,
    /// The keyed digest.
    pub digest: Digest,
    /// The slow hash it replaces.
    hash: Arc<str>,
}

impl Rehash {
    /// The key's entry with the fast digest; `None` if it no longer has the slow one.
    pub(super) fn applied_to(&self, slot: &Slot) -> Option<Entry> {
        let is_replaced = |hashing: &Hashing| match hashing {
            Hashing::Bcrypt(hash) => *hash == self.hash,
            Hashing::B3 | Hashing::Sha256 => false,
        };
        let mut extra = KeyExtra::clone(slot.extra.as_deref()?);
        let mut entry = Entry {
            digest: slot.digest(),
            pepper: slot.pepper(),
            account: slot.account,
            generation: slot.generation,
            standing: slot.standing(),
            expires_at: slot.expires_at(),
            extra: None,
        };
        match self.which {
            Which::Current if is_replaced(&extra.hashing) => {
                extra.hashing = Hashing::B3;
                (entry.digest, entry.pepper) = (self.digest, self.pepper);
            }
            Which::Previous => {
                let previous = extra.previous.as_mut()?;
                if !is_replaced(&previous.hashing) {
                    return None;
                }
                previous.hashing = Hashing::B3;
                (previous.digest, previous.pepper) = (self.digest, self.pepper);
            }
            Which::Current => return None,
        }
        entry.extra = Some(Arc::new(extra));
        Some(entry)
    }
}

/// One stored digest that a secret is compared with.
struct Stored<'d> {
    digest: Digest,
    pepper: u32,
    hashing: &'d Hashing,
}

impl Directory {
    /// Who presents the foreign key, if it is usable. Costs the same whether it is found or not:
    /// both fast hashes and all comparisons; only a key known by a slow hash alone costs more.
    ///
    /// # Errors
    ///
    /// [`Unproven`]. A slow check is asked for unless `proof` answers it; a proof for another
    /// state of the key counts for nothing.
    pub fn verify_foreign<'d>(
        &'d self,
        presented: &ForeignKey,
        (peer, now): (IpAddr, WallMs),
        peppers: &PepperRing,
        proof: Option<&Proof>,
    ) -> Result<Principal<'d>, Unproven> {
        let found = self.foreign.find(presented);
        let slot = found.and_then(|key| self.keys.find(key));
        let key = found.unwrap_or(KeyId::from_u64(0));
        let extra = slot.and_then(|slot| slot.extra.as_deref());
        let stored =
            |which| match which {
                Which::Current => slot.map(|slot| Stored {
                    digest: slot.digest(),
                    pepper: slot.pepper(),
                    hashing: extra.map_or(&Hashing::B3, |extra| &extra.hashing),
                }),
                Which::Previous => extra.and_then(|extra| extra.previous.as_ref()).map(|it| {
                    Stored { digest: it.digest, pepper: it.pepper, hashing: &it.hashing }
                }),
            };
        let current = stored(Which::Current);
        let previous = stored(Which::Previous);
        let is_current = matches(presented, key, current.as_ref(), peppers);
        let is_previous = matches(presented, key, previous.as_ref(), peppers);

        let refused = |reason| Unproven::Refused(Refusal { reason, reveal: false }, found);
        let Some(slot) = slot else { return Err(refused(DenyReason::UnknownKey)) };
        let proven = proof
            .filter(|proof| proof.key == key && proof.generation == slot.generation)
            .map(|proof| &proof.matching);
        let which = match (is_current, is_previous, proven) {
            (true, _, _) => Which::Current,
            (false, true, _) => Which::Previous,
            (false, false, Some(Some((which, _)))) => *which,
            (false, false, Some(None)) => return Err(refused(DenyReason::BadSecret)),
            (false, false, None) => {
                let slow = |which, stored: Option<Stored<'d>>| match stored?.hashing {
                    Hashing::Bcrypt(hash) => Some((which, Arc::clone(hash))),
                    Hashing::B3 | Hashing::Sha256 => None,
                };
                let hashes: Vec<_> =
                    [slow(Which::Current, current), slow(Which::Previous, previous)]
                        .into_iter()
                        .flatten()
                        .collect();
                if hashes.is_empty() || slot.standing() == super::Standing::Revoked {
                    return Err(refused(DenyReason::BadSecret));
                }
                let generation = slot.generation;
                return Err(Unproven::Slow(SlowCheck { key, generation, hashes }));
            }
        };
        let until = match which {
            Which::Current => None,
            Which::Previous => {
                extra.and_then(|extra| Some(extra.previous.as_ref()?.retained_until))
            }
        };
        let claim = self.claim(slot, key).ok_or_else(|| refused(DenyReason::SaInactive))?;
        claim
            .presented_by(None, peer, now)
            .examined(until)
            .map_err(|refusal| Unproven::Refused(refusal, found))
    }
}

/// Compares with one stored digest; against a dummy, at the same cost, where there is none.
fn matches(
    presented: &ForeignKey,
    key: KeyId,
    stored: Option<&Stored<'_>>,
    peppers: &PepperRing,
) -> bool {
    let digest = stored.map_or(Digest::DUMMY, |stored| stored.digest);
    let pepper = stored.and_then(|stored| peppers.find(stored.pepper));
    let keyed = presented.matches_keyed(key, pepper.unwrap_or(peppers.current()), &digest);
    let plain = presented.sha256().matches(&digest);
    match stored.map(|stored| stored.hashing) {
        Some(Hashing::B3) => keyed && pepper.is_some(),
        Some(Hashing::Sha256) => plain,
        Some(Hashing::Bcrypt(_)) | None => false,
    }
}
