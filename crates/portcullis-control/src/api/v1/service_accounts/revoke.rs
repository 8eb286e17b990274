//! `POST S:revoke`: final; the account stays listed, its keys are revoked with it.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}:revoke",
    "Revoke the account and its keys, finally; it stays listed",
    Need::root("service_account.revoke", "service_account:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("service_account", "ServiceAccount"))
.may_refuse(&[Code::OperationNotOffered]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let changed = accounts::revoke(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let conclusion = match changed {
        true => {
            let action = "service_account.revoke";
            let happening = super::happening(action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        false => work.unchanged(),
    };
    Mutation::of(conclusion, Effect::Narrowing, "service_account", after)
        .send(&admitted, wait)
        .await
}
