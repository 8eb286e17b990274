//! Human users: who takes a seat, and whose keys end with them. What a user made stays as it is
//! (I-14).

use portcullis_core::account::{KeyState, Username};
use portcullis_core::feed::Kind;
use serde_json::Value;

use super::bindings::{Change, NewBinding};
use super::groups::set_groups;
use super::stakes::{Subject, keep_an_owner};
use super::{Code, Problem, keys, new_id, records};
use crate::api::work::Work;
use crate::instant::column;
use crate::store::bindings::{self, BindingRow};
use crate::store::groups;
use crate::store::keys as key_rows;
use crate::store::users::{self, UserRow};

/// A user who is wanted.
pub(crate) struct NewUser {
    pub(crate) username: Username,
    pub(crate) email: String,
    /// A role on the root.
    pub(crate) role_id: Option<String>,
    pub(crate) group_ids: Vec<String>,
}

/// What adding a user made.
pub(crate) struct CreatedUser {
    pub(crate) row: UserRow,
    pub(crate) binding: Option<BindingRow>,
    pub(crate) warnings: Vec<Value>,
}

/// Adds a user with a role and groups: all or nothing. A service account may have the same username.
pub(crate) async fn create(work: &mut Work, wanted: NewUser) -> Result<CreatedUser, Problem> {
    let org = work.org()?.clone();
    let NewUser { username, email, role_id, group_ids } = wanted;
    let taken = users::find_by_username(work.unit.conn(), &org.id, username.folded()).await?;
    if taken.is_some() {
        return Err(Problem::new(Code::UsernameTaken, "Another user has this username."));
    }
    let row = UserRow {
        id: new_id(work.now, work.app.entropy.as_ref())?,
        org_id: org.id.clone(),
        username: username.as_str().to_owned(),
        username_key: username.folded().to_owned(),
        email: Some(email),
        state: UserRow::ACTIVE.to_owned(),
        created_ms: column(work.now),
        updated_ms: column(work.now),
        version: 1,
        removed_ms: None,
        removed_by: None,
    };
    users::insert(work.unit.conn(), &row).await?;
    let subject = Subject::user(&row.id);
    let mut change = Change::begin(work, subject.clone()).await?;
    let binding = match role_id {
        Some(role_id) => {
            let resource_id = org.root_resource_id.clone();
            let wanted = NewBinding { role_id, resource_id, propagate: true, policy_id: None };
            Some(change.add(work, &subject, &wanted, "").await?)
        }
        None => None,
    };
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(work).await?;
    set_groups(work, &subject, &group_ids).await?;
    Ok(CreatedUser { row, binding, warnings })
}

/// Removes a user: the seat is free, the user's own keys and roles are gone. Accounts, keys and
/// bindings that the user made for others stay.
pub(crate) async fn remove(work: &mut Work, row: &mut UserRow) -> Result<(), Problem> {
    row.state = UserRow::REMOVED.to_owned();
    row.email = None;
    row.removed_ms = Some(column(work.now));
    row.removed_by = Some(work.caller.author().to_column());
    users::update(work.unit.conn(), row, work.now).await?;
    work.unit.revoke(Kind::Account, &row.id, None).await?;
    for mut key in key_rows::list_undeleted(work.unit.conn(), &row.id).await? {
        keys::set_state(work, &mut key, KeyState::Deleted).await?;
    }
    bindings::erase_of_subject(work.unit.conn(), &row.id).await?;
    let left = groups::list_of_principal(work.unit.conn(), &row.id).await?;
    groups::erase_of_principal(work.unit.conn(), &row.id).await?;
    let policy = work.org()?.policy.clone();
    for group in &left {
        records::publish_group(&mut work.unit, group, &policy).await?;
    }
    keep_an_owner(work).await
}

/// The user, if not removed.
pub(crate) async fn find_living(work: &mut Work, id: &str) -> Result<UserRow, Problem> {
    let org_id = work.org()?.id.clone();
    let row = users::find(work.unit.conn(), &org_id, id).await?;
    row.filter(UserRow::is_active).ok_or_else(Problem::not_found)
}
