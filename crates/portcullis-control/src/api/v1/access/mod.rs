//! `S/access`: one row per resource on which the account has anything, with where it comes from.

pub(super) mod grant;
pub(super) mod list;
pub(super) mod remove;
pub(super) mod update;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::api::problem::{Code, Problem};
use crate::api::work::{Happening, Work};
use crate::policy::OrgPolicy;
use crate::resolve::{Access, Grounds, Holder, Via};
use crate::store::accounts::AccountRow;
use crate::store::audit::Target;
use crate::store::bindings::{self, BindingRow};
use crate::store::resources::{self, ResourceRow};

/// What the rows of one account are computed from.
struct Rows {
    grounds: Grounds,
    access: Access,
}

impl Rows {
    async fn of(
        conn: &mut SqliteConnection,
        account: &AccountRow,
        policy: &OrgPolicy,
    ) -> Result<Rows, Problem> {
        let grounds = Grounds::of(conn, Holder::ServiceAccount, &account.id).await?;
        let access = grounds.whole(policy);
        Ok(Rows { grounds, access })
    }

    /// The row of a resource; `None` if the account has nothing there.
    async fn row(
        &mut self,
        conn: &mut SqliteConnection,
        resource: &ResourceRow,
        policy: &OrgPolicy,
    ) -> Result<Option<Value>, Problem> {
        self.access.locate(conn, &resource.org_id, &resource.id).await?;
        let mut found = self.grounds.contributions(policy, &self.access.paths, &resource.id);
        found.retain(|one| one.excluded.is_none());
        let group_of = |row: &BindingRow, via| (via == Via::Group).then(|| row.subject_id.clone());
        let sources: Vec<Value> = found
            .iter()
            .map(|one| {
                json!({
                    "source": one.via.as_str(),
                    "from_resource_id": one.row.resource_id,
                    "group_id": group_of(one.row, one.via),
                    "role_id": one.row.role_id,
                    "policy_id": one.row.policy_id,
                    "binding_id": one.row.id,
                })
            })
            .collect();
        // Direct before inherited before group, as they come.
        let Some(first) = found.first() else { return Ok(None) };
        // What a policy gives is changed in the policy.
        let editable =
            found.iter().any(|one| one.via == Via::Direct && one.row.policy_id.is_none());
        Ok(Some(json!({
            "resource": {"id": resource.id, "kind": resource.kind, "name": resource.name},
            "source": first.via.as_str(),
            "from_resource_id": first.row.resource_id,
            "group_id": group_of(first.row, first.via),
            "role_ids": self.access.roles_at(&resource.id),
            "permissions": self.access.permission_texts(&resource.id),
            "denied": self.access.denied_texts(&resource.id),
            "editable": editable,
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
    direct.retain(|row| row.resource_id == resource.id && row.policy_id.is_none());
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
