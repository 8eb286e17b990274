//! `DELETE O/users/{user}`: the user's own keys die; what the user made for others stays.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::{Effect, users};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("user.delete", "user:delete");
    let mut admitted = call.identify().await?.member(need)?;
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = users::find_living(&mut work, admitted.call.param("user")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = views::user(&row);
    users::remove(&mut work, &mut row).await?;
    let after = views::user(&row);
    let happening = super::happening("user.delete", &row, Some(before), Some(after.clone()));
    let committed = work.commit(&row.org_id, happening).await?;
    Ok(Mutation::of(committed, Effect::Narrowing, "user", after).send(&admitted, wait).await)
}
