//! `PATCH O`: its name; for the operator also plan and entitlements.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::Happening;
use crate::caller::Caller;
use crate::domain::{Effect, records};
use crate::store::organizations;

const READ_ONLY: &[&str] = &[
    "id",
    "profile",
    "policy",
    "root_resource_id",
    "owner_group_id",
    "state",
    "created_at",
    "updated_at",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}",
    "Change the organization",
    Need::root("organization.update", "organization:update").or_operator(),
    |admitted| Box::pin(run(admitted)),
)
.notes("Plan and entitlements are the operator's to change.")
.reads(|body| read(body, true).err(), r#"{"name": "Acme"}"#)
.answers(Answer::changed("organization", "Organization"));

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let operator = matches!(admitted.caller, Caller::Operator { .. });
    let patch = read(admitted.call.body().await?, operator)?;
    let mut work = admitted.begin().await?;
    let mut org = work.org()?.clone();
    admitted.check_version(org.version, org.policy.require_if_match)?;
    let before = views::organization(&org);
    org.name = patch.name.unwrap_or(org.name);
    org.plan = patch.plan.unwrap_or(org.plan);
    org.allows_accounts = patch.allows_accounts.unwrap_or(org.allows_accounts);
    let effect = match patch.allows_accounts {
        Some(_) => Effect::Narrowing,
        None => Effect::Label,
    };
    let now = work.now;
    organizations::update(work.unit.conn(), &mut org, now).await?;
    records::publish_organization(&mut work.unit, &org).await?;
    let after = views::organization(&org);
    let happening = Happening {
        action: "organization.update",
        target: super::target(&org),
        resource_id: Some(org.root_resource_id.clone()),
        before: Some(before),
        after: Some(after.clone()),
    };
    let conclusion = work.concluded(&org.id, happening);
    Mutation::of(conclusion, effect, "organization", after).send(&admitted, wait).await
}

struct Patch {
    name: Option<String>,
    plan: Option<String>,
    allows_accounts: Option<bool>,
}

fn read(mut body: Fields, operator: bool) -> Result<Patch, Faults> {
    let name = body.patched("name", fields::name(Username::parse));
    body.read_only(READ_ONLY);
    if !operator {
        body.read_only(&["plan", "entitlements"]);
    }
    let plan = body.patched("plan", fields::text(64));
    let entitlements = body.patched(
        "entitlements",
        fields::object(|mut inner| {
            let accounts = inner.patched("service_accounts", fields::boolean);
            let complete = inner.finish()?;
            Ok(accounts.value(&complete))
        }),
    );
    let complete = body.finish()?;
    Ok(Patch {
        name: name.value(&complete).map(|name| name.as_str().to_owned()),
        plan: plan.value(&complete),
        allows_accounts: entitlements.value(&complete).flatten(),
    })
}
