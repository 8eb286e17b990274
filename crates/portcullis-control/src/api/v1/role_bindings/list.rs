//! `GET O/role-bindings`.

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::bindings::{self, BindingFilter};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/role-bindings",
    "List the role bindings",
    Need::root("role_binding.list", "role_binding:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query)))
.answers(Answer::Page("RoleBinding"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let found = bindings::list(view.conn(), org_id, &filter, &list.slice).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::binding(row)),
    )
}

fn filter(query: &mut Query) -> BindingFilter {
    BindingFilter {
        role_id: query.text("role_id"),
        subject_id: query.text("subject_id"),
        subject_kind: query
            .read("subject_kind", fields::one_of(super::create::SUBJECT_KINDS))
            .map(str::to_owned),
        resource_id: query.text("resource_id"),
        policy_id: query.text("policy_id"),
    }
}
