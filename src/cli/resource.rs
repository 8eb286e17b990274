//! `portcullis resource`: the tree of what roles are given on.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::api::{Remote, present};
use super::names::put_names;
use super::outcome::show_change;
use super::output::{Column, Output};

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("KIND", "/kind"),
    ("NAME", "/name"),
    ("REF", "/ref"),
    ("PARENT", "/parent_id"),
    ("STATE", "/state"),
];

/// Resources: the tree of what roles are given on.
#[derive(Debug, Subcommand)]
pub(super) enum Resource {
    /// List the resources.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Create a resource.
    Create(Create),
    /// Show one resource.
    Show(Named),
    /// Archive it: only reading stays allowed.
    Archive(Named),
    /// Take it out of the archive.
    Unarchive(Named),
    /// Delete it and the bindings on it.
    Delete(Named),
}

/// A resource by id, name or KIND/REF.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id, name or KIND/REF.
    resource: String,
    #[command(flatten)]
    remote: Remote,
}

/// Create a resource.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name.
    name: String,
    /// What routes call it, as in cluster/REF [default: the name where it can be one, else the id]
    #[arg(long = "ref", value_name = "REF")]
    reference: Option<String>,
    /// workspace, cluster, project or custom.
    #[arg(long)]
    kind: String,
    /// The parent: id, name or KIND/REF; `org` is the root.
    #[arg(long, default_value = "org")]
    parent: String,
    #[command(flatten)]
    remote: Remote,
}

impl Resource {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let mut resources = api.list(&format!("{org}/resources")).await?;
                if !remote.output().is_json() {
                    put_names(api, &org, &mut resources, &["/parent_id"]).await;
                }
                remote.output().list(COLUMNS, &resources)
            }),
            Self::Create(create) => create.run(),
            Self::Show(named) => named.remote.with_api(async |api| {
                let org = api.org_path().await?;
                let id = api.resource_id(&org, &named.resource).await?;
                let found = api.read(&format!("{org}/resources/{id}")).await?;
                named.remote.output().object(found.get("resource").unwrap_or(&found))
            }),
            Self::Archive(named) => named.change(
                Method::POST,
                ":archive",
                Some("Callers that do more than read it will be refused."),
            ),
            Self::Unarchive(named) => named.change(Method::POST, ":unarchive", None),
            Self::Delete(named) => named.change(
                Method::DELETE,
                "",
                Some("It and the bindings on it will be deleted, for good."),
            ),
        }
    }
}

impl Named {
    fn change(&self, method: Method, verb: &str, warning: Option<&str>) -> anyhow::Result<()> {
        if let Some(warning) = warning {
            self.remote.confirm(&format!("{}: {warning} Go on?", self.resource))?;
        }
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let id = api.resource_id(&org, &self.resource).await?;
            let path = format!("{org}/resources/{id}{verb}");
            let deletes = method == Method::DELETE;
            let changed = api.change(method, &path, None).await?;
            show_change(self.remote.output(), changed, "resource", None)?;
            if deletes {
                Output::note("It is deleted.");
            }
            Ok(())
        })
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let org = api.org_path().await?;
            let body = present([
                ("name", Some(json!(self.name))),
                ("kind", Some(json!(self.kind))),
                ("parent_id", Some(json!(api.resource_id(&org, &self.parent).await?))),
                ("ref", self.reference.as_ref().map(|reference| json!(reference))),
            ]);
            let path = format!("{org}/resources");
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "resource", None)
        })
    }
}
