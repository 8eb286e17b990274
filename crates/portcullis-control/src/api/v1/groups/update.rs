//! `PATCH O/groups/{group}`: its labels. A group's kind never changes.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::groups::{self, GroupPatch};

const READ_ONLY: &[&str] =
    &["id", "org_id", "kind", "member_count", "created_by", "created_at", "updated_at", "version"];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/groups/{group}",
    "Change the name or description of a group",
    Need::root("group.update", "group:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"description": "Whoever may deploy"}"#)
.answers(Answer::changed("group", "Group"))
.may_refuse(&[Code::NameTaken]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = groups::find(&mut work, admitted.call.param("group")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    let before = super::shown(work.unit.conn(), &row).await?;
    groups::patch(&mut work, &mut row, patch).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let happening = super::happening("group.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Label, "group", after).send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<GroupPatch, Faults> {
    let name = body.patched("name", fields::name(Username::parse));
    let description = body.clearable("description", fields::long_text(64 * 1024));
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok(GroupPatch { name: name.value(&complete), description: description.value(&complete) })
}
