//! The secrets of keys: minted, reduced to a digest, given an end. The only module of the control
//! plane that makes a plaintext, and it stores none.

use portcullis_core::account::{Expiry, KeyName, KeySecrets, KeyState, Previous};
use portcullis_core::key::{self, PlainKey, Uid, render_zenpro};
use portcullis_core::time::WallMs;
use zeroize::Zeroizing;

use super::{Author, Problem};
use crate::api::App;
use crate::api::problem::FieldCode;
use crate::instant::{column, wall};
use crate::policy::{KeyRender, OrgPolicy};
use crate::resolve::Restriction;
use crate::store::keys::{KeyRow, Secret};

/// The style of keys that are minted here.
pub(crate) const NATIVE: &str = "native";
/// How their digests are made.
pub(crate) const KEYED: &str = "b3";

/// A secret as its bearer gets it, in the one answer that shows it.
pub(crate) struct Shown {
    pub(crate) value: Zeroizing<String>,
    pub(crate) tail: Zeroizing<String>,
}

impl Shown {
    /// In the spelling that the organization wants; its keys are accepted in either.
    pub(crate) fn of(policy: &OrgPolicy, row: &KeyRow, plain: &PlainKey) -> Shown {
        let uid = row.uid.parse().unwrap_or_else(|_| Uid::of_key(plain.id()));
        let value = match policy.key_render {
            KeyRender::Native => Zeroizing::new(plain.expose().to_owned()),
            KeyRender::Zenpro => render_zenpro(plain, uid),
        };
        Shown { value, tail: Zeroizing::new(plain.tail().to_owned()) }
    }
}

/// A key that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub(crate) name: KeyName,
    pub(crate) description: Option<String>,
    pub(crate) expiry: ExpiryWish,
    pub(crate) active: bool,
    pub(crate) restriction: Option<Restriction>,
}

/// When a new key is to end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpiryWish {
    At(WallMs),
    /// By the organization's policy.
    Default,
    Never,
    /// Seconds from now.
    Ttl(u64),
}

/// Who will own a key, and who made it.
pub(crate) struct Owner<'a> {
    pub(crate) kind: &'static str,
    pub(crate) id: &'a str,
    pub(crate) org_id: &'a str,
    pub(crate) author: &'a Author,
}

/// Mints a key and the row that remembers it. Nothing is stored yet.
pub(crate) fn mint_row(
    app: &App,
    now: WallMs,
    owner: &Owner<'_>,
    wanted: &NewKey,
    expiry: Expiry,
) -> Result<(KeyRow, PlainKey), Problem> {
    let plain = key::mint(&app.prefix, app.entropy.as_ref())?;
    let secret = digest_of(app, &plain, now);
    let restriction = wanted.restriction.as_ref().map(|restriction| {
        serde_json::to_string(restriction).expect("a restriction has only string keys")
    });
    let row = KeyRow {
        id: plain.id().to_string(),
        uid: Uid::of_key(plain.id()).to_string(),
        org_id: owner.org_id.to_owned(),
        owner_kind: owner.kind.to_owned(),
        owner_id: owner.id.to_owned(),
        name: wanted.name.as_str().to_owned(),
        description: wanted.description.clone(),
        state: if wanted.active { KeyState::Active } else { KeyState::Inactive }.to_string(),
        expires_ms: expiry.at().map(column),
        generation: 1,
        prefix: app.prefix.to_string(),
        last4: plain.last4().to_owned(),
        style: NATIVE.to_owned(),
        current_alg: secret.alg,
        current_pepper: secret.pepper,
        current_digest: secret.digest,
        current_created_ms: secret.created_ms,
        previous_alg: None,
        previous_pepper: None,
        previous_digest: None,
        previous_created_ms: None,
        retained_until_ms: None,
        restriction,
        created_by: owner.author.to_column(),
        created_ms: column(now),
        updated_ms: column(now),
        last_used_ms: None,
        last_used_ip: None,
        last_login_ms: None,
        last_rotated_ms: None,
        use_count: 0,
        denied_count: 0,
        current_used_ms: None,
        previous_used_ms: None,
        retire_quiet_ms: None,
        version: 1,
    };
    Ok((row, plain))
}

/// What the store keeps of a plaintext.
pub(crate) fn digest_of(app: &App, plain: &PlainKey, now: WallMs) -> Secret {
    let pepper = app.peppers.current();
    Secret {
        alg: KEYED.to_owned(),
        pepper: i64::from(pepper.version()),
        digest: plain.parsed().digest(pepper).to_hex(),
        created_ms: column(now),
    }
}

/// The expiry that the policy makes of a wish.
pub(crate) fn settle_expiry(
    policy: &OrgPolicy,
    wish: ExpiryWish,
    now: WallMs,
) -> Result<Expiry, (FieldCode, String)> {
    let after = |seconds: u64| Expiry::At(now.plus_ms(seconds.saturating_mul(1000)));
    let expiry = match wish {
        ExpiryWish::At(at) => Expiry::At(at),
        ExpiryWish::Default => policy.key_ttl_default.map_or(Expiry::Never, after),
        ExpiryWish::Never => Expiry::Never,
        ExpiryWish::Ttl(seconds) => after(seconds),
    };
    let Some(at) = expiry.at() else {
        return match policy.allow_never_expires {
            true => Ok(expiry),
            false => Err((FieldCode::Policy, "keys must expire here".to_owned())),
        };
    };
    if expiry.is_past(now) {
        return Err((FieldCode::OutOfRange, "it must lie in the future".to_owned()));
    }
    match policy.key_ttl_max {
        Some(most) if at.since(now) > most.saturating_mul(1000) => {
            Err((FieldCode::Policy, format!("keys live at most {most} seconds here")))
        }
        Some(_) | None => Ok(expiry),
    }
}

/// The secrets of a row, for the arithmetic of core.
pub(super) fn secrets_of(row: &KeyRow) -> KeySecrets<Secret> {
    let current = Secret {
        alg: row.current_alg.clone(),
        pepper: row.current_pepper,
        digest: row.current_digest.clone(),
        created_ms: row.current_created_ms,
    };
    let previous = match (row.previous_pepper, &row.previous_digest, row.retained_until_ms) {
        (Some(pepper), Some(digest), Some(until)) => Some(Previous {
            secret: Secret {
                alg: row.previous_alg.clone().unwrap_or_else(|| KEYED.to_owned()),
                pepper,
                digest: digest.clone(),
                created_ms: row.previous_created_ms.unwrap_or(row.created_ms),
            },
            retained_until: wall(until),
        }),
        _ => None,
    };
    let generation = u32::try_from(row.generation).unwrap_or(u32::MAX);
    KeySecrets::stored(generation, current, Expiry::from(row.expires_ms.map(wall)), previous)
}

/// Puts secrets back into their row.
pub(super) fn keep_secrets(row: &mut KeyRow, secrets: &KeySecrets<Secret>) {
    row.generation = i64::from(secrets.generation());
    row.current_alg = secrets.current().alg.clone();
    row.current_pepper = secrets.current().pepper;
    row.current_digest = secrets.current().digest.clone();
    row.current_created_ms = secrets.current().created_ms;
    row.expires_ms = secrets.expiry().at().map(column);
    // Kept over a change of the expiry; a rotation sets them itself.
    let (used_ms, quiet_ms) = (row.previous_used_ms, row.retire_quiet_ms);
    row.forget_previous();
    if let Some(previous) = secrets.previous() {
        (row.previous_used_ms, row.retire_quiet_ms) = (used_ms, quiet_ms);
        row.previous_alg = Some(previous.secret.alg.clone());
        row.previous_pepper = Some(previous.secret.pepper);
        row.previous_digest = Some(previous.secret.digest.clone());
        row.previous_created_ms = Some(previous.secret.created_ms);
        row.retained_until_ms = Some(column(previous.retained_until));
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::account::Expiry;
    use portcullis_core::time::WallMs;

    use super::{ExpiryWish, settle_expiry};
    use crate::api::problem::FieldCode;
    use crate::policy::OrgPolicy;

    const NOW: WallMs = WallMs(1_000_000);

    #[test]
    fn an_expiry_follows_wish_and_policy() {
        let free = OrgPolicy::default();
        let strict = OrgPolicy {
            allow_never_expires: false,
            key_ttl_default: Some(60),
            key_ttl_max: Some(100),
            ..OrgPolicy::default()
        };
        let at = |ms| Expiry::At(WallMs(ms));
        let code =
            |policy: &OrgPolicy, wish| settle_expiry(policy, wish, NOW).map_err(|(code, _)| code);
        assert_eq!(code(&free, ExpiryWish::Default), Ok(Expiry::Never));
        assert_eq!(code(&free, ExpiryWish::Ttl(1)), Ok(at(1_001_000)));
        assert_eq!(code(&free, ExpiryWish::At(NOW)), Err(FieldCode::OutOfRange));
        assert_eq!(code(&strict, ExpiryWish::Default), Ok(at(1_060_000)));
        assert_eq!(code(&strict, ExpiryWish::Never), Err(FieldCode::Policy));
        assert_eq!(code(&strict, ExpiryWish::Ttl(100)), Ok(at(1_100_000)));
        assert_eq!(code(&strict, ExpiryWish::Ttl(101)), Err(FieldCode::Policy));
        assert_eq!(code(&strict, ExpiryWish::Ttl(u64::MAX)), Err(FieldCode::Policy));
    }
}
