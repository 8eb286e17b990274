//! `GET S/keys`.

use crate::api::admission::{Admitted, Need};
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::api::views::{self, KeyContext};
use crate::instant::column;
use crate::store::keys;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/keys",
    "List the keys of a service account",
    Need::root("api_key.list", "api_key:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(super::filter(query, 0)))
.answers(Answer::Page("Key"));

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys");

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let mut filter = super::filter(&mut query, column(admitted.call.now));
    query.finish()?;
    list.resume(&admitted.call)?;
    let org = admitted.org()?;
    let mut view = admitted.view().await?;
    let owner = super::read_owner(view.conn(), &org.id, &admitted.call).await?;
    filter.owner_id = Some(owner.id);
    let found = keys::list(view.conn(), &org.id, &filter, &list.slice).await?;
    let context = KeyContext { org, owner: owner.state, now: admitted.call.now };
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| views::key(row, context),
    )
}
