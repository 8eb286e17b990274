//! `GET O/users/{user}`.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::api::views;
use crate::store::users::{self, UserRow};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/users/{user}",
    "Read a user",
    Need::root("user.read", "user:read"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::Object("User"));

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let row = users::find(view.conn(), &admitted.org()?.id, admitted.call.param("user")).await?;
    let row = row.filter(UserRow::is_active).ok_or_else(Problem::not_found)?;
    Ok(reply::object(&admitted.call, row.version, views::user(&row)))
}
