//! From rows to the records that gateways hold. Every operation that changes what a gateway decides
//! ends here; the unit drops what did not change.

use portcullis_core::access::BUILTIN_ROLES;
use portcullis_core::account::{AccountState, KeyState, OrgState as OrgStateName};
use portcullis_core::feed::{
    AccountRecord, Alg, DigestRecord, KeyRecord, Kind, OnStale, OrgRecord, OrgState, PointRecord,
    PreviousRecord, ResourceRecord, RestrictRecord, RoleRecord, SetRecord, State,
};
use serde::Serialize;
use serde_json::Value;

use super::secrets::KEYED;
use crate::policy::OrgPolicy;
use crate::resolve::{Grounds, Holder, Part, Paths, Restriction, point_records, texts};
use crate::store::accounts::AccountRow;
use crate::store::groups::{self, GroupRow};
use crate::store::keys::KeyRow;
use crate::store::organizations::OrganizationRow;
use crate::store::resources::{self, ResourceRow};
use crate::store::roles::RoleRow;
use crate::store::users::UserRow;
use crate::store::{StoreError, Unit, accounts, bindings, users};

/// The built-in roles; the same for all organizations.
pub(crate) async fn publish_roles(unit: &mut Unit) -> Result<(), StoreError> {
    for role in &BUILTIN_ROLES {
        let permissions = role.permissions.iter().map(|text| (*text).to_owned()).collect();
        let record = RoleRecord { permissions, ..RoleRecord::default() };
        unit.put(Kind::Role, role.id, value(&record)).await?;
    }
    Ok(())
}

/// A custom role: one record, whoever has it.
pub(crate) async fn publish_role(unit: &mut Unit, row: &RoleRow) -> Result<(), StoreError> {
    let deny = texts(&row.deny);
    let crit = if deny.is_empty() { Vec::new() } else { vec!["deny".to_owned()] };
    let record = RoleRecord { permissions: texts(&row.permissions), deny, crit };
    unit.put(Kind::Role, &row.id, value(&record)).await
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
        // A gateway has accounts' keys to decide about; without the feature there are none.
        state: match state {
            OrgStateName::Active if org.allows_accounts => OrgState::Active,
            OrgStateName::Active | OrgStateName::Suspended => OrgState::Suspended,
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
    let holder = Holder::ServiceAccount;
    let principal =
        Principal { holder, id: &row.id, org_id: &row.org_id, name: &row.username, state };
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
    let principal = Principal {
        holder: Holder::User,
        id: &row.id,
        org_id: &row.org_id,
        name: &row.username,
        state: State::Active,
    };
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
    if subject_kind == "group" {
        if let Some(row) = groups::find(unit.conn(), org_id, subject_id).await? {
            publish_group(unit, &row, policy).await?;
        }
        return Ok(());
    }
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

/// Resolves a group's bindings into the set that its members' records name. A change of the group is
/// this one record; a second one exists while users are in it, who may have more than accounts.
pub(crate) async fn publish_group(
    unit: &mut Unit,
    row: &GroupRow,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    for holder in Holder::ALL {
        let id = set_id(holder, &row.id);
        let wanted = holder == Holder::ServiceAccount
            || groups::has_members(unit.conn(), &row.id, holder.kind()).await?;
        if !wanted {
            unit.delete(Kind::Set, &id).await?;
            continue;
        }
        let access = Grounds::of(unit.conn(), holder, &row.id).await?.own(policy);
        let (points, denials) = part_records(&access.parts, &access.paths);
        let crit = crit_of_denials(!denials.is_empty());
        let record = SetRecord { org: row.org_id.clone(), points, denials, crit };
        unit.put(Kind::Set, &id, value(&record)).await?;
    }
    Ok(())
}

/// Takes a group away from gateways: its former members' records may go on naming it.
pub(crate) async fn unpublish_group(unit: &mut Unit, row: &GroupRow) -> Result<(), StoreError> {
    for holder in Holder::ALL {
        unit.delete(Kind::Set, &set_id(holder, &row.id)).await?;
    }
    Ok(())
}

/// Resolves everybody in the organization again, after a change of its policy.
pub(crate) async fn publish_everybody(
    unit: &mut Unit,
    org_id: &str,
    policy: &OrgPolicy,
) -> Result<(), StoreError> {
    for group in groups::list_all(unit.conn(), org_id).await? {
        publish_group(unit, &group, policy).await?;
    }
    for (kind, id) in bindings::list_principals(unit.conn(), org_id).await? {
        publish_subject(unit, org_id, &kind, &id, policy).await?;
    }
    Ok(())
}

fn set_id(holder: Holder, group_id: &str) -> String {
    match holder {
        Holder::ServiceAccount => group_id.to_owned(),
        Holder::User => format!("{group_id}:user"),
    }
}

fn part_records(parts: &[Part], paths: &Paths) -> (Vec<PointRecord>, Vec<PointRecord>) {
    match parts.first() {
        Some(part) => (point_records(&part.grants, paths), point_records(&part.denials, paths)),
        None => (Vec::new(), Vec::new()),
    }
}

fn crit_of_denials(listed: bool) -> Vec<String> {
    if listed { vec!["denials".to_owned()] } else { Vec::new() }
}

struct Principal<'a> {
    holder: Holder,
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
    let Principal { holder, id, org_id, name, state } = principal;
    let grounds = Grounds::of(unit.conn(), holder, id).await?;
    let sets: Vec<String> =
        grounds.counting_groups(policy).map(|group| set_id(holder, &group.id)).collect();
    let access = grounds.own(policy);
    let (grants, denials) = part_records(&access.parts, &access.paths);
    // What a set denies must not be lost on a gateway that refuses the set.
    let crit = crit_of_denials(policy.deny_enabled && !(denials.is_empty() && sets.is_empty()));
    let record = AccountRecord {
        org: org_id.to_owned(),
        state,
        name: Some(name.to_owned()),
        grants,
        sets,
        denials,
        crit,
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
            alg: alg(row.previous_alg.as_deref().unwrap_or(KEYED))?,
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
            alg: alg(&row.current_alg)?,
            pepper: pepper_version(row.current_pepper)?,
            digest: row.current_digest.clone(),
        },
        previous,
        not_before_ms: None,
        expires_at_ms: row.expires_ms.map(i64::unsigned_abs),
        restrict,
        sources: None,
        cnf: None,
        uid: row.foreign_uid().map(str::to_owned),
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
    let Restriction { permissions, resource_ids, methods, bounds: _ } = restriction;
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

fn alg(column: &str) -> Result<Alg, StoreError> {
    match column {
        "b3" => Ok(Alg::B3),
        "bcrypt" => Ok(Alg::Bcrypt),
        "sha256" => Ok(Alg::Sha256),
        _ => Err(StoreError::Broken("digest of a key")),
    }
}

fn pepper_version(column: i64) -> Result<u32, StoreError> {
    u32::try_from(column).map_err(|_| StoreError::Broken("pepper of a key"))
}

fn value<T: Serialize>(record: &T) -> Value {
    serde_json::to_value(record).expect("records have string keys and finite numbers")
}
