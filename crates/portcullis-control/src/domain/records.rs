//! From rows to the records that gateways hold. Every operation that changes what a gateway decides
//! ends here; the unit drops what did not change.

use portcullis_core::access::BUILTIN_ROLES;
use portcullis_core::account::{AccountState, KeyState, OrgState as OrgStateName};
use portcullis_core::feed::{
    AccountRecord, Alg, DigestRecord, KeyRecord, Kind, OnStale, OrgRecord, OrgState,
    PreviousRecord, ResourceRecord, RestrictRecord, RoleRecord, State,
};
use serde::Serialize;
use serde_json::Value;

use crate::policy::OrgPolicy;
use crate::resolve::{Access, Restriction, point_records};
use crate::store::accounts::AccountRow;
use crate::store::keys::KeyRow;
use crate::store::organizations::OrganizationRow;
use crate::store::resources::{self, ResourceRow};
use crate::store::users::UserRow;
use crate::store::{StoreError, Unit, accounts, users};

/// The built-in roles; the same for all organizations.
pub(crate) async fn publish_roles(unit: &mut Unit) -> Result<(), StoreError> {
    for role in &BUILTIN_ROLES {
        let permissions = role.permissions.iter().map(|text| (*text).to_owned()).collect();
        unit.put(Kind::Role, role.id, value(&RoleRecord { permissions })).await?;
    }
    Ok(())
}

pub(crate) async fn publish_organization(
    unit: &mut Unit,
    org: &OrganizationRow,
) -> Result<(), StoreError> {
    let state: OrgStateName =
        org.state.parse().map_err(|_| StoreError::Broken("state of an organization"))?;
    // A limit that refuses nobody is not published: gateways have nothing to decide about it.
    let staleness = match org.policy.on_stale {
        limit @ (OnStale::FailClosed | OnStale::SafeMethods) => {
            Some((u64::from(org.policy.max_staleness_s) * 1000, limit))
        }
        OnStale::ServeRecorded => None,
    };
    let record = OrgRecord {
        state: match state {
            OrgStateName::Active => OrgState::Active,
            OrgStateName::Suspended => OrgState::Suspended,
        },
        max_staleness_ms: staleness.map(|(limit_ms, _)| limit_ms),
        on_stale: staleness.map(|(_, on_stale)| on_stale),
        reveal_reason: org.policy.reveal_reason_to_client,
    };
    unit.put(Kind::Org, &org.id, value(&record)).await
}

/// The root has no record: gateways call it `org`.
pub(crate) async fn publish_resource(unit: &mut Unit, row: &ResourceRow) -> Result<(), StoreError> {
    let Some(parent_id) = &row.parent_id else { return Ok(()) };
    let parent = resources::find(unit.conn(), &row.org_id, parent_id)
        .await?
        .ok_or(StoreError::Broken("parent of a resource"))?;
    let archived = row.state == ResourceRow::ARCHIVED;
    let record = ResourceRecord {
        parent: parent.place(),
        archived,
        crit: if archived { vec!["archived".to_owned()] } else { Vec::new() },
    };
    unit.put(Kind::Resource, &row.feed_id(), value(&record)).await
}

/// Resolves the account's bindings and publishes what it may do. Revoked and deleted accounts have
/// no record.
pub(crate) async fn publish_account(
    unit: &mut Unit,
    row: &AccountRow,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    let state = match row.state()? {
        AccountState::Active => State::Active,
        AccountState::Inactive => State::Inactive,
        AccountState::Deleted | AccountState::Revoked => return Ok(()),
    };
    let principal = Principal { id: &row.id, org_id: &row.org_id, name: &row.username, state };
    publish_principal(unit, principal, policy).await
}

/// A user owns keys as an account does.
pub(crate) async fn publish_user(
    unit: &mut Unit,
    row: &UserRow,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    if !row.is_active() {
        return Ok(());
    }
    let principal =
        Principal { id: &row.id, org_id: &row.org_id, name: &row.username, state: State::Active };
    publish_principal(unit, principal, policy).await
}

/// Publishes whoever is the subject of a binding.
pub(crate) async fn publish_subject(
    unit: &mut Unit,
    org_id: &str,
    subject_kind: &str,
    subject_id: &str,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    if subject_kind == "user" {
        if let Some(row) = users::find(unit.conn(), org_id, subject_id).await? {
            publish_user(unit, &row, policy).await?;
        }
        return Ok(());
    }
    if let Some(row) = accounts::find(unit.conn(), org_id, subject_id).await? {
        publish_account(unit, &row, policy).await?;
    }
    Ok(())
}

struct Principal<'a> {
    id: &'a str,
    org_id: &'a str,
    name: &'a str,
    state: State,
}

async fn publish_principal(
    unit: &mut Unit,
    principal: Principal<'_>,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    let Principal { id, org_id, name, state } = principal;
    let access = Access::of_subject(unit.conn(), id, policy).await?;
    let record = AccountRecord {
        org: org_id.to_owned(),
        state,
        name: Some(name.to_owned()),
        grants: point_records(&access.points, &access.paths),
        sets: Vec::new(),
    };
    unit.put(Kind::Account, id, value(&record)).await
}

/// Revoked and deleted keys have no record.
pub(crate) async fn publish_key(unit: &mut Unit, row: &KeyRow) -> Result<(), StoreError> {
    let state = match row.state()? {
        KeyState::Active => State::Active,
        KeyState::Inactive => State::Inactive,
        KeyState::Deleted | KeyState::Revoked => return Ok(()),
    };
    let restrict = match restriction_of(row)? {
        Some(restriction) => Some(restrict_record(unit, &row.org_id, restriction).await?),
        None => None,
    };
    let previous = match (&row.previous_digest, row.previous_pepper, row.retained_until_ms) {
        (Some(digest), Some(pepper), Some(until)) => Some(PreviousRecord {
            alg: Alg::B3,
            pepper: pepper_version(pepper)?,
            digest: digest.clone(),
            retained_until_ms: until.unsigned_abs(),
        }),
        _ => None,
    };
    let record = KeyRecord {
        account: row.owner_id.clone(),
        state,
        generation: u32::try_from(row.generation)
            .map_err(|_| StoreError::Broken("generation of a key"))?,
        current: DigestRecord {
            alg: Alg::B3,
            pepper: pepper_version(row.current_pepper)?,
            digest: row.current_digest.clone(),
        },
        previous,
        not_before_ms: None,
        expires_at_ms: row.expires_ms.map(i64::unsigned_abs),
        restrict,
        sources: None,
        cnf: None,
    };
    unit.put(Kind::Key, &row.id, value(&record)).await
}

/// Takes a key away from gateways for ever.
pub(crate) async fn revoke_key(unit: &mut Unit, row: &KeyRow) -> Result<(), StoreError> {
    unit.revoke(Kind::Key, &row.id, row.expires_ms.map(i64::unsigned_abs)).await
}

/// The restriction of a key, if it has one.
pub(crate) fn restriction_of(row: &KeyRow) -> Result<Option<Restriction>, StoreError> {
    row.restriction
        .as_deref()
        .map(|text| {
            serde_json::from_str(text).map_err(|_| StoreError::Broken("restriction of a key"))
        })
        .transpose()
}

async fn restrict_record(
    unit: &mut Unit,
    org_id: &str,
    restriction: Restriction,
) -> Result<RestrictRecord, StoreError> {
    let Restriction { permissions, resource_ids, methods } = restriction;
    let resources = match resource_ids {
        None => None,
        Some(ids) => {
            let mut places = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(row) = resources::find(unit.conn(), org_id, &id).await? {
                    places.push(row.place());
                }
            }
            Some(places)
        }
    };
    Ok(RestrictRecord { permissions, resources, methods })
}

fn pepper_version(column: i64) -> Result<u32, StoreError> {
    u32::try_from(column).map_err(|_| StoreError::Broken("pepper of a key"))
}

fn value<T: Serialize>(record: &T) -> Value {
    serde_json::to_value(record).expect("records have string keys and finite numbers")
}
