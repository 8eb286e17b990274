//! `POST S/keys/{key}:rotate`: a new secret under the same id; the old one may live on for a while.

use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::keys::{self, RotateWish, RotationWish};
use crate::domain::secrets::Shown;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}:rotate",
    "Give the key a new secret under the same id",
    Need::root("api_key.rotate", "api_key:rotate"),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "The old secret may live on for a while; with `retire_after_quiet_hours` only until nobody \
        has used it for so long.",
)
.reads(|body| read(body).err(), r#"{"retain_minutes": 60, "expires": "keep"}"#)
.answers(Answer::narrowed("key", "Key").with_secret())
.may_refuse(&[
    Code::KeyExpired,
    Code::KeyInactive,
    Code::OperationNotOffered,
    Code::PrivilegeEscalation,
    Code::StateTerminal,
]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}:rotate");

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wish = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let (owner, mut row) = super::find(&mut work, &admitted.call).await?;
    keys::refuse_escalation(&mut work, owner.kind, &owner.id).await?;
    owner.refuse_secrets()?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(&work, &owner, &row)?;
    let plain = keys::rotate(&mut work, &mut row, wish).await?;
    let secret = Shown::of(&work.org()?.policy, &row, &plain);
    let after = super::shown(&work, &owner, &row)?;
    let happening = super::happening("api_key.rotate", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "key", after)
        .with_secret(&secret)
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<RotationWish, Faults> {
    let retain = body.optional("retain_minutes", fields::integer(0..=525_600));
    let quiet = body.optional("retire_after_quiet_hours", fields::integer(1..=8760));
    let expires = body.optional("expires", expiry());
    let complete = body.finish()?;
    let quiet = quiet.value(&complete);
    Ok(RotationWish {
        retain_minutes: retain.value(&complete).unwrap_or(0),
        retire_after_quiet_hours: quiet.and_then(|hours| u32::try_from(hours).ok()),
        expires: expires.value(&complete).unwrap_or(RotateWish::Default),
    })
}

/// What becomes of the expiry.
pub(super) fn expiry() -> impl Reader<Value = RotateWish> {
    let schema = json!({
        "type": "string",
        "anyOf": [{"enum": ["keep", "never"]}, {"format": "date-time"}],
    });
    fields::custom(schema, |value| match value.as_str() {
        Some("keep") => Ok(RotateWish::Keep),
        Some("never") => Ok(RotateWish::Never),
        Some(_) | None => fields::instant
            .read(value)
            .map(RotateWish::At)
            .map_err(|_| Faults::format("`keep`, `never` or an instant is wanted")),
    })
}
