//! `PATCH O/policy`: what it changes about access reaches gateways before the answer.

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::work::Happening;
use crate::domain::{Effect, policy};
use crate::store::audit::Target;

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/policy",
    "Change the organization's policy",
    Need::root("org_policy.update", "organization:update"),
    |admitted| Box::pin(run(admitted)),
)
.notes("A profile resets every field to its preset before the others apply.")
.reads(|body| super::patch(body).err(), r#"{"max_keys_per_sa": 5}"#)
.answers(Answer::narrowed("policy", "OrgPolicy"))
.may_refuse(&[Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = super::patch(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut org = work.org()?.clone();
    admitted.check_version(org.version, org.policy.require_if_match)?;
    let before = super::shown(&org);
    let changed = policy::patch(&mut work, &mut org, &patch).await?;
    let after = super::shown(&org);
    let conclusion = match changed {
        true => {
            let happening = Happening {
                action: "org_policy.update",
                target: Target { kind: "org_policy", id: org.id.clone(), name: org.name.clone() },
                resource_id: Some(org.root_resource_id.clone()),
                before: Some(before),
                after: Some(after.clone()),
            };
            work.concluded(&org.id, happening)
        }
        false => work.unchanged(),
    };
    Mutation::of(conclusion, Effect::Narrowing, "policy", after).send(&admitted, wait).await
}
