//! `GET O/role-bindings/{binding}`.

use crate::api::admission::{Admitted, Need, permission};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::api::views;
use crate::caller::Caller;
use crate::store::bindings;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/role-bindings/{binding}",
    "Read a role binding",
    Need::somewhere("role_binding.read", "role_binding:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("RoleBinding"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let org_id = admitted.org()?.id.clone();
    let mut view = admitted.view().await?;
    let row = bindings::find(view.conn(), &org_id, admitted.call.param("binding")).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let Caller::Member(member) = &admitted.caller else { return Err(Problem::not_found()) };
    let mut access = member.access.clone();
    access.locate(view.conn(), &org_id, &row.resource_id).await?;
    if !access.permits(&permission("role_binding:read"), &row.resource_id) {
        return Err(Problem::permission_denied("role_binding:read"));
    }
    Ok(reply::object(&admitted.call, row.version, views::binding(&row)))
}
