//! One admin call, step by step, in the order of checks of service-accounts.md 9.1: credential,
//! organization, entitlement, permission, body and query, object, version, state.
//!
//! Each step consumes the one before: a [`Call`] becomes an [`Admitted`], which opens a [`Work`].
//! The work checks credential and permission again inside the write transaction, so nobody acts on
//! a right that was withdrawn meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use axum::RequestExt as _;
use axum::body::Body;
use axum::extract::{FromRequest, Query as QueryPairs, RawPathParams, Request};
use axum::http::{HeaderMap, Method, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Limited};
use portcullis_core::access::Permission;
use portcullis_core::feed::parse_strict;
use portcullis_core::key::{self, ParsedKey};
use portcullis_core::time::WallMs;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::fields::{self, Fields, Query};
use super::problem::{Code, FieldCode, Problem};
use super::{App, Denial, Framed};
use crate::caller::{self, Caller, Member, Refused};
use crate::store::audit::{Event, Outcome, Target};
use crate::store::organizations::{self, OrganizationRow};
use crate::store::{Committed, Unit, View};

/// The largest body.
const MAX_BODY: usize = 1024 * 1024;

/// A request that nothing is known about yet.
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) framed: Framed,
    pub(crate) now: WallMs,
    pub(crate) headers: HeaderMap,
    uri: Uri,
    params: HashMap<String, String>,
    verb: Option<String>,
    /// Read once, through `&mut`. The lock is never taken; it makes a call `Sync`, which a body by
    /// itself is not, so that it can be borrowed while the database answers.
    body: Mutex<Body>,
}

impl FromRequest<App> for Call {
    type Rejection = Problem;

    /// Splits `{id}:verb` at the colon, which no id contains.
    async fn from_request(mut request: Request, app: &App) -> Result<Call, Problem> {
        let raw = request.extract_parts::<RawPathParams>().await;
        let raw = raw.map_err(|_| Problem::not_found())?;
        let mut params: HashMap<String, String> =
            raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut verb = None;
        for value in params.values_mut() {
            if let Some((id, found)) = value.split_once(':') {
                verb = Some(found.to_owned());
                *value = id.to_owned();
            }
        }
        let framed = request.extensions().get::<Framed>().cloned();
        let framed = framed.ok_or_else(|| Problem::new(Code::Internal, "no frame"))?;
        let (parts, body) = request.into_parts();
        if verb.is_some() && parts.method != Method::POST {
            return Err(Problem::method_not_allowed("POST"));
        }
        Ok(Call {
            app: app.clone(),
            framed,
            now: app.now(),
            headers: parts.headers,
            uri: parts.uri,
            params,
            verb,
            body: Mutex::new(body),
        })
    }
}

/// Where a permission is needed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// On the organization's root.
    Root,
    /// Somewhere: where exactly is said in the body, and checked by the operation.
    Somewhere,
}

/// What an operation is called in the audit log and needs.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Need {
    /// `<object>.<operation>`.
    pub(crate) action: &'static str,
    pub(crate) permission: &'static str,
    pub(crate) at: At,
    /// Whether the plan must include service accounts.
    pub(crate) entitlement: bool,
}

impl Need {
    pub(crate) const fn root(action: &'static str, permission: &'static str) -> Need {
        Need { action, permission, at: At::Root, entitlement: false }
    }

    pub(crate) const fn somewhere(action: &'static str, permission: &'static str) -> Need {
        Need { action, permission, at: At::Somewhere, entitlement: false }
    }

    pub(crate) const fn entitled(self) -> Need {
        Need { entitlement: true, ..self }
    }
}

impl Call {
    /// The verb after the colon of the path.
    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The path's parameter, empty if the route has none of this name.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    /// The parameters of the query.
    pub(crate) fn query(&self) -> Result<Query, Problem> {
        let pairs = QueryPairs::<Vec<(String, String)>>::try_from_uri(&self.uri);
        let pairs =
            pairs.map_err(|_| Problem::new(Code::MalformedRequest, "The query cannot be read."))?;
        Ok(Query::new(pairs.0))
    }

    /// A query of which no parameter is known.
    pub(crate) fn no_query(&self) -> Result<(), Problem> {
        self.query()?.finish()
    }

    /// The body as an object; no body at all is an empty one.
    pub(crate) async fn body(&mut self) -> Result<Fields, Problem> {
        let body = std::mem::take(self.body.get_mut());
        let too_large =
            || Problem::new(Code::BodyTooLarge, format!("At most {MAX_BODY} bytes are allowed."));
        let stated = self.headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        if stated.and_then(|text| text.parse::<usize>().ok()).is_some_and(|len| len > MAX_BODY) {
            return Err(too_large());
        }
        let bytes = match Limited::new(body, MAX_BODY).collect().await {
            Ok(collected) => Zeroizing::new(collected.to_bytes().to_vec()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large());
            }
            Err(_) => {
                return Err(Problem::new(Code::MalformedRequest, "The body was cut off."));
            }
        };
        if bytes.is_empty() {
            return Ok(Fields::new(Map::new()));
        }
        let content_type = self.headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let essence = content_type.and_then(|it| it.split(';').next()).map(str::trim);
        let json = essence.is_some_and(|essence| {
            essence.eq_ignore_ascii_case("application/json")
                || essence.eq_ignore_ascii_case("application/merge-patch+json")
        });
        if !json {
            let detail = "Use application/json or application/merge-patch+json.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        match parse_strict(&bytes) {
            Ok(Value::Object(members)) => Ok(Fields::new(members)),
            Ok(_) => Err(Problem::new(Code::MalformedRequest, "The body must be a JSON object.")),
            // The parser's message can quote the body, and a body can hold a key.
            Err(error) => Err(Problem::new(
                Code::MalformedRequest,
                format!(
                    "The body is not JSON as we take it (line {}, column {}): no duplicate \
                     members, integers only.",
                    error.line(),
                    error.column()
                ),
            )),
        }
    }

    /// A body without members.
    pub(crate) async fn no_body(&mut self) -> Result<(), Problem> {
        self.body().await?.finish()?;
        Ok(())
    }

    /// Finds out who calls.
    pub(crate) async fn identify(self) -> Result<Identified, Problem> {
        let presented = self.credential()?;
        let mut view = self.app.store.view().await?;
        let verdict = caller::verify(view.conn(), &presented, &self.app.peppers, self.now).await?;
        match verdict {
            Ok(caller) => Ok(Identified { call: self, caller, presented }),
            Err(refused) => Err(self.refused(refused)),
        }
    }

    /// All refusals look the same; the audit log gets the reason.
    fn refused(&self, refused: Refused) -> Problem {
        let Refused { reason, known } = refused;
        if let Some((org_id, actor)) = known.map(|known| *known) {
            let key_id = actor.key_id.clone().unwrap_or_default();
            let target = Target { kind: "api_key", id: key_id, name: String::new() };
            let action = "credential.denied".to_owned();
            let _ = self.framed.denial.set(Denial {
                org_id,
                actor,
                action,
                target,
                reason: Some(reason),
            });
        }
        Problem::new(Code::InvalidToken, "The credential is not valid.")
    }

    /// The one credential: `Bearer <key>` or `Basic <id>:<secret>`.
    fn credential(&self) -> Result<ParsedKey, Problem> {
        let invalid = || Problem::new(Code::InvalidToken, "The credential is not valid.");
        let mut lines = self.headers.get_all(header::AUTHORIZATION).iter();
        let Some(line) = lines.next() else {
            let detail = "Send a key: Authorization: Bearer <key>.";
            return Err(Problem::new(Code::Unauthenticated, detail));
        };
        if lines.next().is_some() {
            let detail = "There is more than one credential.";
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        let line = line.to_str().map_err(|_| invalid())?;
        let (scheme, rest) = line.split_once(' ').ok_or_else(invalid)?;
        let rest = rest.trim_matches(' ');
        if scheme.eq_ignore_ascii_case("bearer") {
            return key::parse(rest.as_bytes()).map_err(|_| invalid());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = Zeroizing::new(STANDARD.decode(rest).map_err(|_| invalid())?);
            let pair = std::str::from_utf8(&decoded).map_err(|_| invalid())?;
            let (id, tail) = pair.split_once(':').ok_or_else(invalid)?;
            let whole = Zeroizing::new(format!("{}_{id}_{tail}", self.app.prefix));
            return key::parse(whole.as_bytes()).map_err(|_| invalid());
        }
        Err(invalid())
    }
}

/// A call whose caller is known.
pub(crate) struct Identified {
    pub(crate) call: Call,
    pub(crate) caller: Caller,
    presented: ParsedKey,
}

impl Identified {
    /// Lets in the installation operator alone. For everybody else the operation needs a
    /// permission that nobody inside an organization can have.
    pub(crate) fn operator(self, action: &'static str) -> Result<Admitted, Problem> {
        let need = Need::root(action, "operator");
        self.remember_denial(need, None);
        match &self.caller {
            Caller::Operator { .. } => Ok(self.admitted(need, None)),
            Caller::Member(_) => Err(Problem::permission_denied("operator")),
        }
    }

    /// Lets in members of the path's organization who have the permission.
    pub(crate) fn member(self, need: Need) -> Result<Admitted, Problem> {
        let org_id = self.call.param("org");
        let member = match &self.caller {
            Caller::Member(member) if member.org.id == org_id => member,
            Caller::Member(_) | Caller::Operator { .. } => return Err(Problem::not_found()),
        };
        let org = member.org.clone();
        if need.entitlement && !org.allows_accounts {
            let detail = "The organization's plan does not include service accounts.";
            return Err(Problem::new(Code::EntitlementRequired, detail));
        }
        self.remember_denial(need, Some(&org));
        check(member, need)?;
        Ok(self.admitted(need, Some(org)))
    }

    /// Lets in members with the permission, and the operator.
    pub(crate) async fn member_or_operator(self, need: Need) -> Result<Admitted, Problem> {
        if matches!(self.caller, Caller::Member(_)) {
            return self.member(need);
        }
        let mut view = self.call.app.store.view().await?;
        let org = organizations::find(view.conn(), self.call.param("org")).await?;
        let org = org.ok_or_else(Problem::not_found)?;
        Ok(self.admitted(need, Some(org)))
    }

    /// Lets in whoever has the permission in their own organization, and the operator.
    pub(crate) fn own_member_or_operator(self, need: Need) -> Result<Admitted, Problem> {
        self.remember_denial(need, None);
        if let Caller::Member(member) = &self.caller {
            check(member, need)?;
        }
        Ok(self.admitted(need, None))
    }

    /// Lets in everybody.
    pub(crate) fn anybody(self, action: &'static str) -> Admitted {
        self.admitted(Need::root(action, ""), None)
    }

    fn admitted(self, need: Need, org: Option<OrganizationRow>) -> Admitted {
        let Identified { call, caller, presented } = self;
        Admitted { call, caller, need, org, presented }
    }

    fn remember_denial(&self, need: Need, org: Option<&OrganizationRow>) {
        let org_id = match (org, &self.caller) {
            (Some(org), _) => org.id.clone(),
            (None, Caller::Member(member)) => member.org.id.clone(),
            (None, Caller::Operator { .. }) => crate::store::audit::INSTALLATION.to_owned(),
        };
        let kind = need.action.split('.').next().unwrap_or_default();
        let names = ["key", "sa", "resource", "binding", "gateway", "org"];
        let id = names.iter().map(|name| self.call.param(name)).find(|id| !id.is_empty());
        let _ = self.call.framed.denial.set(Denial {
            org_id,
            actor: self.caller.actor(),
            action: need.action.to_owned(),
            target: Target { kind, id: id.unwrap_or_default().to_owned(), name: String::new() },
            reason: None,
        });
    }
}

fn check(member: &Member, need: Need) -> Result<(), Problem> {
    let permission = permission(need.permission);
    let granted = match need.at {
        At::Root => member.access.permits(&permission, &member.org.root_resource_id),
        At::Somewhere => member.access.permits_somewhere(&permission),
    };
    if granted { Ok(()) } else { Err(Problem::permission_denied(need.permission)) }
}

/// A permission from a literal of ours.
pub(crate) fn permission(text: &str) -> Permission {
    text.parse().expect("operations name well-formed permissions")
}

/// A call whose caller may do it, as far as is known before the body.
pub(crate) struct Admitted {
    pub(crate) call: Call,
    pub(crate) caller: Caller,
    need: Need,
    org: Option<OrganizationRow>,
    presented: ParsedKey,
}

impl Admitted {
    pub(crate) fn app(&self) -> &App {
        &self.call.app
    }

    /// The organization of the path.
    pub(crate) fn org(&self) -> Result<&OrganizationRow, Problem> {
        self.org.as_ref().ok_or_else(Problem::not_found)
    }

    pub(crate) async fn view(&self) -> Result<View, Problem> {
        Ok(self.call.app.store.view().await?)
    }

    /// Opens the write transaction and checks credential, organization and permission once more
    /// in it.
    pub(crate) async fn begin(&self) -> Result<Work, Problem> {
        let app = self.app().clone();
        let now = app.now();
        let mut unit = Unit::begin(&app.store, Arc::clone(&app.ledger), now).await?;
        let verdict = caller::verify(unit.conn(), &self.presented, &app.peppers, now).await?;
        let caller = verdict.map_err(|refused| self.call.refused(refused))?;
        let org = match (&self.org, &caller) {
            (None, _) => None,
            (Some(_), Caller::Member(member)) => {
                check(member, self.need)?;
                Some(member.org.clone())
            }
            (Some(org), Caller::Operator { .. }) => {
                organizations::find(unit.conn(), &org.id).await?
            }
        };
        Ok(Work { app, unit, caller, org, origin: self.call.framed.origin.clone(), now })
    }

    /// `If-Match` against the version of the object found; `require_if_match` makes it mandatory
    /// for PATCH and DELETE.
    pub(crate) fn check_version(&self, version: i64, policy_requires: bool) -> Result<(), Problem> {
        match self.call.headers.get(header::IF_MATCH) {
            Some(wanted) if names_version(wanted.as_bytes(), version) => Ok(()),
            Some(_) => {
                let detail = format!("The object is at version {version} now.");
                Err(Problem::new(Code::PreconditionFailed, detail))
            }
            None if policy_requires => Err(Problem::new(
                Code::PreconditionRequired,
                "The organization asks for If-Match with the version that you read.",
            )),
            None => Ok(()),
        }
    }

    /// The query of a mutation: how long to wait for gateways.
    pub(crate) fn wait(&self) -> Result<Wait, Problem> {
        let mut query = self.call.query()?;
        let wait = Wait::read(&mut query);
        query.finish()?;
        Ok(wait)
    }
}

/// Whether a list of entity tags (RFC 9110, 13.1.1) names this version.
pub(crate) fn names_version(tags: &[u8], version: i64) -> bool {
    let tags = String::from_utf8_lossy(tags);
    let wanted = format!("\"{version}\"");
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == wanted)
}

/// How long a mutation waits for gateways before it answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Absent: by the effect of the change.
    pub(crate) applied: Option<bool>,
    pub(crate) timeout_ms: u64,
}

impl Wait {
    const DEFAULT_MS: u64 = 2000;
    const MAX_MS: u64 = 30_000;

    pub(crate) fn read(query: &mut Query) -> Wait {
        let wait = query.read("wait", fields::one_of(&["none", "applied"]));
        let timeout_ms = query.read("wait_timeout_ms", fields::integer(0..=Wait::MAX_MS));
        Wait {
            applied: wait.map(|word| word == "applied"),
            timeout_ms: timeout_ms.unwrap_or(Wait::DEFAULT_MS),
        }
    }
}

/// An open write transaction with its admitted caller.
pub(crate) struct Work {
    pub(crate) app: App,
    pub(crate) unit: Unit,
    pub(crate) caller: Caller,
    org: Option<OrganizationRow>,
    origin: crate::store::audit::Origin,
    pub(crate) now: WallMs,
}

/// What happened, for the audit log.
pub(crate) struct Happening {
    pub(crate) action: &'static str,
    pub(crate) target: Target,
    pub(crate) resource_id: Option<String>,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

impl Work {
    /// The organization as it is inside the transaction.
    pub(crate) fn org(&self) -> Result<&OrganizationRow, Problem> {
        self.org.as_ref().ok_or_else(Problem::not_found)
    }

    /// The caller as a member; the operator is none.
    pub(crate) fn member(&self) -> Result<&Member, Problem> {
        match &self.caller {
            Caller::Member(member) => Ok(member),
            Caller::Operator { .. } => Err(Problem::not_found()),
        }
    }

    /// A permission on one resource, for operations whose body names it.
    pub(crate) async fn check_at(
        &mut self,
        text: &'static str,
        resource_id: &str,
    ) -> Result<(), Problem> {
        if let Caller::Member(member) = &mut self.caller {
            let org_id = member.org.id.clone();
            member.access.locate(self.unit.conn(), &org_id, resource_id).await?;
            if member.access.permits(&permission(text), resource_id) {
                return Ok(());
            }
        }
        Err(Problem::permission_denied(text))
    }

    /// Commits the change with its audit event, in the chain of the path's organization or of the
    /// one given.
    pub(crate) async fn commit(
        self,
        org_id: &str,
        happening: Happening,
    ) -> Result<Committed, Problem> {
        let Happening { action, target, resource_id, before, after } = happening;
        let event = Event {
            org_id: org_id.to_owned(),
            actor: self.caller.actor(),
            action: action.to_owned(),
            target,
            resource_id,
            outcome: Outcome::Ok,
            origin: self.origin,
            before,
            after,
        };
        Ok(self.unit.commit(event, self.app.entropy.as_ref()).await?)
    }

    /// Ends without a change: what was asked for already holds.
    pub(crate) fn unchanged(self) -> Committed {
        self.unit.unchanged()
    }
}

/// An unknown id in a body; ids of other organizations count as unknown.
pub(crate) fn unknown_reference(field: &str) -> Problem {
    Problem::field(field, FieldCode::UnknownReference, "there is no such object here")
}
