//! Records turned into what the directory stores: names become numbers, texts become values that
//! cannot be wrong. Interns names, and changes nothing that a decision looks at.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::directory::extra::{Hashed, KeyExtra};
use crate::directory::grants::{Access, Grants, Point, Role, number};
use crate::directory::keys::{Entry, Standing};
use crate::directory::{Account, Block, Blocked, Directory, Identity, Node, Org, Presence};
use crate::feed::{
    AccountRecord, BlockMatch, BlockRecord, KeyRecord, Kind, OnStale, OrgRecord, OrgState,
    PointRecord, RecordFault, ResourceRecord, RoleRecord, SetRecord, SignerRecord, State, read,
};
use crate::key::KeyId;
use crate::session::Verifier;
use crate::time::WallMs;

use super::{Ledger, TREE};

/// A record that was read and can be applied.
pub(super) enum Prepared {
    Account(u32, Account, Identity),
    Block(Block),
    Key(KeyId, Entry),
    /// Kinds that concern later features: kept in the digest, not looked at.
    Opaque,
    Org(u32, Org),
    Resource(u32, Node),
    Role(u32, Role),
    Set(u32, Grants),
    Signer(Arc<Verifier>),
}

impl Ledger {
    pub(super) fn prepare(
        &mut self,
        kind: Kind,
        id: &str,
        record: &Value,
    ) -> Result<Prepared, RecordFault> {
        match kind {
            Kind::Account => self.prepare_account(id, record),
            Kind::Block => self.prepare_block(id, record),
            Kind::Key => {
                let (key, entry) = self.prepare_key(id, record)?;
                Ok(Prepared::Key(key, entry))
            }
            Kind::Org => self.prepare_org(id, record),
            Kind::Resource => self.prepare_resource(id, record),
            Kind::Role => self.prepare_role(id, record),
            Kind::Set => {
                let record: SetRecord = read(record, &["denials"])?;
                let grants = Grants {
                    points: self.points(&record.org, "points", &record.points)?.into(),
                    denials: self.points(&record.org, "denials", &record.denials)?.into(),
                };
                Ok(Prepared::Set(number(&mut self.sets, id), grants))
            }
            Kind::Signer => {
                let record: SignerRecord = read(record, &["not_after_ms"])?;
                Verifier::of_record(id, &record).map(|it| Prepared::Signer(Arc::new(it)))
            }
            Kind::Plan | Kind::Quota => Ok(Prepared::Opaque),
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

    fn prepare_role(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        let record: RoleRecord = read(record, &["deny"])?;
        let mut patterns = |member: &str, list: &[String]| {
            if list.iter().any(|permission| permission.starts_with('@')) {
                return Err(RecordFault::at(member, "a role names no other role"));
            }
            self.symbols.patterns(member, list)
        };
        let role = Role {
            permissions: patterns("permissions", &record.permissions)?,
            deny: patterns("deny", &record.deny)?,
        };
        Ok(Prepared::Role(self.symbols.role(id), role))
    }

    fn prepare_account(&mut self, id: &str, record: &Value) -> Result<Prepared, RecordFault> {
        let record: AccountRecord = read(record, &["denials"])?;
        let own = Grants {
            points: self.points(&record.org, "grants", &record.grants)?.into(),
            denials: self.points(&record.org, "denials", &record.denials)?.into(),
        };
        let sets = record.sets.iter().map(|set| number(&mut self.sets, set)).collect();
        let org = self.org_index(&record.org);
        let (number, fresh) = self.symbols.access(Access { org, own, sets });
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

    pub(super) fn prepare_key(
        &mut self,
        id: &str,
        record: &Value,
    ) -> Result<(KeyId, Entry), RecordFault> {
        let key: KeyId = id.parse().map_err(|error| RecordFault::at("id", error))?;
        let record: KeyRecord = read(record, &["cnf", "restrict", "sources", "not_before_ms"])?;
        // 0 is the generation of a key that was never seen.
        if record.generation == 0 {
            return Err(RecordFault::at("generation", "it begins with 1"));
        }
        let current = &record.current;
        let parts = (current.alg, current.pepper, current.digest.as_str());
        let Hashed { digest, hashing, pepper } = Hashed::read("current", parts)?;
        let account = self.account_index(&record.account);
        let extra = KeyExtra::read(&record, hashing, &mut self.symbols);
        let entry = Entry {
            digest,
            pepper,
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

    pub(super) fn find_account(&self, id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(id.as_bytes());
        self.accounts.find(hash, |&index| self.live.account_id(index) == id.as_bytes()).copied()
    }

    pub(super) fn account_index(&mut self, id: &str) -> u32 {
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
    pub(super) fn settle(&mut self, found: Prepared) {
        match found {
            Prepared::Account(index, account, identity) => {
                *self.accounts.entry(index) = account;
                *self.identities.entry(index) = identity;
            }
            Prepared::Block(block) => {
                let others = self.blocks.iter().filter(|other| other.id != block.id);
                self.blocks = others.cloned().chain([block.clone()]).collect();
            }
            Prepared::Key(key, entry) => {
                // It keeps its share of the digest.
                let sum = self.keys.sum(key).unwrap_or_default();
                if let Some(old) = self.keys.find(key) {
                    self.foreign.leave(key, old.digest(), old.extra.as_deref());
                }
                self.foreign.enter(key, entry.digest, entry.extra.as_deref());
                self.keys.put(key, entry, sum);
            }
            Prepared::Opaque => {}
            Prepared::Org(index, org) => {
                self.plant_root(org.root);
                *self.orgs.entry(index) = org;
            }
            Prepared::Resource(index, node) => *self.nodes.entry(index) = node,
            Prepared::Role(index, role) => *self.roles.entry(index) = Some(Arc::new(role)),
            Prepared::Set(index, grants) => *self.sets.entry(index) = Some(Arc::new(grants)),
            Prepared::Signer(signer) => {
                let others = self.signers.iter().filter(|other| other.kid() != signer.kid());
                self.signers = others.cloned().chain([Arc::clone(&signer)]).collect();
            }
        }
    }

    pub(super) fn plant_root(&mut self, root: u32) {
        *self.nodes.entry(root) =
            Node { parent: root, presence: Presence::Active, archived: false };
    }
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
