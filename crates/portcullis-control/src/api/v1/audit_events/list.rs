//! `GET O/audit-events`: by actor, target, action, outcome, address and time.

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::instant::column;
use crate::store::audit::{self, AuditFilter};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/audit-events",
    "List audit events",
    Need::root("audit_event.list", "audit_event:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query)))
.answers(Answer::Page("AuditEvent"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let found = audit::list(view.conn(), org_id, &filter, &list.slice).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.seq, row.id.as_str()),
        |row| Ok(views::audit_event(row)),
    )
}

fn filter(query: &mut Query) -> AuditFilter {
    let after_seq = query.read("after_seq", fields::integer(0..=u64::from(u32::MAX) << 16));
    AuditFilter {
        after_seq: after_seq.and_then(|seq| i64::try_from(seq).ok()),
        since_ms: query.read("since", fields::instant).map(column),
        until_ms: query.read("until", fields::instant).map(column),
        actor_id: query.text("actor_id"),
        target_id: query.text("target_id"),
        action: query.text("action"),
        outcome: query
            .read("outcome", fields::one_of(&["ok", "denied", "error"]))
            .map(str::to_owned),
        ip: query.text("ip"),
    }
}
