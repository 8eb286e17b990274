//! `POST S/access:grant`: one role on one or more resources, in one step.

use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::api::work::{Work, unknown_reference};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::bindings::{Change, NewBinding};
use crate::domain::stakes::Subject;
use crate::store::accounts::AccountRow;
use crate::store::bindings;
use crate::store::resources::{self, ResourceRow};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/access:grant",
    "Give the account a role on one or more resources",
    Need::somewhere("access.grant", "role_binding:create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(
    |body| read(body).err(),
    r#"{"resource_ids": ["01983f10-0000-7000-8000-000000000000"], "role_id": "viewer"}"#,
)
.answers(Answer::narrowed("access", "AccessRows").unversioned())
.may_refuse(&[
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::RoleLimitReached,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let Grant { resource_ids, role_id, propagate } = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let org_id = work.org()?.id.clone();
    let mut found = Vec::with_capacity(resource_ids.len());
    for (index, id) in resource_ids.iter().enumerate() {
        let resource = resources::find(work.unit.conn(), &org_id, id).await?;
        found.push(resource.ok_or_else(|| unknown_reference(&format!("resource_ids[{index}]")))?);
        work.check_at("role_binding:create", id).await?;
    }
    let account = find_living(&mut work, admitted.call.param("sa")).await?;
    account.state()?.editable()?;
    let before = rows(&mut work, &account, &found).await?;
    let subject = Subject::account(&account.id);
    let mut change = Change::begin(&mut work, subject.clone()).await?;
    let mut granted = 0;
    for id in &resource_ids {
        let held = bindings::list_of_subject(work.unit.conn(), &account.id).await?;
        let equal = held.into_iter().find(|row| {
            row.resource_id == *id && row.role_id == role_id && row.policy_id.is_none()
        });
        match equal {
            Some(row) if row.propagate == propagate => {}
            Some(mut row) => {
                change.alter(&mut work, &mut row, &role_id, propagate).await?;
                granted += 1;
            }
            None => {
                let wanted = NewBinding {
                    role_id: role_id.clone(),
                    resource_id: id.clone(),
                    propagate,
                    policy_id: None,
                };
                change.add(&mut work, &subject, &wanted, "").await?;
                granted += 1;
            }
        }
    }
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(&mut work).await?;
    let after = rows(&mut work, &account, &found).await?;
    let conclusion = match granted {
        0 => work.unchanged(),
        _ => {
            let happening = super::happening("access.grant", &account, None, before, after.clone());
            work.concluded(&org_id, happening)
        }
    };
    Mutation::of(conclusion, Effect::Narrowing, "access", after)
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

async fn rows(
    work: &mut Work,
    account: &AccountRow,
    resources: &[ResourceRow],
) -> Result<Value, Problem> {
    let mut rows = Vec::with_capacity(resources.len());
    for resource in resources {
        rows.push(super::shown(work, account, resource).await?);
    }
    Ok(Value::Array(rows))
}

struct Grant {
    resource_ids: Vec<String>,
    role_id: String,
    propagate: bool,
}

fn read(mut body: Fields) -> Result<Grant, Faults> {
    let resource_ids = body.required("resource_ids", fields::list(1..=200, fields::id));
    let role_id = body.required("role_id", fields::id);
    let propagate = body.optional("propagate", fields::boolean);
    let complete = body.finish()?;
    let mut resource_ids = resource_ids.value(&complete);
    resource_ids.sort();
    resource_ids.dedup();
    Ok(Grant {
        resource_ids,
        role_id: role_id.value(&complete),
        propagate: propagate.value(&complete).unwrap_or(true),
    })
}
