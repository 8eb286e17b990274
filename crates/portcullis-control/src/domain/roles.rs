//! Custom roles: named sets of permissions that an organization makes itself. A role holds no more
//! than whoever writes it, everywhere it is bound (I-19); a change of it is one record for gateways.

use portcullis_core::access::{BUILTIN_ROLES, BuiltinRole, Pattern, Rights};
use portcullis_core::account::Username;
use portcullis_core::feed::Kind;

use super::stakes::escalation;
use super::{Code, Problem, new_id, records};
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::resolve::Role;
use crate::store::bindings;
use crate::store::roles::{self, RoleRow};

/// A role that is wanted. What is absent comes from the base, or is the default.
pub(crate) struct NewRole {
    pub(crate) name: Username,
    pub(crate) description: Option<String>,
    pub(crate) base_role_id: Option<String>,
    pub(crate) permissions: Option<Vec<String>>,
    pub(crate) deny: Option<Vec<String>>,
    pub(crate) level: Option<u64>,
    pub(crate) sticky: Option<bool>,
    pub(crate) sa_assignable: Option<bool>,
    pub(crate) binding_kinds: Option<Vec<&'static str>>,
}

/// The members of a role that a patch changes; absent means unchanged.
pub(crate) struct RolePatch {
    pub(crate) name: Option<Username>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) permissions: Option<Vec<String>>,
    pub(crate) deny: Option<Vec<String>>,
    pub(crate) level: Option<u64>,
    pub(crate) sticky: Option<bool>,
    pub(crate) sa_assignable: Option<bool>,
    pub(crate) binding_kinds: Option<Vec<&'static str>>,
}

/// Kinds of resource that a role can be bound on if nothing else is said.
pub(crate) const KINDS: &[&str] = &["cluster", "custom", "organization", "project", "workspace"];

/// Creates a role. From a base it takes what is not given: a copy, which later changes of the base
/// do not touch.
pub(crate) async fn create(work: &mut Work, wanted: NewRole) -> Result<RoleRow, Problem> {
    let org_id = work.org()?.id.clone();
    let base = match &wanted.base_role_id {
        Some(id) => {
            let found = Role::find(work.unit.conn(), &org_id, id).await?;
            Some(found.ok_or_else(|| unknown_reference("base_role_id"))?)
        }
        None => None,
    };
    let of_base = |read: fn(&Role) -> Vec<String>| base.as_ref().map(read);
    let permissions = wanted.permissions.or(of_base(|base| to_texts(&base.permissions)));
    let Some(permissions) = permissions else {
        let detail = "give permissions, or a base_role_id whose permissions are copied";
        return Err(Problem::field("permissions", FieldCode::Required, detail));
    };
    let deny = wanted.deny.or(of_base(|base| to_texts(&base.deny))).unwrap_or_default();
    check_deny(work, &deny)?;
    let kinds = wanted.binding_kinds.map(owned).or(of_base(|base| base.binding_kinds.clone()));
    let kinds = kinds.unwrap_or_else(|| owned(KINDS.to_vec()));
    let level = wanted.level.map(level_of).or(base.as_ref().map(|base| base.level));
    let row = RoleRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id,
        name: wanted.name.as_str().to_owned(),
        name_key: wanted.name.folded().to_owned(),
        description: wanted.description,
        base_role_id: wanted.base_role_id,
        permissions: column_of(permissions),
        deny: column_of(deny),
        level: level.unwrap_or(0),
        sticky: wanted.sticky.or(base.as_ref().map(|base| base.sticky)).unwrap_or(false),
        sa_assignable: wanted.sa_assignable.unwrap_or(true),
        binding_kinds: column_of(kinds),
        created_by: work.caller.author().to_column(),
        created_ms: column(work.now),
        updated_ms: column(work.now),
        version: 1,
    };
    refuse_taken_name(work, &row).await?;
    let gained = rights(work, &row)?;
    check_gain(work, &row.id, &Rights::default(), &gained).await?;
    roles::insert(work.unit.conn(), &row).await?;
    records::publish_role(&mut work.unit, &row).await?;
    Ok(row)
}

/// Changes a role, for all who have it. What would change the resolution of every one of them, and
/// not the role alone, waits until nobody has it.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut RoleRow,
    change: RolePatch,
) -> Result<(), Problem> {
    let before = row.clone();
    if let Some(name) = change.name {
        row.name = name.as_str().to_owned();
        row.name_key = name.folded().to_owned();
    }
    row.description = change.description.unwrap_or_else(|| row.description.clone());
    if let Some(permissions) = change.permissions {
        row.permissions = column_of(permissions);
    }
    if let Some(deny) = change.deny {
        check_deny(work, &deny)?;
        row.deny = column_of(deny);
    }
    row.level = change.level.map_or(row.level, level_of);
    row.sticky = change.sticky.unwrap_or(row.sticky);
    row.sa_assignable = change.sa_assignable.unwrap_or(row.sa_assignable);
    if let Some(kinds) = change.binding_kinds {
        row.binding_kinds = column_of(owned(kinds));
    }
    refuse_taken_name(work, row).await?;
    let resolves_otherwise =
        row.sticky != before.sticky || row.sa_assignable != before.sa_assignable;
    if resolves_otherwise
        && !bindings::list_places_of_role(work.unit.conn(), &row.id).await?.is_empty()
    {
        let detail = "sticky and sa_assignable can change only while nobody has the role.";
        return Err(Problem::new(Code::RoleInUse, detail));
    }
    let (had, has) = (rights(work, &before)?, rights(work, row)?);
    check_gain(work, &row.id, &had, &has).await?;
    roles::update(work.unit.conn(), row, work.now).await?;
    records::publish_role(&mut work.unit, row).await?;
    Ok(())
}

/// Removes a role that nobody has.
pub(crate) async fn delete(work: &mut Work, row: &RoleRow) -> Result<(), Problem> {
    if roles::is_in_use(work.unit.conn(), &row.id).await? {
        let detail = "Bindings name the role, or another role was made from it.";
        return Err(Problem::new(Code::RoleInUse, detail));
    }
    roles::erase(work.unit.conn(), &row.id).await?;
    work.unit.delete(Kind::Role, &row.id).await?;
    Ok(())
}

/// The custom role of a path that is about to be changed.
pub(crate) async fn find_custom(work: &mut Work, id: &str) -> Result<RoleRow, Problem> {
    if BuiltinRole::find(id).is_some() {
        return Err(Problem::new(Code::ImmutableObject, "Built-in roles are the same everywhere."));
    }
    let org_id = work.org()?.id.clone();
    roles::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

/// Whoever writes a role must hold on the root what it gains, and wherever it is bound.
async fn check_gain(
    work: &mut Work,
    id: &str,
    before: &Rights,
    after: &Rights,
) -> Result<(), Problem> {
    let org = work.org()?.clone();
    let mut caller = work.member()?.access.clone();
    let mut places = bindings::list_places_of_role(work.unit.conn(), id).await?;
    places.push((org.root_resource_id.clone(), true));
    for (place, propagate) in places {
        caller.locate(work.unit.conn(), &org.id, &place).await?;
        if !caller.covers_gain_at(&place, propagate, before, after) {
            return Err(escalation());
        }
    }
    Ok(())
}

/// What the role gives and, while the policy has denials, takes away.
fn rights(work: &Work, row: &RoleRow) -> Result<Rights, Problem> {
    let Role { permissions, deny, .. } = Role::custom(row);
    let denied = if work.org()?.policy.deny_enabled { deny } else { Vec::new() };
    Ok(Rights { granted: permissions, denied })
}

fn check_deny(work: &Work, deny: &[String]) -> Result<(), Problem> {
    if deny.is_empty() || work.org()?.policy.deny_enabled {
        return Ok(());
    }
    let detail = "the organization's policy has no denials (deny_enabled)";
    Err(Problem::field("deny", FieldCode::Policy, detail))
}

async fn refuse_taken_name(work: &mut Work, row: &RoleRow) -> Result<(), Problem> {
    let built_in = BUILTIN_ROLES
        .iter()
        .any(|role| row.name_key == role.id || row.name_key == role.label.to_lowercase());
    let found = roles::find_by_name(work.unit.conn(), &row.org_id, &row.name_key).await?;
    if built_in || found.is_some_and(|other| other.id != row.id) {
        return Err(Problem::new(Code::NameTaken, "Another role has this name."));
    }
    Ok(())
}

fn owned(kinds: Vec<&'static str>) -> Vec<String> {
    kinds.into_iter().map(str::to_owned).collect()
}

/// A level within its range, which the reader has checked.
fn level_of(level: u64) -> i64 {
    i64::try_from(level).unwrap_or(i64::MAX)
}

/// A sorted set as a column.
fn column_of(mut list: Vec<String>) -> String {
    list.sort();
    list.dedup();
    serde_json::to_string(&list).expect("a list of texts is JSON")
}

fn to_texts(patterns: &[Pattern]) -> Vec<String> {
    patterns.iter().map(ToString::to_string).collect()
}
