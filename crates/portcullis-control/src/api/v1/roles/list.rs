//! `GET O/roles`.

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::access::BUILTIN_ROLES;
use serde_json::{Value, json};

use crate::api::call::{Call, Need};
use crate::api::fields;
use crate::api::reply::Reply;
use crate::api::views;

pub(crate) async fn run(call: Call) -> Reply {
    let admitted = call.identify().await?.member(Need::root("role.list", "role:read"))?;
    let mut query = admitted.call.query()?;
    let kind = query.read("kind", fields::one_of(&["built_in", "custom"]));
    let count = query.read("count", fields::boolean).unwrap_or(false);
    query.finish()?;
    let wanted = kind != Some("custom");
    let items: Vec<Value> = BUILTIN_ROLES.iter().filter(|_| wanted).map(views::role).collect();
    let mut body = json!({"items": items, "next_cursor": null});
    if let (true, Value::Object(members)) = (count, &mut body) {
        members.insert("total".to_owned(), json!(items.len()));
    }
    Ok(Json(body).into_response())
}
