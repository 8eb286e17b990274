//! `GET O/security-policies`: how much each concerns, without its bindings.

use std::collections::HashMap;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::security_policies::{self, SecurityPolicyRow};

const KINDS: &[&str] = &[SecurityPolicyRow::CUSTOM, SecurityPolicyRow::DEFAULT];

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/security-policies",
    "List the security policies",
    Need::root("security_policy.list", "security_policy:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| _ = kind(query))
.answers(Answer::Page("SecurityPolicy"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let kind = kind(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let (rows, total) = security_policies::list(view.conn(), org_id, kind, &list.slice).await?;
    let mut counts = HashMap::new();
    for row in &rows {
        counts.insert(row.id.clone(), security_policies::count(view.conn(), &row.id).await?);
    }
    list.page(
        &admitted.call,
        (rows, total),
        |row| (row.created_ms, row.id.as_str()),
        |row| {
            let counts = counts.get(&row.id).ok_or_else(Problem::not_found)?;
            Ok(views::security_policy(row, counts, None))
        },
    )
}

fn kind(query: &mut Query) -> Option<&'static str> {
    query.read("kind", fields::one_of(KINDS))
}
