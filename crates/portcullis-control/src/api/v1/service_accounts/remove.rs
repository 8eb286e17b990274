//! `DELETE S`: the account and all its keys, for good.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/service-accounts/{sa}",
    "Delete a service account and all its keys, for good",
    Need::root("service_account.delete", "service_account:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("service_account", "ServiceAccount"))
.may_refuse(&[Code::OperationNotOffered]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    accounts::delete(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let action = "service_account.delete";
    let happening = super::happening(action, &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "service_account", after)
        .send(&admitted, wait)
        .await
}
