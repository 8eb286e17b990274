//! `DELETE O/security-policies/{policy}`: with its bindings.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::{Effect, security_policies};

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/security-policies/{policy}",
    "Delete a security policy with its bindings",
    Need::root("security_policy.delete", "security_policy:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("security_policy", "SecurityPolicy"))
.may_refuse(&[Code::ImmutableObject, Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = security_policies::find(&mut work, admitted.call.param("policy")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    security_policies::delete(&mut work, &row).await?;
    let happening = super::happening("security_policy.delete", &row, Some(before.clone()), None);
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "security_policy", before)
        .send(&admitted, wait)
        .await
}
