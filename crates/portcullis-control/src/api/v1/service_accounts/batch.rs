//! `POST O/service-accounts:batch`: one state for many accounts.

use crate::api::admission::{Admitted, Need};
use crate::api::batch::{self, Done, Each};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::Reply;
use crate::api::work::Work;
use crate::domain::Effect;
use crate::domain::accounts::{self, AccountSwitch};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts:batch",
    "Change the state of many accounts",
    Need::in_body("service_account.batch"),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "Each succeeds or fails by itself. Needs `service_account:update` to activate and deactivate, \
     `service_account:delete` to revoke and delete.",
)
.reads(|body| read(body).err(), r#"{"action": "deactivate", "ids": ["0192e0a0"]}"#)
.answers(Answer::narrowed("results", "BatchResults").unversioned())
.may_refuse(&[Code::PermissionDenied]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let (to, ids) = read(admitted.call.body().await?)?;
    let switch = Switch::of(to);
    admitted.require(switch.need)?;
    batch::run(&admitted, wait, ids, switch.effect, &switch).await
}

fn read(mut body: Fields) -> Result<(AccountSwitch, Vec<String>), Faults> {
    let words = &["activate", "deactivate", "delete", "revoke"];
    let action = body.required("action", fields::one_of(words));
    let ids = body.required("ids", batch::ids());
    let complete = body.finish()?;
    let to = match action.value(&complete) {
        "activate" => AccountSwitch::Activate,
        "deactivate" => AccountSwitch::Deactivate,
        "delete" => AccountSwitch::Delete,
        _ => AccountSwitch::Revoke,
    };
    Ok((to, ids.value(&complete)))
}

struct Switch {
    to: AccountSwitch,
    need: Need,
    effect: Effect,
}

impl Switch {
    fn of(to: AccountSwitch) -> Switch {
        let (action, permission, effect) = match to {
            AccountSwitch::Activate => {
                ("service_account.activate", "service_account:update", Effect::Widening)
            }
            AccountSwitch::Deactivate => {
                ("service_account.deactivate", "service_account:update", Effect::Narrowing)
            }
            AccountSwitch::Delete => {
                ("service_account.delete", "service_account:delete", Effect::Narrowing)
            }
            AccountSwitch::Revoke => {
                ("service_account.revoke", "service_account:delete", Effect::Narrowing)
            }
        };
        Switch { to, need: Need::root(action, permission), effect }
    }
}

impl Each for Switch {
    async fn one(&self, mut work: Work, id: &str) -> Result<Done, Problem> {
        let mut row = accounts::find_living(&mut work, id).await?;
        let before = super::shown(work.unit.conn(), &row).await?;
        let changed = accounts::switch(&mut work, &mut row, self.to).await?;
        let after = super::shown(work.unit.conn(), &row).await?;
        let committed = match changed {
            true => {
                let happening = super::happening(self.need.action, &row, Some(before), Some(after));
                work.commit(&row.org_id, happening).await?
            }
            false => work.unit.unchanged(),
        };
        Ok(Done { committed, plain: None })
    }
}
