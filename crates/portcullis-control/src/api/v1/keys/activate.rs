//! `POST S/keys/{key}:activate`: the same value works again.

use super::{Switch, set};
use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) async fn run(call: Call) -> Reply {
    let how = Switch {
        to: KeySwitch::Activate,
        need: Need::root("api_key.activate", "api_key:update"),
        effect: Effect::Widening,
        policy_version: false,
    };
    set(call, how).await
}
