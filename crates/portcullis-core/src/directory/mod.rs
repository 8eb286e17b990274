//! The directory: a gateway's immutable view of keys, accounts, organizations, resources and
//! roles, and the verdicts drawn from it. It holds records, never verdicts, and nothing in it
//! allocates, locks or waits while deciding.
//!
//! One writer, the [`Ledger`], applies the feed; readers share a [`Directory`] by reference count.
//! Every table is persistent: taking a view costs a handful of reference counts, a change copies a
//! few blocks, and a reader never sees half a transaction.

mod explain;
mod extra;
mod foreign;
mod grants;
mod keys;
mod ledger;
mod session;
mod slab;

pub use explain::Finding;
pub use extra::{Cidr, CidrError};
pub use foreign::{Proof, Rehash, SlowCheck, Unproven, Which};
pub use grants::{Requirement, Symbols};
pub use ledger::{Counts, Fit, Held, Ledger, Outcome, Refused, SnapshotRecord, SnapshotRefused};
pub use session::{Session, TokenRefusal};

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::{ArrayString, ArrayVec};
use bytes::Bytes;

use crate::feed::{OnStale, Position};
use crate::key::{Digest, ID_LEN, KeyId, ParsedKey, PepperRing, Prefix, TAIL_LEN};
use crate::session::Verifier;
use crate::time::WallMs;
use crate::verdict::DenyReason;

use foreign::ForeignIndex;
use grants::{Access, Grants, Role};
use keys::{KeyTable, Mixer, Slot, Standing};
use slab::Slab;

/// Steps from a resource to its root, both included.
const MAX_CHAIN: usize = 17;
/// Longest text of a resource with its organization.
const MAX_PLACE: usize = 512;

/// Whether something has a record, and what it says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
enum Presence {
    /// No record: counts as switched off.
    #[default]
    Absent,
    Active,
    /// Inactive or suspended.
    Inactive,
    /// For accounts: a tombstone.
    Revoked,
}

/// What a decision needs of an account, in four bytes: its presence and which [`Access`] it has.
/// A million of them fit a core's own cache.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
struct Account(u32);

impl Account {
    /// Most distinct accesses there can be.
    const MAX_ACCESS: u32 = (1 << 30) - 1;

    fn new(presence: Presence, access: u32) -> Self {
        Self((access.min(Self::MAX_ACCESS) << 2) | presence as u32)
    }

    fn presence(self) -> Presence {
        match self.0 & 3 {
            0 => Presence::Absent,
            1 => Presence::Active,
            2 => Presence::Inactive,
            _ => Presence::Revoked,
        }
    }

    fn access(self) -> u32 {
        self.0 >> 2
    }
}

/// What the upstream is told of an account: read only once a request is admitted.
#[derive(Clone, Default)]
struct Identity {
    /// Id, then the name (percent-encoded).
    text: Bytes,
    id_len: u32,
}

#[derive(Clone, Default)]
struct Org {
    id: Bytes,
    presence: Presence,
    /// Node index of its root.
    root: u32,
    staleness: Option<(u64, OnStale)>,
    reveal_reason: bool,
}

/// A place in an organization's resource tree.
#[derive(Copy, Clone, Default)]
struct Node {
    /// The root is its own parent.
    parent: u32,
    presence: Presence,
    archived: bool,
}

#[derive(Clone, PartialEq, Eq)]
struct Block {
    id: Box<str>,
    what: Blocked,
    until: Option<WallMs>,
}

#[derive(Clone, PartialEq, Eq)]
enum Blocked {
    /// Account index.
    Account(u32),
    Key(KeyId),
    Org(Box<str>),
    Prefix(Box<str>),
    Source(Cidr),
}

/// An immutable view of everything a gateway decides from.
#[derive(Clone)]
pub struct Directory {
    position: Position,
    keys: KeyTable,
    accounts: Slab<Account, 10>,
    accesses: Slab<Option<Arc<Access>>>,
    identities: Slab<Identity>,
    orgs: Slab<Org>,
    nodes: Slab<Node>,
    /// `<org>:<kind>/<ref>` → node index.
    places: Places,
    roles: Slab<Option<Arc<Role>>>,
    sets: Slab<Option<Arc<Grants>>>,
    blocks: Arc<[Block]>,
    /// What keys are found by that were not presented by their own id.
    foreign: ForeignIndex,
    /// What session tokens are verified with: a handful, looked through in turn.
    signers: Arc<[Arc<Verifier>]>,
}

/// Place → node index, persistent; hashed with a seed of the process.
#[derive(Clone)]
struct Places(
    imbl::GenericHashMap<
        Arc<str>,
        u32,
        foldhash::fast::RandomState,
        imbl::shared_ptr::DefaultSharedPtr,
    >,
);

impl Places {
    fn new() -> Self {
        Self(imbl::GenericHashMap::with_hasher(foldhash::fast::RandomState::default()))
    }

    fn get(&self, place: &str) -> Option<u32> {
        self.0.get(place).copied()
    }

    /// The index of a place; a new place gets the next.
    fn index(&mut self, place: String) -> u32 {
        if let Some(index) = self.get(&place) {
            return index;
        }
        let index = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.insert(place.into(), index);
        index
    }
}

/// What is known of a credential that was refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why; for records and metrics only.
    pub reason: DenyReason,
    /// The presenter proved possession of the secret, and the organization lets such a caller
    /// know why it was refused.
    pub reveal: bool,
}

/// A caller that proved possession of a usable key.
#[derive(Copy, Clone)]
pub struct Principal<'d> {
    directory: &'d Directory,
    slot: &'d Slot,
    key: KeyId,
    access: &'d Access,
    org: &'d Org,
    /// Whether it presented the replaced secret.
    retained: bool,
}

/// A principal that may do what the route requires.
#[derive(Copy, Clone)]
pub struct Permit<'d>(Principal<'d>);

/// What happens to a resource that the organization does not know.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Default)]
pub enum Unknown {
    /// It is refused.
    #[default]
    Deny,
    /// It counts as a child of the root.
    Root,
}

/// Where a permission is needed.
#[derive(Copy, Clone, Debug)]
pub enum Place<'r> {
    /// On a resource, `kind/ref`.
    At(&'r str, Unknown),
    /// On the organization's root.
    Root,
}

/// What a credential's standing is checked against.
struct Claim<'d> {
    directory: &'d Directory,
    slot: &'d Slot,
    key: KeyId,
    account: Account,
    access: &'d Access,
    org: &'d Org,
    prefix: Option<Prefix>,
    peer: Option<IpAddr>,
    now: WallMs,
}

/// A named check and what it says.
type Check = (&'static str, fn(&Claim<'_>) -> Result<(), DenyReason>);

/// Steps 4 to 9 of the verification, in the order in which the first failing one names the reason.
const CHECKS: [Check; 9] = [
    ("key is not revoked", |claim| match claim.slot.standing() {
        Standing::Revoked => Err(DenyReason::KeyRevoked),
        Standing::Active | Standing::Inactive => Ok(()),
    }),
    ("account is not revoked", |claim| match claim.account.presence() {
        Presence::Revoked => Err(DenyReason::SaRevoked),
        Presence::Absent | Presence::Active | Presence::Inactive => Ok(()),
    }),
    ("nothing blocks it", |claim| {
        let blocked = claim.directory.blocks.iter().any(|block| block.covers(claim));
        if blocked { Err(DenyReason::Blocked) } else { Ok(()) }
    }),
    ("key is active", |claim| match claim.slot.standing() {
        Standing::Active => Ok(()),
        Standing::Inactive | Standing::Revoked => Err(DenyReason::KeyInactive),
    }),
    ("key is within its time", |claim| {
        let not_before = claim.slot.extra.as_ref().and_then(|extra| extra.not_before);
        if not_before.is_some_and(|instant| claim.now < instant) {
            return Err(DenyReason::NotYetValid);
        }
        match claim.slot.expires_at() {
            Some(instant) if claim.now >= instant => Err(DenyReason::KeyExpired),
            Some(_) | None => Ok(()),
        }
    }),
    ("account is active", |claim| match claim.account.presence() {
        Presence::Active => Ok(()),
        Presence::Absent | Presence::Inactive | Presence::Revoked => Err(DenyReason::SaInactive),
    }),
    ("organization is active", |claim| match claim.org.presence {
        Presence::Active => Ok(()),
        Presence::Absent | Presence::Inactive | Presence::Revoked => Err(DenyReason::OrgSuspended),
    }),
    ("client certificate is the bound one", |claim| {
        // No listener asks for client certificates yet, so a bound key matches none.
        let bound = claim.slot.extra.as_ref().is_some_and(|extra| extra.bound);
        if bound { Err(DenyReason::BindingMismatch) } else { Ok(()) }
    }),
    ("source address is allowed", |claim| {
        let sources = claim.slot.extra.as_ref().and_then(|extra| extra.sources.as_deref());
        let Some(sources) = sources else { return Ok(()) };
        let allowed = |peer| sources.iter().any(|range: &Cidr| range.contains(peer));
        if claim.peer.is_some_and(allowed) { Ok(()) } else { Err(DenyReason::SourceNotAllowed) }
    }),
];

impl Directory {
    /// Where in the feed's order this view stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Asks memory for the record of the key that a credential ends with, if it looks like one, so
    /// that it is there when [`Directory::verify`] needs it. Decides nothing, reads no secret, and
    /// costs a few nanoseconds; worth it as early in a request as the directory is at hand.
    pub fn anticipate(&self, credential: &[u8]) {
        let Some(id_at) = credential.len().checked_sub(ID_LEN + 1 + TAIL_LEN) else { return };
        let id = credential.get(id_at..id_at + ID_LEN).and_then(KeyId::from_digits);
        if let Some(id) = id {
            self.keys.prefetch(id);
        }
    }

    /// Who presents the key, if it is usable. Costs the same for unknown ids as for known ones:
    /// one hash, two comparisons.
    ///
    /// # Errors
    ///
    /// [`Refusal`] with the first reason in the order of the specification.
    pub fn verify<'d>(
        &'d self,
        presented: &ParsedKey,
        peer: IpAddr,
        now: WallMs,
        peppers: &PepperRing,
    ) -> Result<Principal<'d>, Refusal> {
        let slot = self.keys.find(presented.id());
        if let Some(slot) = slot {
            // On its way from memory while the digest is computed.
            self.accounts.prefetch(slot.account);
        }
        let previous = slot.and_then(|slot| slot.extra.as_ref()?.previous.as_ref());
        let version = slot.map_or_else(|| peppers.current().version(), Slot::pepper);
        let pepper = peppers.find(version);
        let digest = presented.digest(pepper.unwrap_or_else(|| peppers.current()));
        let is_current = digest.matches(&slot.map_or(Digest::DUMMY, Slot::digest));
        let is_previous = match previous.filter(|previous| previous.pepper != version) {
            None => digest.matches(&previous.map_or(Digest::DUMMY, |previous| previous.digest)),
            // Only while a pepper is being replaced: the older secret has the older pepper.
            Some(previous) => peppers
                .find(previous.pepper)
                .is_some_and(|pepper| presented.digest(pepper).matches(&previous.digest)),
        };

        let refused = |reason| Refusal { reason, reveal: false };
        let (Some(slot), Some(_)) = (slot, pepper) else {
            return Err(refused(DenyReason::UnknownKey));
        };
        let retained = previous.filter(|_| is_previous && !is_current);
        if !is_current && retained.is_none() {
            return Err(refused(DenyReason::BadSecret));
        }
        let claim = self
            .claim(slot, presented.id())
            .ok_or_else(|| refused(DenyReason::SaInactive))?
            .presented_by(Some(presented.prefix()), peer, now);
        claim.examined(retained.map(|previous| previous.retained_until))
    }

    fn claim<'d>(&'d self, slot: &'d Slot, key: KeyId) -> Option<Claim<'d>> {
        let account = *self.accounts.get(slot.account)?;
        let access = self.accesses.get(account.access())?.as_deref()?;
        let org = self.orgs.get(access.org)?;
        Some(Claim {
            directory: self,
            slot,
            key,
            account,
            access,
            org,
            prefix: None,
            peer: None,
            now: WallMs::default(),
        })
    }

    /// Nodes from a place to its root, both included; `None` if the place is unknown or its way to
    /// the root is broken.
    fn chain(&self, from: u32) -> Option<ArrayVec<u32, MAX_CHAIN>> {
        let mut chain = ArrayVec::new();
        let mut at = from;
        loop {
            let node = self.nodes.get(at).filter(|node| node.presence == Presence::Active)?;
            chain.try_push(at).ok()?;
            if node.parent == at {
                return Some(chain);
            }
            at = node.parent;
        }
    }

    fn find_place(&self, org: &Org, place: &str) -> Option<u32> {
        let mut text: ArrayString<MAX_PLACE> = ArrayString::new();
        text.try_push_str(std::str::from_utf8(&org.id).ok()?).ok()?;
        text.try_push(':').ok()?;
        text.try_push_str(place).ok()?;
        self.places.get(text.as_str())
    }

    fn account_id(&self, index: u32) -> &[u8] {
        let identity = self.identities.get(index);
        identity.and_then(|who| who.text.get(..who.id_len as usize)).unwrap_or_default()
    }

    fn role(&self, index: u32) -> Option<&Role> {
        self.roles.get(index)?.as_deref()
    }
}

impl<'d> Claim<'d> {
    fn presented_by(self, prefix: Option<Prefix>, peer: IpAddr, now: WallMs) -> Self {
        Self { prefix, peer: Some(peer), now, ..self }
    }

    /// Steps 3 to 9, for somebody who proved possession of the secret; `until` is the end of the
    /// retention, if it is the replaced one.
    fn examined(self, until: Option<WallMs>) -> Result<Principal<'d>, Refusal> {
        let standing = match until {
            Some(until) if self.now >= until => Err(DenyReason::RetentionOver),
            Some(_) | None => CHECKS.iter().try_for_each(|(_, check)| check(&self)),
        };
        match standing {
            Ok(()) => Ok(self.proven(until.is_some())),
            Err(reason) => Err(Refusal { reason, reveal: self.org.reveal_reason }),
        }
    }

    fn proven(self, retained: bool) -> Principal<'d> {
        let Self { directory, slot, key, account: _, access, org, prefix: _, peer: _, now: _ } =
            self;
        Principal { directory, slot, key, access, org, retained }
    }
}

impl Block {
    fn covers(&self, claim: &Claim<'_>) -> bool {
        if self.until.is_some_and(|instant| claim.now >= instant) {
            return false;
        }
        match &self.what {
            Blocked::Account(index) => claim.slot.account == *index,
            Blocked::Key(id) => claim.key == *id,
            Blocked::Org(id) => claim.org.id == id.as_bytes(),
            Blocked::Prefix(text) => claim.prefix.is_some_and(|prefix| prefix.as_str() == &**text),
            Blocked::Source(range) => claim.peer.is_some_and(|peer| range.contains(peer)),
        }
    }
}

impl<'d> Principal<'d> {
    /// Whether the principal may use a route that requires a permission.
    ///
    /// # Errors
    ///
    /// The reason; the caller is told the same for an unknown resource as for a missing permission.
    pub fn authorize(
        self,
        need: &Requirement,
        place: Place<'_>,
        method: &str,
    ) -> Result<Permit<'d>, DenyReason> {
        let directory = self.directory;
        let chain = self.chain_of(place).ok_or(DenyReason::UnknownResource)?;
        let archived =
            chain.iter().any(|node| directory.nodes.get(*node).is_some_and(|node| node.archived));
        if archived && !need.is_read() {
            return Err(DenyReason::MissingPermission);
        }
        if !self.is_granted(need, &chain) {
            return Err(DenyReason::MissingPermission);
        }
        let permissions = |restrict: &extra::Restrict| {
            restrict
                .permissions
                .as_ref()
                .is_none_or(|list| list.cover(need, |index| directory.role(index)))
        };
        let resources = |restrict: &extra::Restrict| {
            let listed = |list: &[Box<str>]| self.has_any(list.iter().map(|at| &**at), &chain);
            restrict.resources.as_deref().is_none_or(listed)
        };
        match self.restrict() {
            Some(restrict) if !permissions(restrict) || !resources(restrict) => {
                Err(DenyReason::Restricted)
            }
            Some(_) | None => self.authenticated(method),
        }
    }

    /// The nodes from a place up to the root; `None` if there is no such place here.
    fn chain_of(&self, place: Place<'_>) -> Option<ArrayVec<u32, MAX_CHAIN>> {
        let directory = self.directory;
        let (start, stranger) = match place {
            Place::Root => (self.org.root, false),
            Place::At(place, unknown) => match (directory.find_place(self.org, place), unknown) {
                (Some(node), _) if directory.chain(node).is_some() => (node, false),
                (_, Unknown::Root) => (self.org.root, true),
                (_, Unknown::Deny) => return None,
            },
        };
        let mut chain = directory.chain(start)?;
        if stranger {
            // A child of the root that no point names: what is granted below the root holds.
            chain.try_insert(0, u32::MAX).ok()?;
        }
        Some(chain)
    }

    /// Whether the place is one of `bounds`, or below one. What is no place here bounds nothing in.
    fn is_within<'b>(&self, bounds: impl Iterator<Item = &'b str>, place: Place<'_>) -> bool {
        self.chain_of(place).is_some_and(|chain| self.has_any(bounds, &chain))
    }

    fn has_any<'b>(&self, mut places: impl Iterator<Item = &'b str>, chain: &[u32]) -> bool {
        places.any(|place| {
            let node = self.directory.find_place(self.org, place);
            node.is_some_and(|node| chain.contains(&node))
        })
    }

    /// Whether the principal may use a route that asks for a valid key and nothing else.
    ///
    /// # Errors
    ///
    /// [`DenyReason::Restricted`] if the key is narrowed to other methods.
    pub fn authenticated(self, method: &str) -> Result<Permit<'d>, DenyReason> {
        let methods = self.restrict().and_then(|restrict| restrict.methods.as_deref());
        match methods {
            Some(list) if !list.iter().any(|allowed| **allowed == *method) => {
                Err(DenyReason::Restricted)
            }
            Some(_) | None => Ok(Permit(self)),
        }
    }

    /// What the account and its sets grant together, less what any of them denies.
    fn is_granted(&self, need: &Requirement, chain: &[u32]) -> bool {
        let directory = self.directory;
        let role = |index| directory.role(index);
        let sets =
            || self.access.sets.iter().filter_map(|&set| directory.sets.get(set)?.as_deref());
        let parts = || std::iter::once(&self.access.own).chain(sets());
        parts().any(|grants| grants.grant(need, chain, role))
            && !parts().any(|grants| grants.deny(need, chain, role))
    }

    fn restrict(&self) -> Option<&'d extra::Restrict> {
        self.slot.extra.as_ref()?.restrict.as_ref()
    }

    /// Longest staleness its organization tolerates, in ms, and what happens beyond it.
    pub fn staleness(&self) -> Option<(u64, OnStale)> {
        self.org.staleness
    }

    /// Id of its organization.
    pub fn org_id(&self) -> &'d Bytes {
        &self.org.id
    }

    /// Id of its account.
    pub fn account_id(&self) -> Bytes {
        self.identity().map_or_else(Bytes::new, |Identity { text, id_len }| {
            text.slice(..(*id_len as usize).min(text.len()))
        })
    }

    /// Name of its account, percent-encoded for a header.
    pub fn account_name(&self) -> Bytes {
        self.identity().map_or_else(Bytes::new, |Identity { text, id_len }| {
            text.slice((*id_len as usize).min(text.len())..)
        })
    }

    fn identity(&self) -> Option<&'d Identity> {
        self.directory.identities.get(self.slot.account)
    }

    /// The key it presented.
    pub fn key_id(&self) -> KeyId {
        self.key
    }

    /// The key's generation.
    pub fn generation(&self) -> u32 {
        self.slot.generation
    }

    /// The generation of the secret it presented: the key's, or the one before while it is retained.
    pub fn secret_generation(&self) -> u32 {
        self.slot.generation.saturating_sub(u32::from(self.retained))
    }
}

impl<'d> Permit<'d> {
    /// Who it was given to.
    pub fn principal(&self) -> &Principal<'d> {
        &self.0
    }
}

#[cfg(test)]
mod tests;
