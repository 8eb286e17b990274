//! `POST S/groups:assign`: into one or more groups, in one step.

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::groups::{self, Moves};
use crate::domain::stakes::Subject;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/groups:assign",
    "Put the account into one or more groups",
    Need::root("account_group.assign", "group_member:create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"group_ids": ["01983f10-0000-7000-8000-000000000001"]}"#)
.answers(Answer::narrowed("groups", "GroupNames").unversioned())
.may_refuse(&[Code::PolicyForbids, Code::PrivilegeEscalation, Code::StateTerminal]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let join = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let account = find_living(&mut work, admitted.call.param("sa")).await?;
    account.state()?.editable()?;
    let before = super::shown(work.unit.conn(), &account).await?;
    let principal = Subject::account(&account.id);
    let moves = Moves { principal: &principal, join: &join, leave: &[], field: "group_ids" };
    let changed = groups::regroup(&mut work, moves).await?;
    let after = super::shown(work.unit.conn(), &account).await?;
    let conclusion = match changed {
        0 => work.unchanged(),
        _ => {
            let action = "account_group.assign";
            let happening = super::happening(action, &account, before, after.clone());
            work.concluded(&account.org_id, happening)
        }
    };
    // A group can also deny.
    Mutation::of(conclusion, Effect::Narrowing, "groups", after).send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<Vec<String>, Faults> {
    let group_ids = body.required("group_ids", fields::list(1..=200, fields::id));
    let complete = body.finish()?;
    Ok(group_ids.value(&complete))
}
