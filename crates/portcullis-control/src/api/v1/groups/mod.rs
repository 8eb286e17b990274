//! `O/groups` and their members.

pub(super) mod add_member;
pub(super) mod create;
pub(super) mod list;
pub(super) mod list_members;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod remove_member;
pub(super) mod update;

use serde_json::Value;
use sqlx::SqliteConnection;

use crate::api::problem::Problem;
use crate::api::views;
use crate::api::work::Happening;
use crate::store::audit::Target;
use crate::store::groups::{self, GroupRow};

async fn shown(conn: &mut SqliteConnection, row: &GroupRow) -> Result<Value, Problem> {
    let count = groups::count_members(conn, &row.id).await?;
    Ok(views::group(row, count))
}

fn happening(
    action: &'static str,
    row: &GroupRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "group", id: row.id.clone(), name: row.name.clone() },
        resource_id: None,
        before,
        after,
    }
}
