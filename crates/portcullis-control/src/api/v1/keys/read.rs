//! `GET S/keys/{key}`: everything but the secret.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{self, Reply};
use crate::api::views::{self, KeyContext};

pub(crate) async fn run(call: Call) -> Reply {
    let admitted = super::admit(call, Need::root("api_key.read", "api_key:read")).await?;
    admitted.call.no_query()?;
    let org = admitted.org()?;
    let mut view = admitted.view().await?;
    let owner = super::read_owner(view.conn(), &org.id, &admitted.call).await?;
    let row = super::find_key(view.conn(), &owner.id, admitted.call.param("key")).await?;
    let context = KeyContext { org, owner: owner.state, now: admitted.call.now };
    Ok(reply::object(&admitted.call, row.version, views::key(&row, context)?))
}
