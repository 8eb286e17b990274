//! An organization's policy changes: the rows that it judges stay as they are, what gateways hold of
//! them is resolved anew. Nothing revoked or deleted is ever touched.

use super::{Code, Problem, records};
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::policy::{OrgPolicy, PolicyPatch, Profile};
use crate::resolve::Access;
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
    let before = std::mem::replace(&mut org.policy, wanted);
    org.profile = profile.as_str().to_owned();
    organizations::update(work.unit.conn(), org, work.now).await?;
    records::publish_organization(&mut work.unit, org).await?;
    if changes_access(&before, &org.policy) {
        republish_subjects(work, org, &before).await?;
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

async fn is_role(_: &mut Work, id: &str) -> Result<bool, Problem> {
    Ok(portcullis_core::access::BuiltinRole::find(id).is_some())
}

/// The owner group is called by its kind.
async fn is_group(_: &mut Work, id: &str) -> Result<bool, Problem> {
    Ok(id == "owner")
}

fn changes_access(before: &OrgPolicy, after: &OrgPolicy) -> bool {
    before.inheritance != after.inheritance
        || before.deny_enabled != after.deny_enabled
        || before.sa_forbidden_groups != after.sa_forbidden_groups
        || before.sa_forbidden_roles != after.sa_forbidden_roles
}

/// Resolves everybody who has a binding anew. Whoever gains by it gains what the caller holds: a
/// policy is no way to raise anybody (I-19).
async fn republish_subjects(
    work: &mut Work,
    org: &OrganizationRow,
    before: &OrgPolicy,
) -> Result<(), Problem> {
    let caller = work.member()?.access.clone();
    let root = &org.root_resource_id;
    for (kind, id) in bindings::list_subjects_below(work.unit.conn(), root).await? {
        let had = Access::of_subject(work.unit.conn(), &id, before).await?;
        let has = Access::of_subject(work.unit.conn(), &id, &org.policy).await?;
        let mut paths = has.paths.clone();
        paths.merge(&caller.paths);
        if !caller.covers_gain(&had.points, &has.points, &paths) {
            let detail = "Somebody would get permissions that you do not have yourself.";
            return Err(Problem::new(Code::PrivilegeEscalation, detail));
        }
        records::publish_subject(&mut work.unit, &org.id, &kind, &id, &org.policy).await?;
    }
    Ok(())
}
