//! `POST /v1/organizations`: a new organization with its owner and the owner's key, shown once.

use portcullis_core::account::{KeyName, Username};
use serde_json::json;

use crate::api::admission::{Admitted, Need};
use crate::api::fields::{self, Fields};
use crate::api::operation::{Answer, Operation};
use crate::api::reply::{Mutation, Reply};
use crate::api::v1::policy::{patch, profile};
use crate::api::views::{self, KeyContext};
use crate::api::work::Happening;
use crate::domain::organizations::{self, CreatedOrganization, NewOrganization};
use crate::domain::secrets::Shown;
use crate::domain::{Effect, policy};
use portcullis_core::account::AccountState;

pub(crate) const OPERATION: Operation = Operation::post(
    "/v1/organizations",
    "Create an organization with its owner and the owner's key",
    Need::operator("organization.create"),
    |admitted| Box::pin(run(admitted)),
)
.reads(
    |body| read(body).err(),
    r#"{"name": "acme", "profile": "default", "owner": {"username": "root"}}"#,
)
.answers(
    Answer::created("organization", "Organization")
        .with(&[("owner", "User"), ("key", "Key")])
        .with_secret(),
);

async fn run(mut admitted: Admitted) -> Reply {
    let wait = admitted.wait()?;
    let wanted = read(admitted.call.body().await?)?;
    let mut work = admitted.begin().await?;
    policy::check(&mut work, &wanted.policy, "policy.").await?;
    let author = work.caller.author();
    let created = organizations::create(&work.app, &mut work.unit, wanted, &author).await?;
    let CreatedOrganization { org, owner, key, plain } = created;
    let context = KeyContext { org: &org, owner: AccountState::Active, now: work.now };
    let secret = Shown::of(&org.policy, &key, &plain);
    let key = views::key(&key, context)?;
    let shown = views::organization(&org);
    let happening = Happening {
        action: "organization.create",
        target: super::target(&org),
        resource_id: Some(org.root_resource_id.clone()),
        before: None,
        after: Some(json!({"organization": shown, "owner": views::user(&owner), "key": key})),
    };
    let conclusion = work.concluded(&org.id, happening);
    Mutation::of(conclusion, Effect::Widening, "organization", shown)
        .created(format!("/v1/organizations/{}", org.id))
        .with("owner", views::user(&owner))
        .with("key", key)
        .with_secret(&secret)
        .send(&admitted, wait)
        .await
}

fn read(mut body: Fields) -> Result<NewOrganization, fields::Faults> {
    let name = body.required("name", fields::name(Username::parse));
    let profile = body.optional("profile", profile());
    let owner = body.required(
        "owner",
        fields::object(|mut owner| {
            let username = owner.required("username", fields::name(Username::parse));
            let email = owner.optional("email", fields::text(254));
            let complete = owner.finish()?;
            Ok((username.value(&complete), email.value(&complete)))
        }),
    );
    let key_name = body.optional(
        "owner_key",
        fields::object(|mut key| {
            let name = key.optional("name", fields::name(KeyName::parse));
            let complete = key.finish()?;
            Ok(name.value(&complete))
        }),
    );
    let change = body.optional("policy", fields::object(patch));
    let complete = body.finish()?;
    let preset = profile.value(&complete).unwrap_or_default();
    let change = change.value(&complete).unwrap_or_default();
    let (profile, policy) = change.applied_to(preset, &preset.policy());
    let (owner, email) = owner.value(&complete);
    Ok(NewOrganization {
        name: name.value(&complete).as_str().to_owned(),
        profile,
        policy,
        owner,
        email,
        key_name: key_name
            .value(&complete)
            .flatten()
            .unwrap_or_else(|| KeyName::parse("owner").expect("`owner` is a key name")),
    })
}
