//! The key table: a persistent hash table of 64-byte slots in small shards.
//!
//! A shard is an array sorted by hash, with gaps (linear probing whose runs stay sorted): a find
//! starts where the hash says and ends at the key, at a gap or at a greater hash, so that a miss
//! costs what a hit costs. Shards hang under two levels of shared blocks; a change copies one shard
//! and one block per level (about 45 KiB at any size), a copy of the whole table is one reference
//! count. Numbers: ADR 0012 and `benches/verify`.

use std::sync::Arc;

use prefetch_index::prefetch_index;

use crate::feed::RecordSum;
use crate::key::{Digest, KeyId};
use crate::time::WallMs;

use super::extra::KeyExtra;

/// Shards per block of the lower level.
const BLOCK_BITS: u32 = 7;
/// Keys per shard after a split: small enough to copy in microseconds, large enough that the two
/// upper levels stay in cache.
const SHARD_AIM: usize = 512;
/// Shards are split when they hold this many times as many.
const SPLIT_AT: usize = 4;
/// Slots per 100 keys when a shard is spread.
const SPREAD: usize = 125;
/// A shard is spread anew when it holds more keys than this per 100 slots.
const FULL: usize = 88;

/// Slots that nearly every find ends within.
const PROBED: usize = 4;

/// Whether a slot holds a key, and in what state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Active,
    Inactive,
    /// A tombstone: nothing but the end of the process removes it.
    Revoked,
}

const EMPTY: u64 = 0;
const ACTIVE: u64 = 1;
const INACTIVE: u64 = 2;
const REVOKED: u64 = 3;
const STANDING_SHIFT: u32 = 48;
const PEPPER_SHIFT: u32 = 52;
const INSTANT_MASK: u64 = (1 << STANDING_SHIFT) - 1;

/// Greatest pepper version that a slot can name.
pub(super) const MAX_PEPPER: u32 = (1 << (64 - PEPPER_SHIFT)) - 1;

/// A key as the request path needs it: one cache line.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct Slot {
    hash: u64,
    digest: [u8; 32],
    pub(super) extra: Option<Arc<KeyExtra>>,
    pub(super) account: u32,
    pub(super) generation: u32,
    /// Expiry in ms (48 bits, all ones = never), standing (4 bits), pepper version (12 bits).
    packed: u64,
}

const _: () = assert!(size_of::<Slot>() == 64);

impl Slot {
    const GAP: Slot =
        Slot { hash: 0, digest: [0; 32], extra: None, account: 0, generation: 0, packed: EMPTY };

    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(self.digest)
    }

    pub(super) fn pepper(&self) -> u32 {
        u32::try_from(self.packed >> PEPPER_SHIFT).unwrap_or(MAX_PEPPER)
    }

    pub(super) fn standing(&self) -> Standing {
        match (self.packed >> STANDING_SHIFT) & 0xf {
            ACTIVE => Standing::Active,
            INACTIVE => Standing::Inactive,
            // Anything unexpected is treated as what grants least.
            _ => Standing::Revoked,
        }
    }

    /// The instant before which the key is accepted; `None` if it never expires.
    pub(super) fn expires_at(&self) -> Option<WallMs> {
        let instant = self.packed & INSTANT_MASK;
        (instant != INSTANT_MASK).then_some(WallMs(instant))
    }

    pub(super) fn revoke(&mut self) {
        self.packed = (self.packed & !(0xf << STANDING_SHIFT)) | (REVOKED << STANDING_SHIFT);
    }

    fn is_gap(&self) -> bool {
        self.packed == EMPTY
    }
}

/// What a slot is made of.
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) pepper: u32,
    pub(super) account: u32,
    pub(super) generation: u32,
    pub(super) standing: Standing,
    pub(super) expires_at: Option<WallMs>,
    pub(super) extra: Option<Arc<KeyExtra>>,
}

/// Turns key ids into hashes; bijective, so equal hashes are equal ids. Seeded per process, so that
/// nobody can choose ids that collide.
#[derive(Copy, Clone)]
pub(super) struct Mixer(pub(super) u64);

impl Mixer {
    fn hash(self, id: KeyId) -> u64 {
        let mixed = (id.as_u64() ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    pub(super) fn slot(self, id: KeyId, entry: Entry) -> Slot {
        let standing = match entry.standing {
            Standing::Active => ACTIVE,
            Standing::Inactive => INACTIVE,
            Standing::Revoked => REVOKED,
        };
        // An instant past the year 10889 is cut to it, which can only expire a key earlier.
        let instant =
            entry.expires_at.map_or(INSTANT_MASK, |instant| instant.0.min(INSTANT_MASK - 1));
        let pepper = u64::from(entry.pepper.min(MAX_PEPPER));
        Slot {
            hash: self.hash(id),
            digest: *entry.digest.as_bytes(),
            extra: entry.extra,
            account: entry.account,
            generation: entry.generation,
            packed: instant | (standing << STANDING_SHIFT) | (pepper << PEPPER_SHIFT),
        }
    }
}

#[derive(Clone)]
struct Shard {
    slots: Arc<[Slot]>,
    /// The record's share of the state digest, beside its slot; 0 where no record is live.
    sums: Arc<[RecordSum]>,
    /// Slots that hashes are spread over; the array is a little longer for the last run.
    span: u32,
    live: u32,
}

impl Shard {
    fn empty() -> Self {
        Self { slots: Arc::from([]), sums: Arc::from([]), span: 0, live: 0 }
    }

    /// Spreads slots that come sorted by hash.
    fn spread(live: usize, entries: impl Iterator<Item = (Slot, RecordSum)>, bits: u32) -> Self {
        if live == 0 {
            return Self::empty();
        }
        let span = (live * SPREAD / 100).max(live + 1);
        let mut slots = Vec::with_capacity(span + 8);
        let mut sums = Vec::with_capacity(span + 8);
        for (slot, sum) in entries {
            let start = start_of(slot.hash, bits, span);
            while slots.len() < start {
                slots.push(Slot::GAP);
                sums.push(RecordSum::default());
            }
            slots.push(slot);
            sums.push(sum);
        }
        // A few gaps at the end let the last run grow before the shard must be spread anew.
        slots.resize(slots.len().max(span) + 2, Slot::GAP);
        sums.resize(slots.len(), RecordSum::default());
        let span = u32::try_from(span).unwrap_or(u32::MAX);
        Self {
            slots: slots.into(),
            sums: sums.into(),
            span,
            live: u32::try_from(live).unwrap_or(u32::MAX),
        }
    }

    fn entries(&self) -> impl Iterator<Item = (Slot, RecordSum)> {
        taken(&self.slots, &self.sums)
    }

    fn place(&self, hash: u64, bits: u32) -> Place {
        let mut index = start_of(hash, bits, self.span as usize);
        while let Some(slot) = self.slots.get(index) {
            if slot.is_gap() || slot.hash > hash {
                return Place::Vacant(index);
            }
            if slot.hash == hash {
                return Place::Taken(index);
            }
            index += 1;
        }
        Place::Vacant(index)
    }

    fn insert(&mut self, slot: Slot, sum: RecordSum, at: usize, bits: u32) {
        let gap = self.slots.iter().skip(at).position(Slot::is_gap).map(|ahead| at + ahead);
        let crowded = (self.live as usize + 1) * 100 > self.span as usize * FULL;
        let Some(gap) = gap.filter(|_| !crowded) else {
            let (before, after) = self.slots.split_at(at.min(self.slots.len()));
            let (sums_before, sums_after) = self.sums.split_at(before.len());
            let entries =
                taken(before, sums_before).chain([(slot, sum)]).chain(taken(after, sums_after));
            *self = Self::spread(self.live as usize + 1, entries, bits);
            return;
        };
        let run = &mut Arc::make_mut(&mut self.slots)[at..=gap];
        run.rotate_right(1);
        run[0] = slot;
        let run = &mut Arc::make_mut(&mut self.sums)[at..=gap];
        run.rotate_right(1);
        run[0] = sum;
        self.live += 1;
    }
}

/// What is not a gap.
fn taken(slots: &[Slot], sums: &[RecordSum]) -> impl Iterator<Item = (Slot, RecordSum)> {
    let pairs = slots.iter().zip(sums);
    pairs.filter(|(slot, _)| !slot.is_gap()).map(|(slot, sum)| (slot.clone(), *sum))
}

enum Place {
    Taken(usize),
    Vacant(usize),
}

/// Where the search for a hash begins: the hash's bits below the shard's, scaled to the span.
fn start_of(hash: u64, bits: u32, span: usize) -> usize {
    let scaled = (u128::from(hash << bits) * span as u128) >> 64;
    usize::try_from(scaled).unwrap_or(usize::MAX)
}

/// All keys of a directory, tombstones included.
#[derive(Clone)]
pub(super) struct KeyTable {
    blocks: Arc<[Arc<[Shard]>]>,
    bits: u32,
    mixer: Mixer,
    live: usize,
    tombstones: usize,
}

impl KeyTable {
    pub(super) fn new(mixer: Mixer) -> Self {
        let block = vec![Shard::empty(); 1 << BLOCK_BITS].into();
        Self { blocks: Arc::from([block]), bits: BLOCK_BITS, mixer, live: 0, tombstones: 0 }
    }

    /// Slots in use, tombstones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live
    }

    pub(super) fn tombstones(&self) -> usize {
        self.tombstones
    }

    /// Resident bytes of slots and sums.
    pub(super) fn bytes(&self) -> usize {
        let slots = self.shards().map(|shard| shard.slots.len()).sum::<usize>();
        slots * (size_of::<Slot>() + size_of::<RecordSum>())
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&Slot> {
        self.find_hash(self.mixer.hash(id))
    }

    fn find_hash(&self, hash: u64) -> Option<&Slot> {
        let shard = self.shard(hash)?;
        match shard.place(hash, self.bits) {
            Place::Taken(at) => shard.slots.get(at),
            Place::Vacant(_) => None,
        }
    }

    /// Asks memory for where a key would be, without waiting for the answer: an ordinary load would
    /// hold back everything behind it once the processor's window is full.
    pub(super) fn prefetch(&self, id: KeyId) {
        let hash = self.mixer.hash(id);
        let Some(shard) = self.shard(hash) else { return };
        let start = start_of(hash, self.bits, shard.span as usize);
        for ahead in start..start + PROBED {
            prefetch_index(&*shard.slots, ahead);
        }
    }

    pub(super) fn sum(&self, id: KeyId) -> Option<RecordSum> {
        let hash = self.mixer.hash(id);
        let shard = self.shard(hash)?;
        match shard.place(hash, self.bits) {
            Place::Taken(at) => shard.sums.get(at).copied(),
            Place::Vacant(_) => None,
        }
    }

    /// Sets the sum of a key that is in the table.
    pub(super) fn set_sum(&mut self, id: KeyId, sum: RecordSum) {
        let (hash, bits) = (self.mixer.hash(id), self.bits);
        let shard = self.shard_mut(hash);
        if let Place::Taken(at) = shard.place(hash, bits) {
            Arc::make_mut(&mut shard.sums)[at] = sum;
        }
    }

    /// Puts a key in place of the one with its id, if any; the result is that one's sum.
    pub(super) fn put(&mut self, id: KeyId, entry: Entry, sum: RecordSum) -> RecordSum {
        self.put_slot(self.mixer.slot(id, entry), sum)
    }

    /// Puts a slot of a table with the same mixer; the result is the sum of the one it replaces.
    pub(super) fn put_slot(&mut self, slot: Slot, sum: RecordSum) -> RecordSum {
        let (bits, hash) = (self.bits, slot.hash);
        let tombstone = slot.standing() == Standing::Revoked;
        let shard = self.shard_mut(hash);
        let (added, buried, replaced) = match shard.place(hash, bits) {
            Place::Taken(at) => {
                let old = &mut Arc::make_mut(&mut shard.slots)[at];
                let was = old.standing() == Standing::Revoked;
                *old = slot;
                let replaced = std::mem::replace(&mut Arc::make_mut(&mut shard.sums)[at], sum);
                (0, usize::from(tombstone && !was), replaced)
            }
            Place::Vacant(at) => {
                shard.insert(slot, sum, at, bits);
                (1, usize::from(tombstone), RecordSum::default())
            }
        };
        self.live += added;
        self.tombstones += buried;
        if self.live >> self.bits > SHARD_AIM * SPLIT_AT {
            self.split();
        }
        replaced
    }

    /// Turns a key that is in the table into a tombstone; whether there was one to turn.
    pub(super) fn revoke(&mut self, id: KeyId) -> bool {
        let (hash, bits) = (self.mixer.hash(id), self.bits);
        let shard = self.shard_mut(hash);
        let Place::Taken(at) = shard.place(hash, bits) else { return false };
        let slot = &mut Arc::make_mut(&mut shard.slots)[at];
        let was = slot.standing() == Standing::Revoked;
        slot.revoke();
        self.tombstones += usize::from(!was);
        true
    }

    /// Takes over the tombstones of an earlier table with the same mixer, where this one has
    /// nothing of that id.
    pub(super) fn bury(&mut self, earlier: &KeyTable) {
        let slots = earlier.shards().flat_map(|shard| shard.slots.iter());
        for slot in slots.filter(|slot| !slot.is_gap() && slot.standing() == Standing::Revoked) {
            if self.find_hash(slot.hash).is_none() {
                self.put_slot(slot.clone(), RecordSum::default());
            }
        }
    }

    /// Spreads every shard evenly, as is worth it after a table was filled key by key.
    pub(super) fn settle(&mut self) {
        let bits = self.bits;
        for block in Arc::make_mut(&mut self.blocks) {
            for shard in Arc::make_mut(block) {
                *shard = Shard::spread(shard.live as usize, shard.entries(), bits);
            }
        }
    }

    /// Splits every shard into four. Shards are sorted, so each part is a run of the old one; an
    /// old shard goes as soon as its parts stand, so that this needs little memory.
    fn split(&mut self) {
        let grown = SPLIT_AT.ilog2();
        let bits = self.bits + grown;
        let mut shards = Vec::with_capacity(1 << bits);
        for block in &mut *Arc::make_mut(&mut self.blocks) {
            for old in Arc::make_mut(block) {
                let old = std::mem::replace(old, Shard::empty());
                let first = shards.len() as u64;
                let mut entries = old.entries().collect::<Vec<_>>().into_iter().peekable();
                for number in first..first + (1 << grown) {
                    let within = |slot: &Slot| slot.hash >> (64 - bits) == number;
                    let mut part = Vec::new();
                    while let Some(entry) = entries.next_if(|(slot, _)| within(slot)) {
                        part.push(entry);
                    }
                    shards.push(Shard::spread(part.len(), part.into_iter(), bits));
                }
            }
        }
        self.blocks = shards.chunks(1 << BLOCK_BITS).map(Arc::from).collect();
        self.bits = bits;
    }

    fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.blocks.iter().flat_map(|block| block.iter())
    }

    fn shard(&self, hash: u64) -> Option<&Shard> {
        let (block, shard) = self.path(hash);
        self.blocks.get(block)?.get(shard)
    }

    fn shard_mut(&mut self, hash: u64) -> &mut Shard {
        let (block, shard) = self.path(hash);
        let blocks = Arc::make_mut(&mut self.blocks);
        // `path` stays within the blocks by construction: both come from the same bits.
        &mut Arc::make_mut(&mut blocks[block])[shard]
    }

    fn path(&self, hash: u64) -> (usize, usize) {
        let number = (hash >> (64 - self.bits)) as usize;
        (number >> BLOCK_BITS, number & ((1 << BLOCK_BITS) - 1))
    }
}
