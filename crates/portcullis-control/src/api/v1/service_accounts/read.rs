//! `GET S`: a deleted account only with `include_deleted`, as a tombstone.

use portcullis_core::account::AccountState;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::fields;
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::store::accounts;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("service_account.read", "service_account:read");
    let admitted = call.identify().await?.member(need)?;
    let mut query = admitted.call.query()?;
    let include_deleted = query.read("include_deleted", fields::boolean).unwrap_or(false);
    query.finish()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("sa");
    let row = accounts::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    if row.state()? == AccountState::Deleted && !include_deleted {
        return Err(Problem::not_found());
    }
    let shown = super::shown(view.conn(), &row).await?;
    Ok(reply::object(&admitted.call, row.version, shown))
}
