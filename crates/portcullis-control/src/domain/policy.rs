//! An organization's policy changes: the rows that it judges stay as they are, what gateways hold of
//! them is resolved anew. Nothing revoked or deleted is ever touched.

use portcullis_core::access::BuiltinRole;

use super::stakes::{Stakes, Subject, escalation};
use super::{Problem, records};
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::policy::{OrgPolicy, PolicyPatch, Profile};
use crate::resolve::{Access, Holder, Role, allows_group};
use crate::store::groups::{self, GroupRow};
use crate::store::organizations::OrganizationRow;
use crate::store::{StoreError, bindings, organizations};

/// Changes the policy. False if everything asked for holds already.
pub(crate) async fn patch(
    work: &mut Work,
    org: &mut OrganizationRow,
    patch: &PolicyPatch,
) -> Result<bool, Problem> {
    let profile: Profile =
        org.profile.parse().map_err(|_| StoreError::Broken("profile of an organization"))?;
    let (profile, wanted) = patch.applied_to(profile, &org.policy);
    check(work, &wanted, "").await?;
    if wanted == org.policy && profile.as_str() == org.profile {
        return Ok(false);
    }
    let stakes = match changes_access(&org.policy, &wanted) {
        true => Some(stakes_before(work, org).await?),
        false => None,
    };
    let before = std::mem::replace(&mut org.policy, wanted);
    org.profile = profile.as_str().to_owned();
    organizations::update(work.unit.conn(), org, work.now).await?;
    records::publish_organization(&mut work.unit, org).await?;
    if let Some(stakes) = stakes {
        resolve_anew(work, org, &before, stakes).await?;
    }
    Ok(true)
}

/// What a policy may not say, whatever its fields are one by one. `field` is what its fields are
/// called in the body: `` or `policy.`.
pub(crate) async fn check(work: &mut Work, policy: &OrgPolicy, field: &str) -> Result<(), Problem> {
    if let (Some(default), Some(most)) = (policy.key_ttl_default, policy.key_ttl_max)
        && default > most
    {
        let name = format!("{field}key_ttl_default");
        return Err(Problem::field(&name, FieldCode::OutOfRange, "it cannot exceed key_ttl_max"));
    }
    for (name, ids) in [
        ("sa_forbidden_roles", &policy.sa_forbidden_roles),
        ("sa_warn_roles", &policy.sa_warn_roles),
    ] {
        for id in ids {
            if !is_role(work, id).await? {
                return Err(unknown_reference(&format!("{field}{name}")));
            }
        }
    }
    for id in &policy.sa_forbidden_groups {
        if !is_group(work, id).await? {
            return Err(unknown_reference(&format!("{field}sa_forbidden_groups")));
        }
    }
    Ok(())
}

async fn is_role(work: &mut Work, id: &str) -> Result<bool, Problem> {
    let Ok(org) = work.org() else { return Ok(BuiltinRole::find(id).is_some()) };
    let org_id = org.id.clone();
    Ok(Role::find(work.unit.conn(), &org_id, id).await?.is_some())
}

/// The owner group is called by its kind, or as all others by its id.
async fn is_group(work: &mut Work, id: &str) -> Result<bool, Problem> {
    if id == GroupRow::OWNER {
        return Ok(true);
    }
    let Ok(org) = work.org() else { return Ok(false) };
    let org_id = org.id.clone();
    Ok(groups::find(work.unit.conn(), &org_id, id).await?.is_some())
}

fn changes_access(before: &OrgPolicy, after: &OrgPolicy) -> bool {
    before.inheritance != after.inheritance
        || before.deny_enabled != after.deny_enabled
        || before.sa_forbidden_groups != after.sa_forbidden_groups
        || before.sa_forbidden_roles != after.sa_forbidden_roles
}

/// Everybody who has a binding, by the policy before.
async fn stakes_before(work: &mut Work, org: &OrganizationRow) -> Result<Stakes, Problem> {
    let found = bindings::list_subjects_below(work.unit.conn(), &org.root_resource_id).await?;
    let subjects: Vec<Subject> = found.into_iter().map(|(kind, id)| Subject { kind, id }).collect();
    Stakes::before(work, &subjects).await
}

/// Resolves everybody anew. Whoever gains by it gains what the caller holds: a policy is no way to
/// raise anybody (I-19).
async fn resolve_anew(
    work: &mut Work,
    org: &OrganizationRow,
    before: &OrgPolicy,
    stakes: Stakes,
) -> Result<(), Problem> {
    stakes.check_under(work, &org.policy, None).await?;
    let caller = work.member()?.access.clone();
    for group in groups::list_all(work.unit.conn(), &org.id).await? {
        let (was, is) = (allows_group(before, &group), allows_group(&org.policy, &group));
        if was == is {
            continue;
        }
        let (conn, holder) = (work.unit.conn(), Holder::ServiceAccount);
        let had = Access::of_subject(conn, holder, &group.id, before).await?;
        let has = Access::of_subject(conn, holder, &group.id, &org.policy).await?;
        let covered = match is {
            true => caller.covers_gain(&Access::nothing(), &has, &[]),
            false => caller.covers_gain(&had, &Access::nothing(), &[]),
        };
        if !covered {
            return Err(escalation());
        }
    }
    records::publish_everybody(&mut work.unit, &org.id, &org.policy).await?;
    Ok(())
}
