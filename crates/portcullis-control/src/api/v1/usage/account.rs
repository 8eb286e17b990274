//! `GET S/usage`: all keys of the account together, also those that are gone.

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::account::AccountState;

use super::{Totals, days, describe, shown};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::instant::column;
use crate::store::{accounts, usage};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/usage",
    "Show how the keys of a service account are used",
    Need::root("service_account.usage", "usage:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(describe)
.answers(Answer::Plain("Usage"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let days = days(&mut query, column(admitted.call.now));
    query.finish()?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let account = accounts::find(view.conn(), org_id, admitted.call.param("sa")).await?;
    let account = account.ok_or_else(Problem::not_found)?;
    if account.state()? == AccountState::Deleted {
        return Err(Problem::not_found());
    }
    let rows = usage::list_of_owner(view.conn(), &account.id, days).await?;
    let totals = Totals {
        calls: account.use_count,
        denied: account.denied_count,
        last_used_ms: account.last_used_ms,
        last_used_ip: account.last_used_ip.as_deref(),
    };
    Ok(Json(shown(&totals, &rows)).into_response())
}
