//! `GET O/audit-events`: by actor, target, action, outcome, address and time. Other types than JSON
//! are exports.

use serde_json::Value;

use super::export::{self, Accepted};
use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::instant::column;
use crate::store::audit::{self, AuditFilter, AuditRow};
use crate::store::page::Found;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/audit-events",
    "List audit events",
    Need::root("audit_event.list", "audit_event:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query)))
.answers(Answer::Page("AuditEvent"))
.also_as(&["application/cloudevents-batch+json", "application/x-ndjson", "text/csv"])
.notes(
    "With `Accept: application/x-ndjson`, `text/csv` or `application/cloudevents-batch+json` all \
        events that pass the filters are streamed, the oldest first; JSON lines take \
        `checkpoints=true` for the chain's signed checkpoints, and `cloudevents=true`.",
);

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    if let Some(accepted) = Accepted::of(&admitted.call.headers) {
        let filter = filter(&mut query);
        return export::send(&admitted, accepted, query, filter).await;
    }
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let found = audit::list(view.conn(), org_id, &filter, &list.slice).await?;
    let Found { rows, total, horizon } = found;
    let shown = super::with_states(view.conn(), org_id, &rows).await?;
    let rows: Vec<(AuditRow, Value)> = rows.into_iter().zip(shown).collect();
    list.page(
        &admitted.call,
        Found { rows, total, horizon },
        |(row, _)| (row.seq, row.id.as_str()),
        |(_, event)| Ok(event.clone()),
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
