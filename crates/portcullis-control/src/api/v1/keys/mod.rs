//! `S/keys` and `O/keys`.

pub(super) mod activate;
pub(super) mod create;
pub(super) mod deactivate;
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

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::fields;
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::reply::{Mutation, Reply};
use crate::api::views::{self, KeyContext};
use crate::api::work::{Happening, Work};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::keys::{KeySwitch, switch};
use crate::instant::column;
use crate::store::accounts::{self, AccountRow};
use crate::store::audit::Target;
use crate::store::keys::{self, KeyFilter, KeyRow};

/// The account and its key, both not deleted.
async fn find(work: &mut Work, call: &Call) -> Result<(AccountRow, KeyRow), Problem> {
    let account = find_living(work, call.param("sa")).await?;
    let key = find_key(work.unit.conn(), &account.id, call.param("key")).await?;
    Ok((account, key))
}

async fn find_key(
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

/// The account of a path that only reads.
async fn find_account(
    conn: &mut SqliteConnection,
    org_id: &str,
    id: &str,
) -> Result<AccountRow, Problem> {
    let row = accounts::find(conn, org_id, id).await?.ok_or_else(Problem::not_found)?;
    match row.state()? {
        AccountState::Deleted => Err(Problem::not_found()),
        AccountState::Active | AccountState::Inactive | AccountState::Revoked => Ok(row),
    }
}

fn shown(work: &Work, account: &AccountRow, row: &KeyRow) -> Result<Value, Problem> {
    let context = KeyContext { org: work.org()?, owner: account.state()?, now: work.now };
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

/// The four operations on a key's state differ in name, permission and effect only.
struct Switch {
    to: KeySwitch,
    need: Need,
    effect: Effect,
    /// DELETE obeys `require_if_match`.
    policy_version: bool,
}

async fn set(call: Call, how: Switch) -> Reply {
    let Switch { to, need, effect, policy_version } = how;
    let mut admitted = call.identify().await?.member(need)?;
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let (account, mut row) = find(&mut work, &admitted.call).await?;
    let required = policy_version && work.org()?.policy.require_if_match;
    admitted.check_version(row.version, required)?;
    let before = shown(&work, &account, &row)?;
    let changed = switch(&mut work, &mut row, to).await?;
    let after = shown(&work, &account, &row)?;
    let committed = match changed {
        true => {
            let happening = happening(need.action, &row, Some(before), Some(after.clone()));
            work.commit(&row.org_id, happening).await?
        }
        false => work.unchanged(),
    };
    Ok(Mutation::of(committed, effect, "key", after).send(&admitted, wait).await)
}
