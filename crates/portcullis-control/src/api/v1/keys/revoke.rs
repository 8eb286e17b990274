//! `POST S/keys/{key}:revoke`: final; the key stays listed.

use super::{Switch, set};
use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) async fn run(call: Call) -> Reply {
    let how = Switch {
        to: KeySwitch::Revoke,
        need: Need::root("api_key.revoke", "api_key:delete"),
        effect: Effect::Narrowing,
        policy_version: false,
    };
    set(call, how).await
}
