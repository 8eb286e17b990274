//! What somebody's access rests on: their own bindings and those of their groups, and which of them
//! count. Bindings of a policy that is off, and what the organization's policy forbids to service
//! accounts, are left out here, at every resolution, whenever they were written.

use std::sync::Arc;

use portcullis_core::access::{BoundRole, BuiltinRole, denials, points};
use sqlx::SqliteConnection;

use super::role::{Role, Roles};
use super::{Access, Part, Paths, Point, Restriction};
use crate::policy::OrgPolicy;
use crate::store::bindings::{self, BindingRow, SwitchedRow};
use crate::store::groups::{self, GroupRow};
use crate::store::{StoreError, resources, roles};

/// Who has the access in the end: policies forbid roles and groups to service accounts only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    ServiceAccount,
    User,
}

impl Holder {
    pub(crate) const ALL: [Holder; 2] = [Holder::ServiceAccount, Holder::User];

    /// From the kind of a principal. What is no user is bound to the stricter rules.
    pub(crate) fn of_kind(kind: &str) -> Holder {
        if kind == "user" { Holder::User } else { Holder::ServiceAccount }
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Holder::ServiceAccount => "service_account",
            Holder::User => "user",
        }
    }
}

/// Why a binding does not count, wherever it is asked about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// Its policy is off.
    Disabled,
    /// The group or the role is nothing for a service account, or the role is gone.
    Forbidden,
}

/// Everything that the access of a subject is resolved from.
#[derive(Clone, Debug)]
pub(crate) struct Grounds {
    pub(crate) holder: Holder,
    pub(crate) subject_id: String,
    /// The groups that it is in.
    pub(crate) groups: Vec<GroupRow>,
    /// Its own bindings and those of its groups, oldest first.
    pub(crate) bindings: Vec<SwitchedRow>,
    pub(crate) roles: Roles,
    pub(crate) paths: Paths,
}

impl Grounds {
    /// Reads what a principal has; or a group, as it is for members of the holder's kind.
    pub(crate) async fn of(
        conn: &mut SqliteConnection,
        holder: Holder,
        subject_id: &str,
    ) -> Result<Grounds, StoreError> {
        let groups = groups::list_of_principal(conn, subject_id).await?;
        let bindings = bindings::list_switched(conn, subject_id).await?;
        let is_custom = |one: &SwitchedRow| BuiltinRole::find(&one.row.role_id).is_none();
        let roles = match bindings.iter().any(is_custom) {
            true => Roles::of(&roles::list_of_subject(conn, subject_id).await?),
            false => Roles::default(),
        };
        let mut paths = Paths::default();
        if !bindings.is_empty() {
            paths.add(resources::list_paths_of_subject(conn, subject_id).await?);
        }
        Ok(Grounds { holder, subject_id: subject_id.to_owned(), groups, bindings, roles, paths })
    }

    /// Why the binding gives the holder nothing anywhere, if so.
    pub(crate) fn barred(&self, one: &SwitchedRow, policy: &OrgPolicy) -> Option<Barred> {
        if !one.enabled {
            return Some(Barred::Disabled);
        }
        let Some(role) = self.roles.find(&one.row.role_id) else {
            return Some(Barred::Forbidden);
        };
        let group = self.groups.iter().find(|group| group.id == one.row.subject_id);
        let allowed = self.holder == Holder::User
            || (allows_role(policy, &role)
                && group.is_none_or(|group| allows_group(policy, group)));
        (!allowed).then_some(Barred::Forbidden)
    }

    /// The groups that give the holder anything.
    pub(crate) fn counting_groups<'g>(
        &'g self,
        policy: &OrgPolicy,
    ) -> impl Iterator<Item = &'g GroupRow> {
        self.groups
            .iter()
            .filter(move |group| self.holder == Holder::User || allows_group(policy, group))
    }

    /// What the subject has by itself.
    pub(crate) fn own(&self, policy: &OrgPolicy) -> Access {
        self.access(vec![self.part(&self.subject_id, policy)])
    }

    /// What the subject has by itself and through its groups.
    pub(crate) fn whole(&self, policy: &OrgPolicy) -> Access {
        let groups = self.counting_groups(policy).map(|group| self.part(&group.id, policy));
        self.access(std::iter::once(self.part(&self.subject_id, policy)).chain(groups).collect())
    }

    fn access(&self, parts: Vec<Part>) -> Access {
        Access {
            parts,
            roles: self.roles.clone(),
            paths: self.paths.clone(),
            restriction: Restriction::default(),
        }
    }

    /// The points of one subject: levels are compared within it, and nowhere else.
    fn part(&self, subject_id: &str, policy: &OrgPolicy) -> Part {
        let counted: Vec<(&BindingRow, Arc<Role>)> = self
            .bindings
            .iter()
            .filter(|one| one.row.subject_id == subject_id && self.barred(one, policy).is_none())
            .filter_map(|one| Some((&one.row, self.roles.find(&one.row.role_id)?)))
            .collect();
        let bound: Vec<BoundRole<'_>> =
            counted.iter().map(|(row, role)| bound_role(row, role)).collect();
        let denying: Vec<BoundRole<'_>> = match policy.deny_enabled {
            // Built-in roles deny nothing, now or later.
            true => counted
                .iter()
                .filter(|(_, role)| !role.built_in)
                .map(|(row, role)| bound_role(row, role))
                .collect(),
            false => Vec::new(),
        };
        let owned = |found: Vec<portcullis_core::access::PointOf<'_>>| {
            found.into_iter().map(Point::of).collect()
        };
        Part {
            subject_id: subject_id.to_owned(),
            grants: owned(points(policy.inheritance, &bound, &self.paths)),
            denials: owned(denials(&denying, &self.paths)),
        }
    }
}

/// Whether a service account may have the role.
pub(crate) fn allows_role(policy: &OrgPolicy, role: &Role) -> bool {
    role.sa_assignable && !policy.sa_forbidden_roles.contains(&role.id)
}

/// Whether a service account may be in the group.
pub(crate) fn allows_group(policy: &OrgPolicy, group: &GroupRow) -> bool {
    let forbidden = &policy.sa_forbidden_groups;
    let by_kind = group.kind == GroupRow::OWNER && forbidden.contains(GroupRow::OWNER);
    !by_kind && !forbidden.contains(&group.id)
}

/// The binding as the resolver sees it.
pub(crate) fn bound_role<'b>(row: &'b BindingRow, role: &Role) -> BoundRole<'b> {
    BoundRole {
        resource_id: &row.resource_id,
        role_id: &row.role_id,
        sticky: role.sticky,
        propagate: row.propagate && role.propagates,
    }
}
