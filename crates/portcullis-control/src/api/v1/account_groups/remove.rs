//! `DELETE S/groups/{group}`: only access without another source is lost.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::groups::{self, Moves};
use crate::domain::stakes::Subject;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/service-accounts/{sa}/groups/{group}",
    "Take the account out of a group",
    Need::root("account_group.delete", "group_member:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("groups", "GroupNames").unversioned())
.may_refuse(&[Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let account = find_living(&mut work, admitted.call.param("sa")).await?;
    let before = super::shown(work.unit.conn(), &account).await?;
    let principal = Subject::account(&account.id);
    let leave = [admitted.call.param("group").to_owned()];
    let moves = Moves { principal: &principal, join: &[], leave: &leave, field: "" };
    groups::regroup(&mut work, moves).await?;
    let after = super::shown(work.unit.conn(), &account).await?;
    let action = "account_group.delete";
    let happening = super::happening(action, &account, before, after.clone());
    let conclusion = work.concluded(&account.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "groups", after).send(&admitted, wait).await
}
