//! Who may do what where, as the store has it now: bindings resolved to grant points by the same
//! code that gateways' records come from. Undecidable means no.

use std::collections::{BTreeSet, HashMap};

use portcullis_core::access::{
    BoundRole, BuiltinRole, MANAGEMENT_TYPES, Pattern, Permission, Tree, allows, covers_all,
    narrowed, points,
};
use portcullis_core::feed::PointRecord;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use crate::policy::OrgPolicy;
use crate::store::StoreError;
use crate::store::bindings::{self, BindingRow};
use crate::store::resources::{self, ResourceRow};

/// What a key is narrowed to; each member narrows if present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restriction {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) permissions: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) methods: Option<Vec<String>>,
}

/// Roles on a resource and on everything below it that no deeper point covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) at: String,
    pub(crate) self_: Vec<String>,
    pub(crate) below: Vec<String>,
}

/// Some resources of one organization with everything above each of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths(HashMap<String, ResourceRow>);

impl Paths {
    pub(crate) fn add(&mut self, rows: Vec<ResourceRow>) {
        self.0.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
    }

    /// Learns all that `other` knows.
    pub(crate) fn merge(&mut self, other: &Paths) {
        self.0.extend(other.0.iter().map(|(id, row)| (id.clone(), row.clone())));
    }

    pub(crate) fn find(&self, id: &str) -> Option<&ResourceRow> {
        self.0.get(id)
    }

    /// The resource, its parent, and so on to the root.
    pub(crate) fn up<'p>(&'p self, id: &'p str) -> impl Iterator<Item = &'p str> {
        std::iter::successors(Some(id), |id| self.parent(id)).take(17)
    }
}

impl Tree for Paths {
    fn parent<'t>(&'t self, id: &str) -> Option<&'t str> {
        self.0.get(id).and_then(|row| row.parent_id.as_deref())
    }
}

/// Everything that one subject has in its organization.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) points: Vec<Point>,
    pub(crate) paths: Paths,
    restriction: Restriction,
}

impl Access {
    /// Reads and resolves the bindings of a subject.
    pub(crate) async fn of_subject(
        conn: &mut SqliteConnection,
        subject_id: &str,
        policy: &OrgPolicy,
    ) -> Result<Access, StoreError> {
        let bindings = bindings::list_of_subject(conn, subject_id).await?;
        let mut paths = Paths::default();
        paths.add(resources::list_paths_of_subject(conn, subject_id).await?);
        let points = resolved(&bindings, &paths, policy);
        Ok(Access { points, paths, restriction: Restriction::default() })
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
            && self.restriction_reaches(resource_id)
            && allows(&self.patterns_at(resource_id), needed)
            && (!self.is_archived(resource_id) || needed.verb().as_str() == "read")
    }

    /// Whether the subject may do it anywhere at all.
    pub(crate) fn permits_somewhere(&self, needed: &Permission) -> bool {
        self.points.iter().any(|point| {
            allows(&permissions_of(&point.self_), needed)
                || allows(&permissions_of(&point.below), needed)
        })
    }

    /// Roles on the resource itself.
    pub(crate) fn roles_at(&self, resource_id: &str) -> &[String] {
        roles_at(&self.points, &self.paths, resource_id, Reach::Itself)
    }

    /// Patterns on the resource itself, before any restriction.
    pub(crate) fn patterns_at(&self, resource_id: &str) -> Vec<Pattern> {
        permissions_of(self.roles_at(resource_id))
    }

    /// Permissions on the resource, as text, sorted.
    pub(crate) fn permission_texts(&self, resource_id: &str) -> Vec<String> {
        if !self.restriction_reaches(resource_id) {
            return Vec::new();
        }
        let mut held = self.patterns_at(resource_id);
        if self.is_archived(resource_id) {
            held = narrowed(&held, &reading());
        }
        let left = match &self.restriction.permissions {
            Some(texts) => narrowed(&held, &patterns(texts)),
            None => held,
        };
        let texts: BTreeSet<String> = left.iter().map(Pattern::to_string).collect();
        texts.into_iter().collect()
    }

    /// Whether the restriction of the key leaves nothing of a role on the resource.
    pub(crate) fn restricts(&self, role_id: &str, resource_id: &str) -> bool {
        let role = permissions_of(&[role_id.to_owned()]);
        let nothing = |texts: &Vec<String>| narrowed(&role, &patterns(texts)).is_empty();
        !self.restriction_reaches(resource_id)
            || self.restriction.permissions.as_ref().is_some_and(nothing)
    }

    /// Whether the subject holds all that somebody gains where `before` becomes `after`: nobody
    /// grants more than it has, here or anywhere below (I-19).
    ///
    /// Between two points nothing changes, so looking at the points of both, and at the subject's
    /// own points below them, is looking everywhere.
    pub(crate) fn covers_gain(&self, before: &[Point], after: &[Point], paths: &Paths) -> bool {
        let places: BTreeSet<&str> =
            before.iter().chain(after).map(|point| point.at.as_str()).collect();
        let own_places: BTreeSet<&str> =
            self.points.iter().map(|point| point.at.as_str()).collect();
        places.iter().all(|place| {
            let below = own_places
                .iter()
                .filter(|own| *own != place && self.paths.up(own).any(|up| up == *place));
            [place].into_iter().chain(below).all(|at| {
                [Reach::Itself, Reach::Below].into_iter().all(|reach| {
                    let had = roles_at(before, paths, at, reach);
                    let has = roles_at(after, paths, at, reach);
                    let gained: Vec<String> =
                        has.iter().filter(|role| !had.contains(role)).cloned().collect();
                    gained.is_empty() || self.holds(&permissions_of(&gained), at, paths, reach)
                })
            })
        })
    }

    /// Whether this access contains the whole of `other`, such as of an account whose key it is
    /// about to see.
    pub(crate) fn contains(&self, other: &Access) -> bool {
        let mut paths = other.paths.clone();
        paths.merge(&self.paths);
        self.covers_gain(&[], &other.points, &paths)
    }

    /// Of an archived resource and what lies below it only reading is left.
    fn is_archived(&self, resource_id: &str) -> bool {
        self.paths
            .up(resource_id)
            .filter_map(|up| self.paths.find(up))
            .any(|row| row.state == ResourceRow::ARCHIVED)
    }

    fn holds(&self, wanted: &[Pattern], at: &str, paths: &Paths, reach: Reach) -> bool {
        let limits = match &self.restriction.permissions {
            Some(texts) => covers_all(&patterns(texts), wanted),
            None => true,
        };
        let held = permissions_of(roles_at(&self.points, paths, at, reach));
        limits && self.restriction_reaches_in(at, paths) && covers_all(&held, wanted)
    }

    fn restriction_reaches(&self, resource_id: &str) -> bool {
        self.restriction_reaches_in(resource_id, &self.paths)
    }

    fn restriction_reaches_in(&self, resource_id: &str, paths: &Paths) -> bool {
        match &self.restriction.resource_ids {
            Some(ids) => paths.up(resource_id).any(|up| ids.iter().any(|id| id == up)),
            None => true,
        }
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

/// The points of one subject's bindings.
pub(crate) fn resolved(bindings: &[BindingRow], paths: &Paths, policy: &OrgPolicy) -> Vec<Point> {
    let counted = bindings.iter().filter(|binding| !is_forbidden(binding, policy));
    let bound: Vec<BoundRole<'_>> = counted.filter_map(bound_role).collect();
    let owned = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
    points(policy.inheritance, &bound, paths)
        .into_iter()
        .map(|point| Point {
            at: point.at.to_owned(),
            self_: owned(point.self_),
            below: owned(point.below),
        })
        .collect()
}

/// A role that the policy forbids to service accounts grants them nothing, whenever it was bound.
pub(crate) fn is_forbidden(binding: &BindingRow, policy: &OrgPolicy) -> bool {
    binding.subject_kind == "service_account"
        && policy.sa_forbidden_roles.contains(&binding.role_id)
}

/// The binding as the resolver sees it. A role that does not exist grants nothing.
pub(crate) fn bound_role(binding: &BindingRow) -> Option<BoundRole<'_>> {
    let role = BuiltinRole::find(&binding.role_id)?;
    Some(BoundRole {
        resource_id: &binding.resource_id,
        role_id: role.id,
        sticky: role.sticky,
        propagate: binding.propagate && role.propagates,
    })
}

/// The points as gateways get them: places by name, roles by reference.
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

/// All patterns of some roles. A role that does not exist grants nothing.
pub(crate) fn permissions_of(roles: &[String]) -> Vec<Pattern> {
    roles
        .iter()
        .filter_map(|id| BuiltinRole::find(id))
        .flat_map(|role| role.permissions)
        .filter_map(|text| text.parse().ok())
        .collect()
}

/// The verb `read` over all types.
fn reading() -> Vec<Pattern> {
    let management = MANAGEMENT_TYPES.iter().filter(|one| one.verbs.contains(&"read"));
    let mut texts: Vec<String> = management.map(|one| format!("{}:read", one.name)).collect();
    texts.push("*:read".to_owned());
    patterns(&texts)
}

/// Patterns from text. One that cannot be read grants nothing.
fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
