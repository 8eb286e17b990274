//! `PATCH S/access/{resource}`: the direct role on a resource becomes this one.

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::bindings::Change;
use crate::domain::stakes::Subject;
use serde_json::Value;

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/service-accounts/{sa}/access/{resource}",
    "Replace the direct role on a resource",
    Need::somewhere("access.update", "role_binding:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"role_id": "viewer"}"#)
.answers(Answer::narrowed("access", "AccessRow?").unversioned())
.may_refuse(&[
    Code::AccessIsInherited,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let role_id = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let account = find_living(&mut work, admitted.call.param("sa")).await?;
    let resource = super::find_resource(&mut work, admitted.call.param("resource")).await?;
    work.check_at("role_binding:update", &resource.id).await?;
    account.state()?.editable()?;
    let before = super::shown(&mut work, &account, &resource).await?;
    let direct = super::direct_bindings(&mut work, &account, &resource).await?;
    let mut change = Change::begin(&mut work, Subject::account(&account.id)).await?;
    // Of several direct roles one is altered and the others go, so the result is the one asked for.
    let kept = direct.iter().find(|row| row.role_id == role_id).or(direct.first());
    let mut kept = kept.cloned().ok_or_else(Problem::not_found)?;
    for other in direct.iter().filter(|row| row.id != kept.id) {
        change.remove(&mut work, other).await?;
    }
    let same = kept.role_id == role_id && direct.len() == 1;
    if kept.role_id != role_id {
        let propagate = kept.propagate;
        change.alter(&mut work, &mut kept, &role_id, propagate).await?;
    }
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(&mut work).await?;
    let after = super::shown(&mut work, &account, &resource).await?;
    let org_id = account.org_id.clone();
    let conclusion = match same {
        true => work.unchanged(),
        false => {
            let resource_id = Some(resource.id.clone());
            let happening =
                super::happening("access.update", &account, resource_id, before, after.clone());
            work.concluded(&org_id, happening)
        }
    };
    Mutation::of(conclusion, Effect::Narrowing, "access", after)
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<String, Faults> {
    let role_id = body.required("role_id", fields::id);
    let complete = body.finish()?;
    Ok(role_id.value(&complete))
}
