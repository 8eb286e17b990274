//! `POST O:explain`: what a principal or key may do on a resource, and which bindings say so.

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::access::Permission;
use portcullis_core::account::{AccountState, Expiry, KeyState};
use serde_json::{Value, json};

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::FieldCode;
use crate::api::reply::Reply;
use crate::api::work::unknown_reference;
use crate::caller;
use crate::domain::explain::{Question, explain};
use crate::domain::records::restriction_of;
use crate::instant::wall;
use crate::store::{accounts, feed, keys, resources, users};

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}:explain",
    "Explain what a principal or key may do on a resource, and why",
    Need::root("access.explain", "access:explain"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"service_account_id": "01983f10-0000-7000-8000-000000000000"}"#)
.answers(Answer::Plain("Explanation"));

async fn run(mut admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let asked = read(admitted.call.body().await?)?;
    let org = admitted.org()?;
    let mut view = admitted.view().await?;
    let conn = view.conn();
    let (mut in_force, mut restriction) = (true, None);
    let (kind, subject_id) = match asked.about {
        About::Account(id) => {
            let row = accounts::find(conn, &org.id, &id).await?;
            let row = row.ok_or_else(|| unknown_reference("service_account_id"))?;
            in_force &= row.state()? == AccountState::Active;
            ("service_account", id)
        }
        About::User(id) => {
            let row = users::find(conn, &org.id, &id).await?;
            let row = row.ok_or_else(|| unknown_reference("user_id"))?;
            in_force &= row.is_active();
            ("user", id)
        }
        About::Key(id) => {
            let row = keys::find_by_id(conn, &id).await?.filter(|row| row.org_id == org.id);
            let row = row.ok_or_else(|| unknown_reference("key_id"))?;
            let owner = caller::find_owner(conn, &row).await?;
            let expired = Expiry::from(row.expires_ms.map(wall)).is_past(admitted.call.now);
            in_force &=
                row.state()? == KeyState::Active && !expired && owner.state == AccountState::Active;
            restriction = restriction_of(&row)?;
            (owner.kind, row.owner_id)
        }
    };
    let resource_id = asked.resource_id.unwrap_or_else(|| org.root_resource_id.clone());
    if resources::find(conn, &org.id, &resource_id).await?.is_none() {
        return Err(unknown_reference("resource_id"));
    }
    let seq = feed::find_head(conn).await?.position.seq;
    let question = Question {
        org,
        kind,
        subject_id: &subject_id,
        in_force,
        restriction,
        resource_id: &resource_id,
        permission: asked.permission.as_ref(),
    };
    let mut body = explain(conn, question).await?;
    if let Value::Object(members) = &mut body {
        members.insert("seq".to_owned(), json!(seq));
    }
    Ok(Json(body).into_response())
}

enum About {
    Account(String),
    Key(String),
    User(String),
}

struct Asked {
    about: About,
    resource_id: Option<String>,
    permission: Option<Permission>,
}

fn read(mut body: Fields) -> Result<Asked, Faults> {
    let account = body.optional("service_account_id", fields::id);
    let user = body.optional("user_id", fields::id);
    let key = body.optional("key_id", fields::id);
    let resource_id = body.optional("resource_id", fields::id);
    let permission = body.optional("permission", fields::permission);
    let about = [account.peek(), user.peek(), key.peek()];
    if about.iter().filter(|one| matches!(one, Some(Some(_)))).count() != 1 {
        let detail = "give exactly one of service_account_id, user_id and key_id";
        body.fault("service_account_id", FieldCode::Required, detail);
    }
    let complete = body.finish()?;
    let about = match (account.value(&complete), user.value(&complete), key.value(&complete)) {
        (Some(id), _, _) => About::Account(id),
        (_, Some(id), _) => About::User(id),
        (_, _, id) => About::Key(id.unwrap_or_default()),
    };
    Ok(Asked {
        about,
        resource_id: resource_id.value(&complete),
        permission: permission.value(&complete),
    })
}
