//! `DELETE S/access/{resource}`: takes the direct access away; what is inherited counts again.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::accounts::find_living;
use crate::domain::bindings::Change;
use crate::domain::stakes::Subject;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/service-accounts/{sa}/access/{resource}",
    "Take the direct access on a resource away",
    Need::somewhere("access.delete", "role_binding:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("access", "AccessRow?").unversioned())
.may_refuse(&[Code::AccessIsInherited]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    admitted.call.no_body().await?;
    let mut work = admitted.begin().await?;
    let account = find_living(&mut work, admitted.call.param("sa")).await?;
    let resource = super::find_resource(&mut work, admitted.call.param("resource")).await?;
    work.check_at("role_binding:delete", &resource.id).await?;
    let before = super::shown(&mut work, &account, &resource).await?;
    let direct = super::direct_bindings(&mut work, &account, &resource).await?;
    let mut change = Change::begin(&mut work, Subject::account(&account.id)).await?;
    for row in &direct {
        change.remove(&mut work, row).await?;
    }
    change.finish(&mut work).await?;
    let after = super::shown(&mut work, &account, &resource).await?;
    let org_id = account.org_id.clone();
    let resource_id = Some(resource.id.clone());
    let happening = super::happening("access.delete", &account, resource_id, before.clone(), after);
    let conclusion = work.concluded(&org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "access", before).send(&admitted, wait).await
}
