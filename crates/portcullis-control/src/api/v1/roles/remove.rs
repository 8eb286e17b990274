//! `DELETE O/roles/{role}`: only while nobody has it.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::roles::{self, find_custom};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/roles/{role}",
    "Delete a role that nobody has",
    Need::root("role.delete", "role:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("role", "Role"))
.may_refuse(&[Code::ImmutableObject, Code::RoleInUse]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = find_custom(&mut work, admitted.call.param("role")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    roles::delete(&mut work, &row).await?;
    let before = views::role(&row);
    let happening = super::happening("role.delete", &row, Some(before.clone()), None);
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "role", before).send(&admitted, wait).await
}
