//! `portcullis policy`: security policies, bundles of bindings that are switched together. What an
//! organization allows is `org policy`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, Remote, present};
use super::outcome::show_change;
use super::output::{Column, Output};
use super::role::refuse_empty;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("KIND", "/kind"),
    ("ENABLED", "/enabled"),
    ("GROUPS", "/group_count"),
    ("USERS", "/user_count"),
    ("ACCOUNTS", "/service_account_count"),
    ("ROLES", "/role_count"),
];

/// Security policies: bundles of bindings that are switched on and off together.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// List the security policies.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one security policy with its bindings.
    Show(Named),
    /// Create an empty one; `binding create --policy` fills it.
    Create {
        /// Its name, unique in the organization.
        name: String,
        /// Its bindings count only after `policy enable`.
        #[arg(long)]
        disabled: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Give it another name.
    Update {
        /// Id or name.
        policy: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Switch it on: its bindings count.
    Enable(Named),
    /// Switch it off: its bindings count as absent.
    Disable(Named),
    /// Delete it with its bindings.
    Delete(Named),
}

/// A security policy by id or name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id or name.
    policy: String,
    #[command(flatten)]
    remote: Remote,
}

impl Policy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let found = api.list(&format!("{org}/security-policies")).await?;
                remote.output().list(COLUMNS, &found)
            }),
            Self::Show(Named { policy, remote }) => remote.with_api(async |api| {
                let path = path_of(api, &policy).await?;
                remote.output().object(&api.read(&path).await?)
            }),
            Self::Create { name, disabled, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let body = json!({ "name": name, "enabled": !disabled });
                let path = format!("{org}/security-policies");
                let made = api.change(Method::POST, &path, Some(&body)).await?;
                show(&remote, made)
            }),
            Self::Update { policy, name, remote } => {
                let body = present([("name", name.map(|name| json!(name)))]);
                refuse_empty(&body)?;
                remote.with_api(async |api| {
                    let path = path_of(api, &policy).await?;
                    show(&remote, api.change(Method::PATCH, &path, Some(&body)).await?)
                })
            }
            Self::Enable(named) => named.switch("enable", None),
            Self::Disable(named) => {
                named.switch("disable", Some("Callers that need its roles will be refused."))
            }
            Self::Delete(Named { policy, remote }) => {
                let warning = "It and its bindings will be deleted, for good.";
                remote.confirm(&format!("{policy}: {warning} Go on?"))?;
                remote.with_api(async |api| {
                    let path = path_of(api, &policy).await?;
                    show(&remote, api.change(Method::DELETE, &path, None).await?)?;
                    Output::note("It is deleted.");
                    Ok(())
                })
            }
        }
    }
}

impl Named {
    fn switch(&self, verb: &str, warning: Option<&str>) -> anyhow::Result<()> {
        if let Some(warning) = warning {
            self.remote.confirm(&format!("{}: {warning} Go on?", self.policy))?;
        }
        self.remote.with_api(async |api| {
            let path = path_of(api, &self.policy).await?;
            show(&self.remote, api.change(Method::POST, &format!("{path}:{verb}"), None).await?)
        })
    }
}

fn show(remote: &Remote, changed: Value) -> anyhow::Result<()> {
    show_change(remote.output(), changed, "security_policy", None)
}

async fn path_of(api: &Api, policy: &str) -> anyhow::Result<String> {
    let org = api.org_path().await?;
    let id = api.id_in(&org, "security-policies", policy).await?;
    Ok(format!("{org}/security-policies/{id}"))
}
