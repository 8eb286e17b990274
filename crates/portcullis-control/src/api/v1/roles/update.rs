//! `PATCH O/roles/{role}`: everybody who has the role has it changed.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::roles::{self, RolePatch, find_custom};

const READ_ONLY: &[&str] = &[
    "id",
    "org_id",
    "base_role_id",
    "built_in",
    "deprecated",
    "created_by",
    "created_at",
    "updated_at",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/roles/{role}",
    "Change a role for everybody who has it",
    Need::root("role.update", "role:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"permissions": ["cluster:read"]}"#)
.answers(Answer::narrowed("role", "Role"))
.may_refuse(&[Code::ImmutableObject, Code::NameTaken, Code::PrivilegeEscalation, Code::RoleInUse]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = find_custom(&mut work, admitted.call.param("role")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = views::role(&row);
    roles::patch(&mut work, &mut row, patch).await?;
    let after = views::role(&row);
    let happening = super::happening("role.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Narrowing, "role", after).send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<RolePatch, Faults> {
    let name = body.patched("name", fields::name(Username::parse));
    let description = body.clearable("description", fields::long_text(64 * 1024));
    let permissions = body.patched("permissions", super::patterns());
    let deny = body.patched("deny", super::patterns());
    let level = body.patched("level", super::level());
    let sticky = body.patched("sticky", fields::boolean);
    let sa_assignable = body.patched("sa_assignable", fields::boolean);
    let binding_kinds = body.patched("binding_kinds", super::kinds());
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok(RolePatch {
        name: name.value(&complete),
        description: description.value(&complete),
        permissions: permissions.value(&complete),
        deny: deny.value(&complete),
        level: level.value(&complete),
        sticky: sticky.value(&complete),
        sa_assignable: sa_assignable.value(&complete),
        binding_kinds: binding_kinds.value(&complete),
    })
}
