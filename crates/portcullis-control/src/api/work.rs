//! The write transaction of an operation. It checks credential and permission once more inside, so
//! nobody acts on a right that was withdrawn meanwhile.

use std::sync::Arc;

use portcullis_core::time::WallMs;
use serde_json::Value;

use super::App;
use super::admission::permission;
use super::idempotency::Once;
use super::problem::{FieldCode, Problem};
use crate::caller::{Caller, Member};
use crate::store::audit::{Event, Origin, Outcome, Target};
use crate::store::organizations::OrganizationRow;
use crate::store::{Committed, Unit};

/// An open write transaction with its admitted caller.
pub(crate) struct Work {
    pub(crate) app: App,
    pub(crate) unit: Unit,
    pub(crate) caller: Caller,
    pub(super) org: Option<OrganizationRow>,
    pub(super) origin: Origin,
    pub(super) once: Option<Arc<Once>>,
    pub(crate) now: WallMs,
}

/// How an operation ends.
pub(crate) enum Conclusion {
    /// With what was committed already, in several steps.
    Committed(Committed),
    /// With a transaction that commits together with the answer; without a change, what was asked
    /// for already holds.
    Open { work: Box<Work>, change: Option<(String, Happening)> },
}

impl From<Committed> for Conclusion {
    fn from(committed: Committed) -> Conclusion {
        Conclusion::Committed(committed)
    }
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

    /// Ends with a change and its audit event, in the chain of the organization given. It commits
    /// when the answer is there.
    pub(crate) fn concluded(self, org_id: &str, happening: Happening) -> Conclusion {
        Conclusion::Open { work: Box::new(self), change: Some((org_id.to_owned(), happening)) }
    }

    /// Ends without a change: what was asked for already holds.
    pub(crate) fn unchanged(self) -> Conclusion {
        Conclusion::Open { work: Box::new(self), change: None }
    }

    /// Commits at once, before the answer: one of several changes of an operation, or one that
    /// others must learn of first.
    pub(crate) async fn commit(
        mut self,
        org_id: &str,
        happening: Happening,
    ) -> Result<Committed, Problem> {
        if let Some(once) = self.once.clone() {
            once.begin(self.unit.conn(), self.now).await?;
        }
        self.commit_answered(org_id, happening).await
    }

    pub(super) async fn commit_answered(
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
}

/// An unknown id in a body; ids of other organizations count as unknown.
pub(crate) fn unknown_reference(field: &str) -> Problem {
    Problem::field(field, FieldCode::UnknownReference, "there is no such object here")
}
