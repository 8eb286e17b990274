//! `POST O/security-policies/{policy}:enable`: its bindings count again.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/security-policies/{policy}:enable",
    "Make the bindings of a security policy count",
    Need::root("security_policy.enable", "security_policy:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("security_policy", "SecurityPolicy"))
.may_refuse(&[Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(admitted: Admitted) -> Reply {
    super::set_enabled(admitted, true).await
}
