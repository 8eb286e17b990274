//! `POST O/roles`: a role of the organization's own.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::roles::{self, NewRole};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/roles",
    "Create a role",
    Need::root("role.create", "role:create"),
    |admitted| Box::pin(run(admitted)),
)
.notes("What is not given is copied from base_role_id, or is the default.")
.reads(
    |body| read(body).err(),
    r#"{"name": "deployer", "permissions": ["cluster:read", "cluster:deploy"]}"#,
)
.answers(Answer::created("role", "Role"))
.may_refuse(&[Code::NameTaken, Code::PrivilegeEscalation]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let row = roles::create(&mut work, wanted).await?;
    let shown = views::role(&row);
    let happening = super::happening("role.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Widening, "role", shown)
        .created(format!("/v1/organizations/{}/roles/{}", row.org_id, row.id))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<NewRole, Faults> {
    let name = body.required("name", fields::name(Username::parse));
    let description = body.optional("description", fields::long_text(64 * 1024));
    let base_role_id = body.optional("base_role_id", fields::id);
    let permissions = body.optional("permissions", super::patterns());
    let deny = body.optional("deny", super::patterns());
    let level = body.optional("level", super::level());
    let sticky = body.optional("sticky", fields::boolean);
    let sa_assignable = body.optional("sa_assignable", fields::boolean);
    let binding_kinds = body.optional("binding_kinds", super::kinds());
    let complete = body.finish()?;
    Ok(NewRole {
        name: name.value(&complete),
        description: description.value(&complete),
        base_role_id: base_role_id.value(&complete),
        permissions: permissions.value(&complete),
        deny: deny.value(&complete),
        level: level.value(&complete),
        sticky: sticky.value(&complete),
        sa_assignable: sa_assignable.value(&complete),
        binding_kinds: binding_kinds.value(&complete),
    })
}
