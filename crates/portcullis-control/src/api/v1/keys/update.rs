//! `PATCH S/keys/{key}`: name, description, expiry, restriction.

use portcullis_core::account::KeyName;

use super::create::restriction;
use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::keys::{self, KeyPatch};

const READ_ONLY: &[&str] = &[
    "id",
    "uid",
    "org_id",
    "owner",
    "state",
    "generation",
    "current",
    "previous",
    "hint",
    "created_by",
    "created_at",
    "updated_at",
    "last_used_at",
    "last_used_ip",
    "last_login_at",
    "last_rotated_at",
    "use_count",
    "denied_count",
    "expired",
    "usable",
    "age_days",
    "stale",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}",
    "Change name, description, expiry or restriction of a key",
    Need::root("api_key.update", "api_key:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"description": "nightly builds"}"#)
.answers(Answer::narrowed("key", "Key"))
.may_refuse(&[Code::NameTaken, Code::PrivilegeEscalation, Code::StateTerminal]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}");

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = read(admitted.call.body().await?)?;
    let label = patch.expires_at.is_none() && patch.restriction.is_none();
    let mut work = admitted.begin().await?;
    let (owner, mut row) = super::find(&mut work, &admitted.call).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(&work, &owner, &row)?;
    keys::patch(&mut work, &mut row, patch).await?;
    let after = super::shown(&work, &owner, &row)?;
    let happening = super::happening("api_key.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    let effect = if label { Effect::Label } else { Effect::Narrowing };
    Mutation::of(conclusion, effect, "key", after).send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<KeyPatch, Faults> {
    let name = body.patched("name", fields::name(KeyName::parse));
    let description = body.clearable("description", fields::long_text(64 * 1024));
    let expires_at = body.clearable("expires_at", fields::instant);
    let restriction = body.clearable("restriction", restriction());
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok(KeyPatch {
        name: name.value(&complete),
        description: description.value(&complete),
        expires_at: expires_at.value(&complete),
        restriction: restriction.value(&complete),
    })
}
