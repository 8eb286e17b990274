//! `portcullis group`: sets of service accounts and users that have roles together.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::api::{Api, Remote, present};
use super::names::put_names;
use super::outcome::show_change;
use super::output::{Column, Output};
use super::role::refuse_empty;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("KIND", "/kind"),
    ("MEMBERS", "/member_count"),
    ("CREATED", "/created_at"),
];

const MEMBER_COLUMNS: &[Column] =
    &[("KIND", "/principal/kind"), ("MEMBER", "/principal/id"), ("SINCE", "/created_at")];

/// Groups: service accounts and users that have roles together.
#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// List the groups.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one group.
    Show(Named),
    /// Create a group.
    Create {
        /// Its name, unique in the organization.
        name: String,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Change a group's name or description.
    Update {
        /// Id or name.
        group: String,
        /// Another name.
        #[arg(long)]
        name: Option<String>,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Delete a group with its memberships and bindings.
    Delete(Named),
    /// List the members of a group.
    Members(Named),
    /// Put an account or a user into a group: they have all that the group has.
    Add(Member),
    /// Take an account or a user out of a group.
    Remove(Member),
}

/// A group by id or name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id or name.
    group: String,
    #[command(flatten)]
    remote: Remote,
}

/// Who joins or leaves which group.
#[derive(Debug, Args)]
pub(super) struct Member {
    /// Id or name of the group.
    group: String,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    remote: Remote,
}

/// An account or a user.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Who {
    /// Id or username of an account.
    #[arg(long)]
    account: Option<String>,
    /// Id or username of a user.
    #[arg(long)]
    user: Option<String>,
}

impl Who {
    /// Kind and id.
    async fn find(&self, api: &Api, org: &str) -> anyhow::Result<(&'static str, String)> {
        match (&self.account, &self.user) {
            (Some(account), _) => {
                Ok(("service_account", api.id_in(org, "service-accounts", account).await?))
            }
            (None, user) => {
                let wanted = user.as_deref().unwrap_or_default();
                Ok(("user", api.id_in(org, "users", wanted).await?))
            }
        }
    }
}

impl Group {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                remote.output().list(COLUMNS, &api.list(&format!("{org}/groups")).await?)
            }),
            Self::Show(Named { group, remote }) => remote.with_api(async |api| {
                let path = path_of(api, &group).await?;
                remote.output().object(&api.read(&path).await?)
            }),
            Self::Create { name, description, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let body = present([
                    ("name", Some(json!(name))),
                    ("description", description.as_ref().map(|text| json!(text))),
                ]);
                let made = api.change(Method::POST, &format!("{org}/groups"), Some(&body)).await?;
                show_change(remote.output(), made, "group", None)
            }),
            Self::Update { group, name, description, remote } => {
                let body = present([
                    ("name", name.map(|name| json!(name))),
                    ("description", description.map(|text| json!(text))),
                ]);
                refuse_empty(&body)?;
                remote.with_api(async |api| {
                    let path = path_of(api, &group).await?;
                    let changed = api.change(Method::PATCH, &path, Some(&body)).await?;
                    show_change(remote.output(), changed, "group", None)
                })
            }
            Self::Delete(Named { group, remote }) => {
                let warning = "Members that need its roles will be refused.";
                remote.confirm(&format!("{group}: {warning} Go on?"))?;
                remote.with_api(async |api| {
                    let path = path_of(api, &group).await?;
                    let changed = api.change(Method::DELETE, &path, None).await?;
                    show_change(remote.output(), changed, "group", None)?;
                    Output::note("It is deleted.");
                    Ok(())
                })
            }
            Self::Members(Named { group, remote }) => remote.with_api(async |api| {
                let path = path_of(api, &group).await?;
                let mut members = api.list(&format!("{path}/members")).await?;
                if !remote.output().is_json() {
                    put_names(api, &api.org_path().await?, &mut members, &["/principal/id"]).await;
                }
                remote.output().list(MEMBER_COLUMNS, &members)
            }),
            Self::Add(Member { group, who, remote }) => remote.with_api(async |api| {
                let path = path_of(api, &group).await?;
                let (kind, id) = who.find(api, &api.org_path().await?).await?;
                let body = json!({ "principal": { "kind": kind, "id": id } });
                let made =
                    api.change(Method::POST, &format!("{path}/members"), Some(&body)).await?;
                show_change(remote.output(), made, "member", None)
            }),
            Self::Remove(Member { group, who, remote }) => {
                let warning = "Callers that need the group's roles will be refused.";
                remote.confirm(&format!("{group}: {warning} Go on?"))?;
                remote.with_api(async |api| {
                    let path = path_of(api, &group).await?;
                    let (_, id) = who.find(api, &api.org_path().await?).await?;
                    let path = format!("{path}/members/{id}");
                    let changed = api.change(Method::DELETE, &path, None).await?;
                    show_change(remote.output(), changed, "member", None)?;
                    Output::note("It is out of the group.");
                    Ok(())
                })
            }
        }
    }
}

async fn path_of(api: &Api, group: &str) -> anyhow::Result<String> {
    let org = api.org_path().await?;
    let id = api.id_in(&org, "groups", group).await?;
    Ok(format!("{org}/groups/{id}"))
}
