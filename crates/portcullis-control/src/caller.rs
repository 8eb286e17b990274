//! Who calls the admin API: the same keys, states and roles as at a gateway, read from the store at
//! the instant of the call. Only resolved access is remembered while nothing changes it, so a revoked
//! key is refused at once.

use std::sync::Arc;

use portcullis_core::account::{AccountState, Expiry, KeyState};
use portcullis_core::key::{Digest, ForeignKey, KeyId, ParsedKey, Pepper, PepperRing};
use portcullis_core::session::{Claims, Mode, Token};
use portcullis_core::time::WallMs;
use sqlx::SqliteConnection;

use crate::api::App;
use crate::domain::records::restriction_of;
use crate::domain::secrets::KEYED;
use crate::domain::{Author, imports};
use crate::instant::wall;
use crate::resolve::{Access, AsOf, Remembered, Restriction};
use crate::store::audit::Actor;
use crate::store::installation::{self, Purpose};
use crate::store::keys::{self, KeyRow};
use crate::store::organizations::{self, OrganizationRow};
use crate::store::{StoreError, accounts, users};

/// A credential as it was presented: well-formed, and nothing more is known of it.
#[derive(Clone)]
pub(crate) enum Credential {
    /// A key in another spelling than ours.
    Foreign(Arc<ForeignKey>),
    /// A key of ours.
    Native(Arc<ParsedKey>),
    /// A session token.
    Session(Arc<Token>),
}

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
    pub(crate) state: AccountState,
    pub(crate) org: OrganizationRow,
    pub(crate) key_id: String,
    pub(crate) key_uid: String,
    pub(crate) generation: i64,
    /// The generation of the secret that was presented, or that the session began with: the key's or
    /// the one before.
    pub(crate) secret_generation: i64,
    /// What the session token says, if it is one.
    pub(crate) session: Option<Claims>,
    /// Whether the key or the session token narrows what its owner may do.
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
                state: member.state.as_str().to_owned(),
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
    presented: &Credential,
    app: &App,
    as_of: AsOf,
    now: WallMs,
) -> Result<Result<Caller, Refused>, StoreError> {
    let peppers = &*app.peppers;
    let mut session = None;
    let key = match presented {
        Credential::Session(token) => {
            let claims = match app.sessions.verify(token, now) {
                Ok(claims) if claims.mode == Mode::Bound => claims,
                Ok(_) => return Ok(Err(Refused::unknown())),
                Err(reason) => return Ok(Err(Refused { reason: reason.label(), known: None })),
            };
            let Some(key) = keys::find_by_id(conn, &claims.key_id.to_string()).await? else {
                return Ok(Err(Refused::unknown()));
            };
            session = Some(claims);
            key
        }
        Credential::Foreign(foreign) => match imports::find(conn, foreign).await? {
            Some(key) => key,
            None => {
                // What a hit costs: both fast hashes, compared with nothing.
                Stored::NOTHING.is_secret_of(presented, KeyId::from_u64(0), peppers);
                return Ok(Err(Refused::unknown()));
            }
        },
        Credential::Native(native) => {
            let id = native.id().to_string();
            match keys::find_by_id(conn, &id).await? {
                Some(key) => key,
                None => {
                    let operator =
                        verify_installation_key(conn, native, peppers, Purpose::Operator).await?;
                    let caller = operator.then_some(Caller::Operator { key_id: id });
                    return Ok(caller.ok_or(Refused::unknown()));
                }
            }
        }
    };
    let owner = find_owner(conn, &key).await?;
    let refused = |reason| Ok(Err(Refused::of_key(&key, reason, &owner)));
    let secret_generation = match (&session, secret_of(&key, presented, peppers, now)) {
        (Some(claims), _) if *claims.sub != *key.owner_id || *claims.org_id != *key.org_id => {
            return refused("token_invalid");
        }
        (Some(claims), _) => i64::from(claims.key_gen),
        (None, SecretMatch::Current) => key.generation,
        (None, SecretMatch::Retained) => key.generation - 1,
        (None, SecretMatch::None) if key.state()? == KeyState::Deleted => {
            return refused("key_revoked");
        }
        (None, SecretMatch::None) => return refused("bad_secret"),
        (None, SecretMatch::RetentionOver) => return refused("retention_over"),
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
    let retained = key.retained_until_ms.is_some_and(|until| now < wall(until));
    let fits = secret_generation == key.generation
        || (retained && secret_generation == key.generation - 1);
    if !fits {
        return refused("token_generation");
    }
    let org = organizations::find(conn, &key.org_id)
        .await?
        .ok_or(StoreError::Broken("organization of a key"))?;
    if !org.serves(owner.kind) {
        return refused("org_suspended");
    }
    let of_key = restriction_of(&key)?.unwrap_or_default();
    let limits = match &session {
        Some(claims) => of_key.and_session(claims, app.sessions.issuer()),
        None => of_key,
    };
    let restricted = key.restriction.is_some() || limits != Restriction::default();
    let access = resolve(conn, &key, &owner, &org, (&app.remembered, as_of)).await?;
    let access = access.narrowed(limits);
    Ok(Ok(Caller::Member(Box::new(Member {
        kind: owner.kind,
        id: key.owner_id.clone(),
        name: owner.name,
        state: owner.state,
        org,
        restricted,
        key_id: key.id,
        key_uid: key.uid,
        generation: key.generation,
        secret_generation,
        session,
        access,
    }))))
}

/// What somebody has in hand who wants to end a key.
pub(crate) enum Holding {
    /// A key that has ended.
    Ended,
    /// A secret of a key, in whatever state that, its owner and the organization are: its holder
    /// may end it, and do nothing else.
    Held(Box<Member>),
    /// Nothing that is known here.
    Nothing,
}

/// Whoever holds a key may end it, also one that does not work now: it could work again.
pub(crate) async fn find_held(
    conn: &mut SqliteConnection,
    presented: &Credential,
    peppers: &PepperRing,
    now: WallMs,
) -> Result<Holding, StoreError> {
    let found = match presented {
        Credential::Foreign(foreign) => imports::find(conn, foreign).await?,
        Credential::Native(native) => keys::find_by_id(conn, &native.id().to_string()).await?,
        Credential::Session(_) => None,
    };
    let Some(key) = found else {
        // What a hit costs.
        Stored::NOTHING.is_secret_of(presented, KeyId::from_u64(0), peppers);
        return Ok(Holding::Nothing);
    };
    let secret = secret_of(&key, presented, peppers, now);
    if matches!(key.state()?, KeyState::Deleted | KeyState::Revoked) {
        return Ok(Holding::Ended);
    }
    let secret_generation = match secret {
        SecretMatch::Current => key.generation,
        SecretMatch::Retained => key.generation - 1,
        SecretMatch::None | SecretMatch::RetentionOver => return Ok(Holding::Nothing),
    };
    let owner = find_owner(conn, &key).await?;
    let org = organizations::find(conn, &key.org_id)
        .await?
        .ok_or(StoreError::Broken("organization of a key"))?;
    Ok(Holding::Held(Box::new(Member {
        kind: owner.kind,
        id: key.owner_id,
        name: owner.name,
        state: owner.state,
        org,
        restricted: true,
        key_id: key.id,
        key_uid: key.uid,
        generation: key.generation,
        secret_generation,
        session: None,
        access: Access::nothing(),
    })))
}

/// Everything that the owner of a key has, with the place of the root; as it was resolved before, if
/// that holds where this call reads.
async fn resolve(
    conn: &mut SqliteConnection,
    key: &KeyRow,
    owner: &Owner,
    org: &OrganizationRow,
    (remembered, as_of): (&Remembered, AsOf),
) -> Result<Access, StoreError> {
    if let Some(access) = remembered.find(as_of, &key.owner_id, org).await {
        return Ok(access);
    }
    let mut access = Access::of_principal(conn, owner.kind, &key.owner_id, &org.policy).await?;
    access.locate(conn, &org.id, &org.root_resource_id).await?;
    remembered.keep(as_of, &key.owner_id, org, &access).await;
    Ok(access)
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
    let stored = Stored { alg: KEYED, pepper, digest };
    Ok(stored.is_keyed(presented, peppers) && counts)
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
    presented: &Credential,
    peppers: &PepperRing,
    now: WallMs,
) -> SecretMatch {
    let id = key.id.parse().unwrap_or(KeyId::from_u64(0));
    let current =
        Stored { alg: &key.current_alg, pepper: key.current_pepper, digest: &key.current_digest };
    if current.is_secret_of(presented, id, peppers) {
        return SecretMatch::Current;
    }
    let (Some(pepper), Some(digest), Some(until)) =
        (key.previous_pepper, &key.previous_digest, key.retained_until_ms)
    else {
        return SecretMatch::None;
    };
    let previous = Stored { alg: key.previous_alg.as_deref().unwrap_or(KEYED), pepper, digest };
    match previous.is_secret_of(presented, id, peppers) {
        false => SecretMatch::None,
        true if now < wall(until) => SecretMatch::Retained,
        true => SecretMatch::RetentionOver,
    }
}

/// A stored digest that a secret is compared with.
struct Stored<'a> {
    alg: &'a str,
    pepper: i64,
    digest: &'a str,
}

impl Stored<'_> {
    const NOTHING: Stored<'static> = Stored { alg: "", pepper: 0, digest: "" };

    fn is_secret_of(&self, presented: &Credential, id: KeyId, peppers: &PepperRing) -> bool {
        match presented {
            Credential::Foreign(foreign) => self.is_foreign(foreign, id, peppers),
            Credential::Native(native) => self.is_keyed(native, peppers) && self.alg == KEYED,
            Credential::Session(_) => false,
        }
    }

    /// An unknown pepper or an unreadable digest costs a hash and matches nothing.
    fn is_keyed(&self, presented: &ParsedKey, peppers: &PepperRing) -> bool {
        let found = self.pepper(peppers);
        let computed = presented.digest(found.unwrap_or(peppers.current()));
        let stored = Digest::from_hex(self.digest);
        let readable = stored.is_ok();
        computed.matches(&stored.unwrap_or(Digest::DUMMY)) && readable && found.is_some()
    }

    /// Both fast hashes, whichever counts. A slow one never matches here: it is replaced first.
    fn is_foreign(&self, presented: &ForeignKey, id: KeyId, peppers: &PepperRing) -> bool {
        let found = self.pepper(peppers);
        let stored = Digest::from_hex(self.digest);
        let readable = stored.is_ok();
        let stored = stored.unwrap_or(Digest::DUMMY);
        let keyed = presented.matches_keyed(id, found.unwrap_or(peppers.current()), &stored);
        let plain = presented.sha256().matches(&stored);
        match self.alg {
            KEYED => keyed && readable && found.is_some(),
            "sha256" => plain && readable,
            _ => false,
        }
    }

    fn pepper<'p>(&self, peppers: &'p PepperRing) -> Option<&'p Pepper> {
        u32::try_from(self.pepper).ok().and_then(|version| peppers.find(version))
    }
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
