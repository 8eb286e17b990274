//! `GET O`.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{self, Reply};
use crate::api::views;

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("organization.read", "organization:read");
    let admitted = call.identify().await?.member_or_operator(need).await?;
    admitted.call.no_query()?;
    let org = admitted.org()?;
    Ok(reply::object(&admitted.call, org.version, views::organization(org)))
}
