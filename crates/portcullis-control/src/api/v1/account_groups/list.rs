//! `GET S/groups`.

use portcullis_core::account::AccountState;

use crate::api::admission::{Admitted, Need};
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::store::{accounts, groups};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/groups",
    "List the groups that the account is in",
    Need::root("account_group.list", "group_member:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Page("GroupName"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let account =
        accounts::find(view.conn(), &admitted.org()?.id, admitted.call.param("sa")).await?;
    let account = account.ok_or_else(Problem::not_found)?;
    if account.state()? == AccountState::Deleted {
        return Err(Problem::not_found());
    }
    let found = groups::list_page_of_principal(view.conn(), &account.id, &list.slice).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(super::item(row)),
    )
}
