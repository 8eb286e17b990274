//! `O/resources`.

pub(super) mod archive;
pub(super) mod create;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod unarchive;
pub(super) mod update;

use portcullis_core::account::DisplayName;
use serde_json::Value;
use sqlx::SqliteConnection;

use crate::api::admission::Admitted;
use crate::api::problem::Problem;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::{Happening, Work};
use crate::domain::{Effect, resources};
use crate::store::audit::Target;
use crate::store::resources as rows;
use crate::store::resources::ResourceRow;

async fn shown(conn: &mut SqliteConnection, row: &ResourceRow) -> Result<Value, Problem> {
    let above = rows::list_path(conn, &row.org_id, &row.id).await?;
    Ok(views::resource(row, &above))
}

async fn find(work: &mut Work, id: &str) -> Result<ResourceRow, Problem> {
    let org_id = work.org()?.id.clone();
    rows::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

fn happening(
    action: &'static str,
    row: &ResourceRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "resource", id: row.id.clone(), name: row.name.clone() },
        resource_id: Some(row.id.clone()),
        before,
        after,
    }
}

/// Resources have display names: not unique, shown as given.
fn name(text: &str) -> Result<String, portcullis_core::account::NameFault> {
    DisplayName::parse(text).map(|name| name.as_str().to_owned())
}

async fn set_archived(mut admitted: Admitted, archived: bool) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = find(&mut work, admitted.call.param("resource")).await?;
    admitted.check_version(row.version, false)?;
    let before = shown(work.unit.conn(), &row).await?;
    let changed = resources::set_archived(&mut work, &mut row, archived).await?;
    let after = shown(work.unit.conn(), &row).await?;
    let conclusion = match changed {
        true => {
            let happening =
                happening(admitted.need.action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        false => work.unchanged(),
    };
    let effect = if archived { Effect::Narrowing } else { Effect::Widening };
    Mutation::of(conclusion, effect, "resource", after).send(&admitted, wait).await
}
