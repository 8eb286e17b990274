//! `POST O/security-policies/{policy}:disable`: its bindings count as absent.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/security-policies/{policy}:disable",
    "Make the bindings of a security policy count as absent",
    Need::root("security_policy.disable", "security_policy:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("security_policy", "SecurityPolicy"))
.may_refuse(&[Code::LastOwner, Code::PrivilegeEscalation]);

async fn run(admitted: Admitted) -> Reply {
    super::set_enabled(admitted, false).await
}
