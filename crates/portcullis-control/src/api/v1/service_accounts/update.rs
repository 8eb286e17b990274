//! `PATCH S`: names, descriptions and groups, in one step.

use portcullis_core::account::{DisplayName, Username};

use super::create::{external_ref, group_ids};
use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::{Code, Problem};
use crate::api::reply::{Mutation, Reply};
use crate::api::work::Work;
use crate::domain::Effect;
use crate::domain::accounts::{self, AccountPatch};
use crate::store::groups;

const READ_ONLY: &[&str] = &[
    "id",
    "org_id",
    "state",
    "is_bot",
    "author",
    "managed_by",
    "key_count",
    "last_used_at",
    "last_used_ip",
    "use_count",
    "denied_count",
    "last_login_at",
    "deactivated_at",
    "deactivated_by",
    "revoked_at",
    "revoked_by",
    "deleted_at",
    "deleted_by",
    "created_at",
    "updated_at",
    "version",
];

pub(crate) const OPERATION: Operation = Operation::patch(
    "/v1/organizations/{org}/service-accounts/{sa}",
    "Change names, descriptions and groups of a service account",
    Need::root("service_account.update", "service_account:update"),
    |admitted| Box::pin(run(admitted)),
)
.reads(|body| read(body).err(), r#"{"display_name": "CI"}"#)
.answers(Answer::narrowed("service_account", "ServiceAccount"))
.may_refuse(&[
    Code::PolicyForbids,
    Code::PrivilegeEscalation,
    Code::StateTerminal,
    Code::UsernameTaken,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let patch = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    let mut row = accounts::find_living(&mut work, admitted.call.param("sa")).await?;
    admitted.check_version(row.version, work.org()?.policy.require_if_match)?;
    // Whom groups give what is not a label: it narrows, and it is waited for.
    let effect = match &patch.group_ids {
        Some(_) => Effect::Narrowing,
        None => Effect::Label,
    };
    if let Some(wanted) = &patch.group_ids {
        check_moves(&mut work, &row.id, wanted).await?;
    }
    let before = super::shown(work.unit.conn(), &row).await?;
    accounts::patch(&mut work, &mut row, patch).await?;
    let after = super::shown(work.unit.conn(), &row).await?;
    let happening =
        super::happening("service_account.update", &row, Some(before), Some(after.clone()));
    let conclusion = work.concluded(&row.org_id, happening);
    Mutation::of(conclusion, effect, "service_account", after).send(&admitted, wait).await
}

/// Joining and leaving need permissions of their own.
async fn check_moves(work: &mut Work, id: &str, wanted: &[String]) -> Result<(), Problem> {
    let root = work.org()?.root_resource_id.clone();
    let current = groups::list_of_principal(work.unit.conn(), id).await?;
    if wanted.iter().any(|id| !current.iter().any(|group| group.id == *id)) {
        work.check_at("group_member:create", &root).await?;
    }
    if current.iter().any(|group| !wanted.contains(&group.id)) {
        work.check_at("group_member:delete", &root).await?;
    }
    Ok(())
}

fn read(mut body: Fields) -> Result<AccountPatch, Faults> {
    let username = body.patched("username", fields::name(Username::parse));
    let display_name = body.patched("display_name", fields::name(DisplayName::parse));
    let description = body.clearable("description", fields::long_text(64 * 1024));
    let owning_team = body.clearable("owning_team", fields::text(255));
    let avatar_url = body.clearable("avatar_url", fields::text(2048));
    let external_refs = body.patched("external_refs", fields::list(0..=50, external_ref()));
    let group_ids = body.patched("group_ids", group_ids());
    body.read_only(READ_ONLY);
    let complete = body.finish()?;
    Ok(AccountPatch {
        username: username.value(&complete),
        display_name: display_name.value(&complete),
        description: description.value(&complete),
        owning_team: owning_team.value(&complete),
        avatar_url: avatar_url.value(&complete),
        external_refs: external_refs.value(&complete),
        group_ids: group_ids.value(&complete),
    })
}
