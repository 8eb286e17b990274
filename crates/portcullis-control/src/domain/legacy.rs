//! Accounts that belonged to one workspace before the organization had accounts of its own: they
//! can be brought in and not be made, and a new account of exactly the same name takes over what
//! they have, workspace by workspace, at its first login there. Their keys stay as they are until
//! somebody deletes them.

use portcullis_core::account::{AccountState, DisplayName, Username};
use serde_json::{Value, json};

use super::bindings::{Change, NewBinding};
use super::stakes::Subject;
use super::{Author, Code, Problem, keys, new_id, records};
use crate::api::App;
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::caller::Member;
use crate::instant::column;
use crate::store::accounts::{self, AccountRow};
use crate::store::audit::{Actor, Event, Origin, Outcome, Target};
use crate::store::bindings::{self, BindingRow};
use crate::store::takeovers::{self, TakeoverRow};
use crate::store::{StoreError, Unit, organizations, resources};

/// The kind of resource whose accounts these are.
pub(crate) const WORKSPACE: &str = "workspace";

/// A workspace's own account that is brought in.
pub(crate) struct LegacyAccount {
    pub(crate) workspace_id: String,
    pub(crate) username: Username,
    pub(crate) display_name: Option<DisplayName>,
    pub(crate) description: Option<String>,
    pub(crate) legacy_id: Option<String>,
    pub(crate) active: bool,
    /// What it may do in its workspace.
    pub(crate) role_id: Option<String>,
}

/// Brings a workspace's own account in.
pub(crate) async fn import(
    work: &mut Work,
    wanted: LegacyAccount,
) -> Result<(AccountRow, Vec<Value>), Problem> {
    let org = work.org()?.clone();
    let workspace = resources::find(work.unit.conn(), &org.id, &wanted.workspace_id).await?;
    let workspace = workspace.ok_or_else(|| unknown_reference("workspace_id"))?;
    if workspace.kind != WORKSPACE {
        let detail = "only a resource of the kind workspace has accounts of its own";
        return Err(Problem::field("workspace_id", FieldCode::Policy, detail));
    }
    // Of its own within its workspace: U+0001 is in no username, so no other account is met.
    let username_key = format!("\u{1}{}/{}", workspace.id, wanted.username.as_str());
    if accounts::find_by_username(work.unit.conn(), &org.id, &username_key, false).await?.is_some()
    {
        let detail = "The workspace has an account of this name already.";
        return Err(Problem::new(Code::UsernameTaken, detail));
    }
    let reference = json!({
        "system": "zenml", "workspace_id": workspace.id, "legacy_id": wanted.legacy_id,
    });
    let username = wanted.username.as_str();
    let state = if wanted.active { AccountState::Active } else { AccountState::Inactive };
    let row = AccountRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: org.id.clone(),
        username: username.to_owned(),
        username_key,
        display_name: wanted.display_name.as_ref().map_or(username, DisplayName::as_str).to_owned(),
        description: wanted.description,
        owning_team: None,
        avatar_url: None,
        state: state.to_string(),
        author: work.caller.author().to_column(),
        managed_by: "migration".to_owned(),
        external_refs: json!([reference]).to_string(),
        legacy_workspace_id: Some(workspace.id.clone()),
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
    if let Some(role_id) = wanted.role_id {
        let binding =
            NewBinding { role_id, resource_id: workspace.id, propagate: true, policy_id: None };
        change.add(work, &subject, &binding, "").await?;
    }
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(work).await?;
    Ok((row, warnings))
}

/// Notes that a new account takes over the workspaces' own accounts of exactly its name. Whoever
/// makes it must be able to do all that they can, for that is what it will be able to do.
pub(super) async fn promise(work: &mut Work, account: &AccountRow) -> Result<(), Problem> {
    let found = takeovers::list_free(work.unit.conn(), &account.org_id, &account.username).await?;
    for legacy in found {
        keys::refuse_escalation(work, "service_account", &legacy.id).await?;
        let Some(workspace_id) = legacy.legacy_workspace_id else { continue };
        let row = TakeoverRow {
            legacy_id: legacy.id,
            account_id: account.id.clone(),
            workspace_id,
            due_ms: column(work.now),
            done_ms: None,
        };
        takeovers::insert(work.unit.conn(), &row).await?;
    }
    Ok(())
}

/// Somebody logs in to a workspace: what was promised there becomes theirs. Nothing of the old
/// account changes, so its keys work, or do not, as before.
pub(crate) async fn take_over(
    app: &App,
    member: &Member,
    workspace_id: &str,
    origin: &Origin,
) -> Result<(), Problem> {
    if member.kind != "service_account" {
        return Ok(());
    }
    let mut view = app.store.view().await?;
    if takeovers::list_due(view.conn(), &member.id, workspace_id).await?.is_empty() {
        return Ok(());
    }
    drop(view);
    let now = app.now();
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), now).await?;
    let due = takeovers::list_due(unit.conn(), &member.id, workspace_id).await?;
    // Read anew like the account: the policy may have changed while this waited for its turn.
    let org = organizations::find(unit.conn(), &member.org.id).await?;
    let org = org.ok_or(StoreError::Broken("organization of a caller"))?;
    let account = accounts::find(unit.conn(), &member.org.id, &member.id).await?;
    let mut account = account.ok_or(StoreError::Broken("account of a caller"))?;
    if due.is_empty() || account.state()? != AccountState::Active || !org.serves(member.kind) {
        return Ok(());
    }
    let mut taken = Vec::new();
    for takeover in due {
        let legacy = accounts::find(unit.conn(), &member.org.id, &takeover.legacy_id).await?;
        let legacy = legacy.ok_or(StoreError::Broken("account of a takeover"))?;
        copy_bindings(app, &mut unit, &legacy, &account).await?;
        add_references(&mut account, &legacy);
        takeovers::finish(unit.conn(), &legacy.id, now).await?;
        taken.push(legacy.id);
    }
    accounts::update(unit.conn(), &mut account, now).await?;
    records::publish_account(&mut unit, &account, &org.policy).await?;
    let event = Event {
        org_id: member.org.id.clone(),
        actor: Actor {
            kind: "service_account",
            id: member.id.clone(),
            name: member.name.clone(),
            key_id: Some(member.key_id.clone()),
            state: account.state.clone(),
        },
        action: "service_account.take_over".to_owned(),
        target: Target {
            kind: "service_account",
            id: account.id.clone(),
            name: account.username.clone(),
        },
        resource_id: Some(workspace_id.to_owned()),
        outcome: Outcome::Ok,
        origin: origin.clone(),
        before: None,
        after: Some(json!({"taken_over": taken})),
    };
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(())
}

/// Gives the account every binding of its own that the old one has.
async fn copy_bindings(
    app: &App,
    unit: &mut Unit,
    legacy: &AccountRow,
    account: &AccountRow,
) -> Result<(), Problem> {
    let mine = bindings::list_of_subject(unit.conn(), &account.id).await?;
    for theirs in bindings::list_of_subject(unit.conn(), &legacy.id).await? {
        let same = |row: &BindingRow| {
            row.role_id == theirs.role_id
                && row.resource_id == theirs.resource_id
                && row.policy_id == theirs.policy_id
        };
        if mine.iter().any(same) {
            continue;
        }
        let now = unit.now();
        let row = BindingRow {
            id: new_id(now, app.entropy.as_ref())?,
            subject_id: account.id.clone(),
            managed_by: "migration".to_owned(),
            created_by: Author::system().to_column(),
            created_ms: column(now),
            updated_ms: column(now),
            version: 1,
            ..theirs
        };
        bindings::insert(unit.conn(), &row).await?;
    }
    Ok(())
}

fn add_references(account: &mut AccountRow, legacy: &AccountRow) {
    let read = |row: &AccountRow| -> Vec<Value> {
        serde_json::from_str(&row.external_refs).unwrap_or_default()
    };
    let mut all = read(account);
    for reference in read(legacy) {
        if !all.contains(&reference) {
            all.push(reference);
        }
    }
    account.external_refs = Value::Array(all).to_string();
}
