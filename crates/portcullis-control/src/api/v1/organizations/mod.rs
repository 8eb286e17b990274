//! `/v1/organizations`.

pub(super) mod create;
pub(super) mod diagnose;
pub(super) mod explain;
pub(super) mod list;
pub(super) mod read;
pub(super) mod resume;
pub(super) mod suspend;
pub(super) mod update;

use crate::api::admission::Admitted;
use crate::api::problem::Problem;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::Happening;
use crate::domain::{Effect, organizations};
use crate::store::audit::Target;
use crate::store::organizations as rows;
use crate::store::organizations::OrganizationRow;

fn target(row: &OrganizationRow) -> Target {
    Target { kind: "organization", id: row.id.clone(), name: row.name.clone() }
}

/// Suspends or resumes the organization of the path.
async fn set_suspended(mut admitted: Admitted, suspended: bool) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let row = rows::find(work.unit.conn(), admitted.call.param("org")).await?;
    let mut row = row.ok_or_else(Problem::not_found)?;
    admitted.check_version(row.version, false)?;
    let before = views::organization(&row);
    let changed = organizations::set_suspended(&mut work.unit, &mut row, suspended).await?;
    let after = views::organization(&row);
    let conclusion = match changed {
        true => {
            let happening = Happening {
                action: admitted.need.action,
                target: target(&row),
                resource_id: Some(row.root_resource_id.clone()),
                before: Some(before),
                after: Some(after.clone()),
            };
            work.concluded(&row.id, happening)
        }
        false => work.unchanged(),
    };
    let effect = if suspended { Effect::Narrowing } else { Effect::Widening };
    Mutation::of(conclusion, effect, "organization", after).send(&admitted, wait).await
}
