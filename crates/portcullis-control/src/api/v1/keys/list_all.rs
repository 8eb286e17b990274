//! `GET O/keys`: all keys of the organization, those of users included.

use std::collections::HashMap;

use portcullis_core::account::AccountState;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views::{self, KeyContext};
use crate::caller::find_owner;
use crate::instant::column;
use crate::store::keys::{self, KeyFilter};

const DAY_MS: i64 = 86_400_000;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/keys",
    "List all keys of the organization, those of users included",
    Need::root("api_key.list_all", "api_key:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query, 0)))
.answers(Answer::Page("Key"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let now_ms = column(admitted.call.now);
    let (mut filter, stale) = filter(&mut query, now_ms);
    let org = admitted.org()?;
    query.finish()?;
    list.resume(&admitted.call)?;
    let stale_days = org.policy.retire_after_days.into();
    filter.stale_before_ms = stale.map(|wanted| (days_before(now_ms, stale_days), wanted));
    let mut view = admitted.view().await?;
    let found = keys::list(view.conn(), &org.id, &filter, &list.slice).await?;
    let mut owners = HashMap::new();
    for row in &found.rows {
        if !owners.contains_key(&row.owner_id) {
            let owner = find_owner(view.conn(), row).await?;
            owners.insert(row.owner_id.clone(), owner.state);
        }
    }
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| {
            let owner = owners.get(&row.owner_id).copied().unwrap_or(AccountState::Deleted);
            views::key(row, KeyContext { org, owner, now: admitted.call.now })
        },
    )
}

/// The filter, and whether stale keys are wanted, which depends on the policy.
fn filter(query: &mut Query, now_ms: i64) -> (KeyFilter, Option<bool>) {
    let mut filter = super::filter(query, now_ms);
    filter.owner_id = query.text("owner_id");
    filter.owner_kind =
        query.read("owner_kind", fields::one_of(&["service_account", "user"])).map(str::to_owned);
    let older = query.read("older_than_days", fields::integer(0..=36_500));
    filter.older_than_ms = older.map(|days| days_before(now_ms, days));
    (filter, query.read("stale", fields::boolean))
}

fn days_before(now_ms: i64, days: u64) -> i64 {
    now_ms - i64::try_from(days).unwrap_or(0) * DAY_MS + 1
}
