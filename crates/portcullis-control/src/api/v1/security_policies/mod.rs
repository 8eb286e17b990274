//! `O/security-policies`.

pub(super) mod create;
pub(super) mod disable;
pub(super) mod enable;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod update;

use serde_json::Value;
use sqlx::SqliteConnection;

use super::role_bindings::create::read_subject;
use crate::api::admission::Admitted;
use crate::api::fields;
use crate::api::problem::Problem;
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::Happening;
use crate::domain::Effect;
use crate::domain::security_policies::{self, PolicyBinding};
use crate::store::audit::Target;
use crate::store::bindings;
use crate::store::security_policies as rows;
use crate::store::security_policies::SecurityPolicyRow;

/// With its bindings.
async fn shown(conn: &mut SqliteConnection, row: &SecurityPolicyRow) -> Result<Value, Problem> {
    let counts = rows::count(conn, &row.id).await?;
    let bindings = bindings::list_of_policy(conn, &row.id).await?;
    Ok(views::security_policy(row, &counts, Some(&bindings)))
}

fn happening(
    action: &'static str,
    row: &SecurityPolicyRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "security_policy", id: row.id.clone(), name: row.name.clone() },
        resource_id: None,
        before,
        after,
    }
}

/// The bindings of a body.
fn read_bindings() -> impl Reader<Value = Vec<PolicyBinding>> {
    let one = fields::object(|mut inner| {
        let role_id = inner.required("role_id", fields::id);
        let subject = inner.required("subject", fields::object(read_subject));
        let resource_id = inner.required("resource_id", fields::id);
        let propagate = inner.optional("propagate", fields::boolean);
        let complete = inner.finish()?;
        Ok(PolicyBinding {
            subject: subject.value(&complete),
            role_id: role_id.value(&complete),
            resource_id: resource_id.value(&complete),
            propagate: propagate.value(&complete).unwrap_or(true),
        })
    });
    fields::list(0..=200, one)
}

/// Switches the policy of the path.
async fn set_enabled(mut admitted: Admitted, enabled: bool) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let mut row = security_policies::find(&mut work, admitted.call.param("policy")).await?;
    admitted.check_version(row.version, false)?;
    let before = shown(work.unit.conn(), &row).await?;
    let changed = security_policies::set_enabled(&mut work, &mut row, enabled).await?;
    let after = shown(work.unit.conn(), &row).await?;
    let conclusion = match changed {
        true => {
            let happening =
                happening(admitted.need.action, &row, Some(before), Some(after.clone()));
            work.concluded(&row.org_id, happening)
        }
        false => work.unchanged(),
    };
    // Under `override` a nearer role can lower what was inherited.
    Mutation::of(conclusion, Effect::Narrowing, "security_policy", after)
        .send(&admitted, wait)
        .await
}
