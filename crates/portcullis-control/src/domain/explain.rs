//! Why something is allowed or refused: the same resolution as everywhere, with its steps. It only
//! reads.

use portcullis_core::access::{Permission, Rights, allows};
use portcullis_core::account::{AccountState, Expiry, KeyState};
use portcullis_core::session::Claims;
use portcullis_core::time::WallMs;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::Problem;
use super::records::restriction_of;
use super::remedy::{Missing, remedy};
use crate::api::App;
use crate::caller::{self, Credential, SecretMatch};
use crate::instant::{Stamp, wall};
use crate::resolve::{Access, Contribution, Excluded, Grounds, Holder, Restriction};
use crate::store::keys::KeyRow;
use crate::store::organizations::OrganizationRow;
use crate::store::resources::ResourceRow;

/// What an explanation is about.
pub(crate) struct Question<'a> {
    pub(crate) org: &'a OrganizationRow,
    /// Kind and id of the principal.
    pub(crate) kind: &'a str,
    pub(crate) subject_id: &'a str,
    /// Whether owner and key, as far as asked about, are in force.
    pub(crate) in_force: bool,
    pub(crate) restriction: Option<Restriction>,
    pub(crate) resource_id: &'a str,
    pub(crate) permission: Option<&'a Permission>,
}

/// The permissions on a resource and the bindings that give them, or would.
pub(crate) async fn explain(
    conn: &mut SqliteConnection,
    question: Question<'_>,
) -> Result<Value, Problem> {
    let Question { org, kind, subject_id, in_force, restriction, resource_id, permission } =
        question;
    let grounds = Grounds::of(conn, Holder::of_kind(kind), subject_id).await?;
    let mut access = grounds.whole(&org.policy);
    access.locate(conn, &org.id, resource_id).await?;
    let access = access.narrowed(restriction.unwrap_or_default());
    let shown = |texts: Vec<String>| if in_force { texts } else { Vec::new() };
    let found = grounds.contributions(&org.policy, &access.paths, resource_id);
    let contributions: Vec<Value> = found
        .iter()
        .map(|one| {
            let excluded = one.excluded.or_else(|| cut_away(one, &access, resource_id, permission));
            let denies: Vec<String> = match &one.role {
                Some(role) if org.policy.deny_enabled => {
                    role.deny.iter().map(ToString::to_string).collect()
                }
                Some(_) | None => Vec::new(),
            };
            json!({
                "binding_id": one.row.id,
                "subject": {"kind": one.row.subject_kind, "id": one.row.subject_id},
                "role_id": one.row.role_id,
                "resource_id": one.row.resource_id,
                "via": one.via.as_str(),
                "policy_id": one.row.policy_id,
                "sticky": one.role.as_ref().is_some_and(|role| role.sticky),
                "denies": denies,
                "applied": excluded.is_none(),
                "excluded": excluded.map(Excluded::as_str),
            })
        })
        .collect();
    let mut body = json!({
        "permissions": shown(access.permission_texts(resource_id)),
        "denied": shown(access.denied_texts(resource_id)),
        "contributions": contributions,
    });
    let allowed = permission.map(|needed| in_force && access.permits(needed, resource_id));
    if let (Some(allowed), Value::Object(members)) = (allowed, &mut body) {
        members.insert("allowed".to_owned(), json!(allowed));
    }
    Ok(body)
}

/// Whether denials or the key's restriction leave nothing of what a binding gives: of the
/// permission asked about, if it gives that one, else of all that it gives.
fn cut_away(
    one: &Contribution<'_>,
    access: &Access,
    resource_id: &str,
    permission: Option<&Permission>,
) -> Option<Excluded> {
    let role = one.role.as_ref()?;
    let denied = access.rights_at(resource_id).denied;
    let alone = Rights { granted: role.permissions.clone(), denied };
    let gone = match permission {
        Some(needed) if allows(&role.permissions, needed) => !alone.allow(needed),
        Some(_) | None => alone.left().is_empty() && !role.permissions.is_empty(),
    };
    if gone {
        Some(Excluded::Denied)
    } else {
        access.restricts(role, resource_id).then_some(Excluded::Restricted)
    }
}

/// A key that is said not to work.
pub(crate) struct Suspect<'a> {
    pub(crate) org: &'a OrganizationRow,
    pub(crate) key: &'a KeyRow,
    /// Absent if only the id was given.
    pub(crate) presented: Option<&'a Credential>,
    /// What it says, if it is a session token.
    pub(crate) session: Option<&'a Claims>,
    /// What the key is said to lack, and where.
    pub(crate) lacks: Option<(&'a Permission, &'a ResourceRow)>,
}

/// The checks a key passes, or where it fails.
pub(crate) async fn diagnose(
    conn: &mut SqliteConnection,
    suspect: Suspect<'_>,
    app: &App,
    now: WallMs,
) -> Result<Value, Problem> {
    let Suspect { org, key, presented, session, lacks } = suspect;
    let owner = caller::find_owner(conn, key).await?;
    let secret = presented
        .filter(|_| session.is_none())
        .map(|presented| caller::secret_of(key, presented, &app.peppers, now));
    let mut checks = Vec::new();
    let mut reason: Option<&'static str> = None;
    let mut check = |name: &str, fault: Option<&'static str>, detail: String| {
        checks.push(json!({"check": name, "ok": fault.is_none(), "detail": detail}));
        reason = reason.or(fault);
    };
    check("format", None, "the value or id has the right form".to_owned());
    check("known", None, format!("key {} belongs to {}", key.id, owner.name));
    if let Some(secret) = secret {
        let (fault, detail) = match secret {
            SecretMatch::Current => (None, "it is the current secret"),
            SecretMatch::None => (Some("bad_secret"), "it is neither the current nor the last one"),
            SecretMatch::Retained => (None, "it is the secret before the last rotation"),
            SecretMatch::RetentionOver => (None, "it is the secret before the last rotation"),
        };
        check("secret", fault, detail.to_owned());
    }
    if let Some(claims) = session {
        let retained = key.retained_until_ms.is_some_and(|until| now < wall(until));
        let generation = i64::from(claims.key_gen);
        let fits = generation == key.generation || (retained && generation == key.generation - 1);
        let detail =
            format!("it began with secret {generation} of the key, now {}", key.generation);
        check("token", (!fits).then_some("token_generation"), detail);
    }
    let state = key.state()?;
    let fault = match state {
        KeyState::Active => None,
        KeyState::Deleted | KeyState::Revoked => Some("key_revoked"),
        KeyState::Inactive => Some("key_inactive"),
    };
    check("key_state", fault, format!("the key is {state}"));
    let expiry = Expiry::from(key.expires_ms.map(wall));
    let detail = match expiry.at() {
        Some(at) => format!("it expires at {}", Stamp(at)),
        None => "it never expires".to_owned(),
    };
    check("expiry", expiry.is_past(now).then_some("key_expired"), detail);
    let over = secret == Some(SecretMatch::RetentionOver);
    let detail = match key.retained_until_ms {
        Some(ms) => format!("the last secret is retained until {}", Stamp::of_column(ms)),
        None => "no earlier secret is retained".to_owned(),
    };
    check("retention", over.then_some("retention_over"), detail);
    let fault = match owner.state {
        AccountState::Active => None,
        AccountState::Deleted | AccountState::Revoked => Some("sa_revoked"),
        AccountState::Inactive => Some("sa_inactive"),
    };
    check("owner_state", fault, format!("{} is {}", owner.name, owner.state));
    let fault = (!org.serves(&key.owner_kind)).then_some("org_suspended");
    let detail = match org.allows_accounts {
        true => format!("it is {}", org.state),
        false => format!("it is {}, and its plan includes no service accounts", org.state),
    };
    check("org_state", fault, detail);
    let usable = reason.is_none();
    let mut suggestions = Vec::new();
    if let Some((permission, resource)) = lacks {
        let kind = owner.kind;
        let mut restriction = restriction_of(key)?;
        if let Some(claims) = session {
            let of_key = restriction.unwrap_or_default();
            restriction = Some(of_key.and_session(claims, app.sessions.issuer()));
        }
        let subject_id = &key.owner_id;
        let missing = Missing { org, kind, subject_id, restriction, resource, permission };
        let found = remedy(conn, missing).await?;
        checks.push(json!({"check": "permission", "ok": found.held, "detail": found.detail}));
        reason = reason.or((!found.held).then_some("insufficient_scope"));
        suggestions = found.suggestions;
    }
    Ok(json!({
        "usable": usable,
        "reason": reason,
        "key_id": key.id,
        "checks": checks,
        "suggestions": suggestions,
    }))
}
