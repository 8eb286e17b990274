//! `DELETE O/groups/{group}`: with its memberships and bindings.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, groups};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/groups/{group}",
    "Delete a group with its memberships and bindings",
    Need::root("group.delete", "group:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("group", "Group"))
.may_refuse(&[Code::ImmutableObject, Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = groups::find(&mut work, admitted.call.param("group")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    groups::delete(&mut work, &row).await?;
    let happening = super::happening("group.delete", &row, Some(before.clone()), None);
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "group", before).send(&admitted, wait).await
}
