//! Role bindings: who has which role where. Nobody grants more than they have, nobody changes their
//! own bindings, and the last owner stays (I-19, I-20).

use serde_json::{Value, json};

use super::stakes::{Stakes, Subject, keep_an_owner};
use super::{Code, Problem, new_id, records};
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::resolve::{Role, allows_role};
use crate::store::bindings::{self, BindingRow};
use crate::store::security_policies::{self, SecurityPolicyRow};
use crate::store::{accounts, groups, resources, users};

impl Subject {
    pub(crate) fn of(row: &BindingRow) -> Subject {
        Subject { kind: row.subject_kind.clone(), id: row.subject_id.clone() }
    }
}

/// A binding that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBinding {
    pub(crate) role_id: String,
    pub(crate) resource_id: String,
    pub(crate) propagate: bool,
    /// The security policy that it becomes part of.
    pub(crate) policy_id: Option<String>,
}

/// A change of some subjects' bindings. Everything is checked at the end, over all of them.
pub(crate) struct Change {
    subjects: Vec<Subject>,
    stakes: Stakes,
    pub(crate) warnings: Vec<Value>,
}

impl Change {
    /// Begins a change. The subjects must exist in the caller's organization.
    pub(crate) async fn begin(work: &mut Work, subject: Subject) -> Result<Change, Problem> {
        Change::begin_all(work, vec![subject]).await
    }

    /// Begins a change of all these subjects; no other may be changed by it.
    pub(crate) async fn begin_all(
        work: &mut Work,
        mut subjects: Vec<Subject>,
    ) -> Result<Change, Problem> {
        subjects.sort();
        subjects.dedup();
        let caller = &work.member()?.id;
        if subjects.iter().any(|subject| subject.id == *caller) {
            let detail = "Nobody changes their own bindings.";
            return Err(Problem::new(Code::PrivilegeEscalation, detail));
        }
        let stakes = Stakes::before(work, &subjects).await?;
        Ok(Change { subjects, stakes, warnings: Vec::new() })
    }

    /// Adds a binding. `field` is what its fields are called in the body: `` or `bindings[0].`.
    pub(crate) async fn add(
        &mut self,
        work: &mut Work,
        subject: &Subject,
        wanted: &NewBinding,
        field: &str,
    ) -> Result<BindingRow, Problem> {
        let org = work.org()?.clone();
        let role = self.role(work, subject, wanted, field).await?;
        let existing = bindings::list_of_subject(work.unit.conn(), &subject.id).await?;
        let here: Vec<&BindingRow> = existing
            .iter()
            .filter(|row| {
                row.resource_id == wanted.resource_id && row.policy_id == wanted.policy_id
            })
            .collect();
        if here.iter().any(|row| row.role_id == role.id) {
            return Err(duplicate());
        }
        let is_direct = subject.kind != Subject::GROUP && wanted.policy_id.is_none();
        if let Some(most) = org.policy.max_direct_roles_per_resource
            && is_direct
            && here.len() >= usize::try_from(most).unwrap_or(usize::MAX)
        {
            let detail = format!("At most {most} direct role(s) on one resource are allowed.");
            return Err(Problem::new(Code::RoleLimitReached, detail));
        }
        let row = BindingRow {
            id: new_id(work.now, work.app.entropy.as_ref())?,
            org_id: org.id,
            propagate: wanted.propagate && role.propagates,
            role_id: role.id,
            subject_kind: subject.kind.clone(),
            subject_id: subject.id.clone(),
            resource_id: wanted.resource_id.clone(),
            policy_id: wanted.policy_id.clone(),
            managed_by: "api".to_owned(),
            created_by: work.caller.author().to_column(),
            created_ms: column(work.now),
            updated_ms: column(work.now),
            version: 1,
        };
        bindings::insert(work.unit.conn(), &row).await?;
        Ok(row)
    }

    /// Gives a binding another role or reach.
    pub(crate) async fn alter(
        &mut self,
        work: &mut Work,
        row: &mut BindingRow,
        role_id: &str,
        propagate: bool,
    ) -> Result<(), Problem> {
        let subject = Subject::of(row);
        let wanted = NewBinding {
            role_id: role_id.to_owned(),
            resource_id: row.resource_id.clone(),
            propagate,
            policy_id: row.policy_id.clone(),
        };
        let role = self.role(work, &subject, &wanted, "").await?;
        if role.id != row.role_id {
            let existing = bindings::list_of_subject(work.unit.conn(), &subject.id).await?;
            let taken = existing.iter().any(|other| {
                other.id != row.id
                    && other.resource_id == row.resource_id
                    && other.role_id == role.id
                    && other.policy_id == row.policy_id
            });
            if taken {
                return Err(duplicate());
            }
        }
        row.propagate = propagate && role.propagates;
        row.role_id = role.id;
        bindings::update(work.unit.conn(), row, work.now).await?;
        Ok(())
    }

    /// Takes a binding away.
    pub(crate) async fn remove(
        &mut self,
        work: &mut Work,
        row: &BindingRow,
    ) -> Result<(), Problem> {
        if let Some(policy_id) = &row.policy_id {
            editable_policy(work, policy_id, "").await?;
        }
        bindings::erase(work.unit.conn(), &row.id).await?;
        Ok(())
    }

    /// Checks that the caller holds everything that the subjects gain and that an owner is left,
    /// and publishes the subjects.
    pub(crate) async fn finish(self, work: &mut Work) -> Result<(), Problem> {
        // Of service accounts none is a human owner.
        if self.subjects.iter().any(|subject| !subject.is_account()) {
            keep_an_owner(work).await?;
        }
        self.stakes.check(work, None).await?;
        let org = work.org()?.clone();
        for Subject { kind, id } in &self.subjects {
            records::publish_subject(&mut work.unit, &org.id, kind, id, &org.policy).await?;
        }
        Ok(())
    }

    /// The role, if it exists and may be bound to this subject on this resource.
    async fn role(
        &mut self,
        work: &mut Work,
        subject: &Subject,
        wanted: &NewBinding,
        field: &str,
    ) -> Result<Role, Problem> {
        let org = work.org()?.clone();
        let role = Role::find(work.unit.conn(), &org.id, &wanted.role_id).await?;
        let role = role.ok_or_else(|| unknown_reference(&format!("{field}role_id")))?;
        let resource = resources::find(work.unit.conn(), &org.id, &wanted.resource_id).await?;
        let resource = resource.ok_or_else(|| unknown_reference(&format!("{field}resource_id")))?;
        if let Some(policy_id) = &wanted.policy_id {
            editable_policy(work, policy_id, &format!("{field}policy_id")).await?;
        }
        if !role.binding_kinds.contains(&resource.kind) {
            let detail = format!("{} can be bound on: {}", role.id, role.binding_kinds.join(", "));
            return Err(Problem::field(&format!("{field}role_id"), FieldCode::Policy, detail));
        }
        if subject.is_account() {
            if !allows_role(&org.policy, &role) {
                let detail = format!("No service account may have the role {}.", role.name);
                return Err(Problem::new(Code::PolicyForbids, detail));
            }
            if org.policy.sa_warn_roles.contains(&role.id) {
                let detail = format!("A service account now has the role {}.", role.name);
                self.warnings.push(json!({"code": "admin_role", "detail": detail}));
            }
        }
        Ok(role)
    }
}

/// The policy, if its bindings may be changed: those of a default one may not.
pub(crate) async fn editable_policy(
    work: &mut Work,
    id: &str,
    field: &str,
) -> Result<SecurityPolicyRow, Problem> {
    let org_id = work.org()?.id.clone();
    let row = security_policies::find(work.unit.conn(), &org_id, id).await?;
    let row = row.ok_or_else(|| unknown_reference(field))?;
    if row.kind == SecurityPolicyRow::DEFAULT {
        let detail = "A default policy can be switched on and off, and nothing else.";
        return Err(Problem::new(Code::ImmutableObject, detail));
    }
    Ok(row)
}

fn duplicate() -> Problem {
    let detail = "The subject has this role on this resource already.";
    Problem::new(Code::DuplicateBinding, detail)
}

/// Whether the subject exists in the organization and may still be changed.
pub(crate) async fn check_subject(
    work: &mut Work,
    subject: &Subject,
    field: &str,
) -> Result<(), Problem> {
    let org_id = work.org()?.id.clone();
    if subject.kind == Subject::GROUP {
        let row = groups::find(work.unit.conn(), &org_id, &subject.id).await?;
        return row.map(|_| ()).ok_or_else(|| unknown_reference(field));
    }
    if subject.kind == "user" {
        let row = users::find(work.unit.conn(), &org_id, &subject.id).await?;
        return if row.is_some_and(|row| row.is_active()) {
            Ok(())
        } else {
            Err(unknown_reference(field))
        };
    }
    let row = accounts::find(work.unit.conn(), &org_id, &subject.id).await?;
    let row = row.ok_or_else(|| unknown_reference(field))?;
    match row.state()?.editable() {
        Ok(()) => Ok(()),
        Err(portcullis_core::account::TransitionRefused::Deleted) => Err(unknown_reference(field)),
        Err(terminal) => Err(terminal.into()),
    }
}
