//! Organizations: what the operator creates, suspends and resumes.

use portcullis_core::account::{Expiry, KeyName, Username};
use portcullis_core::key::PlainKey;

use super::secrets::{ExpiryWish, NewKey, Owner, mint_row};
use super::stakes::{OWNER, Subject};
use super::{Author, Problem, new_id, records};
use crate::api::App;
use crate::instant::column;
use crate::policy::{OrgPolicy, Profile};
use crate::store::bindings::{self, BindingRow};
use crate::store::groups::{self, GroupRow};
use crate::store::keys::KeyRow;
use crate::store::organizations::{self, OrganizationRow};
use crate::store::resources::{self, ResourceRow};
use crate::store::security_policies::{self, SecurityPolicyRow};
use crate::store::users::{self, UserRow};
use crate::store::{Unit, keys};

/// An organization that is wanted, with the owner that it must have.
pub(crate) struct NewOrganization {
    pub(crate) name: String,
    pub(crate) profile: Profile,
    pub(crate) policy: OrgPolicy,
    pub(crate) owner: Username,
    pub(crate) email: Option<String>,
    pub(crate) key_name: KeyName,
}

/// What creating an organization made.
pub(crate) struct CreatedOrganization {
    pub(crate) org: OrganizationRow,
    pub(crate) owner: UserRow,
    pub(crate) key: KeyRow,
    pub(crate) plain: PlainKey,
}

/// Creates an organization: root resource, groups, owner, the owner's binding and key.
pub(crate) async fn create(
    app: &App,
    unit: &mut Unit,
    wanted: NewOrganization,
    author: &Author,
) -> Result<CreatedOrganization, Problem> {
    let now = unit.now();
    let id = || new_id(now, app.entropy.as_ref());
    let stamp = column(now);
    let org = OrganizationRow {
        id: id()?,
        name: wanted.name.clone(),
        profile: wanted.profile.as_str().to_owned(),
        policy: wanted.policy,
        plan: "default".to_owned(),
        allows_accounts: true,
        state: OrganizationRow::ACTIVE.to_owned(),
        root_resource_id: id()?,
        owner_group_id: id()?,
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
    };
    let root = ResourceRow {
        id: org.root_resource_id.clone(),
        org_id: org.id.clone(),
        parent_id: None,
        kind: "organization".to_owned(),
        name: wanted.name,
        reference: org.id.clone(),
        state: ResourceRow::ACTIVE.to_owned(),
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
    };
    let owner = UserRow {
        id: id()?,
        org_id: org.id.clone(),
        username: wanted.owner.as_str().to_owned(),
        username_key: wanted.owner.folded().to_owned(),
        email: wanted.email,
        state: UserRow::ACTIVE.to_owned(),
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
        removed_ms: None,
        removed_by: None,
    };
    let binding = BindingRow {
        id: id()?,
        org_id: org.id.clone(),
        role_id: OWNER.to_owned(),
        subject_kind: "user".to_owned(),
        subject_id: owner.id.clone(),
        resource_id: root.id.clone(),
        propagate: true,
        policy_id: None,
        managed_by: "api".to_owned(),
        created_by: author.to_column(),
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
    };
    let wanted_key = NewKey {
        name: wanted.key_name,
        description: None,
        expiry: ExpiryWish::Never,
        active: true,
        restriction: None,
    };
    let key_owner = Owner { kind: "user", id: &owner.id, org_id: &org.id, author };
    let (key, plain) = mint_row(app, now, &key_owner, &wanted_key, Expiry::Never)?;

    organizations::insert(unit.conn(), &org).await?;
    resources::insert(unit.conn(), &root).await?;
    users::insert(unit.conn(), &owner).await?;
    bindings::insert(unit.conn(), &binding).await?;
    keys::insert(unit.conn(), &key).await?;
    records::publish_organization(unit, &org).await?;
    furnish(app, unit, &org, author).await?;
    records::publish_user(unit, &owner, &org.policy).await?;
    records::publish_key(unit, &key).await?;
    Ok(CreatedOrganization { org, owner, key, plain })
}

/// Gives an organization the groups that each has, and the default policy by which its owner group
/// owns it. The owner group begins empty: the first owner has the role directly.
async fn furnish(
    app: &App,
    unit: &mut Unit,
    org: &OrganizationRow,
    author: &Author,
) -> Result<(), Problem> {
    let now = unit.now();
    let id = || new_id(now, app.entropy.as_ref());
    let (stamp, by) = (column(now), author.to_column());
    let group = |id: String, name: &str, kind: &str, description: &str| GroupRow {
        id,
        org_id: org.id.clone(),
        name: name.to_owned(),
        name_key: name.to_lowercase(),
        kind: kind.to_owned(),
        description: Some(description.to_owned()),
        created_by: by.clone(),
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
        member_count: 0,
    };
    let owners = org.owner_group_id.clone();
    let owners = group(owners, "Owners", GroupRow::OWNER, "Its members own the organization.");
    let default = group(id()?, "Default", GroupRow::DEFAULT, "A group to begin with.");
    let policy = SecurityPolicyRow {
        id: id()?,
        org_id: org.id.clone(),
        name: "Owners".to_owned(),
        name_key: "owners".to_owned(),
        kind: SecurityPolicyRow::DEFAULT.to_owned(),
        enabled: true,
        created_by: by.clone(),
        created_ms: stamp,
        updated_by: by.clone(),
        updated_ms: stamp,
        version: 1,
    };
    let binding = BindingRow {
        id: id()?,
        org_id: org.id.clone(),
        role_id: OWNER.to_owned(),
        subject_kind: Subject::GROUP.to_owned(),
        subject_id: owners.id.clone(),
        resource_id: org.root_resource_id.clone(),
        propagate: true,
        policy_id: Some(policy.id.clone()),
        managed_by: "api".to_owned(),
        created_by: by,
        created_ms: stamp,
        updated_ms: stamp,
        version: 1,
    };
    groups::insert(unit.conn(), &owners).await?;
    groups::insert(unit.conn(), &default).await?;
    security_policies::insert(unit.conn(), &policy).await?;
    bindings::insert(unit.conn(), &binding).await?;
    records::publish_group(unit, &owners, &org.policy).await?;
    records::publish_group(unit, &default, &org.policy).await?;
    Ok(())
}

/// Gives organizations that are older than groups what every other has.
pub(crate) async fn furnish_old(app: &App, unit: &mut Unit) -> Result<(), Problem> {
    for mut org in organizations::list_without_groups(unit.conn()).await? {
        org.owner_group_id = new_id(unit.now(), app.entropy.as_ref())?;
        organizations::set_owner_group(unit.conn(), &org.id, &org.owner_group_id).await?;
        furnish(app, unit, &org, &Author::system()).await?;
    }
    Ok(())
}

/// Suspends an organization, which refuses all its credentials, or resumes it. False if it was so.
pub(crate) async fn set_suspended(
    unit: &mut Unit,
    org: &mut OrganizationRow,
    suspended: bool,
) -> Result<bool, Problem> {
    let state = if suspended { OrganizationRow::SUSPENDED } else { OrganizationRow::ACTIVE };
    if org.state == state {
        return Ok(false);
    }
    org.state = state.to_owned();
    let now = unit.now();
    organizations::update(unit.conn(), org, now).await?;
    records::publish_organization(unit, org).await?;
    Ok(true)
}
