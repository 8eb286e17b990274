//! `PATCH O/security-policies/{policy}`: a list of bindings replaces the whole list.

use portcullis_core::account::Username;
use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::security_policies::{self, PolicyPatch};

const READ_ONLY: &[&str] = &[
    "id",
    "org_id",
    "kind",
    "group_count",
    "user_count",
    "service_account_count",
    "role_count",
    "created_by",
    "created_at",
    "updated_by",
    "updated_at",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/security-policies/{policy}",
    "Change a security policy; bindings replace all there are",
    Need::root("security_policy.update", "security_policy:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"name": "readers"}"#)
.answers(Answer::narrowed("security_policy", "SecurityPolicy"))
.may_refuse(&[
    Code::DuplicateBinding,
    Code::ImmutableObject,
    Code::LastOwner,
    Code::NameTaken,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = security_policies::find(&mut work, admitted.call.param("policy")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    let warnings = security_policies::patch(&mut work, &mut row, patch).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let happening =
        super::happening("security_policy.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "security_policy", after)
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<PolicyPatch, Faults> {
    let name = body.patched("name", fields::name(Username::parse));
    let enabled = body.patched("enabled", fields::boolean);
    let bindings = body.patched("bindings", super::read_bindings());
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok(PolicyPatch {
        name: name.value(&complete),
        enabled: enabled.value(&complete),
        bindings: bindings.value(&complete),
    })
}
