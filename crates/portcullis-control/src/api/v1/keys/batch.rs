//! `POST S/keys:batch`: one operation on many keys of one owner, or on all of them.

use crate::api::admission::{Admitted, Need};
use crate::api::batch::{self, Done, Each};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, FieldCode, Problem};
use crate::api::reply::Reply;
use crate::api::work::Work;
use crate::domain::Effect;
use crate::domain::keys::{self, KeyOwner, KeySwitch, RotateWish, RotationWish};
use crate::store::keys as rows;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys:batch",
    "Change many keys",
    Need::in_body("api_key.batch"),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "Each succeeds or fails by itself; a rotated key's new value is in its result and in no other \
     answer. Needs `api_key:update` to activate and deactivate, `api_key:rotate` to rotate, \
     `api_key:delete` to revoke and delete.",
)
.reads(|body| read(body).err(), r#"{"action": "rotate", "all": true, "retain_minutes": 60}"#)
.answers(Answer::narrowed("results", "BatchResults").unversioned())
.may_refuse(&[Code::PermissionDenied]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys:batch");

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let Asked { action, ids } = read(admitted.call.body().await?)?;
    let need =
        if super::is_of_user(&admitted.call) { action.need().or_self() } else { action.need() };
    admitted.require(need)?;
    let owner = {
        let mut view = admitted.view().await?;
        super::read_owner(view.conn(), &admitted.org()?.id, &admitted.call).await?
    };
    let ids = match ids {
        Some(ids) => ids,
        None => all(&admitted, &owner, action).await?,
    };
    let job = Job { action, owner };
    batch::run(&admitted, wait, ids, action.effect(), &job).await
}

/// Every key that the action can be meant for.
async fn all(
    admitted: &Admitted,
    owner: &KeyOwner,
    action: Action,
) -> Result<Vec<String>, Problem> {
    let mut view = admitted.view().await?;
    let found = match action {
        Action::Switch(KeySwitch::Delete) => rows::list_undeleted(view.conn(), &owner.id).await?,
        Action::Rotate(_) | Action::Switch(_) => rows::list_living(view.conn(), &owner.id).await?,
    };
    Ok(found.into_iter().map(|row| row.id).collect())
}

struct Asked {
    action: Action,
    /// Absent for all.
    ids: Option<Vec<String>>,
}

#[derive(Copy, Clone)]
enum Action {
    Rotate(RotationWish),
    Switch(KeySwitch),
}

fn read(mut body: Fields) -> Result<Asked, Faults> {
    let words = &["activate", "deactivate", "delete", "revoke", "rotate"];
    let action = body.required("action", fields::one_of(words));
    let ids = body.optional("ids", batch::ids());
    let all = body.optional("all", fields::boolean);
    let retain = body.optional("retain_minutes", fields::integer(0..=525_600));
    let quiet = body.optional("retire_after_quiet_hours", fields::integer(1..=8760));
    let expires = body.optional("expires", super::rotate::expiry());
    let named = matches!(ids.peek(), Some(Some(_)));
    if ids.peek().is_some() && named == matches!(all.peek(), Some(Some(true))) {
        body.fault("ids", FieldCode::Required, "give either ids or all = true");
    }
    if matches!(action.peek(), Some(word) if *word != "rotate") {
        for (name, given) in [
            ("retain_minutes", matches!(retain.peek(), Some(Some(_)))),
            ("retire_after_quiet_hours", matches!(quiet.peek(), Some(Some(_)))),
            ("expires", matches!(expires.peek(), Some(Some(_)))),
        ] {
            if given {
                body.fault(name, FieldCode::UnknownField, "it is for rotate only");
            }
        }
    }
    let complete = body.finish()?;
    let quiet = quiet.value(&complete);
    let action = match action.value(&complete) {
        "activate" => Action::Switch(KeySwitch::Activate),
        "deactivate" => Action::Switch(KeySwitch::Deactivate),
        "delete" => Action::Switch(KeySwitch::Delete),
        "revoke" => Action::Switch(KeySwitch::Revoke),
        _ => Action::Rotate(RotationWish {
            retain_minutes: retain.value(&complete).unwrap_or(0),
            retire_after_quiet_hours: quiet.and_then(|hours| u32::try_from(hours).ok()),
            expires: expires.value(&complete).unwrap_or(RotateWish::Default),
        }),
    };
    Ok(Asked { action, ids: ids.value(&complete) })
}

impl Action {
    fn need(self) -> Need {
        let (action, permission) = match self {
            Action::Rotate(_) => ("api_key.rotate", "api_key:rotate"),
            Action::Switch(KeySwitch::Activate) => ("api_key.activate", "api_key:update"),
            Action::Switch(KeySwitch::Deactivate) => ("api_key.deactivate", "api_key:update"),
            Action::Switch(KeySwitch::Delete) => ("api_key.delete", "api_key:delete"),
            Action::Switch(KeySwitch::Revoke) => ("api_key.revoke", "api_key:delete"),
        };
        Need::root(action, permission)
    }

    fn effect(self) -> Effect {
        match self {
            Action::Switch(KeySwitch::Activate) => Effect::Widening,
            Action::Rotate(_) | Action::Switch(_) => Effect::Narrowing,
        }
    }
}

struct Job {
    action: Action,
    owner: KeyOwner,
}

impl Each for Job {
    async fn one(&self, mut work: Work, id: &str) -> Result<Done, Problem> {
        let mut row = super::find_key(work.unit.conn(), &self.owner.id, id).await?;
        let before = super::shown(&work, &self.owner, &row)?;
        let (changed, plain) = match self.action {
            Action::Rotate(wish) => {
                keys::refuse_escalation(&mut work, self.owner.kind, &self.owner.id).await?;
                let plain = keys::rotate(&mut work, &mut row, wish).await?;
                (true, Some(plain))
            }
            Action::Switch(to) => (keys::switch(&mut work, &mut row, to).await?, None),
        };
        let after = super::shown(&work, &self.owner, &row)?;
        let committed = match changed {
            true => {
                let action = self.action.need().action;
                let happening = super::happening(action, &row, Some(before), Some(after));
                work.commit(&row.org_id, happening).await?
            }
            false => work.unit.unchanged(),
        };
        Ok(Done { committed, plain })
    }
}
