//! `PATCH O/resources/{resource}`: renames or moves it.

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, resources};

const READ_ONLY: &[&str] =
    &["id", "org_id", "kind", "ref", "path", "state", "created_at", "updated_at", "version"];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/resources/{resource}",
    "Rename or move a resource",
    Need::root("resource.update", "resource:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"name": "payments"}"#)
.answers(Answer::narrowed("resource", "Resource"))
.may_refuse(&[Code::Cycle, Code::DepthExceeded, Code::ImmutableObject, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let (name, parent_id) = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = super::find(&mut work, admitted.call.param("resource")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let moved = resources::patch(&mut work, &mut row, name, parent_id).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let happening = super::happening("resource.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    let effect = if moved { Effect::Narrowing } else { Effect::Label };
    Mutation::of(conclusion, effect, "resource", after).send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<(Option<String>, Option<String>), Faults> {
    let name = body.patched("name", fields::name(super::name));
    let parent_id = body.patched("parent_id", fields::id);
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok((name.value(&complete), parent_id.value(&complete)))
}
