//! `POST S/keys/{key}:rotate`: a new secret under the same id; the old one may live on for a while.

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::fields::{self, Faults, Fields};
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::keys::{self, RotateWish};

pub(crate) async fn run(call: Call) -> Reply {
    let need = Need::root("api_key.rotate", "api_key:rotate");
    let mut admitted = super::admit(call, need).await?;
    let wait = admitted.wait()?;
    let (retain_minutes, wish) = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let (owner, mut row) = super::find(&mut work, &admitted.call).await?;
    keys::refuse_escalation(&mut work, &owner.id).await?;
    admitted.check_version(row.version, false)?;
    let before = super::shown(&work, &owner, &row)?;
    let plain = keys::rotate(&mut work, &mut row, retain_minutes, wish).await?;
    let after = super::shown(&work, &owner, &row)?;
    let happening = super::happening("api_key.rotate", &row, Some(before), Some(after.clone()));
    let committed = work.commit(&row.org_id, happening).await?;
    Ok(Mutation::of(committed, Effect::Narrowing, "key", after)
        .with_secret(&plain)
        .send(&admitted, wait)
        .await)
}

fn read(mut body: Fields) -> Result<(u64, RotateWish), Faults> {
    let retain = body.optional("retain_minutes", fields::integer(0..=525_600));
    let expires = body.optional("expires", |value| match value.as_str() {
        Some("keep") => Ok(RotateWish::Keep),
        Some("never") => Ok(RotateWish::Never),
        Some(_) | None => fields::instant(value)
            .map(RotateWish::At)
            .map_err(|_| Faults::format("`keep`, `never` or an instant is wanted")),
    });
    let complete = body.finish()?;
    Ok((
        retain.value(&complete).unwrap_or(0),
        expires.value(&complete).unwrap_or(RotateWish::Default),
    ))
}
