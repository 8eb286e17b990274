//! Service accounts: creation, editing, states. Whatever ends an account ends its keys in the same
//! transaction (I-6).

use portcullis_core::account::{AccountState, DisplayName, KeyState, Transition, Username};
use portcullis_core::feed::Kind;
use portcullis_core::key::PlainKey;
use serde_json::Value;

use super::bindings::{Change, NewBinding};
use super::groups::set_groups;
use super::keys::{self, KeyOwner};
use super::legacy;
use super::secrets::NewKey;
use super::stakes::Subject;
use super::{Code, Problem, new_id, records};
use crate::api::problem::FieldCode;
use crate::api::work::Work;
use crate::instant::column;
use crate::policy::{AccountOp, KeysOfInactive, OrgPolicy, UsernameFrom};
use crate::store::accounts::{self, AccountRow};
use crate::store::bindings::{self, BindingRow};
use crate::store::groups;
use crate::store::keys as key_rows;
use crate::store::keys::KeyRow;

/// An account that is wanted.
pub(crate) struct NewAccount {
    pub(crate) username: Option<Username>,
    pub(crate) display_name: Option<DisplayName>,
    pub(crate) description: Option<String>,
    pub(crate) owning_team: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) external_refs: Vec<Value>,
    pub(crate) managed_by: &'static str,
    /// With the name of their fields in the body.
    pub(crate) bindings: Vec<(String, NewBinding)>,
    pub(crate) group_ids: Vec<String>,
    pub(crate) key: Option<NewKey>,
}

/// What creating an account made.
pub(crate) struct CreatedAccount {
    pub(crate) row: AccountRow,
    pub(crate) bindings: Vec<BindingRow>,
    pub(crate) key: Option<(KeyRow, PlainKey)>,
    pub(crate) warnings: Vec<Value>,
}

/// Creates an account with its bindings, groups and first key: all or nothing.
pub(crate) async fn create(work: &mut Work, wanted: NewAccount) -> Result<CreatedAccount, Problem> {
    let org = work.org()?.clone();
    let NewAccount { username, display_name, description, owning_team, .. } = &wanted;
    let username = settle_username(&org.policy, username.as_ref(), display_name.as_ref())?;
    refuse_taken_username(work, &username, None).await?;
    let shown = display_name.as_ref().map_or(username.as_str(), DisplayName::as_str).to_owned();
    let row = AccountRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: org.id.clone(),
        username: username.as_str().to_owned(),
        username_key: username.folded().to_owned(),
        display_name: shown,
        description: description.clone(),
        owning_team: owning_team.clone(),
        avatar_url: wanted.avatar_url,
        state: AccountState::Active.to_string(),
        author: work.caller.author().to_column(),
        managed_by: wanted.managed_by.to_owned(),
        external_refs: Value::Array(wanted.external_refs).to_string(),
        legacy_workspace_id: None,
        last_used_ms: None,
        last_used_ip: None,
        use_count: 0,
        denied_count: 0,
        last_login_ms: None,
        deactivated_ms: None,
        deactivated_by: None,
        revoked_ms: None,
        revoked_by: None,
        deleted_ms: None,
        deleted_by: None,
        created_ms: column(work.now),
        updated_ms: column(work.now),
        version: 1,
    };
    accounts::insert(work.unit.conn(), &row).await?;
    let subject = Subject::account(&row.id);
    let mut change = Change::begin(work, subject.clone()).await?;
    let mut bound = Vec::with_capacity(wanted.bindings.len());
    for (field, binding) in &wanted.bindings {
        bound.push(change.add(work, &subject, binding, field).await?);
    }
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(work).await?;
    legacy::promise(work, &row).await?;
    if !wanted.group_ids.is_empty() {
        set_groups(work, &subject, &wanted.group_ids).await?;
    }
    let key = match wanted.key {
        Some(key) => {
            let owner = KeyOwner::account(&row)?;
            Some(keys::create(work, &owner, key, "create_key.").await?)
        }
        None => None,
    };
    Ok(CreatedAccount { row, bindings: bound, key, warnings })
}

/// The members of an account that a patch changes; absent means unchanged.
pub(crate) struct AccountPatch {
    pub(crate) username: Option<Username>,
    pub(crate) display_name: Option<DisplayName>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) owning_team: Option<Option<String>>,
    pub(crate) avatar_url: Option<Option<String>>,
    pub(crate) external_refs: Option<Vec<Value>>,
    pub(crate) group_ids: Option<Vec<String>>,
}

/// Changes an account's labels and which groups it is in.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut AccountRow,
    change: AccountPatch,
) -> Result<(), Problem> {
    row.state()?.editable()?;
    let AccountPatch {
        username,
        display_name,
        description,
        owning_team,
        avatar_url,
        external_refs,
        group_ids,
    } = change;
    if let Some(username) = username {
        refuse_taken_username(work, &username, Some(&row.id)).await?;
        row.username = username.as_str().to_owned();
        row.username_key = username.folded().to_owned();
    }
    if let Some(display_name) = display_name {
        row.display_name = display_name.as_str().to_owned();
    }
    if let Some(description) = description {
        row.description = description;
    }
    if let Some(owning_team) = owning_team {
        row.owning_team = owning_team;
    }
    if let Some(avatar_url) = avatar_url {
        row.avatar_url = avatar_url;
    }
    if let Some(external_refs) = external_refs {
        row.external_refs = Value::Array(external_refs).to_string();
    }
    accounts::update(work.unit.conn(), row, work.now).await?;
    if let Some(group_ids) = group_ids {
        set_groups(work, &Subject::account(&row.id), &group_ids).await?;
    }
    let policy = work.org()?.policy.clone();
    records::publish_account(&mut work.unit, row, &policy).await?;
    Ok(())
}

/// A change of an account's state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountSwitch {
    Activate,
    Deactivate,
    Delete,
    Revoke,
}

/// Switches an account. False if it was so already.
pub(crate) async fn switch(
    work: &mut Work,
    row: &mut AccountRow,
    to: AccountSwitch,
) -> Result<bool, Problem> {
    match to {
        AccountSwitch::Activate => activate(work, row).await,
        AccountSwitch::Deactivate => Ok(deactivate(work, row).await?.is_some()),
        AccountSwitch::Delete => delete(work, row).await.map(|()| true),
        AccountSwitch::Revoke => revoke(work, row).await,
    }
}

/// Switches an account on. False if it was on already.
pub(crate) async fn activate(work: &mut Work, row: &mut AccountRow) -> Result<bool, Problem> {
    offered(&work.org()?.policy, AccountOp::Deactivate)?;
    let Transition::Changed(state) = row.state()?.activate()? else { return Ok(false) };
    row.state = state.to_string();
    row.deactivated_ms = None;
    row.deactivated_by = None;
    save(work, row).await?;
    Ok(true)
}

/// Switches an account off; by policy its keys are deleted with it. Gives the number of deleted
/// keys, or `None` if the account was off already.
pub(crate) async fn deactivate(
    work: &mut Work,
    row: &mut AccountRow,
) -> Result<Option<usize>, Problem> {
    let policy = work.org()?.policy.clone();
    offered(&policy, AccountOp::Deactivate)?;
    let Transition::Changed(state) = row.state()?.deactivate()? else { return Ok(None) };
    row.state = state.to_string();
    row.deactivated_ms = Some(column(work.now));
    row.deactivated_by = Some(work.caller.author().to_column());
    save(work, row).await?;
    let deleted = match policy.sa_deactivate_keys {
        KeysOfInactive::Delete => end_keys(work, &row.id, KeyState::Deleted).await?,
        KeysOfInactive::Preserve => 0,
    };
    Ok(Some(deleted))
}

/// Ends an account for good; it stays listed. False if it was revoked already.
pub(crate) async fn revoke(work: &mut Work, row: &mut AccountRow) -> Result<bool, Problem> {
    offered(&work.org()?.policy, AccountOp::Revoke)?;
    let Transition::Changed(state) = row.state()?.revoke()? else { return Ok(false) };
    row.state = state.to_string();
    row.revoked_ms = Some(column(work.now));
    row.revoked_by = Some(work.caller.author().to_column());
    accounts::update(work.unit.conn(), row, work.now).await?;
    work.unit.revoke(Kind::Account, &row.id, None).await?;
    end_keys(work, &row.id, KeyState::Revoked).await?;
    Ok(true)
}

/// Removes an account: what remains is a tombstone with its names.
pub(crate) async fn delete(work: &mut Work, row: &mut AccountRow) -> Result<(), Problem> {
    let state = row.state()?.delete()?;
    offered(&work.org()?.policy, AccountOp::Delete)?;
    row.state = state.to_string();
    row.deleted_ms = Some(column(work.now));
    row.deleted_by = Some(work.caller.author().to_column());
    row.description = None;
    row.owning_team = None;
    row.avatar_url = None;
    row.external_refs = "[]".to_owned();
    accounts::update(work.unit.conn(), row, work.now).await?;
    work.unit.revoke(Kind::Account, &row.id, None).await?;
    end_keys(work, &row.id, KeyState::Deleted).await?;
    bindings::erase_of_subject(work.unit.conn(), &row.id).await?;
    groups::erase_of_principal(work.unit.conn(), &row.id).await?;
    Ok(())
}

/// The account, if it is not deleted.
pub(crate) async fn find_living(work: &mut Work, id: &str) -> Result<AccountRow, Problem> {
    let org_id = work.org()?.id.clone();
    let row = accounts::find(work.unit.conn(), &org_id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    match row.state()? {
        AccountState::Deleted => Err(Problem::not_found()),
        AccountState::Active | AccountState::Inactive | AccountState::Revoked => Ok(row),
    }
}

async fn save(work: &mut Work, row: &mut AccountRow) -> Result<(), Problem> {
    accounts::update(work.unit.conn(), row, work.now).await?;
    let policy = work.org()?.policy.clone();
    records::publish_account(&mut work.unit, row, &policy).await?;
    Ok(())
}

/// Ends all keys of an account. Revoked ones stay revoked unless all are deleted.
async fn end_keys(work: &mut Work, id: &str, state: KeyState) -> Result<usize, Problem> {
    let rows = match state {
        KeyState::Deleted => key_rows::list_undeleted(work.unit.conn(), id).await?,
        KeyState::Active | KeyState::Inactive | KeyState::Revoked => {
            key_rows::list_living(work.unit.conn(), id).await?
        }
    };
    let count = rows.len();
    for mut row in rows {
        keys::set_state(work, &mut row, state).await?;
    }
    Ok(count)
}

fn offered(policy: &OrgPolicy, op: AccountOp) -> Result<(), Problem> {
    if policy.sa_ops.contains(&op) {
        return Ok(());
    }
    let detail = "The organization's policy does not offer this operation on service accounts.";
    Err(Problem::new(Code::OperationNotOffered, detail))
}

/// The username asked for, or one made of the display name.
fn settle_username(
    policy: &OrgPolicy,
    username: Option<&Username>,
    display_name: Option<&DisplayName>,
) -> Result<Username, Problem> {
    if let Some(username) = username {
        return Ok(username.clone());
    }
    let Some(display_name) = display_name else {
        let detail = "a username or a display_name must be given";
        return Err(Problem::field("username", FieldCode::Required, detail));
    };
    let made = match policy.username_from_name {
        UsernameFrom::Slug => Username::slug(display_name),
        UsernameFrom::Verbatim => Username::parse(display_name.as_str()),
    };
    made.map_err(|fault| {
        let detail = format!("no username can be made of it: {fault}; give a username");
        Problem::field("display_name", FieldCode::BadFormat, detail)
    })
}

async fn refuse_taken_username(
    work: &mut Work,
    username: &Username,
    except: Option<&str>,
) -> Result<(), Problem> {
    let org = work.org()?;
    let (org_id, deleted) = (org.id.clone(), !org.policy.username_reuse_after_delete);
    let folded = username.folded();
    let found = accounts::find_by_username(work.unit.conn(), &org_id, folded, deleted).await?;
    match found {
        Some(other) if Some(other.id.as_str()) != except => {
            Err(Problem::new(Code::UsernameTaken, "Another service account has this username."))
        }
        Some(_) | None => Ok(()),
    }
}
