//! `POST O/users`: a user, and if asked with a role on the root; all or nothing.

use portcullis_core::account::Username;
use serde_json::{Value, json};

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::api::v1::service_accounts::create::group_ids;
use crate::api::views;
use crate::domain::Effect;
use crate::domain::users::{self, NewUser};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/users",
    "Invite a user, with a role on the root if asked",
    Need::root("user.create", "user:create"),
    |admitted| Box::pin(run(admitted)),
)
.notes("All or nothing. A role needs role_binding:create as well.")
.reads(|body| read(body).err(), r#"{"username": "ann", "email": "ann@example.org"}"#)
.answers(Answer::created("user", "User"))
.may_refuse(&[Code::PrivilegeEscalation, Code::UsernameTaken]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    if wanted.role_id.is_some() {
        let root = work.org()?.root_resource_id.clone();
        work.check_at("role_binding:create", &root).await?;
    }
    if !wanted.group_ids.is_empty() {
        let root = work.org()?.root_resource_id.clone();
        work.check_at("group_member:create", &root).await?;
    }
    let created = users::create(&mut work, wanted).await?;
    let shown = views::user(&created.row);
    let bindings: Vec<Value> = created.binding.iter().map(views::binding).collect();
    let after = json!({"user": shown, "bindings": bindings});
    let happening = super::happening("user.create", &created.row, None, Some(after));
    let org_id = created.row.org_id.clone();
    let conclusion = work.concluded(&org_id, happening);
    let location = format!("/v1/organizations/{org_id}/users/{}", created.row.id);
    Mutation::of(conclusion, Effect::Widening, "user", shown)
        .created(location)
        .with("warnings", Value::Array(created.warnings))
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<NewUser, Faults> {
    let username = body.required("username", fields::name(Username::parse));
    let email = body.required("email", email());
    let role_id = body.optional("role_id", fields::id);
    let group_ids = body.optional("group_ids", group_ids());
    let complete = body.finish()?;
    Ok(NewUser {
        username: username.value(&complete),
        email: email.value(&complete),
        role_id: role_id.value(&complete),
        group_ids: group_ids.value(&complete).unwrap_or_default(),
    })
}

/// An address is only ever shown, so it needs no more than its parts.
fn email() -> impl Reader<Value = String> {
    let text = fields::text(254);
    let mut schema = text.schema();
    schema["pattern"] = json!(
        r"^[^@\s\u0000-\u001f\u007f-\u009f\u061c\u200e-\u200f\u2028-\u202e\u2066-\u2069]+@[^@\s\u0000-\u001f\u007f-\u009f\u061c\u200e-\u200f\u2028-\u202e\u2066-\u2069]+$"
    );
    fields::custom(schema, move |value| {
        let text = text.read(value)?;
        let parts = text.split_once('@');
        let whole = parts.is_some_and(|(local, host)| {
            !local.is_empty() && !host.is_empty() && !host.contains('@')
        });
        if whole && !text.contains(char::is_whitespace) {
            return Ok(text);
        }
        Err(Faults::format("an address like ann@example.org is wanted"))
    })
}
