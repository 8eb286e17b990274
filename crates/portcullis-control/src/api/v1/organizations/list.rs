//! `GET /v1/organizations`: those the caller belongs to; all of them for the operator.

use crate::api::admission::{Admitted, Need};
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::api::views;
use crate::caller::Caller;
use crate::store::organizations;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations",
    "List the organizations that the caller belongs to",
    Need::anybody("organization.list"),
    |admitted| Box::pin(run(admitted)),
)
.notes("The operator sees all of them.")
.answers(Answer::Page("Organization"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let only = match &admitted.caller {
        Caller::Member(member) => Some(member.org.id.as_str()),
        Caller::Operator { .. } => None,
    };
    let mut view = admitted.view().await?;
    let (rows, total) = organizations::list(view.conn(), only, &list.slice).await?;
    list.page(
        &admitted.call,
        (rows, total),
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::organization(row)),
    )
}
