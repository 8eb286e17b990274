//! `O/users`: the humans of an organization. Each takes a seat; service accounts never do.

pub(super) mod create;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;

use serde_json::Value;

use crate::api::work::Happening;
use crate::store::audit::Target;
use crate::store::users::UserRow;

fn happening(
    action: &'static str,
    row: &UserRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "user", id: row.id.clone(), name: row.username.clone() },
        resource_id: None,
        before,
        after,
    }
}
