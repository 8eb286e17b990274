//! `POST S:deactivate`: all keys of the account stop at once; by policy they are deleted.

use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}:deactivate",
    "Stop all keys of the account at once",
    Need::root("service_account.deactivate", "service_account:update"),
    |admitted| Box::pin(run(admitted)),
)
.notes("By policy its keys are preserved or deleted.")
.answers(
    Answer::narrowed("service_account", "ServiceAccount").with(&[("deleted_key_count", "Count")]),
)
.may_refuse(&[Code::OperationNotOffered, Code::StateTerminal]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let deleted = accounts::deactivate(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let conclusion = match deleted {
        Some(_) => {
            let action = "service_account.deactivate";
            let happening = super::happening(action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        None => work.unchanged(),
    };
    Mutation::of(conclusion, Effect::Narrowing, "service_account", after)
        .with("deleted_key_count", json!(deleted.unwrap_or(0)))
        .send(&admitted, wait)
        .await
}
