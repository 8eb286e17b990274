//! `DELETE O/users/{user}`: the user's own keys die; what the user made for others stays.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::{Effect, users};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/users/{user}",
    "Remove a user and the user's own keys",
    Need::root("user.delete", "user:delete"),
    |admitted| Box::pin(run(admitted)),
)
.notes("What the user made for others stays.")
.answers(Answer::narrowed("user", "User"))
.may_refuse(&[Code::LastOwner]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = users::find_living(&mut work, admitted.call.param("user")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = views::user(&row);
    users::remove(&mut work, &mut row).await?;
    let after = views::user(&row);
    let happening = super::happening("user.delete", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "user", after).send(&admitted, wait).await
}
