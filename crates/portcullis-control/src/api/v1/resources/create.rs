//! `POST O/resources`.

use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::resources::{self, KINDS, NewResource, is_ref};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/resources",
    "Create a resource",
    Need::root("resource.create", "resource:create"),
    |admitted| Box::pin(run(admitted)),
)
.notes("Without a parent it lies directly below the root.")
.reads(|body| read(body, String::new()).err(), r#"{"name": "payments", "kind": "cluster"}"#)
.answers(Answer::created("resource", "Resource"))
.may_refuse(&[Code::DepthExceeded, Code::NameTaken]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let root = admitted.org()?.root_resource_id.clone();
    let wanted = read(admitted.call.body().await?, root)?;
    let mut work = admitted.begin().await?;
    let row = resources::create(&mut work, wanted).await?;
    let shown = super::shown(work.unit.conn(), &row).await?;
    let happening = super::happening("resource.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Widening, "resource", shown)
        .created(format!("/v1/organizations/{}/resources/{}", row.org_id, row.id))
        .send(&admitted, wait)
        .await
}

/// Without a parent the resource lies directly below the root.
fn read(mut body: Fields, root: String) -> Result<NewResource, Faults> {
    let name = body.required("name", fields::name(super::name));
    let kind = body.required("kind", fields::one_of(KINDS));
    let parent_id = body.optional("parent_id", fields::id);
    let reference = body.optional("ref", reference());
    let complete = body.finish()?;
    Ok(NewResource {
        name: name.value(&complete),
        kind: kind.value(&complete),
        parent_id: parent_id.value(&complete).unwrap_or(root),
        reference: reference.value(&complete),
    })
}

fn reference() -> impl Reader<Value = String> {
    let pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._~\-]{1,128}$";
    fields::custom(json!({"type": "string", "pattern": pattern}), |value| match value.as_str() {
        Some(text) if is_ref(text) => Ok(text.to_owned()),
        Some(_) | None => Err(Faults::format("1 to 128 characters of A-Z, a-z, 0-9, ., _, ~, -")),
    })
}
