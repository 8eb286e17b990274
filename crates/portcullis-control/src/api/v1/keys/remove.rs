//! `DELETE S/keys/{key}`: for good; its name is free again, its id is not.

use super::{Switch, set};
use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) async fn run(call: Call) -> Reply {
    let how = Switch {
        to: KeySwitch::Delete,
        need: Need::root("api_key.delete", "api_key:delete"),
        effect: Effect::Narrowing,
        policy_version: true,
    };
    set(call, how).await
}
