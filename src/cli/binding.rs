//! `portcullis binding`: who has which role where.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::api::{Api, Remote, encode, present};
use super::names::put_names;
use super::outcome::show_change;
use super::output::{Column, Output};
use super::role::refuse_empty;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("ROLE", "/role_id"),
    ("KIND", "/subject/kind"),
    ("SUBJECT", "/subject/id"),
    ("RESOURCE", "/resource_id"),
    ("INHERITED BELOW", "/propagate"),
    ("POLICY", "/policy_id"),
];

/// Role bindings: who has which role where.
#[derive(Debug, Subcommand)]
pub(super) enum Binding {
    /// List the bindings.
    List(List),
    /// Give an account, a user or a group a role.
    Create(Create),
    /// Show one binding.
    Show(Named),
    /// Give a binding another role or reach.
    Update(Update),
    /// Take the role away.
    Delete(Named),
}

/// A binding by its id.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The id.
    binding: String,
    #[command(flatten)]
    remote: Remote,
}

/// List the bindings, all or some.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of an account: id or username.
    #[arg(long)]
    account: Option<String>,
    /// Only those of a user: id or username.
    #[arg(long, conflicts_with = "account")]
    user: Option<String>,
    /// Only those of a group: id or name.
    #[arg(long, conflicts_with_all = ["account", "user"])]
    group: Option<String>,
    /// Only those of a role: id or name.
    #[arg(long)]
    role: Option<String>,
    /// Only those on a resource: id, name or KIND/REF.
    #[arg(long, visible_alias = "on")]
    resource: Option<String>,
    /// Only those of a security policy: id or name.
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Give an account, a user or a group a role.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    subject: Subject,
    /// The role: id or name.
    #[arg(long)]
    role: String,
    /// The resource: id, name or KIND/REF; `org` is the whole organization.
    #[arg(long, visible_alias = "on", default_value = "org")]
    resource: String,
    /// On this resource only, not on those below it.
    #[arg(long)]
    no_propagate: bool,
    /// Make it part of this security policy: id or name.
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Give a binding another role or reach.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The id.
    binding: String,
    /// Another role: id or name.
    #[arg(long)]
    role: Option<String>,
    /// Whether it reaches the resources below.
    #[arg(long, value_name = "BOOL")]
    propagate: Option<bool>,
    #[command(flatten)]
    remote: Remote,
}

/// Whom a binding is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Subject {
    /// Id or username of an account.
    #[arg(long)]
    account: Option<String>,
    /// Id or username of a user.
    #[arg(long)]
    user: Option<String>,
    /// Id or name of a group.
    #[arg(long)]
    group: Option<String>,
}

impl Subject {
    /// Kind and id.
    async fn find(&self, api: &Api, org: &str) -> anyhow::Result<(&'static str, String)> {
        let (kind, list, wanted) = match (&self.account, &self.user, &self.group) {
            (Some(account), _, _) => ("service_account", "service-accounts", account.as_str()),
            (None, Some(user), _) => ("user", "users", user.as_str()),
            (None, None, group) => ("group", "groups", group.as_deref().unwrap_or_default()),
        };
        Ok((kind, api.id_in(org, list, wanted).await?))
    }
}

impl Binding {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Create(create) => create.run(),
            Self::Update(update) => update.run(),
            Self::Show(named) => named.remote.with_api(async |api| {
                let path = named.path(&api.org_path().await?);
                let found = api.read(&path).await?;
                named.remote.output().object(found.get("role_binding").unwrap_or(&found))
            }),
            Self::Delete(named) => {
                let question = "Callers that need its role will be refused. Go on?";
                named.remote.confirm(&format!("Binding {}: {question}", named.binding))?;
                named.remote.with_api(async |api| {
                    let path = named.path(&api.org_path().await?);
                    let changed = api.change(Method::DELETE, &path, None).await?;
                    show_change(named.remote.output(), changed, "role_binding", None)?;
                    Output::note("It is deleted.");
                    Ok(())
                })
            }
        }
    }
}

impl Named {
    fn path(&self, org: &str) -> String {
        format!("{org}/role-bindings/{}", encode(&self.binding))
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let mut filters = Vec::new();
            for (name, list, wanted) in [
                ("subject_id", "service-accounts", &self.account),
                ("subject_id", "users", &self.user),
                ("subject_id", "groups", &self.group),
                ("role_id", "roles", &self.role),
                ("policy_id", "security-policies", &self.policy),
            ] {
                if let Some(wanted) = wanted {
                    filters.push(format!("{name}={}", api.id_in(&org, list, wanted).await?));
                }
            }
            if let Some(resource) = &self.resource {
                filters.push(format!("resource_id={}", api.resource_id(&org, resource).await?));
            }
            let filter = match filters.is_empty() {
                true => String::new(),
                false => format!("?{}", filters.join("&")),
            };
            let mut bindings = api.list(&format!("{org}/role-bindings{filter}")).await?;
            if !self.remote.output().is_json() {
                let pointers = ["/subject/id", "/resource_id", "/role_id", "/policy_id"];
                put_names(api, &org, &mut bindings, &pointers).await;
            }
            self.remote.output().list(COLUMNS, &bindings)
        })
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let (kind, id) = self.subject.find(api, &org).await?;
            let policy = match &self.policy {
                Some(policy) => Some(json!(api.id_in(&org, "security-policies", policy).await?)),
                None => None,
            };
            let body = present([
                ("role_id", Some(json!(api.id_in(&org, "roles", &self.role).await?))),
                ("subject", Some(json!({ "kind": kind, "id": id }))),
                ("resource_id", Some(json!(api.resource_id(&org, &self.resource).await?))),
                ("propagate", Some(json!(!self.no_propagate))),
                ("policy_id", policy),
            ]);
            let path = format!("{org}/role-bindings");
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "role_binding", None)
        })
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let role = match &self.role {
                Some(role) => Some(json!(api.id_in(&org, "roles", role).await?)),
                None => None,
            };
            let body =
                present([("role_id", role), ("propagate", self.propagate.map(|it| json!(it)))]);
            refuse_empty(&body)?;
            let path = format!("{org}/role-bindings/{}", encode(&self.binding));
            let changed = api.change(Method::PATCH, &path, Some(&body)).await?;
            show_change(self.remote.output(), changed, "role_binding", None)
        })
    }
}
