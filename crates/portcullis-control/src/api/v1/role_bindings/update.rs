//! `PATCH O/role-bindings/{binding}`: another role or reach.

use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::bindings::Change;
use crate::domain::stakes::Subject;

const READ_ONLY: &[&str] = &[
    "id",
    "org_id",
    "subject",
    "resource_id",
    "policy_id",
    "managed_by",
    "created_by",
    "created_at",
    "updated_at",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/role-bindings/{binding}",
    "Change role or reach of a binding",
    Need::somewhere("role_binding.update", "role_binding:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"propagate": false}"#)
.answers(Answer::narrowed("role_binding", "RoleBinding"))
.may_refuse(&[
    Code::DuplicateBinding,
    Code::ImmutableObject,
    Code::LastOwner,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let (role_id, propagate) = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = super::find(&mut work, admitted.call.param("binding")).await?;
    work.check_at("role_binding:update", &row.resource_id).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = views::binding(&row);
    let mut change = Change::begin(&mut work, Subject::of(&row)).await?;
    let role_id = role_id.unwrap_or_else(|| row.role_id.clone());
    let propagate = propagate.unwrap_or(row.propagate);
    change.alter(&mut work, &mut row, &role_id, propagate).await?;
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(&mut work).await?;
    let after = views::binding(&row);
    let happening =
        super::happening("role_binding.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "role_binding", after)
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<(Option<String>, Option<bool>), Faults> {
    let role_id = body.patched("role_id", fields::id);
    let propagate = body.patched("propagate", fields::boolean);
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok((role_id.value(&complete), propagate.value(&complete)))
}
