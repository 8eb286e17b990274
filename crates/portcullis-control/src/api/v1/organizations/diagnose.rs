//! `POST O:diagnose`: why a key does not work. A value is read, compared and forgotten; it reaches
//! no log and no answer.

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::key;
use serde_json::json;
use zeroize::Zeroizing;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::FieldCode;
use crate::api::reply::Reply;
use crate::domain::explain::{Suspect, diagnose};
use crate::store::keys;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}:diagnose",
    "Say why a key does not work",
    Need::root("api_key.diagnose", "api_key:diagnose"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"key_id": "063UfDVRKBz"}"#)
.answers(Answer::Plain("Diagnosis"));

async fn run(mut admitted: Admitted) -> Reply {
    admitted.call.no_query()?;
    let asked = read(admitted.call.body().await?)?;
    let org = admitted.org()?;
    let (id, presented) = match asked {
        Asked::Id(id) => (id, None),
        Asked::Value(value) => match key::parse(value.as_bytes()) {
            Ok(parsed) => (parsed.id().to_string(), Some(parsed)),
            Err(fault) => {
                let check = json!({"check": "format", "ok": false, "detail": fault.to_string()});
                let body = json!({
                    "usable": false, "reason": "malformed", "key_id": null, "checks": [check],
                });
                return Ok(Json(body).into_response());
            }
        },
    };
    let mut view = admitted.view().await?;
    // A key of another organization is as unknown as none.
    let row = keys::find_by_id(view.conn(), &id).await?.filter(|row| row.org_id == org.id);
    let body = match row {
        None => {
            let check = json!({"check": "known", "ok": false, "detail": "there is no such key"});
            json!({"usable": false, "reason": "unknown_key", "key_id": id, "checks": [check]})
        }
        Some(row) => {
            let now = admitted.call.now;
            let suspect = Suspect { org, key: &row, presented: presented.as_ref() };
            diagnose(view.conn(), suspect, &admitted.app().peppers, now).await?
        }
    };
    Ok(Json(body).into_response())
}

enum Asked {
    Id(String),
    Value(Zeroizing<String>),
}

fn read(mut body: Fields) -> Result<Asked, Faults> {
    let value = body.optional("value", fields::text(1024));
    let id = body.optional("key_id", fields::id);
    if matches!(
        (value.peek(), id.peek()),
        (Some(Some(_)), Some(Some(_))) | (Some(None), Some(None))
    ) {
        body.fault("value", FieldCode::Required, "give either value or key_id");
    }
    let complete = body.finish()?;
    Ok(match (value.value(&complete), id.value(&complete)) {
        (Some(value), _) => Asked::Value(Zeroizing::new(value)),
        (None, id) => Asked::Id(id.unwrap_or_default()),
    })
}
