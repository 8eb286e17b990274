//! `S/access`: one row per resource on which the account has anything, with where it comes from.

pub(super) mod grant;
pub(super) mod list;
pub(super) mod remove;
pub(super) mod update;

use portcullis_core::access::contributing;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::api::problem::{Code, Problem};
use crate::api::work::{Happening, Work};
use crate::policy::OrgPolicy;
use crate::resolve::{Access, bound_role, is_forbidden};
use crate::store::accounts::AccountRow;
use crate::store::audit::Target;
use crate::store::bindings::{self, BindingRow};
use crate::store::resources::{self, ResourceRow};

/// What the rows of one account are computed from.
struct Rows {
    access: Access,
    bindings: Vec<BindingRow>,
}

impl Rows {
    async fn of(
        conn: &mut SqliteConnection,
        account: &AccountRow,
        policy: &OrgPolicy,
    ) -> Result<Rows, Problem> {
        let access = Access::of_subject(conn, &account.id, policy).await?;
        let mut bindings = bindings::list_of_subject(conn, &account.id).await?;
        bindings.retain(|row| !is_forbidden(row, policy));
        Ok(Rows { access, bindings })
    }

    /// The row of a resource; `None` if the account has nothing there.
    async fn row(
        &mut self,
        conn: &mut SqliteConnection,
        resource: &ResourceRow,
        policy: &OrgPolicy,
    ) -> Result<Option<Value>, Problem> {
        self.access.locate(conn, &resource.org_id, &resource.id).await?;
        let bound: Vec<_> = self.bindings.iter().filter_map(bound_role).collect();
        let chosen = contributing(policy.inheritance, &bound, &self.access.paths, &resource.id);
        let sources: Vec<Value> = chosen
            .iter()
            .map(|one| {
                let direct = one.resource_id == resource.id;
                json!({
                    "source": if direct { "direct" } else { "inherited" },
                    "from_resource_id": one.resource_id,
                    "role_id": one.role_id,
                })
            })
            .collect();
        let direct = self.bindings.iter().any(|row| row.resource_id == resource.id);
        // Nearest first: without a direct binding, the first one is what is inherited.
        let Some(nearest) = chosen.first() else { return Ok(None) };
        let from = if direct { &resource.id } else { nearest.resource_id };
        Ok(Some(json!({
            "resource": {"id": resource.id, "kind": resource.kind, "name": resource.name},
            "source": if direct { "direct" } else { "inherited" },
            "from_resource_id": from,
            "group_id": null,
            "role_ids": self.access.roles_at(&resource.id),
            "permissions": self.access.permission_texts(&resource.id),
            "editable": direct,
            "sources": sources,
        })))
    }
}

/// The row of one resource inside a transaction; null if nothing is left there.
async fn shown(
    work: &mut Work,
    account: &AccountRow,
    resource: &ResourceRow,
) -> Result<Value, Problem> {
    let policy = work.org()?.policy.clone();
    let mut rows = Rows::of(work.unit.conn(), account, &policy).await?;
    Ok(rows.row(work.unit.conn(), resource, &policy).await?.unwrap_or_default())
}

/// The account's direct bindings on the resource of the path. Without any, the answer says whether
/// the access is inherited or there is none.
async fn direct_bindings(
    work: &mut Work,
    account: &AccountRow,
    resource: &ResourceRow,
) -> Result<Vec<BindingRow>, Problem> {
    let mut direct = bindings::list_of_subject(work.unit.conn(), &account.id).await?;
    direct.retain(|row| row.resource_id == resource.id);
    if !direct.is_empty() {
        return Ok(direct);
    }
    if shown(work, account, resource).await?.is_null() {
        return Err(Problem::not_found());
    }
    let detail = "Grant direct access on this resource first.";
    Err(Problem {
        resource_id: Some(resource.id.as_str().into()),
        ..Problem::new(Code::AccessIsInherited, detail)
    })
}

async fn find_resource(work: &mut Work, id: &str) -> Result<ResourceRow, Problem> {
    let org_id = work.org()?.id.clone();
    resources::find(work.unit.conn(), &org_id, id).await?.ok_or_else(Problem::not_found)
}

fn happening(
    action: &'static str,
    account: &AccountRow,
    resource_id: Option<String>,
    before: Value,
    after: Value,
) -> Happening {
    Happening {
        action,
        target: Target {
            kind: "service_account",
            id: account.id.clone(),
            name: account.username.clone(),
        },
        resource_id,
        before: Some(before),
        after: Some(after),
    }
}
