//! `S/groups`: the groups that a service account is in.

pub(super) mod assign;
pub(super) mod list;
pub(super) mod remove;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::api::problem::Problem;
use crate::api::work::Happening;
use crate::store::accounts::AccountRow;
use crate::store::audit::Target;
use crate::store::groups::{self, GroupRow};

async fn shown(conn: &mut SqliteConnection, account: &AccountRow) -> Result<Value, Problem> {
    let rows = groups::list_of_principal(conn, &account.id).await?;
    Ok(rows.iter().map(item).collect())
}

fn item(row: &GroupRow) -> Value {
    json!({"id": row.id, "name": row.name, "kind": row.kind})
}

fn happening(action: &'static str, account: &AccountRow, before: Value, after: Value) -> Happening {
    Happening {
        action,
        target: Target {
            kind: "service_account",
            id: account.id.clone(),
            name: account.username.clone(),
        },
        resource_id: None,
        before: Some(before),
        after: Some(after),
    }
}
