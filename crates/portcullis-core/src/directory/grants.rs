//! Grants as numbers: permissions are interned once, off the request path, so that a request
//! compares integers. Lists that many accounts share are stored once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::access::{MANAGEMENT_TYPES, Pattern as PatternText, Permission};
use crate::feed::RecordFault;

/// The name 0: any type, or any verb.
const ANY: u32 = 0;

/// An interned pattern.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
struct Pattern {
    kind: u32,
    verb: u32,
}

/// `**`: everything, management types included.
const EVERYTHING: Pattern = Pattern { kind: u32::MAX, verb: u32::MAX };

/// A permission that a route requires, interned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    kind: u32,
    verb: u32,
    /// `*:verb` and `*:*` cover data types only.
    management: bool,
    /// Archived resources keep only this verb.
    read: bool,
    text: Arc<str>,
}

impl Requirement {
    /// The permission as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether its verb is `read`.
    pub(super) fn is_read(&self) -> bool {
        self.read
    }
}

impl Pattern {
    fn covers(self, need: &Requirement) -> bool {
        if self == EVERYTHING {
            return true;
        }
        let kind = self.kind == need.kind || (self.kind == ANY && !need.management);
        kind && (self.verb == ANY || self.verb == need.verb)
    }
}

/// A list of patterns, some by way of roles.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Patterns {
    own: Box<[Pattern]>,
    /// Role indices.
    roles: Box<[u32]>,
}

impl Patterns {
    /// Whether anything in the list covers the requirement. `role` finds a role; roles name no
    /// roles, and one that is not known grants nothing.
    pub(super) fn cover<'p>(
        &self,
        need: &Requirement,
        role: impl Fn(u32) -> Option<&'p Role>,
    ) -> bool {
        self.cover_alone(need)
            || self
                .roles
                .iter()
                .any(|&index| role(index).is_some_and(|role| role.permissions.cover_alone(need)))
    }

    /// Whether anything in a list of denials covers the requirement. What a role denies that is
    /// not known cannot be decided, so it denies everything.
    fn deny<'p>(&self, need: &Requirement, role: impl Fn(u32) -> Option<&'p Role>) -> bool {
        self.cover_alone(need)
            || self
                .roles
                .iter()
                .any(|&index| role(index).is_none_or(|role| role.deny.cover_alone(need)))
    }

    fn cover_alone(&self, need: &Requirement) -> bool {
        self.own.iter().any(|pattern| pattern.covers(need))
    }
}

/// What a role gives and, where points of denial name it, takes away.
#[derive(Clone, Default)]
pub(super) struct Role {
    pub(super) permissions: Patterns,
    pub(super) deny: Patterns,
}

/// What is granted at a node.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Point {
    /// Node index.
    pub(super) at: u32,
    pub(super) here: Patterns,
    pub(super) below: Patterns,
}

/// Points of an account or of a set.
#[derive(PartialEq, Eq, Hash, Default)]
pub(super) struct Grants {
    pub(super) points: Box<[Point]>,
    /// Taken away last, whatever grants it.
    pub(super) denials: Box<[Point]>,
}

impl Grants {
    pub(super) fn grant<'p>(
        &self,
        need: &Requirement,
        chain: &[u32],
        role: impl Fn(u32) -> Option<&'p Role>,
    ) -> bool {
        decide(&self.points, chain).is_some_and(|list| list.cover(need, role))
    }

    pub(super) fn deny<'p>(
        &self,
        need: &Requirement,
        chain: &[u32],
        role: impl Fn(u32) -> Option<&'p Role>,
    ) -> bool {
        decide(&self.denials, chain).is_some_and(|list| list.deny(need, role))
    }
}

/// An account's organization, its own points and the sets it names, shared by all accounts with
/// the same.
#[derive(PartialEq, Eq, Hash, Default)]
pub(super) struct Access {
    /// Organization index.
    pub(super) org: u32,
    pub(super) own: Grants,
    /// Set indices.
    pub(super) sets: Box<[u32]>,
}

/// Decides over points: the first met on the way from the resource to the root.
fn decide<'p>(points: &'p [Point], chain: &[u32]) -> Option<&'p Patterns> {
    chain.iter().enumerate().find_map(|(steps, node)| {
        let point = points.iter().find(|point| point.at == *node)?;
        Some(if steps == 0 { &point.here } else { &point.below })
    })
}

/// Names ↔ numbers; only grows, so that numbers handed out stay good for ever.
pub struct Symbols {
    names: HashMap<Box<str>, u32>,
    roles: HashMap<Box<str>, u32>,
    accesses: HashMap<Arc<Access>, u32>,
}

impl Symbols {
    pub(super) fn new() -> Self {
        let names = MANAGEMENT_TYPES.iter().zip(1..);
        let names = names.map(|(management, number)| (management.name.into(), number));
        Self { names: names.collect(), roles: HashMap::new(), accesses: HashMap::new() }
    }

    /// Interns the permission that a route requires.
    pub fn requirement(&mut self, permission: &Permission) -> Requirement {
        let (kind, verb) = (permission.of_type(), permission.verb());
        Requirement {
            kind: self.name(kind.as_str()),
            verb: self.name(verb.as_str()),
            management: kind.is_management_type(),
            read: verb.as_str() == "read",
            text: permission.to_string().into(),
        }
    }

    /// Interns a list of patterns and `@role`s.
    pub(super) fn patterns(
        &mut self,
        member: &str,
        list: &[String],
    ) -> Result<Patterns, RecordFault> {
        let (mut own, mut roles) = (Vec::new(), Vec::new());
        for text in list {
            if let Some(role) = text.strip_prefix('@') {
                roles.push(self.role(role));
                continue;
            }
            let _: PatternText = text
                .parse()
                .map_err(|error| RecordFault::at(member, format_args!("{text:?}: {error}")))?;
            own.push(match text.split_once(':') {
                None => EVERYTHING,
                Some((kind, verb)) => Pattern { kind: self.any(kind), verb: self.any(verb) },
            });
        }
        Ok(Patterns { own: own.into(), roles: roles.into() })
    }

    pub(super) fn role(&mut self, id: &str) -> u32 {
        number(&mut self.roles, id)
    }

    /// The number of an access, and the access itself if it is new. Numbers of accesses that no
    /// account has any more are not given out again: views may still name them.
    pub(super) fn access(&mut self, access: Access) -> (u32, Option<Arc<Access>>) {
        if let Some(number) = self.accesses.get(&access) {
            return (*number, None);
        }
        // 0 is the access of accounts that were named but never described.
        let number = u32::try_from(self.accesses.len() + 1).unwrap_or(u32::MAX);
        let access = Arc::new(access);
        self.accesses.insert(Arc::clone(&access), number);
        (number, Some(access))
    }

    fn any(&mut self, text: &str) -> u32 {
        if text == "*" { ANY } else { self.name(text) }
    }

    fn name(&mut self, text: &str) -> u32 {
        let fresh = u32::try_from(self.names.len()).map_or(u32::MAX - 1, |count| count + 1);
        if let Some(number) = self.names.get(text) {
            return *number;
        }
        self.names.insert(text.into(), fresh);
        fresh
    }
}

/// The number of a name; a new name gets the next.
pub(super) fn number(names: &mut HashMap<Box<str>, u32>, name: &str) -> u32 {
    if let Some(number) = names.get(name) {
        return *number;
    }
    let fresh = u32::try_from(names.len()).unwrap_or(u32::MAX);
    names.insert(name.into(), fresh);
    fresh
}
