//! `POST S/keys/{key}:deactivate`: both secrets stop at once.

use super::{Switch, set};
use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::reply::Reply;
use crate::domain::Effect;
use crate::domain::keys::KeySwitch;

pub(crate) async fn run(call: Call) -> Reply {
    let how = Switch {
        to: KeySwitch::Deactivate,
        need: Need::root("api_key.deactivate", "api_key:update"),
        effect: Effect::Narrowing,
        policy_version: false,
    };
    set(call, how).await
}
