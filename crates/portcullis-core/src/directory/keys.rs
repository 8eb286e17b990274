//! The key table: a persistent hash table of 64-byte slots in small shards.
//!
//! A shard is an array sorted by hash, with gaps (linear probing whose runs stay sorted): a find
//! starts where the hash says and ends at the key, at a gap or at a greater hash, so that a miss
//! costs what a hit costs. Shards hang under two levels of shared blocks; a change copies one shard
//! and one block per level (about 45 KiB at any size), a copy of the whole table is one reference
//! count. Numbers: ADR 0012 and `benches/verify`.

use std::hint::black_box;
use std::sync::Arc;

use crate::feed::RecordSum;
use crate::key::{Digest, KeyId};
use crate::time::WallMs;

use super::extra::KeyExtra;

/// Shards per block of the lower level.
const BLOCK_BITS: u32 = 7;
/// Keys per shard that a rebuild aims at: small enough to copy in microseconds, large enough that
/// the two upper levels stay in cache.
const SHARD_AIM: usize = 512;
/// Slots per 100 keys after a rebuild.
const SPREAD: usize = 125;
/// A shard is spread anew when it is fuller than this many keys per 100 slots.
const FULL: usize = 94;

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
    fn spread(entries: Vec<(Slot, RecordSum)>, bits: u32) -> Self {
        let live = entries.len();
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
        let pairs = self.slots.iter().zip(self.sums.iter());
        pairs.filter(|(slot, _)| !slot.is_gap()).map(|(slot, sum)| (slot.clone(), *sum))
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
            let mut entries: Vec<_> = self.entries().collect();
            let at = entries.partition_point(|(other, _)| other.hash < slot.hash);
            entries.insert(at, (slot, sum));
            *self = Self::spread(entries, bits);
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
        Self::build(mixer, Staged::new(mixer))
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
        let hash = self.mixer.hash(id);
        let shard = self.shard(hash)?;
        match shard.place(hash, self.bits) {
            Place::Taken(at) => shard.slots.get(at),
            Place::Vacant(_) => None,
        }
    }

    /// Asks memory for where a key would be, without waiting for the answer. A safe stand-in for a
    /// prefetch: loads that no branch depends on.
    pub(super) fn touch(&self, id: KeyId) {
        let hash = self.mixer.hash(id);
        let Some(shard) = self.shard(hash) else { return };
        let start = start_of(hash, self.bits, shard.span as usize);
        for ahead in start..start + 4 {
            black_box(shard.slots.get(ahead).map(|slot| slot.hash));
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

    /// Puts a key in place of the one with its id, if any.
    pub(super) fn put(&mut self, id: KeyId, entry: Entry, sum: RecordSum) {
        let bits = self.bits;
        let slot = self.mixer.slot(id, entry);
        let hash = slot.hash;
        let tombstone = slot.standing() == Standing::Revoked;
        let shard = self.shard_mut(hash);
        let (added, buried) = match shard.place(hash, bits) {
            Place::Taken(at) => {
                let old = &mut Arc::make_mut(&mut shard.slots)[at];
                let was = old.standing() == Standing::Revoked;
                *old = slot;
                Arc::make_mut(&mut shard.sums)[at] = sum;
                (0, usize::from(tombstone && !was))
            }
            Place::Vacant(at) => {
                shard.insert(slot, sum, at, bits);
                (1, usize::from(tombstone))
            }
        };
        self.live += added;
        self.tombstones += buried;
        if self.live >> self.bits > SHARD_AIM * 4 {
            self.rebuild();
        }
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

    /// Tombstones, to be carried over into a table that is built anew.
    pub(super) fn graves(&self) -> impl Iterator<Item = Slot> {
        self.shards()
            .flat_map(|shard| shard.slots.iter())
            .filter(|slot| !slot.is_gap() && slot.standing() == Standing::Revoked)
            .cloned()
    }

    pub(super) fn build(mixer: Mixer, staged: Staged) -> Self {
        let wanted = (staged.live / SHARD_AIM).max(1).ilog2();
        let bits = wanted.max(BLOCK_BITS);
        let (mut live, mut tombstones) = (0, 0);
        let mut entries = staged.sorted().peekable();
        let blocks = (0..1u64 << (bits - BLOCK_BITS))
            .map(|block| {
                (0..1u64 << BLOCK_BITS)
                    .map(|shard| {
                        let number = (block << BLOCK_BITS) | shard;
                        let mut mine = Vec::new();
                        while let Some(entry) =
                            entries.next_if(|(slot, _)| slot.hash >> (64 - bits) == number)
                        {
                            tombstones += usize::from(entry.0.standing() == Standing::Revoked);
                            live += 1;
                            mine.push(entry);
                        }
                        if mine.is_empty() { Shard::empty() } else { Shard::spread(mine, bits) }
                    })
                    .collect()
            })
            .collect();
        Self { blocks, bits, mixer, live, tombstones }
    }

    fn rebuild(&mut self) {
        let mut staged = Staged::new(self.mixer);
        for shard in self.shards() {
            for (slot, sum) in shard.entries() {
                staged.push(slot, sum);
            }
        }
        *self = Self::build(self.mixer, staged);
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

/// Keys on their way into a table that is built whole: collected in buckets by hash, each freed as
/// soon as it is spread, so that a build peaks little above the finished table.
pub(super) struct Staged {
    buckets: Vec<Vec<(Slot, RecordSum)>>,
    mixer: Mixer,
    live: usize,
}

const BUCKET_BITS: u32 = 10;

impl Staged {
    pub(super) fn new(mixer: Mixer) -> Self {
        Self { buckets: vec![Vec::new(); 1 << BUCKET_BITS], mixer, live: 0 }
    }

    pub(super) fn add(&mut self, id: KeyId, entry: Entry, sum: RecordSum) {
        let slot = self.mixer.slot(id, entry);
        self.push(slot, sum);
    }

    pub(super) fn push(&mut self, slot: Slot, sum: RecordSum) {
        self.buckets[(slot.hash >> (64 - BUCKET_BITS)) as usize].push((slot, sum));
        self.live += 1;
    }

    /// Adds the tombstones that are not staged yet.
    pub(super) fn bury(&mut self, graves: impl Iterator<Item = Slot>) {
        let mut missing: Vec<Slot> = graves.collect();
        missing.sort_unstable_by_key(|slot| slot.hash);
        for bucket in &self.buckets {
            if missing.is_empty() {
                return;
            }
            for (slot, _) in bucket {
                if let Ok(at) = missing.binary_search_by_key(&slot.hash, |grave| grave.hash) {
                    missing.remove(at);
                }
            }
        }
        for slot in missing {
            self.push(slot, RecordSum::default());
        }
    }

    /// By hash; of an id that was staged twice the first stays, and the digest tells.
    fn sorted(self) -> impl Iterator<Item = (Slot, RecordSum)> {
        self.buckets.into_iter().flat_map(|mut bucket| {
            bucket.sort_by_key(|(slot, _)| slot.hash);
            bucket.dedup_by_key(|(slot, _)| slot.hash);
            bucket
        })
    }
}
