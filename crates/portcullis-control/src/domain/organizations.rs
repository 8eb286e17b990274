//! Organizations: what the operator creates, suspends and resumes.

use portcullis_core::account::{Expiry, KeyName, Username};
use portcullis_core::key::PlainKey;

use super::secrets::{ExpiryWish, NewKey, Owner, mint_row};
use super::{Author, Problem, new_id, records};
use crate::api::App;
use crate::instant::column;
use crate::policy::{OrgPolicy, Profile};
use crate::store::bindings::{self, BindingRow};
use crate::store::keys::KeyRow;
use crate::store::organizations::{self, OrganizationRow};
use crate::store::resources::{self, ResourceRow};
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

/// Creates an organization: root resource, owner, the owner's binding and key.
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
        role_id: "owner".to_owned(),
        subject_kind: "user".to_owned(),
        subject_id: owner.id.clone(),
        resource_id: root.id.clone(),
        propagate: true,
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
    records::publish_user(unit, &owner, &org.policy).await?;
    records::publish_key(unit, &key).await?;
    Ok(CreatedOrganization { org, owner, key, plain })
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
