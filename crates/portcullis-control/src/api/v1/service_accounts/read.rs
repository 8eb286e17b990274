//! `GET S`: a deleted account only with `include_deleted`, as a tombstone.

use portcullis_core::account::AccountState;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::reply::{self, Reply};
use crate::store::accounts;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}",
    "Read a service account",
    Need::root("service_account.read", "service_account:read"),
    |admitted| Box::pin(run(admitted)),
)
.notes("A deleted one is a tombstone, and only shown with include_deleted.")
.filters(|query| _ = include_deleted(query))
.answers(Answer::Object("ServiceAccount"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let include_deleted = include_deleted(&mut query);
    query.finish()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("sa");
    let row = accounts::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    if row.state()? == AccountState::Deleted && !include_deleted {
        return Err(Problem::not_found());
    }
    let shown = super::shown(view.conn(), &row).await?;
    Ok(reply::object(&admitted.call, row.version, shown))
}

fn include_deleted(query: &mut Query) -> bool {
    query.read("include_deleted", fields::boolean).unwrap_or(false)
}
