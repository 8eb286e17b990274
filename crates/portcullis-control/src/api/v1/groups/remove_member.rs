//! `DELETE O/groups/{group}/members/{principal}`: what the group gave is gone at once.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::groups::{self, Moves};
use crate::domain::stakes::Subject;
use crate::store::groups as rows;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/groups/{group}/members/{principal}",
    "Take a member out of a group",
    Need::root("group_member.delete", "group_member:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("member", "Membership").unversioned())
.may_refuse(&[Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let group = groups::find(&mut work, admitted.call.param("group")).await?;
    let id = admitted.call.param("principal");
    let row = rows::find_member(work.unit.conn(), &group.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let principal = Subject { kind: row.principal_kind.clone(), id: row.principal_id.clone() };
    let leave = [group.id.clone()];
    let moves = Moves { principal: &principal, join: &[], leave: &leave, field: "" };
    groups::regroup(&mut work, moves).await?;
    let before = views::membership(&row);
    let happening = super::happening("group_member.delete", &group, Some(before.clone()), None);
    let conclusion = work.concluded(&group.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "member", before).send(&admitted, wait).await
}
