//! `DELETE S`: the account and all its keys, for good.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("service_account.delete", "service_account:delete");
    let mut admitted = call.identify().await?.member(need)?;
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
    let committed = work.commit(&row.org_id, happening).await?;
    Ok(Mutation::of(committed, Effect::Narrowing, "service_account", after)
        .send(&admitted, wait)
        .await)
}
