//! `POST S:activate`: the account and its active keys work again.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, accounts};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("service_account.activate", "service_account:update");
    let mut admitted = call.identify().await?.member(need)?;
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let changed = accounts::activate(&mut work, &mut row).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let committed = match changed {
        true => {
            let action = "service_account.activate";
            let happening = super::happening(action, &row, Some(before), Some(after.clone()));
            work.commit(&row.org_id, happening).await?
        }
        false => work.unchanged(),
    };
    Ok(Mutation::of(committed, Effect::Widening, "service_account", after)
        .send(&admitted, wait)
        .await)
}
