//! `O/roles`: built-in roles, and those that the organization made.

pub(super) mod create;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod update;

use serde_json::Value;

use crate::api::fields;
use crate::api::readers::Reader;
use crate::api::work::Happening;
use crate::domain::roles::KINDS;
use crate::store::audit::Target;
use crate::store::roles::RoleRow;

/// Most patterns in one list of a role.
const PATTERNS: usize = 500;

fn patterns() -> impl Reader<Value = Vec<String>> {
    fields::list(0..=PATTERNS, fields::pattern)
}

fn kinds() -> impl Reader<Value = Vec<&'static str>> {
    fields::list(1..=KINDS.len(), fields::one_of(KINDS))
}

/// A place in the order of power, for display only.
fn level() -> impl Reader<Value = u64> {
    fields::integer(0..=100)
}

fn happening(
    action: &'static str,
    row: &RoleRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "role", id: row.id.clone(), name: row.name.clone() },
        resource_id: None,
        before,
        after,
    }
}
