//! `POST O/role-bindings`: gives a subject a role on a resource.

use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::unknown_reference;
use crate::domain::Effect;
use crate::domain::bindings::{Change, NewBinding, check_subject};
use crate::domain::stakes::Subject;
use crate::store::resources;

pub(super) const SUBJECT_KINDS: &[&str] = &["group", "service_account", "user"];

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/role-bindings",
    "Give a subject a role on a resource",
    Need::somewhere("role_binding.create", "role_binding:create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(
    |body| read(body).err(),
    r#"{"role_id": "viewer", "resource_id": "01983f10-0000-7000-8000-000000000000",
        "subject": {"kind": "service_account", "id": "01983f10-0000-7000-8000-000000000001"}}"#,
)
.answers(Answer::created("role_binding", "RoleBinding"))
.may_refuse(&[
    Code::DuplicateBinding,
    Code::ImmutableObject,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::RoleLimitReached,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let (wanted, subject) = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let org_id = work.org()?.id.clone();
    if resources::find(work.unit.conn(), &org_id, &wanted.resource_id).await?.is_none() {
        return Err(unknown_reference("resource_id"));
    }
    work.check_at("role_binding:create", &wanted.resource_id).await?;
    if wanted.policy_id.is_some() {
        let root = work.org()?.root_resource_id.clone();
        work.check_at("security_policy:update", &root).await?;
    }
    check_subject(&mut work, &subject, "subject.id").await?;
    let mut change = Change::begin(&mut work, subject.clone()).await?;
    let row = change.add(&mut work, &subject, &wanted, "").await?;
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(&mut work).await?;
    let shown = views::binding(&row);
    let happening = super::happening("role_binding.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&org_id, happening);
    // Under `override` a nearer role can lower what was inherited.
    Mutation::of(conclusion, Effect::Narrowing, "role_binding", shown)
        .created(format!("/v1/organizations/{org_id}/role-bindings/{}", row.id))
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

pub(super) fn read(mut body: Fields) -> Result<(NewBinding, Subject), Faults> {
    let role_id = body.required("role_id", fields::id);
    let resource_id = body.required("resource_id", fields::id);
    let propagate = body.optional("propagate", fields::boolean);
    let policy_id = body.optional("policy_id", fields::id);
    let subject = body.required("subject", fields::object(read_subject));
    let complete = body.finish()?;
    let wanted = NewBinding {
        role_id: role_id.value(&complete),
        resource_id: resource_id.value(&complete),
        propagate: propagate.value(&complete).unwrap_or(true),
        policy_id: policy_id.value(&complete),
    };
    Ok((wanted, subject.value(&complete)))
}

/// Whom a binding is for.
pub(in crate::api::v1) fn read_subject(mut inner: Fields) -> Result<Subject, Faults> {
    let kind = inner.required("kind", fields::one_of(SUBJECT_KINDS));
    let id = inner.required("id", fields::id);
    let complete = inner.finish()?;
    Ok(Subject { kind: kind.value(&complete).to_owned(), id: id.value(&complete) })
}
