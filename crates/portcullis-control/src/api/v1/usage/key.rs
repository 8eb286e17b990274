//! `GET S/keys/{key}/usage`, and the same of a user's key.

use axum::Json;
use axum::response::IntoResponse as _;

use super::{Totals, days, describe, shown};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::api::v1::keys::{find_key, read_owner};
use crate::instant::column;
use crate::store::usage;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}/usage",
    "Show how a key is used",
    Need::root("api_key.usage", "usage:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(describe)
.answers(Answer::Plain("Usage"));

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}/usage");

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let days = days(&mut query, column(admitted.call.now));
    query.finish()?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let owner = read_owner(view.conn(), org_id, &admitted.call).await?;
    let key = find_key(view.conn(), &owner.id, admitted.call.param("key")).await?;
    let rows = usage::list_of_key(view.conn(), &key.id, days).await?;
    let totals = Totals {
        calls: key.use_count,
        denied: key.denied_count,
        last_used_ms: key.last_used_ms,
        last_used_ip: key.last_used_ip.as_deref(),
    };
    Ok(Json(shown(&totals, &rows)).into_response())
}
