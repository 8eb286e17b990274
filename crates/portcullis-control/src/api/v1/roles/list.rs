//! `GET O/roles`: the built-in roles first, then the organization's own.

use portcullis_core::access::{BUILTIN_ROLES, BuiltinRole};

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::page::{Order, Slice};
use crate::store::roles::{self, RoleRow};

/// A row of either kind.
enum Row {
    BuiltIn(i64, &'static BuiltinRole),
    Custom(Box<RoleRow>),
}

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
    let (mut rows, mut total) = (Vec::new(), 0);
    if kind != Some("custom") {
        rows.extend(built_in(&list.slice));
        total += i64::try_from(BUILTIN_ROLES.len()).unwrap_or(i64::MAX);
    }
    if kind != Some("built_in") {
        let mut view = admitted.view().await?;
        let org_id = &admitted.org()?.id;
        let (custom, count) = roles::list(view.conn(), org_id, &list.slice).await?;
        total += count.unwrap_or(0);
        let custom = custom.into_iter().map(|row| Row::Custom(Box::new(row)));
        // No custom role is as old as a built-in one.
        match list.slice.order {
            Order::NewestFirst => rows = custom.chain(rows).collect(),
            Order::OldestFirst => rows.extend(custom),
        }
    }
    rows.truncate(usize::try_from(list.slice.limit).unwrap_or(usize::MAX));
    list.page(
        &admitted.call,
        (rows, list.slice.count.then_some(total)),
        |row| match row {
            Row::BuiltIn(place, role) => (*place, role.id),
            Row::Custom(row) => (row.created_ms, row.id.as_str()),
        },
        |row| match row {
            Row::BuiltIn(_, role) => Ok(views::built_in_role(role)),
            Row::Custom(row) => Ok(views::role(row)),
        },
    )
}

fn kind(query: &mut Query) -> Option<&'static str> {
    query.read("kind", fields::one_of(&["built_in", "custom"]))
}

/// Built-in roles have no instant of creation; their place in the table stands for it.
fn built_in(slice: &Slice) -> Vec<Row> {
    let mut rows: Vec<(i64, &BuiltinRole)> = (0..).zip(&BUILTIN_ROLES).collect();
    if slice.order == Order::NewestFirst {
        rows.reverse();
    }
    if let Some((after, _)) = slice.after {
        rows.retain(|(place, _)| match slice.order {
            Order::NewestFirst => *place < after,
            Order::OldestFirst => *place > after,
        });
    }
    rows.into_iter().map(|(place, role)| Row::BuiltIn(place, role)).collect()
}
