//! Groups of service accounts and users. Whoever adds a member hands out all that the group has;
//! no service account gets into a forbidden group by any way (I-12, I-19).

use portcullis_core::account::Username;

use super::bindings::check_subject;
use super::stakes::{Stakes, Subject, escalation, keep_an_owner};
use super::{Code, Problem, new_id, records};
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::resolve::{Access, Holder, allows_group};
use crate::store::bindings;
use crate::store::groups::{self, GroupRow, MembershipRow};

/// A group that is wanted.
pub(crate) struct NewGroup {
    pub(crate) name: Username,
    pub(crate) description: Option<String>,
}

/// The members of a group that a patch changes; absent means unchanged.
pub(crate) struct GroupPatch {
    pub(crate) name: Option<Username>,
    pub(crate) description: Option<Option<String>>,
}

pub(crate) async fn create(work: &mut Work, wanted: NewGroup) -> Result<GroupRow, Problem> {
    let row = GroupRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: work.org()?.id.clone(),
        name: wanted.name.as_str().to_owned(),
        name_key: wanted.name.folded().to_owned(),
        kind: GroupRow::CUSTOM.to_owned(),
        description: wanted.description,
        created_by: work.caller.author().to_column(),
        created_ms: column(work.now),
        updated_ms: column(work.now),
        version: 1,
        member_count: 0,
    };
    refuse_taken_name(work, &row).await?;
    groups::insert(work.unit.conn(), &row).await?;
    publish(work, &row).await?;
    Ok(row)
}

/// Changes a group's labels; its kind never changes.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut GroupRow,
    change: GroupPatch,
) -> Result<(), Problem> {
    if let Some(name) = change.name {
        row.name = name.as_str().to_owned();
        row.name_key = name.folded().to_owned();
    }
    row.description = change.description.unwrap_or_else(|| row.description.clone());
    refuse_taken_name(work, row).await?;
    groups::update(work.unit.conn(), row, work.now).await?;
    Ok(())
}

/// Removes a group with its memberships and bindings.
pub(crate) async fn delete(work: &mut Work, row: &GroupRow) -> Result<(), Problem> {
    if row.kind != GroupRow::CUSTOM {
        let detail = format!("The {} group of an organization stays.", row.kind);
        return Err(Problem::new(Code::ImmutableObject, detail));
    }
    let stakes = Stakes::before(work, &[Subject::group(&row.id)]).await?;
    bindings::erase_of_subject(work.unit.conn(), &row.id).await?;
    groups::erase(work.unit.conn(), &row.id).await?;
    stakes.check(work, None).await?;
    keep_an_owner(work).await?;
    // Members' records go on naming the set: it is gone, and its id never comes back.
    records::unpublish_group(&mut work.unit, row).await?;
    Ok(())
}

pub(crate) async fn find(work: &mut Work, id: &str) -> Result<GroupRow, Problem> {
    let org_id = work.org()?.id.clone();
    groups::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

/// Puts a principal into groups, and takes it out of others, in one step. `field` names the list
/// of ids in the body, if they come from one.
pub(crate) struct Moves<'a> {
    pub(crate) principal: &'a Subject,
    pub(crate) join: &'a [String],
    pub(crate) leave: &'a [String],
    pub(crate) field: &'a str,
}

/// Does it. Gives how many memberships changed.
pub(crate) async fn regroup(work: &mut Work, moves: Moves<'_>) -> Result<usize, Problem> {
    let Moves { principal, join, leave, field } = moves;
    let mut changed = 0;
    for (index, id) in join.iter().enumerate() {
        let org_id = work.org()?.id.clone();
        let group = groups::find(work.unit.conn(), &org_id, id).await?;
        let group = group.ok_or_else(|| unknown_reference(&format!("{field}[{index}]")))?;
        changed += usize::from(join_group(work, &group, principal).await?);
    }
    for id in leave {
        let group = find(work, id).await?;
        leave_group(work, &group, principal).await?;
        changed += 1;
    }
    if changed > 0 {
        let org = work.org()?.clone();
        let Subject { kind, id } = principal;
        records::publish_subject(&mut work.unit, &org.id, kind, id, &org.policy).await?;
    }
    Ok(changed)
}

/// Adds a principal that exists to a group. False if it was in it.
async fn join_group(
    work: &mut Work,
    group: &GroupRow,
    principal: &Subject,
) -> Result<bool, Problem> {
    let policy = work.org()?.policy.clone();
    let holder = Holder::of_kind(&principal.kind);
    if holder == Holder::ServiceAccount && !allows_group(&policy, group) {
        let detail = format!("No service account may be in the group {}.", group.name);
        return Err(Problem::new(Code::PolicyForbids, detail));
    }
    if groups::find_member(work.unit.conn(), &group.id, &principal.id).await?.is_some() {
        return Ok(false);
    }
    let gained = Access::of_subject(work.unit.conn(), holder, &group.id, &policy).await?;
    if !work.member()?.access.covers_gain(&Access::nothing(), &gained, &[]) {
        return Err(escalation());
    }
    let row = MembershipRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: group.org_id.clone(),
        group_id: group.id.clone(),
        principal_kind: principal.kind.clone(),
        principal_id: principal.id.clone(),
        created_by: work.caller.author().to_column(),
        created_ms: column(work.now),
    };
    groups::insert_member(work.unit.conn(), &row).await?;
    if holder == Holder::User {
        publish(work, group).await?;
    }
    Ok(true)
}

/// Takes a principal out of a group; what the group denied to it must be the caller's.
async fn leave_group(
    work: &mut Work,
    group: &GroupRow,
    principal: &Subject,
) -> Result<(), Problem> {
    let policy = work.org()?.policy.clone();
    let holder = Holder::of_kind(&principal.kind);
    let row = groups::find_member(work.unit.conn(), &group.id, &principal.id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let lost = Access::of_subject(work.unit.conn(), holder, &group.id, &policy).await?;
    if !work.member()?.access.covers_gain(&lost, &Access::nothing(), &[]) {
        return Err(escalation());
    }
    groups::erase_member(work.unit.conn(), &row).await?;
    keep_an_owner(work).await?;
    if holder == Holder::User {
        publish(work, group).await?;
    }
    Ok(())
}

/// Adds a principal, which the body names, to the group.
pub(crate) async fn add_member(
    work: &mut Work,
    group: &GroupRow,
    principal: &Subject,
) -> Result<bool, Problem> {
    check_subject(work, principal, "principal.id").await?;
    let join = [group.id.clone()];
    let moves = Moves { principal, join: &join, leave: &[], field: "" };
    Ok(regroup(work, moves).await? > 0)
}

/// What the memberships of a principal should be: the difference to what they are.
pub(crate) async fn set_groups(
    work: &mut Work,
    principal: &Subject,
    wanted: &[String],
) -> Result<usize, Problem> {
    let current = groups::list_of_principal(work.unit.conn(), &principal.id).await?;
    let leave: Vec<String> =
        current.into_iter().map(|group| group.id).filter(|id| !wanted.contains(id)).collect();
    regroup(work, Moves { principal, join: wanted, leave: &leave, field: "group_ids" }).await
}

async fn publish(work: &mut Work, row: &GroupRow) -> Result<(), Problem> {
    let policy = work.org()?.policy.clone();
    records::publish_group(&mut work.unit, row, &policy).await?;
    Ok(())
}

async fn refuse_taken_name(work: &mut Work, row: &GroupRow) -> Result<(), Problem> {
    let found = groups::find_by_name(work.unit.conn(), &row.org_id, &row.name_key).await?;
    match found {
        Some(other) if other.id != row.id => {
            Err(Problem::new(Code::NameTaken, "Another group has this name."))
        }
        Some(_) | None => Ok(()),
    }
}
