//! Role bindings: who has which role where. Nobody grants more than they have, nobody changes their
//! own bindings, and the last owner stays (I-19, I-20).

use portcullis_core::access::BuiltinRole;
use serde_json::{Value, json};

use super::{Code, Effect, Problem, new_id, records};
use crate::api::problem::FieldCode;
use crate::api::work::{Work, unknown_reference};
use crate::instant::column;
use crate::resolve::{Access, Point};
use crate::store::bindings::{self, BindingRow};
use crate::store::{accounts, resources, users};

/// The role whose last human holder on the root must stay.
const OWNER: &str = "owner";

/// Whose bindings change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) kind: String,
    pub(crate) id: String,
}

impl Subject {
    pub(crate) fn account(id: &str) -> Subject {
        Subject { kind: "service_account".to_owned(), id: id.to_owned() }
    }

    pub(crate) fn user(id: &str) -> Subject {
        Subject { kind: "user".to_owned(), id: id.to_owned() }
    }

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
}

/// A change of one subject's bindings. Everything is checked at the end, over all of them.
pub(crate) struct Change {
    subject: Subject,
    before: Vec<Point>,
    pub(crate) warnings: Vec<Value>,
}

impl Change {
    /// Begins a change. The subject must exist in the caller's organization.
    pub(crate) async fn begin(work: &mut Work, subject: Subject) -> Result<Change, Problem> {
        let caller = work.member()?;
        if caller.id == subject.id {
            let detail = "Nobody changes their own bindings.";
            return Err(Problem::new(Code::PrivilegeEscalation, detail));
        }
        let policy = work.org()?.policy.clone();
        let access = Access::of_subject(work.unit.conn(), &subject.id, &policy).await?;
        Ok(Change { subject, before: access.points, warnings: Vec::new() })
    }

    /// Adds a binding. `field` is what its fields are called in the body: `` or `bindings[0].`.
    pub(crate) async fn add(
        &mut self,
        work: &mut Work,
        wanted: &NewBinding,
        field: &str,
    ) -> Result<BindingRow, Problem> {
        let org = work.org()?.clone();
        let role = self.role(work, &wanted.role_id, &wanted.resource_id, field).await?;
        let existing = bindings::list_of_subject(work.unit.conn(), &self.subject.id).await?;
        let here: Vec<&BindingRow> =
            existing.iter().filter(|row| row.resource_id == wanted.resource_id).collect();
        if here.iter().any(|row| row.role_id == role.id) {
            let detail = "The subject has this role on this resource already.";
            return Err(Problem::new(Code::DuplicateBinding, detail));
        }
        if let Some(most) = org.policy.max_direct_roles_per_resource
            && here.len() >= usize::try_from(most).unwrap_or(usize::MAX)
        {
            let detail = format!("At most {most} direct role(s) on one resource are allowed.");
            return Err(Problem::new(Code::RoleLimitReached, detail));
        }
        let row = BindingRow {
            id: new_id(work.now, work.app.entropy.as_ref())?,
            org_id: org.id,
            role_id: role.id.to_owned(),
            subject_kind: self.subject.kind.clone(),
            subject_id: self.subject.id.clone(),
            resource_id: wanted.resource_id.clone(),
            propagate: wanted.propagate && role.propagates,
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
        let role = self.role(work, role_id, &row.resource_id, "").await?;
        if role.id != row.role_id {
            self.keep_last_owner(work, row).await?;
            let existing = bindings::list_of_subject(work.unit.conn(), &self.subject.id).await?;
            let taken = existing.iter().any(|other| {
                other.id != row.id
                    && other.resource_id == row.resource_id
                    && other.role_id == role.id
            });
            if taken {
                let detail = "The subject has this role on this resource already.";
                return Err(Problem::new(Code::DuplicateBinding, detail));
            }
        }
        row.role_id = role.id.to_owned();
        row.propagate = propagate && role.propagates;
        bindings::update(work.unit.conn(), row, work.now).await?;
        Ok(())
    }

    /// Takes a binding away.
    pub(crate) async fn remove(
        &mut self,
        work: &mut Work,
        row: &BindingRow,
    ) -> Result<(), Problem> {
        self.keep_last_owner(work, row).await?;
        bindings::erase(work.unit.conn(), &row.id).await?;
        Ok(())
    }

    /// Checks that the caller holds everything that the subject gains, also where a removed
    /// binding no longer hides an inherited one, and publishes the subject.
    pub(crate) async fn finish(self, work: &mut Work) -> Result<Effect, Problem> {
        let org = work.org()?.clone();
        let after = Access::of_subject(work.unit.conn(), &self.subject.id, &org.policy).await?;
        let caller = work.member()?.access.clone();
        let mut paths = after.paths.clone();
        paths.merge(&caller.paths);
        for point in &self.before {
            if paths.find(&point.at).is_none() {
                paths.add(resources::list_path(work.unit.conn(), &org.id, &point.at).await?);
            }
        }
        if !caller.covers_gain(&self.before, &after.points, &paths) {
            let detail = "The subject would get permissions that you do not have yourself.";
            return Err(Problem::new(Code::PrivilegeEscalation, detail));
        }
        let Subject { kind, id } = &self.subject;
        records::publish_subject(&mut work.unit, &org.id, kind, id, &org.policy).await?;
        Ok(if self.before.is_empty() { Effect::Widening } else { Effect::Narrowing })
    }

    /// The role, if it exists and may be bound to this subject on this resource.
    async fn role(
        &mut self,
        work: &mut Work,
        role_id: &str,
        resource_id: &str,
        field: &str,
    ) -> Result<&'static BuiltinRole, Problem> {
        let org = work.org()?.clone();
        let role = BuiltinRole::find(role_id);
        let role = role.ok_or_else(|| unknown_reference(&format!("{field}role_id")))?;
        let resource = resources::find(work.unit.conn(), &org.id, resource_id).await?;
        let resource = resource.ok_or_else(|| unknown_reference(&format!("{field}resource_id")))?;
        if !role.binding_kinds.contains(&resource.kind.as_str()) {
            let detail = format!("{} can be bound on: {}", role.id, role.binding_kinds.join(", "));
            return Err(Problem::field(&format!("{field}role_id"), FieldCode::Policy, detail));
        }
        if self.subject.kind == "service_account" {
            if org.policy.sa_forbidden_roles.contains(role.id) {
                let detail = format!("No service account may have the role {}.", role.id);
                return Err(Problem::new(Code::PolicyForbids, detail));
            }
            if org.policy.sa_warn_roles.contains(role.id) {
                let detail = format!("A service account now has the role {}.", role.label);
                self.warnings.push(json!({"code": "admin_role", "detail": detail}));
            }
        }
        Ok(role)
    }

    async fn keep_last_owner(&self, work: &mut Work, row: &BindingRow) -> Result<(), Problem> {
        let root = work.org()?.root_resource_id.clone();
        if self.subject.kind != "user" || row.role_id != OWNER || row.resource_id != root {
            return Ok(());
        }
        let owners = bindings::count_users_with(work.unit.conn(), OWNER, &root).await?;
        if owners > 1 {
            return Ok(());
        }
        Err(Problem::new(Code::LastOwner, "An organization has at least one human owner."))
    }
}

/// Whether the subject exists in the organization and may still be changed.
pub(crate) async fn check_subject(
    work: &mut Work,
    subject: &Subject,
    field: &str,
) -> Result<(), Problem> {
    let org_id = work.org()?.id.clone();
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
