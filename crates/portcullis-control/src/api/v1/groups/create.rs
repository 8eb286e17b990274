//! `POST O/groups`: an empty group without roles.

use portcullis_core::account::Username;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::reply::{Mutation, Reply};
use crate::api::views;
use crate::domain::Effect;
use crate::domain::groups::{self, NewGroup};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/groups",
    "Create a group",
    Need::root("group.create", "group:create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"name": "deployers"}"#)
.answers(Answer::created("group", "Group"))
.may_refuse(&[Code::NameTaken]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let row = groups::create(&mut work, wanted).await?;
    let shown = views::group(&row, 0);
    let happening = super::happening("group.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, Effect::Label, "group", shown)
        .created(format!("/v1/organizations/{}/groups/{}", row.org_id, row.id))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<NewGroup, Faults> {
    let name = body.required("name", fields::name(Username::parse));
    let description = body.optional("description", fields::long_text(64 * 1024));
    let complete = body.finish()?;
    Ok(NewGroup { name: name.value(&complete), description: description.value(&complete) })
}
