//! `O/service-accounts`.

pub(super) mod activate;
pub(super) mod batch;
pub(super) mod create;
pub(super) mod deactivate;
pub(super) mod import;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod revoke;
pub(super) mod update;

use serde_json::Value;
use sqlx::SqliteConnection;

use crate::api::problem::Problem;
use crate::api::views;
use crate::api::work::Happening;
use crate::store::accounts::AccountRow;
use crate::store::audit::Target;
use crate::store::keys;

async fn shown(conn: &mut SqliteConnection, row: &AccountRow) -> Result<Value, Problem> {
    let count = keys::count_of_owner(conn, &row.id).await?;
    Ok(views::account(row, count))
}

fn happening(
    action: &'static str,
    row: &AccountRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "service_account", id: row.id.clone(), name: row.username.clone() },
        resource_id: None,
        before,
        after,
    }
}
