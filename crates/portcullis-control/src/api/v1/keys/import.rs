//! `POST S/keys:import`: a key that another system made, by the hash it was stored as there. No
//! plaintext is asked for, and none comes back.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use portcullis_core::account::KeyName;
use portcullis_core::key::{Digest, Uid, check_bcrypt};
use serde_json::{Value, json};

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, FieldCode};
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::domain::Effect;
use crate::domain::imports::{self, Digest256, ForeignHash, ImportedKey, Style};
use crate::domain::secrets::ExpiryWish;

const UNKEYED: &str = "The hash has no key: make sure that the secret has at least 128 random \
                       bits, or rotate it.";

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts/{sa}/keys:import",
    "Take over a key that another system made",
    Need::root("api_key.import", "api_key:import").entitled(),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "By the hash it was stored as: no plaintext is sent. Style opaque is found by SHA-256 of the \
     text; style zenml by the id of its rendering, and what is hashed is the secret inside.",
)
.reads(
    |body| read(body).err(),
    r#"{"name": "legacy", "style": "opaque", "alg": "sha256",
        "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
)
.answers(Answer::created("key", "Key"))
.may_refuse(&[
    Code::KeyLimitReached,
    Code::KeyTaken,
    Code::NameTaken,
    Code::PrivilegeEscalation,
    Code::ServiceAccountInactive,
    Code::StateTerminal,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let unkeyed = matches!(wanted.hash, ForeignHash::Sha256(_));
    let mut work = admitted.begin().await?;
    let owner = super::find_owner(&mut work, &admitted.call).await?;
    let row = imports::import(&mut work, &owner, wanted).await?;
    let shown = super::shown(&work, &owner, &row)?;
    let happening = super::happening("api_key.import", &row, None, Some(shown.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    let location = format!(
        "/v1/organizations/{}/service-accounts/{}/keys/{}",
        row.org_id, row.owner_id, row.id
    );
    let mut reply = Mutation::of(conclusion, Effect::Widening, "key", shown).created(location);
    if unkeyed {
        reply = reply.warn("unkeyed_hash", UNKEYED);
    }
    reply.send(&admitted, wait).await
}

fn read(mut body: Fields) -> Result<ImportedKey, Faults> {
    let name = body.required("name", fields::name(KeyName::parse));
    let style = body.required("style", fields::one_of(&["zenml", "opaque"]));
    let uid = body.optional("uid", uid());
    let alg = body.required("alg", fields::one_of(&["sha256", "bcrypt"]));
    let alg_word = alg.peek().copied();
    let hash = body.required("hash", hashed(alg_word));
    let previous = body.optional(
        "previous",
        fields::object(|mut inner| {
            let hash = inner.required("hash", hashed(alg_word));
            let until = inner.required("retained_until", fields::instant);
            let complete = inner.finish()?;
            Ok((hash.value(&complete), until.value(&complete)))
        }),
    );
    let expires_at = body.clearable("expires_at", fields::instant);
    let active = body.optional("active", fields::boolean);
    match (style.peek().copied(), uid.peek()) {
        (Some("zenml"), Some(None)) => {
            body.fault("uid", FieldCode::Required, "a rendering is found by the id inside it");
        }
        (Some("opaque"), Some(Some(_))) => {
            body.fault("uid", FieldCode::BadFormat, "only style zenml has one");
        }
        _ => {}
    }
    if (style.peek().copied(), alg_word) == (Some("opaque"), Some("bcrypt")) {
        let detail = "sha256 for style opaque: nothing can be found by a bcrypt hash";
        body.fault("alg", FieldCode::BadFormat, detail);
    }
    let complete = body.finish()?;
    let (uid, style) = (uid.value(&complete), style.value(&complete));
    Ok(ImportedKey {
        name: name.value(&complete),
        style: match (style, uid) {
            ("zenml", Some(uid)) => Style::Zenml(uid),
            _ => Style::Opaque,
        },
        hash: hash.value(&complete),
        previous: previous.value(&complete),
        expiry: match expires_at.value(&complete) {
            Some(Some(at)) => ExpiryWish::At(at),
            Some(None) => ExpiryWish::Never,
            None => ExpiryWish::Default,
        },
        active: active.value(&complete).unwrap_or(true),
    })
}

/// A UUID that is not of the form in which ours are made: that form names a key of ours.
fn uid() -> impl Reader<Value = Uid> {
    fields::custom(json!({"type": "string", "format": "uuid"}), |value| {
        let text = value.as_str().unwrap_or_default();
        let uid: Uid = text.parse().map_err(Faults::format)?;
        match uid.key_id() {
            None => Ok(uid),
            Some(_) => Err(Faults::format("this uuid names a key that was made here")),
        }
    })
}

fn hashed(alg: Option<&'static str>) -> impl Reader<Value = ForeignHash> {
    let schema = json!({"type": "string", "minLength": 43, "maxLength": 64});
    fields::custom(schema, move |value| read_hash(alg, value))
}

fn read_hash(alg: Option<&str>, value: &Value) -> Result<ForeignHash, Faults> {
    let text = value.as_str().unwrap_or_default();
    if alg == Some("bcrypt") {
        check_bcrypt(text).map_err(Faults::format)?;
        return Ok(ForeignHash::Bcrypt(text.to_owned()));
    }
    let hex = text.to_ascii_lowercase();
    if Digest::from_hex(&hex).is_ok() {
        return Ok(ForeignHash::Sha256(Digest256(hex)));
    }
    let bare = text.trim_end_matches('=');
    let decoded = STANDARD_NO_PAD.decode(bare).or_else(|_| URL_SAFE_NO_PAD.decode(bare));
    let bytes: Option<[u8; 32]> = decoded.ok().and_then(|bytes| bytes.try_into().ok());
    match bytes {
        Some(bytes) => Ok(ForeignHash::Sha256(Digest256(Digest::from_bytes(bytes).to_hex()))),
        None => Err(Faults::format("SHA-256 as 64 hexadecimal digits or as base64 is wanted")),
    }
}
