//! `GET O/users/{user}`.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::{self, Reply};
use crate::api::views;
use crate::store::users::{self, UserRow};

pub(crate) async fn run(call: Call) -> Reply {
    let admitted = call.identify().await?.member(Need::root("user.read", "user:read"))?;
    admitted.call.no_query()?;
    let mut view = admitted.view().await?;
    let row = users::find(view.conn(), &admitted.org()?.id, admitted.call.param("user")).await?;
    let row = row.filter(UserRow::is_active).ok_or_else(Problem::not_found)?;
    Ok(reply::object(&admitted.call, row.version, views::user(&row)))
}
