//! Who may go on: from a known caller to an admitted one, by organization and permission.

use std::sync::Arc;

use axum::http::header;
use portcullis_core::access::Permission;

use super::call::Call;
use super::fields;
use super::idempotency::Once;
use super::mention;
use super::problem::{Code, Problem};
use super::query::Query;
use super::work::Work;
use super::{App, Denial};
use crate::caller::{self, Caller, Credential, Member};
use crate::store::audit::{INSTALLATION, Target};
use crate::store::organizations::{self, OrganizationRow};
use crate::store::{Unit, View};

/// Where a permission is needed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// On the organization's root.
    Root,
    /// Which permission it is, is said in the body; see [`Admitted::require`].
    Body,
    /// Somewhere: where exactly is said in the body, and checked by the operation.
    Somewhere,
}

/// Whom an operation lets in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody whose credential is accepted.
    Anybody,
    /// Members of the path's organization who have the permission.
    Member,
    /// These and the operator.
    MemberOrOperator,
    /// The installation operator alone. For everybody else the operation needs a permission that
    /// nobody inside an organization can have.
    Operator,
    /// Whoever has the permission in their own organization, and the operator.
    OwnMemberOrOperator,
}

/// What an operation is called in the audit log and needs.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Need {
    /// `<object>.<operation>`.
    pub(crate) action: &'static str,
    pub(crate) permission: &'static str,
    pub(crate) at: At,
    pub(crate) who: Who,
    /// Whether the plan must include service accounts.
    pub(crate) entitlement: bool,
    /// Whether the user of the path needs no permission.
    pub(crate) or_self: bool,
}

impl Need {
    pub(crate) const fn root(action: &'static str, permission: &'static str) -> Need {
        Need {
            action,
            permission,
            at: At::Root,
            who: Who::Member,
            entitlement: false,
            or_self: false,
        }
    }

    pub(crate) const fn somewhere(action: &'static str, permission: &'static str) -> Need {
        Need { at: At::Somewhere, ..Need::root(action, permission) }
    }

    pub(crate) const fn operator(action: &'static str) -> Need {
        Need { who: Who::Operator, ..Need::root(action, "operator") }
    }

    pub(crate) const fn anybody(action: &'static str) -> Need {
        Need { who: Who::Anybody, ..Need::root(action, "") }
    }

    /// Lets in the operator as well.
    pub(crate) const fn or_operator(self) -> Need {
        Need { who: Who::MemberOrOperator, ..self }
    }

    /// For paths outside organizations: the permission counts in the caller's own, and the operator
    /// is let in as well.
    pub(crate) const fn in_own_or_operator(self) -> Need {
        Need { who: Who::OwnMemberOrOperator, ..self }
    }

    /// Members come in; the body says what more it takes.
    pub(crate) const fn in_body(action: &'static str) -> Need {
        Need { at: At::Body, ..Need::root(action, "") }
    }

    pub(crate) const fn entitled(self) -> Need {
        Need { entitlement: true, ..self }
    }

    /// Something of a user: theirs to do as well, and nothing of a service account.
    pub(crate) const fn or_self(self) -> Need {
        Need { entitlement: false, or_self: true, ..self }
    }
}

/// A call whose caller is known.
pub(crate) struct Identified {
    pub(crate) call: Call,
    pub(crate) caller: Caller,
    pub(super) presented: Credential,
}

impl Identified {
    /// Lets in whom the operation is for.
    pub(crate) async fn admit(self, need: Need) -> Result<Admitted, Problem> {
        match (need.who, &self.caller) {
            (Who::Anybody, _) => Ok(self.admitted(need, None)),
            (Who::Member, _) | (Who::MemberOrOperator, Caller::Member(_)) => self.member(need),
            (Who::MemberOrOperator, Caller::Operator { .. }) => {
                let mut view = self.call.app.store.view().await?;
                let org = organizations::find(view.conn(), self.call.param("org")).await?;
                let org = org.ok_or_else(Problem::not_found)?;
                Ok(self.admitted(need, Some(org)))
            }
            (Who::Operator, caller) => {
                self.remember_denial(need, None);
                match caller {
                    Caller::Operator { .. } => Ok(self.admitted(need, None)),
                    Caller::Member(_) => Err(Problem::permission_denied("operator")),
                }
            }
            (Who::OwnMemberOrOperator, caller) => {
                self.remember_denial(need, None);
                if let Caller::Member(member) = caller {
                    check(member, need, &self.call)?;
                }
                Ok(self.admitted(need, None))
            }
        }
    }

    /// Lets in members of the path's organization who have the permission.
    fn member(self, need: Need) -> Result<Admitted, Problem> {
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
        check(member, need, &self.call)?;
        Ok(self.admitted(need, Some(org)))
    }

    fn admitted(self, need: Need, org: Option<OrganizationRow>) -> Admitted {
        let Identified { call, caller, presented } = self;
        Admitted { call, caller, need, org, presented, once: None }
    }

    fn remember_denial(&self, need: Need, org: Option<&OrganizationRow>) {
        let org_id = match (org, &self.caller) {
            (Some(org), _) => org.id.clone(),
            (None, Caller::Member(member)) => member.org.id.clone(),
            (None, Caller::Operator { .. }) => INSTALLATION.to_owned(),
        };
        let kind = need.action.split('.').next().unwrap_or_default();
        let names = [
            "key", "sa", "user", "resource", "binding", "role", "group", "policy", "gateway", "org",
        ];
        let id = names.iter().map(|name| self.call.param(name)).find(|id| !id.is_empty());
        let _ = self.call.framed.denial.set(Denial {
            org_id,
            actor: self.caller.actor(),
            action: need.action.to_owned(),
            target: Target {
                kind,
                id: mention::id(id.unwrap_or_default()).to_owned(),
                name: String::new(),
            },
            reason: None,
        });
    }
}

fn check(member: &Member, need: Need, call: &Call) -> Result<(), Problem> {
    if !member.access.allows_method(call.method.as_str()) {
        let detail = format!("The key is restricted to other methods than {}.", call.method);
        return Err(Problem::new(Code::PermissionDenied, detail));
    }
    if need.or_self && member.is_user(call.param("user")) {
        return Ok(());
    }
    let permission = || permission(need.permission);
    let granted = match need.at {
        At::Body => true,
        At::Root => member.access.permits(&permission(), &member.org.root_resource_id),
        At::Somewhere => member.access.permits_somewhere(&permission()),
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
    pub(crate) need: Need,
    org: Option<OrganizationRow>,
    presented: Credential,
    /// Of a call with an `Idempotency-Key`.
    pub(super) once: Option<Arc<Once>>,
}

impl Admitted {
    pub(crate) fn app(&self) -> &App {
        &self.call.app
    }

    /// The organization of the path.
    pub(crate) fn org(&self) -> Result<&OrganizationRow, Problem> {
        self.org.as_ref().ok_or_else(Problem::not_found)
    }

    /// What the body asked for needs this, now and in every transaction.
    pub(crate) fn require(&mut self, need: Need) -> Result<(), Problem> {
        if let Caller::Member(member) = &self.caller {
            check(member, need, &self.call)?;
        }
        self.need = need;
        Ok(())
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
        let _ = self.call.framed.settlement.set(unit.settlement());
        let as_of = unit.as_of();
        let verdict = caller::verify(unit.conn(), &self.presented, &app, as_of, now).await?;
        let caller = verdict.map_err(|refused| self.call.refused(refused))?;
        let org = match (&self.org, &caller) {
            (None, _) => None,
            (Some(_), Caller::Member(member)) => {
                check(member, self.need, &self.call)?;
                Some(member.org.clone())
            }
            (Some(org), Caller::Operator { .. }) => {
                organizations::find(unit.conn(), &org.id).await?
            }
        };
        if let Some(once) = &self.once {
            once.check(unit.conn(), now).await?;
        }
        let origin = self.call.framed.origin.clone();
        Ok(Work { app, unit, caller, org, origin, once: self.once.clone(), now })
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
