//! `POST S/keys/{key}:revoke`: final; the key stays listed.

use super::{Switch, set};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}:revoke",
    "Revoke a key, finally; it stays listed",
    Need::root("api_key.revoke", "api_key:delete"),
    |admitted| Box::pin(run(admitted)),
)
.answers(Answer::narrowed("key", "Key"))
.may_refuse(&[Code::OperationNotOffered]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}:revoke");

async fn run(admitted: Admitted) -> Reply {
    let how = Switch { to: KeySwitch::Revoke, effect: Effect::Narrowing, policy_version: false };
    set(admitted, how).await
}
