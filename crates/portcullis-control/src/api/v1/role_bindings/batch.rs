//! `POST O/role-bindings:batch`: creates and deletes in one step, all or nothing.

use serde_json::{Value, json};

use super::create::read as read_binding;
use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, FieldCode, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::api::work::{Happening, Work, unknown_reference};
use crate::domain::Effect;
use crate::domain::bindings::{Change, NewBinding, check_subject};
use crate::domain::stakes::Subject;
use crate::store::audit::Target;
use crate::store::bindings::{self, BindingRow};
use crate::store::resources;

/// Most creations and deletions together.
const MOST: usize = 200;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/role-bindings:batch",
    "Create and delete bindings in one step",
    Need::root("role_binding.batch", "role_binding:create"),
    |admitted| Box::pin(run(admitted)),
)
.notes("All or nothing; at most 200 together. Deletions come first.")
.reads(
    |body| read(body).err(),
    r#"{"create": [{"role_id": "viewer", "resource_id": "01983f10-0000-7000-8000-000000000000",
        "subject": {"kind": "group", "id": "01983f10-0000-7000-8000-000000000001"}}],
        "delete": ["01983f10-0000-7000-8000-000000000002"]}"#,
)
.answers(
    Answer::narrowed("created", "RoleBindings").unversioned().with(&[("deleted", "RoleBindings")]),
)
.may_refuse(&[
    Code::DuplicateBinding,
    Code::ImmutableObject,
    Code::LastOwner,
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::RoleLimitReached,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let Batch { create, delete } = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let org_id = work.org()?.id.clone();
    let gone = find_all(&mut work, &delete).await?;
    for (index, (wanted, subject)) in create.iter().enumerate() {
        check_wanted(&mut work, wanted, subject, &format!("create[{index}].")).await?;
    }
    let subjects = gone.iter().map(Subject::of).chain(create.iter().map(|(_, one)| one.clone()));
    let mut change = Change::begin_all(&mut work, subjects.collect()).await?;
    for row in &gone {
        change.remove(&mut work, row).await?;
    }
    let mut made = Vec::with_capacity(create.len());
    for (index, (wanted, subject)) in create.iter().enumerate() {
        let field = format!("create[{index}].");
        made.push(change.add(&mut work, subject, wanted, &field).await?);
    }
    let warnings = std::mem::take(&mut change.warnings);
    change.finish(&mut work).await?;
    let shown = |rows: &[BindingRow]| rows.iter().map(views::binding).collect::<Vec<Value>>();
    let (created, deleted) = (shown(&made), shown(&gone));
    let conclusion = match made.len() + gone.len() {
        0 => work.unchanged(),
        _ => {
            let happening = Happening {
                action: "role_binding.batch",
                target: Target { kind: "role_binding", id: String::new(), name: String::new() },
                resource_id: None,
                before: Some(json!({"deleted": deleted})),
                after: Some(json!({"created": created})),
            };
            work.concluded(&org_id, happening)
        }
    };
    Mutation::of(conclusion, Effect::Narrowing, "created", Value::Array(created))
        .with("deleted", Value::Array(deleted))
        .with("warnings", Value::Array(warnings))
        .send(&admitted, wait)
        .await
}

/// The bindings to delete, each of which the caller may delete.
async fn find_all(work: &mut Work, ids: &[String]) -> Result<Vec<BindingRow>, Problem> {
    let org_id = work.org()?.id.clone();
    let mut found = Vec::with_capacity(ids.len());
    for (index, id) in ids.iter().enumerate() {
        let row = bindings::find(work.unit.conn(), &org_id, id).await?;
        let row = row.ok_or_else(|| unknown_reference(&format!("delete[{index}]")))?;
        work.check_at("role_binding:delete", &row.resource_id).await?;
        found.push(row);
    }
    Ok(found)
}

async fn check_wanted(
    work: &mut Work,
    wanted: &NewBinding,
    subject: &Subject,
    field: &str,
) -> Result<(), Problem> {
    let org = work.org()?.clone();
    if resources::find(work.unit.conn(), &org.id, &wanted.resource_id).await?.is_none() {
        return Err(unknown_reference(&format!("{field}resource_id")));
    }
    work.check_at("role_binding:create", &wanted.resource_id).await?;
    if wanted.policy_id.is_some() {
        work.check_at("security_policy:update", &org.root_resource_id).await?;
    }
    check_subject(work, subject, &format!("{field}subject.id")).await
}

struct Batch {
    create: Vec<(NewBinding, Subject)>,
    delete: Vec<String>,
}

fn read(mut body: Fields) -> Result<Batch, Faults> {
    let create = body.optional("create", fields::list(0..=MOST, fields::object(read_binding)));
    let delete = body.optional("delete", fields::list(0..=MOST, fields::id));
    let count = |list: Option<usize>| list.unwrap_or(0);
    let creates = count(create.peek().and_then(|list| list.as_ref().map(Vec::len)));
    let deletes = count(delete.peek().and_then(|list| list.as_ref().map(Vec::len)));
    if creates + deletes > MOST {
        let detail = format!("at most {MOST} creations and deletions together");
        body.fault("create", FieldCode::OutOfRange, detail);
    }
    let complete = body.finish()?;
    let mut delete = delete.value(&complete).unwrap_or_default();
    delete.sort();
    delete.dedup();
    Ok(Batch { create: create.value(&complete).unwrap_or_default(), delete })
}
