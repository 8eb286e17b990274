//! `/v1/export` and `O/export`: everything, as lines of JSON that `portcullis import` takes.

pub(super) mod installation;
pub(super) mod organization;

use axum::http::header;
use axum::response::IntoResponse as _;

use crate::api::admission::Admitted;
use crate::api::problem::{Code, Problem};
use crate::api::reply::Reply;
use crate::api::work::Happening;
use crate::store::audit::{INSTALLATION, Target};
use crate::transfer::export;

/// Records who takes the export, and begins it.
async fn send(admitted: &Admitted, target: Target) -> Reply {
    admitted.call.no_query()?;
    let org_id = (target.kind == "organization").then(|| target.id.clone());
    let room = admitted.app().exports.enter(org_id.as_deref()).await.ok_or_else(|| {
        let detail = "Too many exports are being read; ask again when they are through.";
        Problem::new(Code::Unavailable, detail)
    })?;
    let work = admitted.begin().await?;
    let action = admitted.need.action;
    let happening = Happening { action, target, resource_id: None, before: None, after: None };
    work.commit(org_id.as_deref().unwrap_or(INSTALLATION), happening).await?;
    let body = export::body(admitted.app(), org_id, room).await?;
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}
