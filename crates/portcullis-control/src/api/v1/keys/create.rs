//! `POST S/keys`: a new key, whose value is in this answer and in no other.

use portcullis_core::account::KeyName;
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, FieldCode};
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::keys;
use crate::domain::secrets::{ExpiryWish, NewKey, Shown};
use crate::resolve::Restriction;

/// The longest time to live: a hundred years.
const MAX_TTL_S: u64 = 100 * 366 * 86_400;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys",
    "Create a key",
    Need::root("api_key.create", "api_key:create").entitled(),
    |admitted| Box::pin(run(admitted)),
)
.notes("The value is in this answer and in no other.")
.reads(|body| read_key(body).err(), r#"{"name": "deploy"}"#)
.answers(Answer::created("key", "Key").with_secret())
.may_refuse(&[
    Code::KeyLimitReached,
    Code::NameTaken,
    Code::OperationNotOffered,
    Code::PrivilegeEscalation,
    Code::ServiceAccountInactive,
    Code::StateTerminal,
]);

pub(crate) const OF_USER: Operation =
    OPERATION.of_user("/v1/organizations/{org}/users/{user}/keys");

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read_key(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let owner = super::find_owner(&mut work, &admitted.call).await?;
    let (row, plain) = keys::create(&mut work, &owner, wanted, "").await?;
    let secret = Shown::of(&work.org()?.policy, &row, &plain);
    let shown = super::shown(&work, &owner, &row)?;
    let happening = super::happening("api_key.create", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    let family = if owner.kind == "user" { "users" } else { "service-accounts" };
    let location =
        format!("/v1/organizations/{}/{family}/{}/keys/{}", row.org_id, owner.id, row.id);
    Mutation::of(conclusion, Effect::Widening, "key", shown)
        .created(location)
        .with_secret(&secret)
        .send(&admitted, wait)
        .await
}

/// The fields of a new key, here and as `create_key` of a new account.
pub(crate) fn read_key(mut body: Fields) -> Result<NewKey, Faults> {
    let name = body.required("name", fields::name(KeyName::parse));
    let description = body.optional("description", fields::long_text(64 * 1024));
    let expires_at = body.clearable("expires_at", fields::instant);
    let ttl_seconds = body.optional("ttl_seconds", fields::integer(1..=MAX_TTL_S));
    let active = body.optional("active", fields::boolean);
    let restriction = body.optional("restriction", restriction());
    if matches!((expires_at.peek(), ttl_seconds.peek()), (Some(Some(_)), Some(Some(_)))) {
        body.fault("ttl_seconds", FieldCode::BadFormat, "give expires_at or ttl_seconds");
    }
    let complete = body.finish()?;
    let expiry = match (expires_at.value(&complete), ttl_seconds.value(&complete)) {
        (_, Some(seconds)) => ExpiryWish::Ttl(seconds),
        (Some(Some(at)), None) => ExpiryWish::At(at),
        (Some(None), None) => ExpiryWish::Never,
        (None, None) => ExpiryWish::Default,
    };
    Ok(NewKey {
        name: name.value(&complete),
        description: description.value(&complete),
        expiry,
        active: active.value(&complete).unwrap_or(true),
        restriction: restriction.value(&complete),
    })
}

/// `{permissions?, resource_ids?, methods?}`; what is absent does not narrow.
pub(super) fn restriction() -> impl Reader<Value = Restriction> {
    fields::object(|mut inner| {
        let permissions = inner.optional("permissions", fields::list(0..=200, fields::pattern));
        let resource_ids = inner.optional("resource_ids", fields::list(0..=200, fields::id));
        let methods = inner.optional("methods", fields::list(0..=20, method()));
        let complete = inner.finish()?;
        Ok(Restriction {
            permissions: permissions.value(&complete),
            resource_ids: resource_ids.value(&complete),
            methods: methods.value(&complete),
            bounds: None,
        })
    })
}

fn method() -> impl Reader<Value = String> {
    fields::custom(json!({"type": "string", "pattern": "^[A-Z]{1,32}$"}), |value| {
        match value.as_str() {
            Some(text)
                if (1..=32).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_uppercase()) =>
            {
                Ok(text.to_owned())
            }
            Some(_) | None => Err(Faults::format("an HTTP method such as GET is wanted")),
        }
    })
}
