//! Keys that other systems made: taken over by their hashes, without anybody knowing their
//! plaintext. A slow hash is replaced by a fast one as soon as its key has been presented once.

use portcullis_core::account::{Expiry, KeyName, KeyState};
use portcullis_core::directory::Which;
use portcullis_core::key::{Digest, Finder, ForeignKey, KeyId, Uid};
use portcullis_core::time::WallMs;

use super::keys::{self, KeyOwner};
use super::secrets::{ExpiryWish, KEYED, settle_expiry};
use super::{Code, Problem, records};
use crate::api::App;
use crate::api::problem::FieldCode;
use crate::api::work::Work;
use crate::instant::{column, wall};
use crate::slow::Busy;
use crate::store::audit::{Actor, Event, Origin, Outcome, Target};
use crate::store::keys::{self as rows, KeyRow, Secret};
use crate::store::{StoreError, Unit};

/// How a key that is taken over was spelled where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A text, found by its SHA-256.
    Opaque,
    /// ZenML's rendering, found by its id.
    Zenml(Uid),
}

/// The hash of a secret that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ForeignHash {
    Bcrypt(String),
    Sha256(Digest256),
}

/// SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digest256(pub(crate) String);

impl ForeignHash {
    fn secret(&self, now: WallMs) -> Secret {
        let (alg, digest) = match self {
            ForeignHash::Bcrypt(text) => ("bcrypt", text),
            ForeignHash::Sha256(Digest256(hex)) => ("sha256", hex),
        };
        Secret { alg: alg.to_owned(), pepper: 0, digest: digest.clone(), created_ms: column(now) }
    }
}

/// A key that is to be taken over.
pub(crate) struct ImportedKey {
    pub(crate) name: KeyName,
    pub(crate) style: Style,
    pub(crate) hash: ForeignHash,
    pub(crate) previous: Option<(ForeignHash, WallMs)>,
    pub(crate) expiry: ExpiryWish,
    pub(crate) active: bool,
}

/// Takes a key over.
pub(crate) async fn import(
    work: &mut Work,
    owner: &KeyOwner,
    wanted: ImportedKey,
) -> Result<KeyRow, Problem> {
    let org = work.org()?.clone();
    let expiry = settle_expiry(&org.policy, wanted.expiry, work.now)
        .map_err(|(code, detail)| Problem::field("expires_at", code, detail))?;
    let previous = match &wanted.previous {
        Some((_, until)) if *until <= work.now => {
            let detail = "it must lie in the future";
            return Err(Problem::field("previous.retained_until", FieldCode::OutOfRange, detail));
        }
        Some((hash, until)) => Some((hash.secret(work.now), cap(expiry, *until))),
        None => None,
    };
    keys::admit(work, owner, &wanted.name).await?;
    let mut id = [0; 8];
    work.app.entropy.fill(&mut id)?;
    let id = KeyId::from_u64(u64::from_be_bytes(id));
    let uid = match wanted.style {
        Style::Opaque => Uid::of_key(id),
        Style::Zenml(uid) => uid,
    };
    if rows::find_by_uid(work.unit.conn(), &uid.to_string()).await?.is_some() {
        return Err(Problem::new(Code::KeyTaken, "A key with this uid was imported before."));
    }
    let current = wanted.hash.secret(work.now);
    let (previous, until) = previous.unzip();
    let row = KeyRow {
        id: id.to_string(),
        uid: uid.to_string(),
        org_id: org.id.clone(),
        owner_kind: owner.kind.to_owned(),
        owner_id: owner.id.clone(),
        name: wanted.name.as_str().to_owned(),
        description: None,
        state: if wanted.active { KeyState::Active } else { KeyState::Inactive }.to_string(),
        expires_ms: expiry.at().map(column),
        // A secret that was replaced before has the generation before.
        generation: if previous.is_some() { 2 } else { 1 },
        prefix: work.app.prefix.to_string(),
        last4: String::new(),
        style: if wanted.style == Style::Opaque { "opaque" } else { "zenml" }.to_owned(),
        current_alg: current.alg,
        current_pepper: current.pepper,
        current_digest: current.digest,
        current_created_ms: current.created_ms,
        previous_alg: previous.as_ref().map(|secret: &Secret| secret.alg.clone()),
        previous_pepper: previous.as_ref().map(|secret| secret.pepper),
        previous_digest: previous.as_ref().map(|secret| secret.digest.clone()),
        previous_created_ms: previous.as_ref().map(|secret| secret.created_ms),
        retained_until_ms: until.map(column),
        restriction: None,
        created_by: work.caller.author().to_column(),
        created_ms: column(work.now),
        updated_ms: column(work.now),
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
    rows::insert(work.unit.conn(), &row).await?;
    if wanted.style == Style::Opaque {
        for digest in
            [Some(&row.current_digest), row.previous_digest.as_ref()].into_iter().flatten()
        {
            if rows::find_by_text(work.unit.conn(), digest).await?.is_some() {
                let detail = "A key with this hash was imported before.";
                return Err(Problem::new(Code::KeyTaken, detail));
            }
            rows::insert_text(work.unit.conn(), digest, &row.id).await?;
        }
    }
    records::publish_key(&mut work.unit, &row).await?;
    Ok(row)
}

/// A retained secret never outlives its key.
fn cap(expiry: Expiry, until: WallMs) -> WallMs {
    expiry.at().map_or(until, |end| end.min(until))
}

/// The key that a foreign spelling is about, whatever its state.
pub(crate) async fn find(
    conn: &mut sqlx::SqliteConnection,
    presented: &ForeignKey,
) -> Result<Option<KeyRow>, StoreError> {
    match presented.finder() {
        Finder::Text => rows::find_by_text(conn, &presented.sha256().to_hex()).await,
        Finder::Uid(uid) => rows::find_by_uid(conn, &uid.to_string()).await,
    }
}

/// If the key is known by slow hashes only, compares with them, away from the database, and puts
/// the fast digest in place of the one that matched. Whether it matched is decided afterwards, like
/// for every other key.
pub(crate) async fn settle(
    app: &App,
    presented: &std::sync::Arc<ForeignKey>,
    origin: &Origin,
) -> Result<(), Problem> {
    let mut view = app.store.view().await?;
    let Some(row) = find(view.conn(), presented).await? else { return Ok(()) };
    drop(view);
    let hashes = slow_hashes(&row, app.now());
    if hashes.is_empty() {
        return Ok(());
    }
    let matching = app.slow.check(presented, hashes).await.map_err(|Busy| {
        let detail = "Too many imported keys are being checked; the same call may work later.";
        Problem::new(Code::Unavailable, detail)
    })?;
    if let (Some(which), Ok(id)) = (matching, row.id.parse::<KeyId>()) {
        let pepper = app.peppers.current();
        let digest = presented.keyed(id, pepper);
        let found = Rehashed {
            key_id: row.id,
            generation: row.generation,
            which,
            pepper: pepper.version(),
            digest,
        };
        rehash(app, &found, system(), origin.clone()).await?;
    }
    Ok(())
}

/// The secrets that could still be accepted and are known by bcrypt alone.
fn slow_hashes(row: &KeyRow, now: WallMs) -> Vec<(Which, String)> {
    let usable = matches!(row.state(), Ok(KeyState::Active | KeyState::Inactive));
    let mut hashes = Vec::new();
    if usable && row.current_alg == "bcrypt" {
        hashes.push((Which::Current, row.current_digest.clone()));
    }
    let retained = row.retained_until_ms.is_some_and(|until| now < wall(until));
    if let (true, true, Some("bcrypt"), Some(digest)) =
        (usable, retained, row.previous_alg.as_deref(), &row.previous_digest)
    {
        hashes.push((Which::Previous, digest.clone()));
    }
    hashes
}

/// A fast digest that somebody found for a secret known by a slow hash.
pub(crate) struct Rehashed {
    pub(crate) key_id: String,
    pub(crate) generation: i64,
    pub(crate) which: Which,
    pub(crate) pepper: u32,
    pub(crate) digest: Digest,
}

/// Puts a fast digest in place of a slow one, and tells gateways. Nothing happens if the key has
/// another secret by now, or a pepper is named that this control plane does not have.
pub(crate) async fn rehash(
    app: &App,
    found: &Rehashed,
    actor: Actor,
    origin: Origin,
) -> Result<(), StoreError> {
    if app.peppers.find(found.pepper).is_none() {
        return Ok(());
    }
    let now = app.now();
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), now).await?;
    let Some(row) = rows::find_by_id(unit.conn(), &found.key_id).await? else { return Ok(()) };
    let listed = matches!(row.state()?, KeyState::Active | KeyState::Inactive);
    let fast = Secret {
        alg: KEYED.to_owned(),
        pepper: i64::from(found.pepper),
        digest: found.digest.to_hex(),
        created_ms: row.current_created_ms,
    };
    if !listed
        || row.generation != found.generation
        || !rows::replace_slow(unit.conn(), &row, found.which, &fast).await?
    {
        return Ok(());
    }
    let row = rows::find_by_id(unit.conn(), &found.key_id).await?;
    let row = row.ok_or(StoreError::Broken("key that was just changed"))?;
    records::publish_key(&mut unit, &row).await?;
    let event = Event {
        org_id: row.org_id.clone(),
        actor,
        action: "api_key.rehash".to_owned(),
        target: Target { kind: "api_key", id: row.id.clone(), name: row.name.clone() },
        resource_id: None,
        outcome: Outcome::Ok,
        origin,
        before: Some(serde_json::json!({"alg": "bcrypt"})),
        after: Some(serde_json::json!({"alg": KEYED})),
    };
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(())
}

fn system() -> Actor {
    Actor {
        kind: "system",
        id: "system".to_owned(),
        name: "Portcullis".to_owned(),
        key_id: None,
        state: "active".to_owned(),
    }
}
