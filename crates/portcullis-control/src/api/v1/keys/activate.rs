//! `POST S/keys/{key}:activate`: the same value works again.

use super::{Switch, set};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}:activate",
    "Make the key work again, with the same value",
    Need::root("api_key.activate", "api_key:update"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::changed("key", "Key"))
.may_refuse(&[Code::OperationNotOffered, Code::StateTerminal]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}:activate");

async fn run(admitted: Admitted) -> Reply {
    let how = Switch { to: KeySwitch::Activate, effect: Effect::Widening, policy_version: false };
    set(admitted, how).await
}
