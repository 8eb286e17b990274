//! `GET /users/me`: who the credential stands for, in the words of ZenML Pro (compat.md 1.2).

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::Need;
use crate::api::call::Call;
use crate::api::problem::Problem;
use crate::api::reply::Reply;
use crate::caller::Caller;
use crate::store::accounts;

pub(super) async fn run(call: Call) -> Reply {
    let admitted = call.identify().await?.admit(Need::anybody("credential.whoami")).await?;
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
