//! `DELETE O/role-bindings/{binding}`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::bindings::Change;
use crate::domain::stakes::Subject;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/role-bindings/{binding}",
    "Take a role away",
    Need::somewhere("role_binding.delete", "role_binding:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("role_binding", "RoleBinding"))
.may_refuse(&[Code::ImmutableObject, Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = super::find(&mut work, admitted.call.param("binding")).await?;
    work.check_at("role_binding:delete", &row.resource_id).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let mut change = Change::begin(&mut work, Subject::of(&row)).await?;
    change.remove(&mut work, &row).await?;
    change.finish(&mut work).await?;
    let before = views::binding(&row);
    let happening = super::happening("role_binding.delete", &row, Some(before.clone()), None);
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "role_binding", before).send(&admitted, wait).await
}
