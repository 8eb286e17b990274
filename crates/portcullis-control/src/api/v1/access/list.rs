//! `GET S/access`: pages over the resources; those without access are left out of a page.

use portcullis_core::account::AccountState;

use super::Rows;
use crate::api::admission::{Admitted, Need};
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::store::accounts;
use crate::store::page::Found;
use crate::store::resources::{self, ResourceFilter};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/access",
    "List what the account may do, resource by resource",
    Need::root("access.list", "service_account:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Page("AccessRow"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let org = admitted.org()?;
    let mut view = admitted.view().await?;
    let account = accounts::find(view.conn(), &org.id, admitted.call.param("sa")).await?;
    let account = account.ok_or_else(Problem::not_found)?;
    if account.state()? == AccountState::Deleted {
        return Err(Problem::not_found());
    }
    let filter = ResourceFilter::default();
    let found = resources::list(view.conn(), &org.id, &filter, &list.slice).await?;
    let mut rows = Rows::of(view.conn(), &account, &org.policy).await?;
    let mut shown = Vec::with_capacity(found.rows.len());
    for resource in found.rows {
        let row = rows.row(view.conn(), &resource, &org.policy).await?;
        shown.push((resource, row));
    }
    list.sparse_page(
        &admitted.call,
        Found { rows: shown, total: found.total, horizon: found.horizon },
        |(resource, _)| (resource.created_ms, resource.id.as_str()),
        |(_, row)| Ok(row.clone()),
    )
}
