//! `S/keys`, `O/users/{user}/keys` and `O/keys`. A user's keys are the user's own to manage; in all
//! else they are as an account's.

pub(super) mod activate;
pub(super) mod batch;
pub(super) mod create;
pub(super) mod deactivate;
pub(super) mod import;
pub(super) mod list;
pub(super) mod list_all;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod revoke;
pub(super) mod rotate;
pub(super) mod update;

use portcullis_core::account::{AccountState, KeyState};
use serde_json::Value;
use sqlx::SqliteConnection;

use crate::api::admission::Admitted;
use crate::api::call::Call;
use crate::api::fields;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::reply::{Mutation, Reply};
use crate::api::views::{self, KeyContext};
use crate::api::work::{Happening, Work};
use crate::domain::Effect;
use crate::domain::keys::{KeyOwner, KeySwitch, switch};
use crate::instant::column;
use crate::store::audit::Target;
use crate::store::keys::{self, KeyFilter, KeyRow};
use crate::store::{accounts, users};

fn is_of_user(call: &Call) -> bool {
    !call.param("user").is_empty()
}

/// The owner and the key, both not deleted.
async fn find(work: &mut Work, call: &Call) -> Result<(KeyOwner, KeyRow), Problem> {
    let owner = find_owner(work, call).await?;
    let key = find_key(work.unit.conn(), &owner.id, call.param("key")).await?;
    Ok((owner, key))
}

/// The owner that the path names.
async fn find_owner(work: &mut Work, call: &Call) -> Result<KeyOwner, Problem> {
    let org_id = work.org()?.id.clone();
    read_owner(work.unit.conn(), &org_id, call).await
}

pub(super) async fn find_key(
    conn: &mut SqliteConnection,
    owner_id: &str,
    id: &str,
) -> Result<KeyRow, Problem> {
    let row = keys::find(conn, owner_id, id).await?.ok_or_else(Problem::not_found)?;
    match row.state()? {
        KeyState::Deleted => Err(Problem::not_found()),
        KeyState::Active | KeyState::Inactive | KeyState::Revoked => Ok(row),
    }
}

/// The same, for a path that only reads.
pub(super) async fn read_owner(
    conn: &mut SqliteConnection,
    org_id: &str,
    call: &Call,
) -> Result<KeyOwner, Problem> {
    let owner = match is_of_user(call) {
        true => users::find(conn, org_id, call.param("user")).await?.as_ref().map(KeyOwner::user),
        false => {
            let row = accounts::find(conn, org_id, call.param("sa")).await?;
            row.as_ref().map(KeyOwner::account).transpose()?
        }
    };
    let owner = owner.ok_or_else(Problem::not_found)?;
    match owner.state {
        AccountState::Deleted => Err(Problem::not_found()),
        AccountState::Active | AccountState::Inactive | AccountState::Revoked => Ok(owner),
    }
}

fn shown(work: &Work, owner: &KeyOwner, row: &KeyRow) -> Result<Value, Problem> {
    let context = KeyContext { org: work.org()?, owner: owner.state, now: work.now };
    views::key(row, context)
}

fn happening(
    action: &'static str,
    row: &KeyRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "api_key", id: row.id.clone(), name: row.name.clone() },
        resource_id: None,
        before,
        after,
    }
}

/// Filters that both lists have.
fn filter(query: &mut Query, now_ms: i64) -> KeyFilter {
    let states = &["active", "inactive", "revoked"];
    KeyFilter {
        state: query.read("state", fields::one_of(states)).map(str::to_owned),
        name: query.text("name"),
        expired: query.read("expired", fields::boolean),
        unused_since_ms: query.read("unused_since", fields::instant).map(column),
        now_ms,
        ..KeyFilter::default()
    }
}

/// The four operations on a key's state differ in what they do and in its effect only.
struct Switch {
    to: KeySwitch,
    effect: Effect,
    /// DELETE obeys `require_if_match`.
    policy_version: bool,
}

async fn set(mut admitted: Admitted, how: Switch) -> Reply {
    let Switch { to, effect, policy_version } = how;
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let (owner, mut row) = find(&mut work, &admitted.call).await?;
    let required = policy_version && work.org()?.policy.require_if_match;
    admitted.check_version(row.version, required)?;
    let before = shown(&work, &owner, &row)?;
    let changed = switch(&mut work, &mut row, to).await?;
    let after = shown(&work, &owner, &row)?;
    let conclusion = match changed {
        true => {
            let happening =
                happening(admitted.need.action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        false => work.unchanged(),
    };
    Mutation::of(conclusion, effect, "key", after).send(&admitted, wait).await
}
