//! `GET O/roles/{role}`.

use portcullis_core::access::BuiltinRole;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::api::views;
use crate::store::roles;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/roles/{role}",
    "Read a role",
    Need::root("role.read", "role:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("Role"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let id = admitted.call.param("role");
    if let Some(role) = BuiltinRole::find(id) {
        return Ok(reply::object(&admitted.call, 1, views::built_in_role(role)));
    }
    let mut view = admitted.view().await?;
    let row = roles::find(view.conn(), &admitted.org()?.id, id).await?;
    let row = row.ok_or_else(Problem::not_found)?;
    Ok(reply::object(&admitted.call, row.version, views::role(&row)))
}
