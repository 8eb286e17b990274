//! `portcullis role`: named sets of permissions.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Remote, present};
use super::outcome::show_change;
use super::output::{Column, Output};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("LEVEL", "/level"),
    ("STICKY", "/sticky"),
    ("PERMISSIONS", "/permissions"),
    ("DENIES", "/deny"),
];

/// Roles: named sets of permissions.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// List the roles.
    List {
        /// Only those of this kind: built-in or custom.
        #[arg(long, value_parser = ["built-in", "custom"])]
        kind: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one role.
    Show(Named),
    /// Create a role.
    Create(Create),
    /// Change a role for everybody who has it.
    Update(Update),
    /// Delete a role that nobody has.
    Delete(Named),
}

/// A role by id or name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id or name, such as viewer.
    role: String,
    #[command(flatten)]
    remote: Remote,
}

/// Create a role.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name.
    name: String,
    /// A permission such as cluster:read, with wildcards type:*, *:verb, *:* and **.
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// A permission that it takes away, whatever grants it.
    #[arg(long = "deny", value_name = "PERMISSION")]
    deny: Vec<String>,
    /// Copy what is not given from this role.
    #[arg(long, value_name = "ROLE")]
    base: Option<String>,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// Its place in the order of power, 0 to 100; for display only.
    #[arg(long)]
    level: Option<u8>,
    /// A nearer role does not take it away where inheritance overrides.
    #[arg(long)]
    sticky: bool,
    /// For users only: no service account may have it.
    #[arg(long)]
    users_only: bool,
    /// A kind of resource that it can be bound on [default: all].
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Change a role.
#[derive(Debug, Args)]
pub(super) struct Update {
    /// Id or name.
    role: String,
    /// Another name.
    #[arg(long)]
    name: Option<String>,
    /// A permission; those given replace all there are.
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// A permission that it takes away; those given replace all there are.
    #[arg(long = "deny", value_name = "PERMISSION")]
    deny: Vec<String>,
    /// It takes nothing away any more.
    #[arg(long, conflicts_with = "deny")]
    no_deny: bool,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// Its place in the order of power.
    #[arg(long)]
    level: Option<u8>,
    #[command(flatten)]
    remote: Remote,
}

impl Role {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { kind, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let filter = match kind.as_deref() {
                    Some("built-in") => "?kind=built_in",
                    Some(_) => "?kind=custom",
                    None => "",
                };
                remote.output().list(COLUMNS, &api.list(&format!("{org}/roles{filter}")).await?)
            }),
            Self::Show(Named { role, remote }) => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let id = api.id_in(&org, "roles", &role).await?;
                remote.output().object(&api.read(&format!("{org}/roles/{id}")).await?)
            }),
            Self::Create(create) => create.run(),
            Self::Update(update) => update.run(),
            Self::Delete(Named { role, remote }) => {
                remote.confirm(&format!("{role} will be deleted, for good. Go on?"))?;
                remote.with_api(async |api| {
                    let org = api.org_path().await?;
                    let id = api.id_in(&org, "roles", &role).await?;
                    let path = format!("{org}/roles/{id}");
                    let changed = api.change(Method::DELETE, &path, None).await?;
                    show_change(remote.output(), changed, "role", None)?;
                    Output::note("It is deleted.");
                    Ok(())
                })
            }
        }
    }
}

/// A list, if any was given.
fn given(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| json!(list))
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let base = match &self.base {
                Some(base) => Some(json!(api.id_in(&org, "roles", base).await?)),
                None => None,
            };
            let body = present([
                ("name", Some(json!(self.name))),
                ("permissions", given(&self.permissions)),
                ("deny", given(&self.deny)),
                ("base_role_id", base),
                ("description", self.description.as_ref().map(|text| json!(text))),
                ("level", self.level.map(|level| json!(level))),
                ("sticky", self.sticky.then_some(json!(true))),
                ("sa_assignable", self.users_only.then_some(json!(false))),
                ("binding_kinds", given(&self.kinds)),
            ]);
            let made = api.change(Method::POST, &format!("{org}/roles"), Some(&body)).await?;
            show_change(self.remote.output(), made, "role", None)
        })
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<()> {
        let deny = if self.no_deny { Some(json!([])) } else { given(&self.deny) };
        let body = present([
            ("name", self.name.as_ref().map(|name| json!(name))),
            ("permissions", given(&self.permissions)),
            ("deny", deny),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("level", self.level.map(|level| json!(level))),
        ]);
        refuse_empty(&body)?;
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let id = api.id_in(&org, "roles", &self.role).await?;
            let path = format!("{org}/roles/{id}");
            let changed = api.change(Method::PATCH, &path, Some(&body)).await?;
            show_change(self.remote.output(), changed, "role", None)
        })
    }
}

/// An update that says nothing is a mistake.
pub(super) fn refuse_empty(body: &Value) -> anyhow::Result<()> {
    if body.as_object().is_some_and(|members| !members.is_empty()) {
        return Ok(());
    }
    Err(super::Usage("nothing to change; --help shows what can be".to_owned()).into())
}
