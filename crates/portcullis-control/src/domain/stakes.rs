//! What a change gives to whom, and whether its author may give it: everybody concerned is resolved
//! before and after, and what they gain must be the author's own (I-19). A human owner stays
//! (I-20).

use super::{Code, Problem};
use crate::api::work::Work;
use crate::caller::Caller;
use crate::policy::OrgPolicy;
use crate::resolve::{Access, Holder};
use crate::store::{bindings, resources};

/// The role whose last human holder on the root must stay.
pub(crate) const OWNER: &str = "owner";

/// Somebody or some group that roles are bound to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// `group`, `service_account` or `user`.
    pub(crate) kind: String,
    pub(crate) id: String,
}

impl Subject {
    pub(crate) const GROUP: &str = "group";

    pub(crate) fn account(id: &str) -> Subject {
        Subject { kind: Holder::ServiceAccount.kind().to_owned(), id: id.to_owned() }
    }

    pub(crate) fn user(id: &str) -> Subject {
        Subject { kind: Holder::User.kind().to_owned(), id: id.to_owned() }
    }

    pub(crate) fn group(id: &str) -> Subject {
        Subject { kind: Subject::GROUP.to_owned(), id: id.to_owned() }
    }

    pub(crate) fn is_account(&self) -> bool {
        self.kind == Holder::ServiceAccount.kind()
    }

    /// The kinds of principals that have what the subject has.
    fn holders(&self) -> Vec<Holder> {
        match self.kind.as_str() {
            Subject::GROUP => Holder::ALL.to_vec(),
            kind => vec![Holder::of_kind(kind)],
        }
    }
}

/// What some subjects have by themselves before a change; of none where whatever they gain is the
/// caller's own.
pub(crate) struct Stakes(Vec<(Holder, String, Access)>);

impl Stakes {
    pub(crate) async fn before(work: &mut Work, subjects: &[Subject]) -> Result<Stakes, Problem> {
        if holds_everything(work)? {
            return Ok(Stakes(Vec::new()));
        }
        let policy = work.org()?.policy.clone();
        let mut had = Vec::with_capacity(subjects.len());
        for subject in subjects {
            for holder in subject.holders() {
                let access =
                    Access::of_subject(work.unit.conn(), holder, &subject.id, &policy).await?;
                had.push((holder, subject.id.clone(), access));
            }
        }
        Ok(Stakes(had))
    }

    /// Learns where a resource is before it moves.
    pub(crate) async fn locate(&mut self, work: &mut Work, id: &str) -> Result<(), Problem> {
        let org_id = work.org()?.id.clone();
        for (_, _, access) in &mut self.0 {
            access.locate(work.unit.conn(), &org_id, id).await?;
        }
        Ok(())
    }

    /// Whether the caller holds everything that the subjects have now and had not, also where a
    /// removed binding no longer hides an inherited one. `moved` is a resource that lies elsewhere
    /// now.
    pub(crate) async fn check(self, work: &mut Work, moved: Option<&str>) -> Result<(), Problem> {
        let policy = work.org()?.policy.clone();
        self.check_under(work, &policy, moved).await
    }

    /// The same, where the policy changes too.
    pub(crate) async fn check_under(
        self,
        work: &mut Work,
        policy: &OrgPolicy,
        moved: Option<&str>,
    ) -> Result<(), Problem> {
        let org_id = work.org()?.id.clone();
        let caller = work.member()?.access.clone();
        for (holder, id, had) in self.0 {
            let mut has = Access::of_subject(work.unit.conn(), holder, &id, policy).await?;
            if let Some(moved) = moved {
                has.paths.add(resources::list_path(work.unit.conn(), &org_id, moved).await?);
            }
            let also: Vec<&str> = moved.into_iter().collect();
            if !caller.covers_gain(&had, &has, &also) {
                return Err(escalation());
            }
        }
        Ok(())
    }
}

/// Whether nobody in the organization can have more than the caller.
pub(super) fn holds_everything(work: &Work) -> Result<bool, Problem> {
    let Caller::Member(member) = &work.caller else { return Ok(false) };
    Ok(member.access.is_everything(&work.org()?.root_resource_id))
}

pub(crate) fn escalation() -> Problem {
    let detail = "Somebody would get permissions that you do not have yourself.";
    Problem::new(Code::PrivilegeEscalation, detail)
}

/// Whether the organization still has a human owner, by themselves or through a group.
pub(crate) async fn keep_an_owner(work: &mut Work) -> Result<(), Problem> {
    let root = work.org()?.root_resource_id.clone();
    match bindings::count_users_with(work.unit.conn(), OWNER, &root).await? {
        0 => Err(Problem::new(Code::LastOwner, "An organization has at least one human owner.")),
        _ => Ok(()),
    }
}
