//! `GET S/keys/{key}`: everything but the secret.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::{self, Reply};
use crate::api::views::{self, KeyContext};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}",
    "Read a key: everything but the secret",
    Need::root("api_key.read", "api_key:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("Key"));

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}");

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let org = admitted.org()?;
    let mut view = admitted.view().await?;
    let owner = super::read_owner(view.conn(), &org.id, &admitted.call).await?;
    let row = super::find_key(view.conn(), &owner.id, admitted.call.param("key")).await?;
    let context = KeyContext { org, owner: owner.state, now: admitted.call.now };
    Ok(reply::object(&admitted.call, row.version, views::key(&row, context)?))
}
