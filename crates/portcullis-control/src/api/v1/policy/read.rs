//! `GET O/policy`.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::{self, Reply};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("org_policy.read", "organization:read");
    let admitted = call.identify().await?.member(need)?;
    admitted.call.no_query()?;
    let org = admitted.org()?;
    Ok(reply::object(&admitted.call, org.version, super::shown(org)))
}
