//! `GET O/groups`.

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::groups::{self, GroupRow};

const KINDS: &[&str] = &[GroupRow::CUSTOM, GroupRow::DEFAULT, GroupRow::OWNER];

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/groups",
    "List the groups",
    Need::root("group.list", "group:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| _ = kind(query))
.answers(Answer::Page("Group"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let kind = kind(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let (rows, total) = groups::list(view.conn(), org_id, kind, &list.slice).await?;
    list.page(
        &admitted.call,
        (rows, total),
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::group(row, row.member_count)),
    )
}

fn kind(query: &mut Query) -> Option<&'static str> {
    query.read("kind", fields::one_of(KINDS))
}
