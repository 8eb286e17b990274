//! `GET O/resources/{resource}`.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::store::resources;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("resource.read", "resource:read");
    let admitted = call.identify().await?.member(need)?;
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("resource");
    let row = resources::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let shown = super::shown(view.conn(), &row).await?;
    Ok(reply::object(&admitted.call, row.version, shown))
}
