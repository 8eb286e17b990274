//! Everything that gateways hold, made anew from the rows: after an import.

use super::{Problem, records};
use crate::store::accounts::{self, AccountFilter};
use crate::store::keys::{self, KeyFilter};
use crate::store::organizations::OrganizationRow;
use crate::store::page::{Order, Slice};
use crate::store::users::{self, UserFilter};
use crate::store::{Unit, groups, organizations, resources, roles};

/// Rows read at a time.
const CHUNK: i64 = 1000;

pub(crate) async fn publish_all(unit: &mut Unit) -> Result<(), Problem> {
    records::publish_roles(unit).await?;
    for id in organizations::list_ids(unit.conn()).await? {
        let org = organizations::find(unit.conn(), &id).await?.ok_or_else(Problem::not_found)?;
        records::publish_organization(unit, &org).await?;
        for row in resources::list_all(unit.conn(), &id).await? {
            records::publish_resource(unit, &row).await?;
        }
        for row in roles::list_all(unit.conn(), &id).await? {
            records::publish_role(unit, &row).await?;
        }
        for row in groups::list_all(unit.conn(), &id).await? {
            records::publish_group(unit, &row, &org.policy).await?;
        }
        publish_principals(unit, &org).await?;
        publish_keys(unit, &org).await?;
    }
    Ok(())
}

async fn publish_principals(unit: &mut Unit, org: &OrganizationRow) -> Result<(), Problem> {
    let mut slice = from_start();
    loop {
        let filter = UserFilter::default();
        let (rows, _) = users::list(unit.conn(), &org.id, &filter, &slice).await?;
        let Some(last) = rows.last() else { break };
        slice.after = Some((last.created_ms, last.id.clone()));
        for row in &rows {
            records::publish_user(unit, row, &org.policy).await?;
        }
    }
    let mut slice = from_start();
    loop {
        let filter = AccountFilter::default();
        let rows = accounts::list(unit.conn(), &org.id, &filter, &slice).await?.rows;
        let Some(last) = rows.last() else { return Ok(()) };
        slice.after = Some((last.created_ms, last.id.clone()));
        for row in &rows {
            records::publish_account(unit, row, &org.policy).await?;
        }
    }
}

async fn publish_keys(unit: &mut Unit, org: &OrganizationRow) -> Result<(), Problem> {
    let mut slice = from_start();
    loop {
        let filter = KeyFilter::default();
        let rows = keys::list(unit.conn(), &org.id, &filter, &slice).await?.rows;
        let Some(last) = rows.last() else { return Ok(()) };
        slice.after = Some((last.created_ms, last.id.clone()));
        for row in &rows {
            records::publish_key(unit, row).await?;
        }
    }
}

fn from_start() -> Slice {
    Slice { order: Order::OldestFirst, after: None, limit: CHUNK, count: false }
}
