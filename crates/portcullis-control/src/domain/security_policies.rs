//! Security policies: named bundles of bindings that are switched on and off together. Switching
//! one on is granting all of it; while one is off its bindings count as absent.

use portcullis_core::account::Username;
use serde_json::Value;

use super::bindings::{Change, NewBinding, check_subject};
use super::stakes::Subject;
use super::{Code, Problem, new_id};
use crate::api::work::Work;
use crate::instant::column;
use crate::store::bindings::{self, BindingRow};
use crate::store::security_policies::{self, SecurityPolicyRow};

/// A binding of a policy: the subject's field is named in faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyBinding {
    pub(crate) subject: Subject,
    pub(crate) role_id: String,
    pub(crate) resource_id: String,
    pub(crate) propagate: bool,
}

/// A policy that is wanted.
pub(crate) struct NewPolicy {
    pub(crate) name: Username,
    pub(crate) enabled: bool,
    pub(crate) bindings: Vec<PolicyBinding>,
}

/// The members of a policy that a patch changes; absent means unchanged.
pub(crate) struct PolicyPatch {
    pub(crate) name: Option<Username>,
    pub(crate) enabled: Option<bool>,
    pub(crate) bindings: Option<Vec<PolicyBinding>>,
}

/// Creates a policy with its bindings: all or nothing. Gives warnings, too.
pub(crate) async fn create(
    work: &mut Work,
    wanted: NewPolicy,
) -> Result<(SecurityPolicyRow, Vec<Value>), Problem> {
    let author = work.caller.author().to_column();
    let row = SecurityPolicyRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: work.org()?.id.clone(),
        name: wanted.name.as_str().to_owned(),
        name_key: wanted.name.folded().to_owned(),
        kind: SecurityPolicyRow::CUSTOM.to_owned(),
        enabled: wanted.enabled,
        created_by: author.clone(),
        created_ms: column(work.now),
        updated_by: author,
        updated_ms: column(work.now),
        version: 1,
    };
    refuse_taken_name(work, &row).await?;
    let mut change = begin(work, &[], &wanted.bindings).await?;
    security_policies::insert(work.unit.conn(), &row).await?;
    add(work, &mut change, &row.id, &wanted.bindings).await?;
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(work).await?;
    Ok((row, warnings))
}

/// Changes a policy; a list of bindings replaces all that there are. Gives warnings, too.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut SecurityPolicyRow,
    patch: PolicyPatch,
) -> Result<Vec<Value>, Problem> {
    refuse_default(row)?;
    if let Some(name) = patch.name {
        row.name = name.as_str().to_owned();
        row.name_key = name.folded().to_owned();
    }
    refuse_taken_name(work, row).await?;
    row.enabled = patch.enabled.unwrap_or(row.enabled);
    let current = bindings::list_of_policy(work.unit.conn(), &row.id).await?;
    let wanted = patch.bindings.unwrap_or_else(|| current.iter().map(PolicyBinding::of).collect());
    let mut change = begin(work, &current, &wanted).await?;
    save(work, row).await?;
    let kept = |one: &BindingRow| wanted.contains(&PolicyBinding::of(one));
    for gone in current.iter().filter(|one| !kept(one)) {
        change.remove(work, gone).await?;
    }
    let had: Vec<PolicyBinding> = current.iter().map(PolicyBinding::of).collect();
    let new: Vec<PolicyBinding> = wanted.iter().filter(|one| !had.contains(one)).cloned().collect();
    add(work, &mut change, &row.id, &new).await?;
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(work).await?;
    Ok(warnings)
}

/// Switches a policy, a default one included. False if it was so.
pub(crate) async fn set_enabled(
    work: &mut Work,
    row: &mut SecurityPolicyRow,
    enabled: bool,
) -> Result<bool, Problem> {
    if row.enabled == enabled {
        return Ok(false);
    }
    let current = bindings::list_of_policy(work.unit.conn(), &row.id).await?;
    let change = begin(work, &current, &[]).await?;
    row.enabled = enabled;
    save(work, row).await?;
    change.finish(work).await?;
    Ok(true)
}

/// Removes a policy with its bindings.
pub(crate) async fn delete(work: &mut Work, row: &SecurityPolicyRow) -> Result<(), Problem> {
    refuse_default(row)?;
    let current = bindings::list_of_policy(work.unit.conn(), &row.id).await?;
    let mut change = begin(work, &current, &[]).await?;
    for binding in &current {
        change.remove(work, binding).await?;
    }
    security_policies::erase(work.unit.conn(), &row.id).await?;
    change.finish(work).await
}

pub(crate) async fn find(work: &mut Work, id: &str) -> Result<SecurityPolicyRow, Problem> {
    let org_id = work.org()?.id.clone();
    security_policies::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

impl PolicyBinding {
    fn of(row: &BindingRow) -> PolicyBinding {
        PolicyBinding {
            subject: Subject::of(row),
            role_id: row.role_id.clone(),
            resource_id: row.resource_id.clone(),
            propagate: row.propagate,
        }
    }
}

/// Begins a change of everybody whom old or new bindings name.
async fn begin(
    work: &mut Work,
    old: &[BindingRow],
    new: &[PolicyBinding],
) -> Result<Change, Problem> {
    for (index, one) in new.iter().enumerate() {
        if !old.iter().any(|row| Subject::of(row) == one.subject) {
            check_subject(work, &one.subject, &format!("bindings[{index}].subject.id")).await?;
        }
    }
    let subjects = old.iter().map(Subject::of);
    Change::begin_all(work, subjects.chain(new.iter().map(|one| one.subject.clone())).collect())
        .await
}

async fn add(
    work: &mut Work,
    change: &mut Change,
    policy_id: &str,
    new: &[PolicyBinding],
) -> Result<(), Problem> {
    for (index, one) in new.iter().enumerate() {
        let wanted = NewBinding {
            role_id: one.role_id.clone(),
            resource_id: one.resource_id.clone(),
            propagate: one.propagate,
            policy_id: Some(policy_id.to_owned()),
        };
        change.add(work, &one.subject, &wanted, &format!("bindings[{index}].")).await?;
    }
    Ok(())
}

async fn save(work: &mut Work, row: &mut SecurityPolicyRow) -> Result<(), Problem> {
    row.updated_by = work.caller.author().to_column();
    security_policies::update(work.unit.conn(), row, work.now).await?;
    Ok(())
}

fn refuse_default(row: &SecurityPolicyRow) -> Result<(), Problem> {
    if row.kind != SecurityPolicyRow::DEFAULT {
        return Ok(());
    }
    let detail = "A default policy can be switched on and off, and nothing else.";
    Err(Problem::new(Code::ImmutableObject, detail))
}

async fn refuse_taken_name(work: &mut Work, row: &SecurityPolicyRow) -> Result<(), Problem> {
    let found =
        security_policies::find_by_name(work.unit.conn(), &row.org_id, &row.name_key).await?;
    match found {
        Some(other) if other.id != row.id => {
            Err(Problem::new(Code::NameTaken, "Another security policy has this name."))
        }
        Some(_) | None => Ok(()),
    }
}
