//! `GET O/users`: by state, username and text; without a state, those who take a seat.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::users::{self, UserFilter, UserRow};

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/users",
    "List the users",
    Need::root("user.list", "user:read"),
    |admitted| Box::pin(run(admitted)),
)
.notes("Without a state, those who take a seat.")
.filters(|query| drop(filter(query)))
.answers(Answer::Page("User"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let found = users::list(view.conn(), org_id, &filter, &list.slice).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::user(row)),
    )
}

fn filter(query: &mut Query) -> UserFilter {
    let states = &[UserRow::ACTIVE, UserRow::REMOVED];
    let state = query.read("state", fields::one_of(states)).unwrap_or(UserRow::ACTIVE);
    UserFilter {
        state: Some(state.to_owned()),
        // What cannot be a username is nobody's.
        username_key: query.text("username").map(|text| {
            Username::parse(&text).map_or(text, |username| username.folded().to_owned())
        }),
        q: query.text("q"),
    }
}
