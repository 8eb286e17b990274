//! `POST O/service-accounts`: an account, and if asked its roles and first key; all or nothing.

use portcullis_core::account::{AccountState, DisplayName, Username};
use serde_json::{Value, json};

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Faults, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::problem::Code;
use crate::api::readers::Reader;
use crate::api::reply::{Mutation, Reply};
use crate::api::v1::keys::create::read_key;
use crate::api::views::{self, KeyContext};
use crate::domain::Effect;
use crate::domain::accounts::{self, NewAccount};
use crate::domain::bindings::NewBinding;
use crate::domain::secrets::Shown;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations/{org}/service-accounts",
    "Create a service account, with roles and a first key if asked",
    Need::root("service_account.create", "service_account:create").entitled(),
    |admitted| Box::pin(run(admitted)),
)
.notes(
    "All or nothing. A key needs api_key:create, bindings need role_binding:create, groups need \
     group_member:create as well.",
)
.reads(
    |body| read(body, "").err(),
    r#"{"username": "ci", "role_id": "viewer", "create_key": {"name": "main"}}"#,
)
.answers(
    Answer::created("service_account", "ServiceAccount").with(&[("key?", "Key")]).with_secret(),
)
.may_refuse(&[
    Code::UsernameTaken,
    Code::PolicyForbids,
    Code::RoleLimitReached,
    Code::PrivilegeEscalation,
]);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let root = admitted.org()?.root_resource_id.clone();
    let wanted = read(admitted.call.body().await?, &root)?;
    let mut work = admitted.begin().await?;
    if wanted.key.is_some() {
        work.check_at("api_key:create", &root).await?;
    }
    for (_, binding) in &wanted.bindings {
        work.check_at("role_binding:create", &binding.resource_id).await?;
    }
    if !wanted.group_ids.is_empty() {
        work.check_at("group_member:create", &root).await?;
    }
    let created = accounts::create(&mut work, wanted).await?;
    let shown = super::shown(work.unit.conn(), &created.row).await?;
    let bindings: Vec<Value> = created.bindings.iter().map(views::binding).collect();
    let org = work.org()?.clone();
    let context = KeyContext { org: &org, owner: AccountState::Active, now: work.now };
    let key = match &created.key {
        Some((row, plain)) => Some((views::key(row, context)?, Shown::of(&org.policy, row, plain))),
        None => None,
    };
    let mut after = json!({"service_account": shown, "bindings": bindings});
    if let (Some((key, _)), Value::Object(members)) = (&key, &mut after) {
        members.insert("key".to_owned(), key.clone());
    }
    let happening = super::happening("service_account.create", &created.row, None, Some(after));
    let conclusion = work.concluded(&org.id, happening);
    let location = format!("/v1/organizations/{}/service-accounts/{}", org.id, created.row.id);
    let mut reply = Mutation::of(conclusion, Effect::Widening, "service_account", shown)
        .created(location)
        .with("warnings", Value::Array(created.warnings));
    if let Some((key, secret)) = key {
        reply = reply.with("key", key).with_secret(&secret);
    }
    reply.send(&admitted, wait).await
}

fn read(mut body: Fields, root: &str) -> Result<NewAccount, Faults> {
    let username = body.optional("username", fields::name(Username::parse));
    let display_name = body.optional("display_name", fields::name(DisplayName::parse));
    let description = body.optional("description", fields::long_text(64 * 1024));
    let owning_team = body.optional("owning_team", fields::text(255));
    let avatar_url = body.optional("avatar_url", fields::text(2048));
    let external_refs = body.optional("external_refs", fields::list(0..=50, external_ref()));
    let managed_by =
        body.optional("managed_by", fields::one_of(&["console", "api", "terraform", "migration"]));
    let role_id = body.optional("role_id", fields::id);
    let bindings = body.optional("bindings", fields::list(0..=200, binding()));
    let group_ids = body.optional("group_ids", group_ids());
    let key = body.optional("create_key", fields::object(read_key));
    let complete = body.finish()?;
    let mut all: Vec<(String, NewBinding)> = Vec::new();
    if let Some(role_id) = role_id.value(&complete) {
        let resource_id = root.to_owned();
        let policy_id = None;
        all.push((String::new(), NewBinding { role_id, resource_id, propagate: true, policy_id }));
    }
    for (index, one) in bindings.value(&complete).unwrap_or_default().into_iter().enumerate() {
        all.push((format!("bindings[{index}]."), one));
    }
    Ok(NewAccount {
        username: username.value(&complete),
        display_name: display_name.value(&complete),
        description: description.value(&complete),
        owning_team: owning_team.value(&complete),
        avatar_url: avatar_url.value(&complete),
        external_refs: external_refs.value(&complete).unwrap_or_default(),
        managed_by: managed_by.value(&complete).unwrap_or("api"),
        bindings: all,
        group_ids: group_ids.value(&complete).unwrap_or_default(),
        key: key.value(&complete),
    })
}

/// Groups by their ids.
pub(in crate::api::v1) fn group_ids() -> impl Reader<Value = Vec<String>> {
    fields::list(0..=200, fields::id)
}

fn binding() -> impl Reader<Value = NewBinding> {
    fields::object(|mut inner| {
        let role_id = inner.required("role_id", fields::id);
        let resource_id = inner.required("resource_id", fields::id);
        let propagate = inner.optional("propagate", fields::boolean);
        let complete = inner.finish()?;
        Ok(NewBinding {
            role_id: role_id.value(&complete),
            resource_id: resource_id.value(&complete),
            propagate: propagate.value(&complete).unwrap_or(true),
            policy_id: None,
        })
    })
}

/// `{system, workspace_id, legacy_id}`: where the account was before.
pub(super) fn external_ref() -> impl Reader<Value = Value> {
    fields::object(|mut inner| {
        let system = inner.required("system", fields::text(64));
        let workspace_id = inner.optional("workspace_id", fields::text(255));
        let legacy_id = inner.optional("legacy_id", fields::text(255));
        let complete = inner.finish()?;
        Ok(json!({
            "system": system.value(&complete),
            "workspace_id": workspace_id.value(&complete),
            "legacy_id": legacy_id.value(&complete),
        }))
    })
}
