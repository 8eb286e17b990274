//! `GET O/role-bindings`.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::fields;
use crate::api::list::List;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::bindings::{self, BindingFilter};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("role_binding.list", "role_binding:read");
    let admitted = call.identify().await?.member(need)?;
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = BindingFilter {
        role_id: query.text("role_id"),
        subject_id: query.text("subject_id"),
        subject_kind: query
            .read("subject_kind", fields::one_of(&["service_account", "user"]))
            .map(str::to_owned),
        resource_id: query.text("resource_id"),
    };
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let (rows, total) = bindings::list(view.conn(), org_id, &filter, &list.slice).await?;
    list.page(
        &admitted.call,
        (rows, total),
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::binding(row)),
    )
}
