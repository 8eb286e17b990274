//! `GET O/security-policies/{policy}`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::store::security_policies;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/security-policies/{policy}",
    "Read a security policy",
    Need::root("security_policy.read", "security_policy:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("SecurityPolicy"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let id = admitted.call.param("policy");
    let row = security_policies::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let shown = super::shown(view.conn(), &row).await?;
    Ok(reply::object(&admitted.call, row.version, shown))
}
