//! `GET /users/me`: who the credential stands for, in the words of ZenML Pro (compat.md 1.2).

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::Reply;
use crate::caller::Caller;
use crate::store::accounts;

pub(super) const OPERATION: Operation = Operation::get(
    "/users/me",
    "Say who one is, as ZenML Pro does",
    Need::anybody("credential.me"),
    |admitted| Box::pin(run(admitted)),
)
.notes("The installation operator is nobody here: 404.")
.answers(Answer::Plain("ZenmlUser"))
.may_refuse(&[Code::NotFound]);

async fn run(admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let Caller::Member(member) = &admitted.caller else {
        return Err(Problem::not_found());
    };
    let is_account = member.kind == "service_account";
    let mut name = member.name.clone();
    if is_account {
        let mut view = admitted.view().await?;
        let row = accounts::find(view.conn(), &member.org.id, &member.id).await?;
        name = row.ok_or_else(Problem::not_found)?.display_name;
    }
    let body = json!({
        "password": null,
        "password_expired": false,
        "name": name,
        "avatar_url": null,
        "company": null,
        "job_title": null,
        "metadata": {},
        "id": member.id,
        "username": member.name,
        "email": member.name,
        "oauth_provider": null,
        "oauth_id": null,
        "is_active": true,
        "is_superuser": false,
        "is_service_account": is_account,
        "organization_id": member.org.id,
    });
    Ok(Json(body).into_response())
}
