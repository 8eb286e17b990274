//! `portcullis binding`: who has which role where.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Remote, encode, id_of};
use super::names::put_names;
use super::outcome::show_change;
use super::output::{Column, Output};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("ROLE", "/role_id"),
    ("KIND", "/subject/kind"),
    ("SUBJECT", "/subject/id"),
    ("RESOURCE", "/resource_id"),
    ("INHERITED BELOW", "/propagate"),
];

/// Role bindings: who has which role where.
#[derive(Debug, Subcommand)]
pub(super) enum Binding {
    /// List the bindings, of all subjects or of one account.
    List {
        /// Id or username of an account.
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give an account a role.
    Create(Create),
    /// Show one binding.
    Show(Named),
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

/// Give an account a role.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Id or username of the account.
    #[arg(long)]
    account: String,
    /// The role, by id.
    #[arg(long)]
    role: String,
    /// The resource: id, name or KIND/REF; `org` is the whole organization.
    #[arg(long, visible_alias = "on", default_value = "org")]
    resource: String,
    /// On this resource only, not on those below it.
    #[arg(long)]
    no_propagate: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Binding {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { account, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let filter = match &account {
                    Some(account) => {
                        let path = api.account_path(account).await?;
                        let id = path.rsplit('/').next().unwrap_or_default();
                        format!("?subject_id={}", encode(id))
                    }
                    None => String::new(),
                };
                let mut bindings = api.list(&format!("{org}/role-bindings{filter}")).await?;
                if !remote.output().is_json() {
                    put_names(api, &org, &mut bindings, &["/subject/id", "/resource_id"]).await;
                }
                remote.output().list(COLUMNS, &bindings)
            }),
            Self::Create(create) => create.run(),
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

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let account = api.read(&api.account_path(&self.account).await?).await?;
            let account: &Value = account.get("service_account").unwrap_or(&account);
            let body = json!({
                "role_id": self.role,
                "subject": { "kind": "service_account", "id": id_of(account)? },
                "resource_id": api.resource_id(&org, &self.resource).await?,
                "propagate": !self.no_propagate,
            });
            let path = format!("{org}/role-bindings");
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "role_binding", None)
        })
    }
}
