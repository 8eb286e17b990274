//! `GET O/users`: by state, username and text; without a state, those who take a seat.

use portcullis_core::account::Username;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::fields;
use crate::api::list::List;
use crate::api::reply::Reply;
use crate::api::views;
use crate::store::users::{self, UserFilter, UserRow};

pub(crate) async fn run(call: Call) -> Reply {
    let admitted = call.identify().await?.member(Need::root("user.list", "user:read"))?;
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let states = &[UserRow::ACTIVE, UserRow::REMOVED];
    let state = query.read("state", fields::one_of(states)).unwrap_or(UserRow::ACTIVE);
    let filter = UserFilter {
        state: Some(state.to_owned()),
        // What cannot be a username is nobody's.
        username_key: query.text("username").map(|text| {
            Username::parse(&text).map_or(text, |username| username.folded().to_owned())
        }),
        q: query.text("q"),
    };
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
