//! Who calls the admin API: the same keys, states and roles as at a gateway, read from the store at
//! the instant of the call. Nothing is cached, so a revoked key is refused at once.

use portcullis_core::account::{AccountState, Expiry, KeyState};
use portcullis_core::key::{Digest, ParsedKey, PepperRing};
use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use crate::domain::Author;
use crate::domain::records::restriction_of;
use crate::instant::wall;
use crate::resolve::Access;
use crate::store::audit::Actor;
use crate::store::installation::{self, Purpose};
use crate::store::keys::{self, KeyRow};
use crate::store::organizations::{self, OrganizationRow};
use crate::store::{StoreError, accounts, users};

/// Somebody whose credential was accepted.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Member(Box<Member>),
    /// The installation operator: outside all organizations.
    Operator {
        key_id: String,
    },
}

/// A principal of an organization.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) org: OrganizationRow,
    pub(crate) key_id: String,
    pub(crate) generation: i64,
    /// The generation of the secret that was presented: the key's or the one before.
    pub(crate) secret_generation: i64,
    /// Whether the key narrows what its owner may do.
    pub(crate) restricted: bool,
    pub(crate) access: Access,
}

impl Member {
    /// Whether this is the user, with all that they may do.
    pub(crate) fn is_user(&self, id: &str) -> bool {
        self.kind == "user" && self.id == id && !self.restricted
    }
}

impl Caller {
    /// As the author of what it makes.
    pub(crate) fn author(&self) -> Author {
        match self {
            Caller::Member(member) => Author {
                kind: member.kind.to_owned(),
                id: member.id.clone(),
                display: member.name.clone(),
            },
            Caller::Operator { .. } => Author::system(),
        }
    }

    /// As the actor of an audit event.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Caller::Member(member) => Actor {
                kind: member.kind,
                id: member.id.clone(),
                name: member.name.clone(),
                key_id: Some(member.key_id.clone()),
                state: "active".to_owned(),
            },
            Caller::Operator { key_id } => Actor {
                kind: "operator",
                id: "operator".to_owned(),
                name: "operator".to_owned(),
                key_id: Some(key_id.clone()),
                state: "active".to_owned(),
            },
        }
    }
}

/// A credential that was not accepted. Its bearer never learns why; the audit log does, if the key
/// is known.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    /// The organization and actor behind the key id, if it exists.
    pub(crate) known: Option<Box<(String, Actor)>>,
}

impl Refused {
    fn unknown() -> Refused {
        Refused { reason: "unknown_key", known: None }
    }

    fn of_key(key: &KeyRow, reason: &'static str, owner: &Owner) -> Refused {
        let actor = Actor {
            kind: owner.kind,
            id: key.owner_id.clone(),
            name: owner.name.clone(),
            key_id: Some(key.id.clone()),
            state: owner.state.as_str().to_owned(),
        };
        Refused { reason, known: Some(Box::new((key.org_id.clone(), actor))) }
    }
}

/// Steps 3 to 8 of service-accounts.md 6.
pub(crate) async fn verify(
    conn: &mut SqliteConnection,
    presented: &ParsedKey,
    peppers: &PepperRing,
    now: WallMs,
) -> Result<Result<Caller, Refused>, StoreError> {
    let id = presented.id().to_string();
    let Some(key) = keys::find_by_id(conn, &id).await? else {
        return verify_installation_key(conn, presented, peppers, Purpose::Operator).await.map(
            |found| found.then_some(Caller::Operator { key_id: id }).ok_or(Refused::unknown()),
        );
    };
    let owner = find_owner(conn, &key).await?;
    let refused = |reason| Ok(Err(Refused::of_key(&key, reason, &owner)));
    let secret_generation = match secret_of(&key, presented, peppers, now) {
        SecretMatch::Current => key.generation,
        SecretMatch::Retained => key.generation - 1,
        SecretMatch::None if key.state()? == KeyState::Deleted => return refused("key_revoked"),
        SecretMatch::None => return refused("bad_secret"),
        SecretMatch::RetentionOver => return refused("retention_over"),
    };
    match key.state()? {
        KeyState::Active => {}
        KeyState::Inactive => return refused("key_inactive"),
        KeyState::Deleted | KeyState::Revoked => return refused("key_revoked"),
    }
    if Expiry::from(key.expires_ms.map(wall)).is_past(now) {
        return refused("key_expired");
    }
    match owner.state {
        AccountState::Active => {}
        AccountState::Inactive => return refused("sa_inactive"),
        AccountState::Deleted | AccountState::Revoked => return refused("sa_revoked"),
    }
    let org = organizations::find(conn, &key.org_id)
        .await?
        .ok_or(StoreError::Broken("organization of a key"))?;
    if !org.serves(owner.kind) {
        return refused("org_suspended");
    }
    let mut access = Access::of_principal(conn, owner.kind, &key.owner_id, &org.policy)
        .await?
        .narrowed(restriction_of(&key)?.unwrap_or_default());
    access.locate(conn, &org.id, &org.root_resource_id).await?;
    Ok(Ok(Caller::Member(Box::new(Member {
        kind: owner.kind,
        id: key.owner_id.clone(),
        name: owner.name,
        org,
        key_id: key.id,
        generation: key.generation,
        secret_generation,
        restricted: key.restriction.is_some(),
        access,
    }))))
}

/// Whether this is the installation's key for the purpose. Hashes once, whatever is found.
pub(crate) async fn verify_installation_key(
    conn: &mut SqliteConnection,
    presented: &ParsedKey,
    peppers: &PepperRing,
    purpose: Purpose,
) -> Result<bool, StoreError> {
    let stored = installation::find_key(conn, presented.id()).await?;
    let (pepper, digest, counts) = match &stored {
        Some(row) => (row.pepper, row.digest.as_str(), row.is_for(purpose)),
        None => (i64::from(peppers.current().version()), "", false),
    };
    Ok(matches(presented, peppers, pepper, digest) && counts)
}

/// Which of a key's secrets was presented.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretMatch {
    Current,
    None,
    Retained,
    RetentionOver,
}

/// Compares in constant time with the current secret, else with the retained one.
pub(crate) fn secret_of(
    key: &KeyRow,
    presented: &ParsedKey,
    peppers: &PepperRing,
    now: WallMs,
) -> SecretMatch {
    if matches(presented, peppers, key.current_pepper, &key.current_digest) {
        return SecretMatch::Current;
    }
    let (Some(pepper), Some(digest), Some(until)) =
        (key.previous_pepper, &key.previous_digest, key.retained_until_ms)
    else {
        return SecretMatch::None;
    };
    match matches(presented, peppers, pepper, digest) {
        false => SecretMatch::None,
        true if now < wall(until) => SecretMatch::Retained,
        true => SecretMatch::RetentionOver,
    }
}

/// An unknown pepper or an unreadable digest costs a hash and matches nothing.
fn matches(presented: &ParsedKey, peppers: &PepperRing, pepper: i64, digest: &str) -> bool {
    let found = u32::try_from(pepper).ok().and_then(|version| peppers.find(version));
    let computed = presented.digest(found.unwrap_or(peppers.current()));
    let stored = Digest::from_hex(digest);
    let readable = stored.is_ok();
    computed.matches(&stored.unwrap_or(Digest::DUMMY)) && readable && found.is_some()
}

/// The owner of a key, as far as verification asks.
pub(crate) struct Owner {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) state: AccountState,
}

pub(crate) async fn find_owner(
    conn: &mut SqliteConnection,
    key: &KeyRow,
) -> Result<Owner, StoreError> {
    if key.owner_kind == "user" {
        let row = users::find(conn, &key.org_id, &key.owner_id)
            .await?
            .ok_or(StoreError::Broken("owner of a key"))?;
        let state = if row.is_active() { AccountState::Active } else { AccountState::Deleted };
        return Ok(Owner { kind: "user", name: row.username, state });
    }
    let row = accounts::find(conn, &key.org_id, &key.owner_id)
        .await?
        .ok_or(StoreError::Broken("owner of a key"))?;
    let state = row.state()?;
    Ok(Owner { kind: "service_account", name: row.username, state })
}
