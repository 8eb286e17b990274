//! `POST S/keys/{key}:deactivate`: both secrets stop at once.

use super::{Switch, set};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}:deactivate",
    "Stop both secrets of a key at once",
    Need::root("api_key.deactivate", "api_key:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("key", "Key"))
.may_refuse(&[Code::OperationNotOffered, Code::StateTerminal]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}:deactivate");

async fn run(admitted: Admitted) -> Reply {
    let how =
        Switch { to: KeySwitch::Deactivate, effect: Effect::Narrowing, policy_version: false };
    set(admitted, how).await
}
