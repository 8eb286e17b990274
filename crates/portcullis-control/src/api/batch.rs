//! The same operation on many objects: each succeeds or fails by itself, with an audit event of its
//! own, and all are answered together, after one wait for gateways.
//!
//! Each object has its own transaction; those that wait for each other become durable together.

use futures_util::StreamExt as _;
use futures_util::stream;
use portcullis_core::key::PlainKey;
use serde_json::{Value, json};

use super::admission::{Admitted, Wait};
use super::fields::{self, Faults};
use super::mention;
use super::problem::{FieldCode, Problem};
use super::readers::Reader;
use super::reply::{Mutation, Reply};
use super::work::Work;
use crate::caller::Caller;
use crate::domain::Effect;
use crate::store::Committed;

/// Objects that one call names at most.
const MOST: usize = 200;
/// Transactions that wait for their turn at the same time.
const ABREAST: usize = 32;

/// What happens to one object.
pub(crate) trait Each: Sync {
    /// Does it and commits. An error leaves this object as it was, and no other.
    fn one(&self, work: Work, id: &str) -> impl Future<Output = Result<Done, Problem>> + Send;
}

/// One object was changed, or was so already.
pub(crate) struct Done {
    pub(crate) committed: Committed,
    /// The secret that it has from now on.
    pub(crate) plain: Option<PlainKey>,
}

/// The ids in a body: each once.
pub(crate) fn ids() -> impl Reader<Value = Vec<String>> {
    let list = fields::list(1..=MOST, fields::id);
    let mut schema = list.schema();
    schema["uniqueItems"] = json!(true);
    fields::custom(schema, move |value| {
        let ids = list.read(value)?;
        for (index, id) in ids.iter().enumerate() {
            if ids.iter().take(index).any(|before| before == id) {
                let id = mention::shown(id);
                return Err(Faults::one(FieldCode::BadFormat, format!("{id} is given twice")));
            }
        }
        Ok(ids)
    })
}

/// Does `each` to every object and answers with a result for each, in the order of `ids`.
pub(crate) async fn run(
    admitted: &Admitted,
    wait: Wait,
    ids: Vec<String>,
    effect: Effect,
    each: &impl Each,
) -> Reply {
    // Whoever ends the account or key at hand does so last, or the rest would be refused.
    let (own, others): (Vec<_>, Vec<_>) =
        ids.iter().enumerate().partition(|(_, id)| is_own(admitted, id));
    let one = |(index, id): (usize, &String)| {
        let id = id.clone();
        async move { (index, attempt(admitted, &id, each).await, id) }
    };
    let mut ends: Vec<_> = stream::iter(others).map(one).buffered(ABREAST).collect().await;
    ends.extend(stream::iter(own).map(one).buffered(1).collect::<Vec<_>>().await);
    ends.sort_by_key(|(index, ..)| *index);

    let position = admitted.app().publisher.position();
    let mut last = Committed { position, reaches_gateways: false };
    let mut results = Vec::with_capacity(ends.len());
    for (_, end, id) in ends {
        results.push(match end {
            Ok(Done { committed, plain }) => {
                last.position = last.position.max(committed.position);
                last.reaches_gateways |= committed.reaches_gateways || effect == Effect::Narrowing;
                shown(&id, plain.as_ref())
            }
            Err(problem) => json!({
                "id": mention::shown(&id),
                "status": problem.status().as_u16(),
                "code": problem.code.label(),
                "detail": problem.detail,
            }),
        });
    }
    Mutation::of(last, effect, "results", Value::Array(results)).send(admitted, wait).await
}

async fn attempt(admitted: &Admitted, id: &str, each: &impl Each) -> Result<Done, Problem> {
    let work = admitted.begin().await?;
    let settlement = work.unit.settlement();
    let end = each.one(work, id).await;
    // Also a refusal can rest on what a neighbour wrote, so it waits until that is durable.
    settlement.wait().await?;
    if let Err(Problem { internal: Some(internal), .. }) = &end {
        tracing::error!(internal, "one object of a batch failed");
    }
    end
}

fn is_own(admitted: &Admitted, id: &str) -> bool {
    match &admitted.caller {
        Caller::Member(member) => member.id == id || member.key_id == id,
        Caller::Operator { .. } => false,
    }
}

fn shown(id: &str, plain: Option<&PlainKey>) -> Value {
    match plain {
        Some(plain) => json!({
            "id": id, "status": 200, "code": null, "value": plain.expose(), "secret": plain.tail(),
        }),
        None => json!({"id": id, "status": 200, "code": null}),
    }
}
