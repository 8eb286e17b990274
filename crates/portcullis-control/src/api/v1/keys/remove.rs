//! `DELETE S/keys/{key}`: for good; its name is free again, its id is not.

use super::{Switch, set};
use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) const OPERATION: Operation = Operation::delete(
    "/v1/organizations/{org}/service-accounts/{sa}/keys/{key}",
    "Delete a key, for good",
    Need::root("api_key.delete", "api_key:delete"),
    |admitted| Box::pin(run(admitted)),
)
.notes("Its name is free again, its id is not.")
.answers(Answer::narrowed("key", "Key"))
.may_refuse(&[Code::OperationNotOffered]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys/{key}");

async fn run(admitted: Admitted) -> Reply {
    let how = Switch { to: KeySwitch::Delete, effect: Effect::Narrowing, policy_version: true };
    set(admitted, how).await
}
