//! `POST S:deactivate`: all keys of the account stop at once; by policy they are deleted.

use serde_json::json;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("service_account.deactivate", "service_account:update");
    let mut admitted = call.identify().await?.member(need)?;
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let deleted = accounts::deactivate(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let committed = match deleted {
        Some(_) => {
            let action = "service_account.deactivate";
            let happening = super::happening(action, &row, Some(before), Some(after.clone()));
            work.commit(&row.org_id, happening).await?
        }
        None => work.unchanged(),
    };
    Ok(Mutation::of(committed, Effect::Narrowing, "service_account", after)
        .with("deleted_key_count", json!(deleted.unwrap_or(0)))
        .send(&admitted, wait)
        .await)
}
