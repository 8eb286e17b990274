//! `POST S:activate`: the account and its active keys work again.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}:activate",
    "Make the account and its active keys work again",
    Need::root("service_account.activate", "service_account:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::changed("service_account", "ServiceAccount"))
.may_refuse(&[Code::OperationNotOffered, Code::StateTerminal]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let changed = accounts::activate(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let conclusion = match changed {
        true => {
            let action = "service_account.activate";
            let happening = super::happening(action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        false => work.unchanged(),
    };
    Mutation::of(conclusion, Effect::Widening, "service_account", after).send(&admitted, wait).await
}
