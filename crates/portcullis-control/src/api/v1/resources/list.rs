//! `GET O/resources`.

use std::collections::HashMap;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::resources::{self, ResourceFilter};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/resources",
    "List the resources",
    Need::root("resource.list", "resource:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query)))
.answers(Answer::Page("Resource"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let org_id = &admitted.org()?.id;
    let mut view = admitted.view().await?;
    let found = resources::list(view.conn(), org_id, &filter, &list.slice).await?;
    let mut above = HashMap::new();
    for row in &found.rows {
        let path = resources::list_path(view.conn(), org_id, &row.id).await?;
        above.insert(row.id.clone(), path);
    }
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::resource(row, above.get(&row.id).map_or(&[], Vec::as_slice))),
    )
}

fn filter(query: &mut Query) -> ResourceFilter {
    let kinds = &["cluster", "custom", "organization", "project", "workspace"];
    ResourceFilter {
        parent_id: query.text("parent_id"),
        kind: query.read("kind", fields::one_of(kinds)).map(str::to_owned),
        state: query.read("state", fields::one_of(&["active", "archived"])).map(str::to_owned),
    }
}
