//! Which bindings bear on one resource, and what becomes of each: the steps of a resolution, for
//! people to read. Nothing is decided here that the points do not decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_core::access::{BoundRole, contributing};

use super::grounds::{Barred, Grounds, bound_role};
use super::role::Role;
use crate::policy::OrgPolicy;
use crate::store::bindings::BindingRow;

/// How a binding reaches a resource.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// It is the subject's own, on the resource itself.
    Direct,
    Group,
    Inherited,
}

impl Via {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Via::Direct => "direct",
            Via::Group => "group",
            Via::Inherited => "inherited",
        }
    }
}

/// Why a binding gives nothing on a resource that it bears on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Excluded {
    Denied,
    Disabled,
    Forbidden,
    NotPropagated,
    Overridden,
    Restricted,
}

impl Excluded {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Excluded::Denied => "denied",
            Excluded::Disabled => "disabled",
            Excluded::Forbidden => "forbidden",
            Excluded::NotPropagated => "not_propagated",
            Excluded::Overridden => "overridden",
            Excluded::Restricted => "restricted",
        }
    }
}

/// A binding at the resource or above it.
#[derive(Clone, Debug)]
pub(crate) struct Contribution<'g> {
    pub(crate) row: &'g BindingRow,
    /// Absent if the role is gone.
    pub(crate) role: Option<Arc<Role>>,
    pub(crate) via: Via,
    pub(crate) excluded: Option<Excluded>,
}

impl Grounds {
    /// All bindings at the resource and above it, whose place must be known: the subject's own
    /// before those of its groups, the nearest first.
    pub(crate) fn contributions<'g>(
        &'g self,
        policy: &OrgPolicy,
        paths: &super::Paths,
        resource_id: &str,
    ) -> Vec<Contribution<'g>> {
        let path: Vec<&str> = paths.up(resource_id).collect();
        let distance = |row: &BindingRow| path.iter().position(|up| *up == row.resource_id);
        let mut counted: BTreeMap<&str, Vec<BoundRole<'_>>> = BTreeMap::new();
        for one in self.bindings.iter().filter(|one| self.barred(one, policy).is_none()) {
            if let Some(role) = self.roles.find(&one.row.role_id) {
                let of_subject = counted.entry(&one.row.subject_id).or_default();
                of_subject.push(bound_role(&one.row, &role));
            }
        }
        let chosen: BTreeMap<&str, Vec<BoundRole<'_>>> = counted
            .iter()
            .map(|(subject, bound)| {
                (*subject, contributing(policy.inheritance, bound, paths, resource_id))
            })
            .collect();

        let mut found: Vec<Contribution<'g>> = self
            .bindings
            .iter()
            .filter(|one| distance(&one.row).is_some())
            .map(|one| {
                let row = &one.row;
                let role = self.roles.find(&row.role_id);
                let here = row.resource_id == resource_id;
                let via = match (row.subject_id == self.subject_id, here) {
                    (false, _) => Via::Group,
                    (true, true) => Via::Direct,
                    (true, false) => Via::Inherited,
                };
                let bound = role.as_ref().map(|role| bound_role(row, role));
                let is_chosen = bound.is_some_and(|bound| {
                    chosen.get(row.subject_id.as_str()).is_some_and(|all| all.contains(&bound))
                });
                let excluded = match (self.barred(one, policy), bound) {
                    (Some(Barred::Disabled), _) => Some(Excluded::Disabled),
                    (Some(Barred::Forbidden), _) | (None, None) => Some(Excluded::Forbidden),
                    (None, Some(bound)) if !here && !bound.propagate => {
                        Some(Excluded::NotPropagated)
                    }
                    (None, Some(_)) => (!is_chosen).then_some(Excluded::Overridden),
                };
                Contribution { row, role, via, excluded }
            })
            .collect();
        found.sort_by_key(|one| (one.via == Via::Group, distance(one.row)));
        found
    }
}
