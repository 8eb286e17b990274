//! Session tokens: a key is exchanged for a token that says whose it is. The token is bound to its
//! key and checked against it on each use, unless the organization lets its audience check alone.

use portcullis_core::access::{Pattern, narrowed};
use portcullis_core::feed::Kind;
use portcullis_core::session::{Claims, LONGEST_LIFE_S, Mode};
use portcullis_core::time::WallMs;
use zeroize::Zeroizing;

use super::records::restriction_of;
use super::{Problem, legacy, new_id};
use crate::api::App;
use crate::caller::Member;
use crate::instant::wall;
use crate::policy::{OrgPolicy, TokenMode};
use crate::resolve::{Restriction, patterns};
use crate::store::audit::{Actor, Event, INSTALLATION, Origin, Outcome, Target};
use crate::store::keys::{self, KeyRow};
use crate::store::resources::{self, ResourceRow};
use crate::store::{StoreError, Unit, feed, unit};

/// A token that is wanted.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    /// The issuer, or a resource by its id or as `kind/ref`; nobody in particular if absent.
    pub(crate) audience: Option<&'a str>,
    pub(crate) scope: Option<Vec<Pattern>>,
    /// The token that it is exchanged for: the new one is never wider nor longer.
    pub(crate) parent: Option<&'a Claims>,
    /// Where the call came from, for the audit log.
    pub(crate) origin: Origin,
}

/// A token that was issued.
pub(crate) struct Issued {
    pub(crate) text: Zeroizing<String>,
    pub(crate) claims: Claims,
}

/// Why no token was issued.
#[derive(Debug)]
pub(crate) enum NotIssued {
    Failed(Problem),
    /// Of the scope that was asked for, the parent or the key's restriction leaves nothing.
    NoScope,
    /// A detached token for this audience could do what the key's restriction forbids.
    Restricted,
    /// The key, or the token it is exchanged for, is over within the second.
    TooLate,
    UnknownAudience,
}

impl From<StoreError> for NotIssued {
    fn from(error: StoreError) -> NotIssued {
        NotIssued::Failed(error.into())
    }
}

/// Issues a token to somebody whose key was just accepted, and notes the login.
pub(crate) async fn issue(
    app: &App,
    member: &Member,
    wanted: Wanted<'_>,
    now: WallMs,
) -> Result<Issued, NotIssued> {
    let Wanted { audience, scope, parent, origin } = wanted;
    let issuer = app.sessions.issuer();
    let mut view = app.store.view().await?;
    let key = keys::find_by_id(view.conn(), &member.key_id).await?;
    let key = key.ok_or(StoreError::Broken("key of a caller"))?;
    let named = match audience {
        Some(name) if name.trim_end_matches('/') == issuer.trim_end_matches('/') => None,
        other => other,
    };
    let bounds: Vec<&str> =
        parent.map(|parent| parent.bounds(issuer).collect()).unwrap_or_default();
    // A token for one place is exchanged for one of the same place, unless a deeper one is named.
    let resource = match named.or(bounds.first().copied()) {
        None => None,
        Some(name) => {
            let found = find_resource(view.conn(), &member.org.id, name).await?;
            let found = found.ok_or(NotIssued::UnknownAudience)?;
            if !bounds.is_empty() && !is_within(view.conn(), &found, &bounds).await? {
                return Err(NotIssued::UnknownAudience);
            }
            Some(found)
        }
    };
    let mode = mode_for(&member.org.policy, resource.as_ref());
    let mut scope = narrower(scope, parent.and_then(|parent| parent.scope.as_deref()));
    if let (Mode::Detached, Some(resource)) = (mode, &resource) {
        let limit = detachable(view.conn(), &key, resource).await?;
        scope = narrower(scope, limit.as_deref());
    }
    if scope.as_ref().is_some_and(Vec::is_empty) {
        return Err(NotIssued::NoScope);
    }
    drop(view);
    if let Some(workspace) = resource.as_ref().filter(|row| row.kind == legacy::WORKSPACE) {
        legacy::take_over(app, member, &workspace.id, &origin).await.map_err(NotIssued::Failed)?;
    }
    let iat_s = now.0 / 1000;
    let mut exp_s = iat_s + life_s(&member.org.policy, mode);
    let current = member.secret_generation == key.generation;
    let ends = [
        key.expires_ms.map(wall),
        key.retained_until_ms.map(wall).filter(|_| !current),
        parent.map(|parent| WallMs(parent.exp_s * 1000)),
    ];
    for end in ends.into_iter().flatten() {
        exp_s = exp_s.min(end.0 / 1000);
    }
    if exp_s <= iat_s {
        return Err(NotIssued::TooLate);
    }
    let aud = match (mode, &resource) {
        (Mode::Detached, Some(resource)) => vec![resource.id.as_str().into()],
        // By both names: the admin API knows it by its id, gateways by its place.
        (Mode::Bound, Some(resource)) => {
            vec![issuer.into(), resource.id.as_str().into(), resource.place().into()]
        }
        (_, None) => vec![issuer.into()],
    };
    let claims = Claims {
        iss: issuer.into(),
        aud,
        sub: member.id.as_str().into(),
        org_id: member.org.id.as_str().into(),
        key_id: key.id.parse().map_err(|_| StoreError::Broken("id of a key"))?,
        key_gen: u32::try_from(member.secret_generation)
            .map_err(|_| StoreError::Broken("generation of a key"))?,
        mode,
        scope,
        iat_s,
        exp_s,
        jti: new_id(now, app.entropy.as_ref())
            .map_err(|failure| NotIssued::Failed(failure.into()))?
            .into(),
    };
    let text = app
        .sessions
        .sign(&claims, app.entropy.as_ref())
        .ok_or(StoreError::Broken("session signing key"))?;
    unit::record_login(&app.store, &key, now).await?;
    Ok(Issued { text, claims })
}

/// Both scopes at once, where there are two.
fn narrower(wanted: Option<Vec<Pattern>>, parent: Option<&[Pattern]>) -> Option<Vec<Pattern>> {
    match (wanted, parent) {
        (None, None) => None,
        (Some(scope), None) => Some(scope),
        (None, Some(parent)) => Some(parent.to_vec()),
        (Some(scope), Some(parent)) => Some(narrowed(&scope, parent)),
    }
}

/// The scope that a detached token must not exceed, if its key is restricted. Its audience knows
/// nothing of the key, so what the token cannot say must hold for all of the audience, or there is
/// no token.
///
/// | the key is restricted to | the token |
/// |---|---|
/// | permissions | says them as its scope |
/// | resources | is only for an audience at or below one of them |
/// | methods | is not issued: no claim says methods |
async fn detachable(
    conn: &mut sqlx::SqliteConnection,
    key: &KeyRow,
    audience: &ResourceRow,
) -> Result<Option<Vec<Pattern>>, NotIssued> {
    let Some(restriction) = restriction_of(key)? else { return Ok(None) };
    let Restriction { permissions, resource_ids, methods, bounds: _ } = restriction;
    if methods.is_some() {
        return Err(NotIssued::Restricted);
    }
    if let Some(ids) = resource_ids {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        if !is_within(conn, audience, &ids).await? {
            return Err(NotIssued::Restricted);
        }
    }
    Ok(permissions.map(|texts| patterns(&texts)))
}

fn mode_for(policy: &OrgPolicy, resource: Option<&ResourceRow>) -> Mode {
    let chosen = resource.and_then(|resource| policy.session_token_mode.get(&resource.kind));
    match chosen {
        Some(TokenMode::Detached) => Mode::Detached,
        Some(TokenMode::Bound) | None => Mode::Bound,
    }
}

fn life_s(policy: &OrgPolicy, mode: Mode) -> u64 {
    let session = u64::from(policy.session_token_ttl);
    match mode {
        Mode::Bound => session.min(LONGEST_LIFE_S),
        Mode::Detached => session.min(u64::from(policy.detached_max_ttl)).min(LONGEST_LIFE_S),
    }
}

async fn find_resource(
    conn: &mut sqlx::SqliteConnection,
    org_id: &str,
    name: &str,
) -> Result<Option<ResourceRow>, StoreError> {
    match name.split_once('/') {
        Some((kind, reference)) => resources::find_by_ref(conn, org_id, kind, reference).await,
        None => resources::find(conn, org_id, name).await,
    }
}

/// Whether a resource is one of these places, or below one.
async fn is_within(
    conn: &mut sqlx::SqliteConnection,
    resource: &ResourceRow,
    places: &[&str],
) -> Result<bool, StoreError> {
    let path = resources::list_path(conn, &resource.org_id, &resource.id).await?;
    Ok(path.iter().any(|up| places.contains(&up.id.as_str())))
}

/// Tells gateways which keys tokens are verified with. A key that is no longer configured is taken
/// away at once, and with it every token it signed.
pub(crate) async fn put_signers(app: &App, unit: &mut Unit) -> Result<(), StoreError> {
    let old = feed::list_records(unit.conn(), Kind::Signer, "", 1000).await?;
    for row in old {
        if app.sessions.records().all(|(kid, _)| kid != row.id) {
            unit.delete(Kind::Signer, &row.id).await?;
        }
    }
    for (kid, record) in app.sessions.records() {
        let record = serde_json::to_value(record).expect("texts and numbers are JSON");
        unit.put(Kind::Signer, kid, record).await?;
    }
    Ok(())
}

/// The same for a database that was filled before the issuer's name was known.
pub(crate) async fn publish(app: &App) -> Result<(), StoreError> {
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), app.now()).await?;
    put_signers(app, &mut unit).await?;
    if unit.position().seq == 0 || !unit.has_changes() {
        return Ok(());
    }
    let event = Event {
        org_id: INSTALLATION.to_owned(),
        actor: Actor {
            kind: "system",
            id: "system".to_owned(),
            name: "Portcullis".to_owned(),
            key_id: None,
            state: "active".to_owned(),
        },
        action: "session_signer.update".to_owned(),
        target: Target { kind: "session_signer", id: String::new(), name: String::new() },
        resource_id: None,
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: None,
        after: None,
    };
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(())
}
