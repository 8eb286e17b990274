//! `O/role-bindings`.

pub(super) mod batch;
pub(super) mod create;
pub(super) mod list;
pub(super) mod read;
pub(super) mod remove;
pub(super) mod update;

use serde_json::Value;

use crate::api::problem::Problem;
use crate::api::work::{Happening, Work};
use crate::store::audit::Target;
use crate::store::bindings::{self, BindingRow};

async fn find(work: &mut Work, id: &str) -> Result<BindingRow, Problem> {
    let org_id = work.org()?.id.clone();
    bindings::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

fn happening(
    action: &'static str,
    row: &BindingRow,
    before: Option<Value>,
    after: Option<Value>,
) -> Happening {
    Happening {
        action,
        target: Target { kind: "role_binding", id: row.id.clone(), name: row.role_id.clone() },
        resource_id: Some(row.resource_id.clone()),
        before,
        after,
    }
}
