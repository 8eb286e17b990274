//! `GET O/groups/{group}/members`.

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::groups;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/groups/{group}/members",
    "List the members of a group",
    Need::root("group_member.list", "group_member:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| _ = kind(query))
.answers(Answer::Page("Membership"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let kind = kind(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("group");
    let group = groups::find(view.conn(), &admitted.org()?.id, id).await?;
    let group = group.ok_or_else(Problem::not_found)?;
    let found = groups::list_members(view.conn(), &group.id, kind, &list.slice).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::membership(row)),
    )
}

fn kind(query: &mut Query) -> Option<&'static str> {
    query.read("kind", fields::one_of(&["service_account", "user"]))
}
