//! API keys: creation, rotation, states. The plaintext exists between minting and the one response
//! that shows it; the store gets its digest.

use portcullis_core::account::{
    AccountState, Expiry, ExpiryChange, KeyName, KeyState, Retention, RotateRefused, Rotation,
    Transition,
};
use portcullis_core::key::{self, KeyId, PlainKey};
use portcullis_core::time::WallMs;

use super::secrets::{
    ExpiryWish, NewKey, Owner, digest_of, keep_secrets, mint_row, secrets_of, settle_expiry,
};
use super::stakes::holds_everything;
use super::{Code, Problem, records};
use crate::api::problem::FieldCode;
use crate::api::views::HOUR_MS;
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::policy::{KeyOp, OrgPolicy, RotateExpiry};
use crate::resolve::{Access, Restriction};
use crate::store::accounts::AccountRow;
use crate::store::keys::{self, KeyRow};
use crate::store::users::UserRow;
use crate::store::{StoreError, resources};

/// Whoever owns keys: a service account, or a user, whose keys die with them.
#[derive(Clone, Debug)]
pub(crate) struct KeyOwner {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) state: AccountState,
    /// It belongs to a workspace: its keys are imported, never made.
    pub(crate) legacy: bool,
}

impl KeyOwner {
    pub(crate) fn account(row: &AccountRow) -> Result<KeyOwner, StoreError> {
        Ok(KeyOwner {
            kind: "service_account",
            id: row.id.clone(),
            state: row.state()?,
            legacy: row.legacy_workspace_id.is_some(),
        })
    }

    pub(crate) fn user(row: &UserRow) -> KeyOwner {
        let state = match row.is_active() {
            true => AccountState::Active,
            false => AccountState::Deleted,
        };
        KeyOwner { kind: "user", id: row.id.clone(), state, legacy: false }
    }

    /// Keys of a workspace's own account are imported and deleted, and given no new secrets.
    pub(crate) fn refuse_secrets(&self) -> Result<(), Problem> {
        if !self.legacy {
            return Ok(());
        }
        let detail = "Keys of a workspace's own account can be imported and deleted only.";
        Err(Problem::new(Code::OperationNotOffered, detail))
    }

    /// Only the number of a service account's keys is limited.
    fn limit(&self, policy: &OrgPolicy) -> Option<u32> {
        policy.max_keys_per_sa.filter(|_| self.kind == "service_account")
    }
}

/// Creates a key. `field` is what its fields are called in the body.
pub(crate) async fn create(
    work: &mut Work,
    owner: &KeyOwner,
    wanted: NewKey,
    field: &str,
) -> Result<(KeyRow, PlainKey), Problem> {
    let org = work.org()?.clone();
    let expiry = settle_expiry(&org.policy, wanted.expiry, work.now)
        .map_err(|(code, detail)| Problem::field(&format!("{field}expires_at"), code, detail))?;
    check_restriction(work, wanted.restriction.as_ref(), field).await?;
    owner.refuse_secrets()?;
    admit(work, owner, &wanted.name).await?;
    let author = work.caller.author();
    let owner = Owner { kind: owner.kind, id: &owner.id, org_id: &org.id, author: &author };
    let (row, plain) = mint_row(&work.app, work.now, &owner, &wanted, expiry)?;
    keys::insert(work.unit.conn(), &row).await?;
    records::publish_key(&mut work.unit, &row).await?;
    Ok((row, plain))
}

/// Whether the owner may have one more key of this name, and the caller give it one.
pub(super) async fn admit(
    work: &mut Work,
    owner: &KeyOwner,
    name: &KeyName,
) -> Result<(), Problem> {
    refuse_escalation(work, owner.kind, &owner.id).await?;
    match owner.state {
        AccountState::Active => {}
        AccountState::Deleted => return Err(Problem::not_found()),
        AccountState::Inactive => {
            let detail = "Activate the service account first.";
            return Err(Problem::new(Code::ServiceAccountInactive, detail));
        }
        AccountState::Revoked => {
            return Err(Problem::new(Code::StateTerminal, "The service account is revoked."));
        }
    }
    refuse_taken_name(work, &owner.id, name, None).await?;
    let policy = &work.org()?.policy;
    if let Some(most) = owner.limit(policy) {
        let count = keys::count_of_owner(work.unit.conn(), &owner.id).await?;
        if count >= i64::from(most) {
            let detail = format!("A service account has at most {most} keys here.");
            return Err(Problem::new(Code::KeyLimitReached, detail));
        }
    }
    Ok(())
}

/// What a rotation does with the expiry, as asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum RotateWish {
    At(WallMs),
    Default,
    Keep,
    Never,
}

/// A rotation as asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RotationWish {
    /// How long the old secret works on.
    pub(crate) retain_minutes: u64,
    /// After how many hours without use it goes before that.
    pub(crate) retire_after_quiet_hours: Option<u32>,
    pub(crate) expires: RotateWish,
}

/// Gives a key a new secret and keeps the old one for a while.
pub(crate) async fn rotate(
    work: &mut Work,
    row: &mut KeyRow,
    wish: RotationWish,
) -> Result<PlainKey, Problem> {
    let RotationWish { retain_minutes, retire_after_quiet_hours, expires: wish } = wish;
    let policy = work.org()?.policy.clone();
    let retain = Retention::of_minutes(retain_minutes, policy.rotate_max_retain_minutes)
        .map_err(|fault| Problem::field("retain_minutes", FieldCode::OutOfRange, fault))?;
    let change = match (wish, policy.rotate_expiry_default) {
        (RotateWish::Keep, _) | (RotateWish::Default, RotateExpiry::Keep) => ExpiryChange::Keep,
        (RotateWish::Never, _) | (RotateWish::Default, RotateExpiry::Never) => {
            ExpiryChange::Set(settle_for_rotation(&policy, ExpiryWish::Never, work.now)?)
        }
        (RotateWish::At(at), _) => {
            ExpiryChange::Set(settle_for_rotation(&policy, ExpiryWish::At(at), work.now)?)
        }
    };
    offered(&policy, KeyOp::Rotate)?;
    let id: KeyId = row.id.parse().map_err(|_| Problem::not_found())?;
    let plain = key::mint_for(id, &work.app.prefix, work.app.entropy.as_ref())?;
    let secret = digest_of(&work.app, &plain, work.now);
    let rotated = secrets_of(row)
        .rotate(row.state()?, secret, Rotation { retain, expiry: change }, work.now)
        .map_err(rotate_problem)?;
    let was_used_ms = row.current_used_ms.take();
    keep_secrets(row, &rotated);
    if row.retained_until_ms.is_some() {
        row.previous_used_ms = was_used_ms;
        row.retire_quiet_ms = retire_after_quiet_hours.map(|hours| i64::from(hours) * HOUR_MS);
    }
    row.prefix = work.app.prefix.to_string();
    row.last4 = plain.last4().to_owned();
    row.last_rotated_ms = Some(column(work.now));
    keys::update(work.unit.conn(), row, work.now).await?;
    records::publish_key(&mut work.unit, row).await?;
    Ok(plain)
}

fn settle_for_rotation(
    policy: &OrgPolicy,
    wish: ExpiryWish,
    now: WallMs,
) -> Result<Expiry, Problem> {
    settle_expiry(policy, wish, now)
        .map_err(|(code, detail)| Problem::field("expires", code, detail))
}

fn rotate_problem(refused: RotateRefused) -> Problem {
    match refused {
        RotateRefused::Deleted => Problem::not_found(),
        RotateRefused::Expired => Problem::new(Code::KeyExpired, refused),
        RotateRefused::ExpiryPast => Problem::field("expires", FieldCode::OutOfRange, refused),
        RotateRefused::GenerationsExhausted | RotateRefused::Terminal => {
            Problem::new(Code::StateTerminal, refused)
        }
        RotateRefused::Inactive => Problem::new(Code::KeyInactive, refused),
    }
}

/// The members of a key that a patch changes; absent means unchanged.
pub(crate) struct KeyPatch {
    pub(crate) name: Option<KeyName>,
    pub(crate) description: Option<Option<String>>,
    pub(crate) expires_at: Option<Option<WallMs>>,
    pub(crate) restriction: Option<Option<Restriction>>,
}

/// Changes a key. A nearer expiry shortens a retained secret; a later one does not extend it.
pub(crate) async fn patch(
    work: &mut Work,
    row: &mut KeyRow,
    change: KeyPatch,
) -> Result<(), Problem> {
    let KeyPatch { name, description, expires_at, restriction } = change;
    let policy = work.org()?.policy.clone();
    if let Some(wanted) = &restriction {
        check_restriction(work, wanted.as_ref(), "").await?;
        // Less restriction is more access, so it is for those who could have granted it.
        let (kind, id) = (row.owner_kind.clone(), row.owner_id.clone());
        refuse_escalation(work, &kind, &id).await?;
    }
    let expiry = match expires_at {
        Some(at) => {
            let wish = at.map_or(ExpiryWish::Never, ExpiryWish::At);
            let settled = settle_expiry(&policy, wish, work.now);
            Some(settled.map_err(|(code, detail)| Problem::field("expires_at", code, detail))?)
        }
        None => None,
    };
    row.state()?.editable()?;
    if let Some(name) = name {
        refuse_taken_name(work, &row.owner_id, &name, Some(&row.id)).await?;
        row.name = name.as_str().to_owned();
    }
    if let Some(description) = description {
        row.description = description;
    }
    if let Some(restriction) = restriction {
        row.restriction = restriction.map(|restriction| {
            serde_json::to_string(&restriction).expect("a restriction has only string keys")
        });
    }
    if let Some(expiry) = expiry {
        let changed = secrets_of(row)
            .with_expiry(expiry, work.now)
            .map_err(|past| Problem::field("expires_at", FieldCode::OutOfRange, past))?;
        keep_secrets(row, &changed);
    }
    keys::update(work.unit.conn(), row, work.now).await?;
    records::publish_key(&mut work.unit, row).await?;
    Ok(())
}

/// A change of a key's state.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySwitch {
    Activate,
    Deactivate,
    Delete,
    Revoke,
}

/// Switches a key. False if it was so already.
pub(crate) async fn switch(
    work: &mut Work,
    row: &mut KeyRow,
    to: KeySwitch,
) -> Result<bool, Problem> {
    let policy = &work.org()?.policy;
    let (op, transition) = match to {
        KeySwitch::Activate => (KeyOp::Toggle, row.state()?.activate()),
        KeySwitch::Deactivate => (KeyOp::Toggle, row.state()?.deactivate()),
        KeySwitch::Delete => (KeyOp::Delete, row.state()?.delete().map(Transition::Changed)),
        KeySwitch::Revoke => (KeyOp::Revoke, row.state()?.revoke()),
    };
    offered(policy, op)?;
    let Transition::Changed(state) = transition? else { return Ok(false) };
    set_state(work, row, state).await?;
    Ok(true)
}

/// Sets the state that a transition led to, in the store and at gateways.
pub(crate) async fn set_state(
    work: &mut Work,
    row: &mut KeyRow,
    state: KeyState,
) -> Result<(), Problem> {
    row.state = state.to_string();
    match state {
        KeyState::Active | KeyState::Inactive => {}
        KeyState::Revoked => row.forget_previous(),
        KeyState::Deleted => {
            // A tombstone: nothing is left to compare with.
            row.forget_previous();
            row.current_digest = String::new();
            row.description = None;
        }
    }
    keys::update(work.unit.conn(), row, work.now).await?;
    match state {
        KeyState::Active | KeyState::Inactive => records::publish_key(&mut work.unit, row).await?,
        KeyState::Deleted | KeyState::Revoked => records::revoke_key(&mut work.unit, row).await?,
    }
    Ok(())
}

fn offered(policy: &OrgPolicy, op: KeyOp) -> Result<(), Problem> {
    if policy.key_ops.contains(&op) {
        return Ok(());
    }
    let detail = "The organization's policy does not offer this operation on keys.";
    Err(Problem::new(Code::OperationNotOffered, detail))
}

/// Whoever sees a key's value can do all that its account can, so they must be able to already.
pub(crate) async fn refuse_escalation(
    work: &mut Work,
    owner_kind: &str,
    owner_id: &str,
) -> Result<(), Problem> {
    if holds_everything(work)? {
        return Ok(());
    }
    let policy = work.org()?.policy.clone();
    let theirs = Access::of_principal(work.unit.conn(), owner_kind, owner_id, &policy).await?;
    if work.member()?.access.contains(&theirs) {
        return Ok(());
    }
    let detail = "The key's owner has permissions that you do not have yourself.";
    Err(Problem::new(Code::PrivilegeEscalation, detail))
}

async fn refuse_taken_name(
    work: &mut Work,
    owner_id: &str,
    name: &KeyName,
    except: Option<&str>,
) -> Result<(), Problem> {
    let found = keys::find_by_name(work.unit.conn(), owner_id, name.as_str()).await?;
    match found {
        Some(other) if Some(other.id.as_str()) != except => {
            Err(Problem::new(Code::NameTaken, "Another key of the same owner has this name."))
        }
        Some(_) | None => Ok(()),
    }
}

async fn check_restriction(
    work: &mut Work,
    restriction: Option<&Restriction>,
    field: &str,
) -> Result<(), Problem> {
    let org_id = work.org()?.id.clone();
    let ids = restriction.and_then(|restriction| restriction.resource_ids.as_deref());
    for (index, id) in ids.unwrap_or_default().iter().enumerate() {
        if resources::find(work.unit.conn(), &org_id, id).await?.is_none() {
            let name = format!("{field}restriction.resource_ids[{index}]");
            return Err(unknown_reference(&name));
        }
    }
    Ok(())
}
