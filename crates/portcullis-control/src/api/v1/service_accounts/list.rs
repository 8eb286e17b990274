//! `GET O/service-accounts`.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::list::List;
use crate::api::operation::{Answer, Operation};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::views;
use crate::instant::column;
use crate::store::accounts::{self, AccountFilter};
use crate::store::keys;

pub(crate) const OPERATION: Operation = Operation::get(
    "/v1/organizations/{org}/service-accounts",
    "List the service accounts",
    Need::root("service_account.list", "service_account:read"),
    |admitted| Box::pin(run(admitted)),
)
.filters(|query| drop(filter(query)))
.answers(Answer::Page("ServiceAccount"));

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let mut list = List::read(&admitted.call, &mut query);
    let filter = filter(&mut query);
    query.finish()?;
    list.resume(&admitted.call)?;
    let mut view = admitted.view().await?;
    let org_id = &admitted.org()?.id;
    let found = accounts::list(view.conn(), org_id, &filter, &list.slice).await?;
    let shown: Vec<&str> = found.rows.iter().map(|row| row.id.as_str()).collect();
    let counts = keys::count_of_owners(view.conn(), &shown).await?;
    list.page(
        &admitted.call,
        found,
        |row| (row.created_ms, row.id.as_str()),
        |row| Ok(views::account(row, counts.get(&row.id).copied().unwrap_or(0))),
    )
}

fn filter(query: &mut Query) -> AccountFilter {
    let states = &["active", "inactive", "revoked", "deleted"];
    let managers = &["console", "api", "terraform", "migration"];
    let state = query.read("state", fields::one_of(states));
    let include_deleted = query.read("include_deleted", fields::boolean).unwrap_or(false);
    AccountFilter {
        state: state.map(str::to_owned),
        // What cannot be a username is nobody's.
        username_key: query.text("username").map(|text| {
            Username::parse(&text).map_or(text, |username| username.folded().to_owned())
        }),
        q: query.text("q"),
        managed_by: query.read("managed_by", fields::one_of(managers)).map(str::to_owned),
        group_id: query.text("group_id"),
        unused_since_ms: query.read("unused_since", fields::instant).map(column),
        include_deleted: include_deleted || state == Some("deleted"),
    }
}
