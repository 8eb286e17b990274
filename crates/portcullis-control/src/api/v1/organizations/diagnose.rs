//! `POST O:diagnose`: why a key does not work, and if asked which binding would give it a permission
//! that it lacks; likewise a session token, which is worth what its key is worth and never more. A
//! value is read, compared and forgotten; it reaches no log and no answer.

use std::sync::Arc;

use axum::Json;
use axum::response::IntoResponse as _;
use portcullis_core::access::Permission;
use portcullis_core::key::{self, Spelled, Spellings};
use portcullis_core::session::{BEGINNING, Claims, LONGEST, Mode, Token};
use portcullis_core::verdict::DenyReason;
use serde_json::json;
use zeroize::Zeroizing;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{FieldCode, Problem};
use crate::api::reply::Reply;
use crate::api::work::unknown_reference;
use crate::caller::Credential;
use crate::domain::explain::{Suspect, diagnose};
use crate::domain::imports;
use crate::store::{keys, resources};

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
    let Asked { about, permission, resource_id } = read(admitted.call.body().await?)?;
    let org = admitted.org()?;
    let (id, presented) = match about {
        About::Id(id) => (id, None),
        About::Value(value) => match read_value(&admitted, &value).await? {
            Ok(Read { id, presented, session }) => (id, Some((presented, session))),
            Err(Unread { check, reason, detail }) => {
                let check = json!({"check": check, "ok": false, "detail": detail});
                let body = json!({
                    "usable": false, "reason": reason, "key_id": null, "checks": [check],
                    "suggestions": [],
                });
                return Ok(Json(body).into_response());
            }
        },
    };
    let mut view = admitted.view().await?;
    let resource_id = resource_id.unwrap_or_else(|| org.root_resource_id.clone());
    let resource = resources::find(view.conn(), &org.id, &resource_id).await?;
    let resource = resource.ok_or_else(|| unknown_reference("resource_id"))?;
    // A key of another organization is as unknown as none.
    let row = keys::find_by_id(view.conn(), &id).await?.filter(|row| row.org_id == org.id);
    let body = match row {
        None => {
            let check = json!({"check": "known", "ok": false, "detail": "there is no such key"});
            json!({
                "usable": false, "reason": "unknown_key", "key_id": id, "checks": [check],
                "suggestions": [],
            })
        }
        Some(row) => {
            let now = admitted.call.now;
            let lacks = permission.as_ref().map(|permission| (permission, &resource));
            let (presented, session) = presented.as_ref().map_or((None, None), |both| {
                let (presented, session) = both;
                (Some(presented), session.as_ref())
            });
            let suspect = Suspect { org, key: &row, presented, session, lacks };
            diagnose(view.conn(), suspect, admitted.app(), now).await?
        }
    };
    Ok(Json(body).into_response())
}

/// A value that was read: the id of the key it claims to be, and the credential.
struct Read {
    id: String,
    presented: Credential,
    /// What it says, if it is a session token of ours.
    session: Option<Claims>,
}

/// A value that names no key.
struct Unread {
    check: &'static str,
    reason: &'static str,
    detail: String,
}

/// Reads a value in any spelling.
async fn read_value(admitted: &Admitted, value: &str) -> Result<Result<Read, Unread>, Problem> {
    let app = admitted.app();
    let malformed =
        |detail: String| Ok(Err(Unread { check: "format", reason: "malformed", detail }));
    if value.starts_with(BEGINNING) {
        return match Token::parse(value.as_bytes()) {
            Err(error) => malformed(error.to_string()),
            Ok(token) => Ok(read_token(admitted, token)),
        };
    }
    match key::read(value.as_bytes(), &[app.prefix], Spellings::ALL) {
        Err(fault) => malformed(fault.to_string()),
        Ok(Spelled::Native(native)) => {
            let id = native.id().to_string();
            let presented = Credential::Native(Arc::new(native));
            Ok(Ok(Read { id, presented, session: None }))
        }
        Ok(Spelled::Foreign(foreign)) => {
            let foreign = Arc::new(foreign);
            imports::settle(app, &foreign, &admitted.call.framed.origin).await?;
            let mut view = admitted.view().await?;
            let found = imports::find(view.conn(), &foreign).await?;
            let org_id = &admitted.org()?.id;
            let own = found.filter(|row| row.org_id == *org_id);
            let id = own.map(|row| row.id).unwrap_or_default();
            let presented = Credential::Foreign(foreign);
            Ok(Ok(Read { id, presented, session: None }))
        }
    }
}

/// A session token is believed as far as its signature goes: who wrote another one is unknown.
fn read_token(admitted: &Admitted, token: Token) -> Result<Read, Unread> {
    let unread =
        |reason, detail: &str| Unread { check: "token", reason, detail: detail.to_owned() };
    let claims = admitted.app().sessions.verify(&token, admitted.call.now).map_err(|reason| {
        let detail = match reason {
            DenyReason::TokenExpired => "the session token is expired",
            DenyReason::Audience => "the session token is for an audience that checks it alone",
            _ => "no key of this installation signed the session token",
        };
        unread(reason.label(), detail)
    })?;
    if claims.mode != Mode::Bound {
        let detail = "the session token is for an audience that checks it alone";
        return Err(unread(DenyReason::Audience.label(), detail));
    }
    let id = claims.key_id.to_string();
    Ok(Read { id, presented: Credential::Session(Arc::new(token)), session: Some(claims) })
}

struct Asked {
    about: About,
    permission: Option<Permission>,
    /// The root, unless given.
    resource_id: Option<String>,
}

enum About {
    Id(String),
    Value(Zeroizing<String>),
}

fn read(mut body: Fields) -> Result<Asked, Faults> {
    let value = body.optional("value", fields::text(LONGEST));
    let id = body.optional("key_id", fields::id);
    let permission = body.optional("permission", fields::permission);
    let resource_id = body.optional("resource_id", fields::id);
    if matches!(
        (value.peek(), id.peek()),
        (Some(Some(_)), Some(Some(_))) | (Some(None), Some(None))
    ) {
        body.fault("value", FieldCode::Required, "give either value or key_id");
    }
    let complete = body.finish()?;
    let about = match (value.value(&complete), id.value(&complete)) {
        (Some(value), _) => About::Value(Zeroizing::new(value)),
        (None, id) => About::Id(id.unwrap_or_default()),
    };
    Ok(Asked {
        about,
        permission: permission.value(&complete),
        resource_id: resource_id.value(&complete),
    })
}
