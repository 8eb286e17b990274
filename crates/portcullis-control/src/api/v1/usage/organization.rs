//! `GET O/usage`: how many people, accounts and keys there are, and how much they called.

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use super::{days, describe};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::Reply;
use crate::instant::column;
use crate::store::usage::{self, OrgUsageRow};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/usage",
    "Show an organization in numbers",
    Need::root("organization.usage", "usage:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(describe)
.answers(Answer::Plain("OrgUsage"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let days = days(&mut query, column(admitted.call.now));
    query.finish()?;
    let mut view = admitted.view().await?;
    let counted = usage::count_of_org(view.conn(), &admitted.org()?.id, days).await?;
    let OrgUsageRow { seats, service_accounts, keys, calls, denied } = counted;
    let body = json!({
        "seats": seats,
        "service_accounts": service_accounts,
        "keys": keys,
        "calls": calls,
        "denied": denied,
    });
    Ok(Json(body).into_response())
}
