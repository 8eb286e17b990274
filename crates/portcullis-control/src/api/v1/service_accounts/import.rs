//! `POST O/service-accounts:import`: a workspace's own account from before the organization had
//! accounts. None is made any more; they are brought in, with `S/keys:import` for their keys.

use portcullis_core::account::{DisplayName, Username};
use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::legacy::{self, LegacyAccount};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts:import",
    "Bring in an account of one workspace",
    Need::root("service_account.import", "service_account:create").entitled(),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "A new service account of exactly the same name takes over its roles and references at its \
     first login to the workspace. Its keys are imported or deleted, never made.",
)
.reads(
    |body| read(body).err(),
    r#"{"workspace_id": "019a0000-0000-7000-8000-000000000000", "username": "trainer"}"#,
)
.answers(Answer::created("service_account", "ServiceAccount"))
.may_refuse(&[Code::PrivilegeEscalation, Code::RoleLimitReached, Code::UsernameTaken]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    if wanted.role_id.is_some() {
        work.check_at("role_binding:create", &wanted.workspace_id).await?;
    }
    let (row, warnings) = legacy::import(&mut work, wanted).await?;
    let shown = super::shown(work.unit.conn(), &row).await?;
    let happening = super::happening("service_account.import", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    let location = format!("/v1/organizations/{}/service-accounts/{}", row.org_id, row.id);
    Mutation::of(conclusion, Effect::Widening, "service_account", shown)
        .created(location)
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<LegacyAccount, Faults> {
    let workspace_id = body.required("workspace_id", fields::id);
    let username = body.required("username", fields::name(Username::parse));
    let display_name = body.optional("display_name", fields::name(DisplayName::parse));
    let description = body.optional("description", fields::long_text(64 * 1024));
    let legacy_id = body.optional("legacy_id", fields::text(255));
    let active = body.optional("active", fields::boolean);
    let role_id = body.optional("role_id", fields::id);
    let complete = body.finish()?;
    Ok(LegacyAccount {
        workspace_id: workspace_id.value(&complete),
        username: username.value(&complete),
        display_name: display_name.value(&complete),
        description: description.value(&complete),
        legacy_id: legacy_id.value(&complete),
        active: active.value(&complete).unwrap_or(true),
        role_id: role_id.value(&complete),
    })
}
