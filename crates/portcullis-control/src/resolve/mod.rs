//! Who may do what where, as the store has it now: bindings resolved to grant points by the same
//! code that gateways' records come from. Undecidable means no.

mod contributions;
mod grounds;
mod paths;
mod remembered;
mod role;

use std::collections::BTreeSet;

use portcullis_core::access::{
    MANAGEMENT_TYPES, Pattern, Permission, PointOf, Rights, allows, narrowed,
};
use portcullis_core::feed::PointRecord;
use portcullis_core::session::Claims;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::policy::OrgPolicy;
use crate::store::{StoreError, resources};

pub(crate) use contributions::{Contribution, Excluded, Via};
pub(crate) use grounds::{Grounds, Holder, allows_group, allows_role};
pub(crate) use paths::Paths;
pub(crate) use remembered::{AccessCount, AsOf, Remembered};
pub(crate) use role::{Role, Roles, patterns, texts};

/// What a key is narrowed to; each member narrows if present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restriction {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) permissions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<String>>,
    /// Where a session token is for one place only; no part of a key's own restriction.
    #[serde(skip)]
    pub(crate) bounds: Option<Vec<String>>,
}

impl Restriction {
    /// The same, narrowed by the scope and the further audiences of a session token besides.
    pub(crate) fn and_session(mut self, claims: &Claims, issuer: &str) -> Restriction {
        let bounds: Vec<String> = claims.bounds(issuer).map(str::to_owned).collect();
        if !bounds.is_empty() {
            self.bounds = Some(bounds);
        }
        if let Some(scope) = &claims.scope {
            let left = match &self.permissions {
                Some(texts) => narrowed(&patterns(texts), scope),
                None => scope.to_vec(),
            };
            self.permissions = Some(left.iter().map(Pattern::to_string).collect());
        }
        self
    }
}

/// Roles on a resource and on everything below it that no deeper point covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: String,
    pub(crate) self_: Vec<String>,
    pub(crate) below: Vec<String>,
}

impl Point {
    fn of(point: PointOf<'_>) -> Point {
        let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
        let PointOf { at, self_, below } = point;
        Point { at: at.to_owned(), self_: owned(self_), below: owned(below) }
    }
}

/// What one subject contributes: a principal by itself, or one of its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) subject_id: String,
    pub(crate) grants: Vec<Point>,
    /// Points whose roles take away what they deny, last and from all parts.
    pub(crate) denials: Vec<Point>,
}

/// Everything that one subject has in its organization: the union of its parts.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) parts: Vec<Part>,
    pub(crate) roles: Roles,
    pub(crate) paths: Paths,
    restriction: Restriction,
}

impl Access {
    /// Reads and resolves everything that a principal has, groups included.
    pub(crate) async fn of_principal(
        conn: &mut SqliteConnection,
        kind: &str,
        id: &str,
        policy: &OrgPolicy,
    ) -> Result<Access, StoreError> {
        Ok(Grounds::of(conn, Holder::of_kind(kind), id).await?.whole(policy))
    }

    /// Reads and resolves what a subject contributes by itself; a group, to members of one kind.
    pub(crate) async fn of_subject(
        conn: &mut SqliteConnection,
        holder: Holder,
        id: &str,
        policy: &OrgPolicy,
    ) -> Result<Access, StoreError> {
        Ok(Grounds::of(conn, holder, id).await?.own(policy))
    }

    /// The access of somebody who has none.
    pub(crate) fn nothing() -> Access {
        Access {
            parts: Vec::new(),
            roles: Roles::default(),
            paths: Paths::default(),
            restriction: Restriction::default(),
        }
    }

    /// The same access, narrowed by the restriction of a key.
    pub(crate) fn narrowed(mut self, restriction: Restriction) -> Access {
        self.restriction = restriction;
        self
    }

    /// Learns where a resource is; what is not known grants nothing.
    pub(crate) async fn locate(
        &mut self,
        conn: &mut SqliteConnection,
        org_id: &str,
        resource_id: &str,
    ) -> Result<(), StoreError> {
        if self.paths.find(resource_id).is_none() {
            self.paths.add(resources::list_path(conn, org_id, resource_id).await?);
        }
        Ok(())
    }

    /// Whether the subject may do it on the resource itself, whose place must be known.
    pub(crate) fn permits(&self, needed: &Permission, resource_id: &str) -> bool {
        let narrowed_away = match &self.restriction.permissions {
            Some(texts) => !allows(&patterns(texts), needed),
            None => false,
        };
        !narrowed_away
            && self.restriction_reaches(resource_id, &self.paths)
            && self.rights_at(resource_id).allow(needed)
            && (!self.paths.is_archived(resource_id) || needed.verb().as_str() == "read")
    }

    /// Whether the subject may do it anywhere at all, as far as grants say.
    pub(crate) fn permits_somewhere(&self, needed: &Permission) -> bool {
        self.parts.iter().flat_map(|part| &part.grants).any(|point| {
            let granted = |roles: &[String]| allows(&self.granted_by(roles), needed);
            granted(&point.self_) || granted(&point.below)
        })
    }

    /// Roles on the resource itself, from all parts, sorted.
    pub(crate) fn roles_at(&self, resource_id: &str) -> Vec<String> {
        let of_part =
            |part: &Part| roles_at(&part.grants, &self.paths, resource_id, Reach::Itself).to_vec();
        let roles: BTreeSet<String> = self.parts.iter().flat_map(of_part).collect();
        roles.into_iter().collect()
    }

    /// Rights on the resource itself, before any restriction.
    pub(crate) fn rights_at(&self, resource_id: &str) -> Rights {
        self.rights(resource_id, Reach::Itself)
    }

    /// What is left on the resource under restriction and archive.
    pub(crate) fn shown_at(&self, resource_id: &str) -> Rights {
        if !self.restriction_reaches(resource_id, &self.paths) {
            return Rights::default();
        }
        let Rights { mut granted, denied } = self.rights_at(resource_id);
        if self.paths.is_archived(resource_id) {
            granted = narrowed(&granted, &reading());
        }
        if let Some(texts) = &self.restriction.permissions {
            granted = narrowed(&granted, &patterns(texts));
        }
        Rights { granted, denied }
    }

    /// Permissions on the resource, as text, sorted; what [`Access::denied_texts`] names is
    /// missing from them.
    pub(crate) fn permission_texts(&self, resource_id: &str) -> Vec<String> {
        to_texts(&self.shown_at(resource_id).left())
    }

    /// What denials cut out of the permissions on the resource.
    pub(crate) fn denied_texts(&self, resource_id: &str) -> Vec<String> {
        to_texts(&self.shown_at(resource_id).cuts())
    }

    /// Whether the restriction of the key leaves nothing of a role on the resource.
    pub(crate) fn restricts(&self, role: &Role, resource_id: &str) -> bool {
        let nothing =
            |texts: &Vec<String>| narrowed(&role.permissions, &patterns(texts)).is_empty();
        !self.restriction_reaches(resource_id, &self.paths)
            || self.restriction.permissions.as_ref().is_some_and(nothing)
    }

    /// Whether this subject holds all that somebody gains where `before` becomes `after`: nobody
    /// grants more than they have, here or anywhere below (I-19). Each of the two is judged by
    /// the tree that it knows.
    ///
    /// Between two points nothing changes, so looking at the points of both, and at the subject's
    /// own points below them, is looking everywhere. `also` are places that the tree itself moved.
    pub(crate) fn covers_gain(&self, before: &Access, after: &Access, also: &[&str]) -> bool {
        let (mut before, mut after) = (before.clone(), after.clone());
        after.paths.merge(&before.paths);
        after.paths.merge(&self.paths);
        before.paths.merge(&after.paths);
        let mut places: BTreeSet<&str> = before.places().chain(after.places()).collect();
        places.extend(also);
        let below = self.places().filter(|own| {
            let mut above = after.paths.up(own).skip(1);
            above.any(|up| places.contains(up))
        });
        let all: BTreeSet<&str> = below.chain(places.iter().copied()).collect();
        all.iter().all(|at| {
            [Reach::Itself, Reach::Below].into_iter().all(|reach| {
                let (had, has) = (before.rights(at, reach), after.rights(at, reach));
                self.holdings(at, &before.paths, reach).cover_gain(&had, &has)
            })
        })
    }

    /// Whether nobody can have more, so that no other access need be read to compare: one point, at
    /// the organization's root, whose role grants everything, and nothing that takes away.
    pub(crate) fn is_everything(&self, root_resource_id: &str) -> bool {
        let everything = |roles: &[String]| self.granted_by(roles).contains(&Pattern::Everything);
        let is_whole = |part: &Part| match part.grants.as_slice() {
            [only] => {
                only.at == root_resource_id && everything(&only.self_) && everything(&only.below)
            }
            _ => false,
        };
        self.restriction == Restriction::default()
            && self.parts.iter().all(|part| part.denials.is_empty())
            && self.parts.iter().any(is_whole)
    }

    /// Whether this access contains the whole of `other`, such as of an account whose key it is
    /// about to see.
    pub(crate) fn contains(&self, other: &Access) -> bool {
        self.covers_gain(&Access::nothing(), other, &[])
    }

    /// Whether the subject holds all of the gain at a place and, if it reaches there, below it.
    pub(crate) fn covers_gain_at(
        &self,
        place: &str,
        propagate: bool,
        before: &Rights,
        after: &Rights,
    ) -> bool {
        let holds =
            |at: &str, reach| self.holdings(at, &self.paths, reach).cover_gain(before, after);
        let below = self.places().filter(|own| self.paths.up(own).skip(1).any(|up| up == place));
        let both = [Reach::Itself, Reach::Below];
        holds(place, Reach::Itself)
            && (!propagate
                || (holds(place, Reach::Below)
                    && below.into_iter().all(|at| both.iter().all(|reach| holds(at, *reach)))))
    }

    /// The ids of all places at which anything changes.
    pub(crate) fn places(&self) -> impl Iterator<Item = &str> {
        self.parts
            .iter()
            .flat_map(|part| part.grants.iter().chain(&part.denials))
            .map(|point| point.at.as_str())
    }

    /// Whether the key may be used with a method, such as `GET`.
    pub(crate) fn allows_method(&self, method: &str) -> bool {
        self.restriction.methods.as_ref().is_none_or(|all| all.iter().any(|one| one == method))
    }

    /// What the subject can hand out at a place: nothing that its key is narrowed from. No grant says
    /// with which methods, so who is limited in these hands out nothing.
    fn holdings(&self, at: &str, paths: &Paths, reach: Reach) -> Rights {
        if self.restriction.methods.is_some() || !self.restriction_reaches(at, paths) {
            return Rights::default();
        }
        let Rights { granted, denied } = self.rights_in(at, paths, reach);
        match &self.restriction.permissions {
            Some(texts) => Rights { granted: narrowed(&granted, &patterns(texts)), denied },
            None => Rights { granted, denied },
        }
    }

    fn rights(&self, at: &str, reach: Reach) -> Rights {
        self.rights_in(at, &self.paths, reach)
    }

    fn rights_in(&self, at: &str, paths: &Paths, reach: Reach) -> Rights {
        let mut rights = Rights::default();
        for part in &self.parts {
            rights.granted.extend(self.granted_by(roles_at(&part.grants, paths, at, reach)));
            rights.denied.extend(self.denied_by(roles_at(&part.denials, paths, at, reach)));
        }
        rights
    }

    fn granted_by(&self, roles: &[String]) -> Vec<Pattern> {
        let found = roles.iter().filter_map(|id| self.roles.find(id));
        found.flat_map(|role| role.permissions.clone()).collect()
    }

    /// What a role denies that is not there cannot be decided, so it denies everything.
    fn denied_by(&self, roles: &[String]) -> Vec<Pattern> {
        let denied = |id: &String| match self.roles.find(id) {
            Some(role) => role.deny.clone(),
            None => vec![Pattern::Everything],
        };
        roles.iter().flat_map(denied).collect()
    }

    fn restriction_reaches(&self, resource_id: &str, paths: &Paths) -> bool {
        let reaches =
            |ids: &Vec<String>| paths.up(resource_id).any(|up| ids.iter().any(|id| id == up));
        let Restriction { permissions: _, resource_ids, methods: _, bounds } = &self.restriction;
        resource_ids.as_ref().is_none_or(reaches) && bounds.as_ref().is_none_or(reaches)
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reach {
    Below,
    Itself,
}

/// What a gateway does: the first point on the way to the root decides.
fn roles_at<'p>(
    points: &'p [Point],
    paths: &Paths,
    resource_id: &str,
    reach: Reach,
) -> &'p [String] {
    for level in paths.up(resource_id) {
        if let Some(point) = points.iter().find(|point| point.at == level) {
            let itself = level == resource_id && reach == Reach::Itself;
            return if itself { &point.self_ } else { &point.below };
        }
    }
    &[]
}

/// Points as gateways get them: places by name, roles by reference.
pub(crate) fn point_records(points: &[Point], paths: &Paths) -> Vec<PointRecord> {
    let named = |roles: &[String]| roles.iter().map(|role| format!("@{role}")).collect();
    let mut records: Vec<PointRecord> = points
        .iter()
        .filter_map(|point| {
            let place = paths.find(&point.at)?.place();
            Some(PointRecord { at: place, self_: named(&point.self_), below: named(&point.below) })
        })
        .collect();
    records.sort_by(|one, other| one.at.cmp(&other.at));
    records
}

/// The verb `read` over all types.
fn reading() -> Vec<Pattern> {
    let management = MANAGEMENT_TYPES.iter().filter(|one| one.verbs.contains(&"read"));
    let mut texts: Vec<String> = management.map(|one| format!("{}:read", one.name)).collect();
    texts.push("*:read".to_owned());
    patterns(&texts)
}

fn to_texts(patterns: &[Pattern]) -> Vec<String> {
    let texts: BTreeSet<String> = patterns.iter().map(Pattern::to_string).collect();
    texts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "root";

    fn point(at: &str, role: &str, below: &str) -> Point {
        Point { at: at.to_owned(), self_: vec![role.to_owned()], below: vec![below.to_owned()] }
    }

    fn access(grants: Vec<Point>, denials: Vec<Point>) -> Access {
        let part = Part { subject_id: "somebody".to_owned(), grants, denials };
        Access { parts: vec![part], ..Access::nothing() }
    }

    #[test]
    fn everything_is_one_whole_grant_at_the_root_from_which_nothing_is_taken() {
        let owner = || point(ROOT, "owner", "owner");
        let whole = access(vec![owner()], Vec::new());
        assert!(whole.is_everything(ROOT));
        let mut beside = whole.clone();
        beside.parts.extend(access(vec![point("a", "viewer", "viewer")], Vec::new()).parts);
        assert!(beside.is_everything(ROOT), "another part takes nothing away");
        let narrowed = |restriction| whole.clone().narrowed(restriction);
        let some = || Some(vec!["GET".to_owned()]);
        for less in [
            Access::nothing(),
            access(vec![point("a", "owner", "owner")], Vec::new()),
            access(vec![point(ROOT, "owner", "viewer")], Vec::new()),
            access(vec![point(ROOT, "viewer", "owner")], Vec::new()),
            access(vec![owner(), point("a", "viewer", "viewer")], Vec::new()),
            access(vec![owner()], vec![point("a", "gone", "gone")]),
            narrowed(Restriction { methods: some(), ..Restriction::default() }),
            narrowed(Restriction { permissions: some(), ..Restriction::default() }),
            narrowed(Restriction { resource_ids: some(), ..Restriction::default() }),
            narrowed(Restriction { bounds: some(), ..Restriction::default() }),
        ] {
            assert!(!less.is_everything(ROOT), "{less:?}");
        }
    }
}
