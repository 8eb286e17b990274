//! `GET /users/authorize_server?server_id=…`: a workspace asks whether whoever logs in there may, in
//! the words of ZenML Pro (compat.md 1.4, row 3).

use axum::Json;
use axum::response::IntoResponse as _;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::fields;
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::Reply;
use crate::caller::Caller;
use crate::domain::legacy::{self, WORKSPACE};
use crate::store::{accounts, resources};

pub(super) const OPERATION: Operation = Operation::get(
    "/users/authorize_server",
    "Say whether somebody may log in to a workspace, as ZenML Pro does",
    Need::anybody("credential.authorize_server"),
    |admitted| Box::pin(run(admitted)),
)
.notes("404 unless `server_id` is a workspace of the organization, 403 without any right there.")
.filters(|query| _ = query.read("server_id", fields::id))
.answers(Answer::Plain("ZenmlMember"))
.may_refuse(&[Code::NotFound, Code::PermissionDenied]);

async fn run(admitted: Admitted) -> Reply {
    let mut query = admitted.call.query()?;
    let id = query.read("server_id", fields::id).unwrap_or_default();
    query.finish()?;
    let Caller::Member(member) = &admitted.caller else {
        return Err(Problem::not_found());
    };
    let mut view = admitted.view().await?;
    let workspace = resources::find(view.conn(), &member.org.id, &id).await?;
    let workspace = workspace.filter(|row| row.kind == WORKSPACE).ok_or_else(Problem::not_found)?;
    drop(view);
    let app = admitted.app();
    legacy::take_over(app, member, &workspace.id, &admitted.call.framed.origin).await?;

    // Read anew: the takeover may have given the first role there.
    let admitted = admitted.call.identify().await?;
    let Caller::Member(mut member) = admitted.caller else {
        return Err(Problem::not_found());
    };
    let mut view = admitted.call.app.store.view().await?;
    let org_id = member.org.id.clone();
    member.access.locate(view.conn(), &org_id, &workspace.id).await?;
    if member.access.permission_texts(&workspace.id).is_empty() {
        return Err(Problem::permission_denied("workspace:read"));
    }
    let is_account = member.kind == "service_account";
    let row = accounts::find(view.conn(), &org_id, &member.id).await?;
    let name = row.map_or_else(|| member.name.clone(), |row| row.display_name);
    let body = json!({
        "id": member.id,
        "username": member.name,
        "email": member.name,
        "name": name,
        "is_superuser": false,
        "is_service_account": is_account,
        "avatar_url": null,
        "oidc_claims": null,
    });
    Ok(Json(body).into_response())
}
