//! `DELETE O/resources/{resource}`: its bindings go with it.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, resources};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/resources/{resource}",
    "Delete a resource and its bindings",
    Need::root("resource.delete", "resource:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("resource", "Resource"))
.may_refuse(&[Code::ImmutableObject, Code::ResourceNotEmpty]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = super::find(&mut work, admitted.call.param("resource")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    resources::delete(&mut work, &row).await?;
    let happening = super::happening("resource.delete", &row, Some(before.clone()), None);
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "resource", before).send(&admitted, wait).await
}
