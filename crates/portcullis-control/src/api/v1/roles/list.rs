//! `GET O/roles`.

use portcullis_core::access::{BUILTIN_ROLES, BuiltinRole};

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::page::Order;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/roles",
    "List the roles",
    Need::root("role.list", "role:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| _ = kind(query))
.answers(Answer::Page("Role"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let kind = kind(&mut query);
    let mut list = List::read(&admitted.call, &mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    // Built-in roles have no instant of creation; their place in the table stands for it.
    let mut rows: Vec<(i64, &BuiltinRole)> =
        if kind == Some("custom") { Vec::new() } else { (0..).zip(&BUILTIN_ROLES).collect() };
    let total = list.slice.count.then(|| i64::try_from(rows.len()).unwrap_or(i64::MAX));
    if list.slice.order == Order::NewestFirst {
        rows.reverse();
    }
    if let Some((after, _)) = list.slice.after {
        rows.retain(|(place, _)| match list.slice.order {
            Order::NewestFirst => *place < after,
            Order::OldestFirst => *place > after,
        });
    }
    rows.truncate(usize::try_from(list.slice.limit).unwrap_or(usize::MAX));
    list.page(
        &admitted.call,
        (rows, total),
        |(place, role)| (*place, role.id),
        |(_, role)| Ok(views::role(role)),
    )
}

fn kind(query: &mut Query) -> Option<&'static str> {
    query.read("kind", fields::one_of(&["built_in", "custom"]))
}
