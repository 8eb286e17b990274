//! `POST O/groups/{group}/members`: an account or a user joins. Who is in it stays in it.

use serde_json::Value;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::stakes::Subject;
use crate::domain::{Effect, groups};
use crate::store::groups as rows;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/groups/{group}/members",
    "Put a service account or a user into a group",
    Need::root("group_member.create", "group_member:create"),
    |admitted| Box::pin(run(admitted)),
)
.notes("Whoever is in the group already stays in it.")
.reads(
    |body| read(body).err(),
    r#"{"principal": {"kind": "service_account", "id": "01983f10-0000-7000-8000-000000000001"}}"#,
)
.answers(Answer::created("member", "Membership").unversioned())
.may_refuse(&[Code::PolicyForbids, Code::PrivilegeEscalation, Code::StateTerminal]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let principal = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let group = groups::find(&mut work, admitted.call.param("group")).await?;
    let joined = groups::add_member(&mut work, &group, &principal).await?;
    let row = rows::find_member(work.unit.conn(), &group.id, &principal.id).await?;
    let shown = row.as_ref().map(views::membership).ok_or_else(Problem::not_found)?;
    let conclusion = match joined {
        true => {
            let after: Option<Value> = Some(shown.clone());
            let happening = super::happening("group_member.create", &group, None, after);
            work.concluded(&group.org_id, happening)
        }
        false => work.unchanged(),
    };
    // A group can also deny.
    let base = format!("/v1/organizations/{}/groups/{}/members", group.org_id, group.id);
    Mutation::of(conclusion, Effect::Narrowing, "member", shown)
        .created(format!("{base}/{}", principal.id))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<Subject, Faults> {
    let principal = body.required(
        "principal",
        fields::object(|mut inner| {
            let kind = inner.required("kind", fields::one_of(&["service_account", "user"]));
            let id = inner.required("id", fields::id);
            let complete = inner.finish()?;
            Ok(Subject { kind: kind.value(&complete).to_owned(), id: id.value(&complete) })
        }),
    );
    let complete = body.finish()?;
    Ok(principal.value(&complete))
}
