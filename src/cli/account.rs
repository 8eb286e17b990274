//! `portcullis account`: service accounts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::Usage;
use super::api::{Api, Remote, present};
use super::batch;
use super::outcome::{refuse_existing, show_change};
use super::output::Column;
use super::user::filtered;
use crate::client::{NewAccount, NewBinding, NewKey};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("USERNAME", "/username"),
    ("STATE", "/state"),
    ("KEYS", "/key_count"),
    ("LAST USED", "/last_used_at"),
    ("CREATED", "/created_at"),
];

const ACCESS_COLUMNS: &[Column] = &[
    ("RESOURCE", "/resource/name"),
    ("KIND", "/resource/kind"),
    ("SOURCE", "/source"),
    ("ROLES", "/role_ids"),
    ("PERMISSIONS", "/permissions"),
];

const GROUP_COLUMNS: &[Column] = &[("ID", "/id"), ("NAME", "/name"), ("KIND", "/kind")];

/// Service accounts: the identities that own API keys.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// List the service accounts.
    List {
        #[command(flatten)]
        filters: Box<Filters>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Create a service account, with a role and a first key if asked.
    Create(Create),
    /// Show one service account.
    Show(Named),
    /// Show which roles it has on which resources.
    Access(Named),
    /// List the groups it is in.
    Groups(Named),
    /// Change its names and what is said about it; its keys work on.
    Update(Update),
    /// Switch accounts on: their active keys work again.
    Activate(Several),
    /// Switch accounts off: none of their keys works until they are switched on again.
    Deactivate(Several),
    /// End accounts for good; they stay listed.
    Revoke(Several),
    /// Delete accounts and all their keys for good.
    Delete(Several),
}

/// Which accounts are listed.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Only those in this state: active, inactive, revoked or deleted.
    #[arg(long)]
    state: Option<String>,
    /// Only those whose username or display name contains this text.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only those in this group, by id.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Only those made by this: console, api, terraform or migration.
    #[arg(long, value_name = "WHAT")]
    managed_by: Option<String>,
    /// Only those not used since this time, or never.
    #[arg(long, value_name = "TIME")]
    unused_since: Option<String>,
    /// Also those that were deleted.
    #[arg(long)]
    include_deleted: bool,
}

/// One or more service accounts by id or username.
#[derive(Debug, Args)]
pub(super) struct Several {
    /// Ids or usernames.
    #[arg(value_name = "ACCOUNT", required = true)]
    accounts: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

/// A service account by id or username.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id or username.
    account: String,
    #[command(flatten)]
    remote: Remote,
}

/// Create a service account.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The username, unique in the organization.
    name: String,
    /// The role: id or name, such as viewer.
    #[arg(long)]
    role: Option<String>,
    /// Give the role on this resource only (id, name, KIND/REF) [default: the whole organization]
    #[arg(long, requires = "role")]
    on: Option<String>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// Also create a key, with this name.
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "default")]
    key: Option<String>,
    /// Write the key to this file, mode 0600, and do not show it.
    #[arg(long, value_name = "FILE", requires = "key")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Change names and descriptions of a service account.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    account: Named,
    /// A new username.
    #[arg(long)]
    username: Option<String>,
    /// A new display name.
    #[arg(long)]
    display_name: Option<String>,
    /// A new description; "" for none.
    #[arg(long)]
    description: Option<String>,
    /// The team it belongs to; "" for none.
    #[arg(long, value_name = "TEAM")]
    owning_team: Option<String>,
    /// The URL of its picture; "" for none.
    #[arg(long, value_name = "URL")]
    avatar_url: Option<String>,
}

impl Account {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { filters, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let path = filters.put_on(&format!("{org}/service-accounts"));
                remote.output().list(COLUMNS, &api.list(&path).await?)
            }),
            Self::Create(create) => create.run(),
            Self::Show(named) => named.remote.with_api(async |api| {
                let found = api.read(&api.account_path(&named.account).await?).await?;
                named.remote.output().object(found.get("service_account").unwrap_or(&found))
            }),
            Self::Access(named) => named.remote.with_api(async |api| {
                let account = api.account_path(&named.account).await?;
                let rows = api.list(&format!("{account}/access")).await?;
                named.remote.output().list(ACCESS_COLUMNS, &rows)
            }),
            Self::Groups(named) => named.remote.with_api(async |api| {
                let account = api.account_path(&named.account).await?;
                let groups = api.list(&format!("{account}/groups")).await?;
                named.remote.output().list(GROUP_COLUMNS, &groups)
            }),
            Self::Update(update) => update.run(),
            Self::Activate(several) => several.change("activate", None),
            Self::Deactivate(several) => several
                .change("deactivate", Some("Every caller with one of its keys will be refused.")),
            Self::Revoke(several) => several.change(
                "revoke",
                Some("Every caller with one of its keys will be refused, for good."),
            ),
            Self::Delete(several) => {
                several.change("delete", Some("It and all its keys will be deleted, for good."))
            }
        }
    }
}

impl Filters {
    fn put_on(&self, path: &str) -> String {
        filtered(
            path,
            &[
                ("state", self.state.as_deref()),
                ("q", self.search.as_deref()),
                ("group_id", self.group.as_deref()),
                ("managed_by", self.managed_by.as_deref()),
                ("unused_since", self.unused_since.as_deref()),
                ("include_deleted", self.include_deleted.then_some("true")),
            ],
        )
    }
}

impl Several {
    /// One account by its own call, whose answer shows it; more in batches.
    fn change(&self, action: &str, warning: Option<&str>) -> anyhow::Result<()> {
        if let Some(warning) = warning {
            self.remote.confirm(&format!("{}: {warning} Go on?", self.accounts.join(", ")))?;
        }
        self.remote.with_api(async |api| {
            if let [account] = self.accounts.as_slice() {
                let path = api.account_path(account).await?;
                let changed = match action {
                    "delete" => api.change(Method::DELETE, &path, None).await?,
                    verb => api.change(Method::POST, &format!("{path}:{verb}"), None).await?,
                };
                return show_change(self.remote.output(), changed, "service_account", None);
            }
            let mut ids = Vec::with_capacity(self.accounts.len());
            for account in &self.accounts {
                let path = api.account_path(account).await?;
                let id = path.rsplit('/').next().unwrap_or_default().to_owned();
                // Two names of one account are one account.
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            let path = format!("{}/service-accounts:batch", api.org_path().await?);
            let body = json!({ "action": action });
            let results = batch::call(api, &path, &body, Some(&ids)).await?;
            batch::show(self.remote.output(), results, None)
        })
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<()> {
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        // What may be absent is cleared by an empty text, as a shell can write it.
        let clearable = |text: &Option<String>| {
            text.as_ref().map(|text| if text.is_empty() { Value::Null } else { json!(text) })
        };
        let body = present([
            ("username", text(&self.username)),
            ("display_name", text(&self.display_name)),
            ("description", clearable(&self.description)),
            ("owning_team", clearable(&self.owning_team)),
            ("avatar_url", clearable(&self.avatar_url)),
        ]);
        if body.as_object().is_some_and(serde_json::Map::is_empty) {
            let message = "nothing to change: give --username, --display-name, --description, \
                           --owning-team or --avatar-url";
            return Err(Usage(message.to_owned()).into());
        }
        let Named { account, remote } = &self.account;
        remote.with_api(async |api| {
            let path = api.account_path(account).await?;
            let changed = api.change(Method::PATCH, &path, Some(&body)).await?;
            show_change(remote.output(), changed, "service_account", None)
        })
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        refuse_existing(self.secret_file.as_ref())?;
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let body = self.body(api, &org).await?;
            let path = format!("{org}/service-accounts");
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "service_account", self.secret_file.as_ref())
        })
    }

    async fn body(&self, api: &Api, org: &str) -> anyhow::Result<Value> {
        let role = match &self.role {
            Some(role) => Some(api.id_in(org, "roles", role).await?),
            None => None,
        };
        let bindings = match (&role, &self.on) {
            (Some(role_id), Some(on)) => {
                let resource_id = api.resource_id(org, on).await?;
                vec![NewBinding { role_id: role_id.clone(), resource_id }]
            }
            (Some(_) | None, _) => Vec::new(),
        };
        let key = |name: &String| NewKey { name: name.clone(), ..NewKey::default() };
        Ok(json!(NewAccount {
            username: self.name.clone(),
            description: self.description.clone(),
            role_id: role.filter(|_| bindings.is_empty()),
            bindings,
            create_key: self.key.as_ref().map(key),
        }))
    }
}
