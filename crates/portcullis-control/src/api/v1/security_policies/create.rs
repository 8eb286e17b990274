//! `POST O/security-policies`: with its bindings, all or nothing.

use portcullis_core::account::Username;
use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::security_policies::{self, NewPolicy};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/security-policies",
    "Create a security policy with its bindings",
    Need::root("security_policy.create", "security_policy:create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(
    |body| read(body).err(),
    r#"{"name": "readers", "enabled": true, "bindings": [{"role_id": "viewer",
        "subject": {"kind": "group", "id": "01983f10-0000-7000-8000-000000000001"},
        "resource_id": "01983f10-0000-7000-8000-000000000002"}]}"#,
)
.answers(Answer::created("security_policy", "SecurityPolicy"))
.may_refuse(&[
    Code::DuplicateBinding,
    Code::NameTaken,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let (row, warnings) = security_policies::create(&mut work, wanted).await?;
    let shown = super::shown(work.unit.conn(), &row).await?;
    let happening = super::happening("security_policy.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "security_policy", shown)
        .created(format!("/v1/organizations/{}/security-policies/{}", row.org_id, row.id))
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<NewPolicy, Faults> {
    let name = body.required("name", fields::name(Username::parse));
    let enabled = body.optional("enabled", fields::boolean);
    let bindings = body.optional("bindings", super::read_bindings());
    let complete = body.finish()?;
    Ok(NewPolicy {
        name: name.value(&complete),
        enabled: enabled.value(&complete).unwrap_or(true),
        bindings: bindings.value(&complete).unwrap_or_default(),
    })
}
