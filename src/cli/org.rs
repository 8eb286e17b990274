//! `portcullis org`: organizations.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::api::{Remote, present};
use super::outcome::{refuse_existing, show_change};
use super::output::Column;
use super::policy::Policy;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("PROFILE", "/profile"),
    ("STATE", "/state"),
    ("CREATED", "/created_at"),
];

/// Organizations.
#[derive(Debug, Subcommand)]
pub(super) enum Org {
    /// List the organizations that the token sees.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one organization.
    Show {
        /// Id or name [default: that of --org, or the only one]
        organization: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Create an organization and its owner's key; needs the operator's token.
    Create(Create),
    /// What the organization allows.
    #[command(subcommand)]
    Policy(Policy),
}

/// Create an organization.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Its name.
    name: String,
    /// What it offers: aihub, castai, default, dezifi, precisely or zenml [default: default]
    #[arg(long)]
    profile: Option<String>,
    /// The username of its owner.
    #[arg(long, value_name = "USERNAME")]
    owner: String,
    /// The e-mail address of its owner.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Write the owner's key to this file, mode 0600, and do not show it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Org {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { remote } => remote.with_api(async |api| {
                remote.output().list(COLUMNS, &api.list("/v1/organizations").await?)
            }),
            Self::Show { organization, remote } => remote.with_api(async |api| {
                let path = match &organization {
                    Some(wanted) => api.path_of_org(wanted).await?,
                    None => api.org_path().await?,
                };
                let found = api.read(&path).await?;
                remote.output().object(found.get("organization").unwrap_or(&found))
            }),
            Self::Create(create) => create.run(),
            Self::Policy(policy) => policy.run(),
        }
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        refuse_existing(self.secret_file.as_ref())?;
        let owner = present([
            ("username", Some(json!(self.owner))),
            ("email", self.email.as_ref().map(|address| json!(address))),
        ]);
        let body = present([
            ("name", Some(json!(self.name))),
            ("profile", self.profile.as_ref().map(|profile| json!(profile))),
            ("owner", Some(owner)),
            ("owner_key", Some(json!({ "name": "first" }))),
        ]);
        self.remote.with_api(async |api| {
            let made = api.change(Method::POST, "/v1/organizations", Some(&body)).await?;
            show_change(self.remote.output(), made, "organization", self.secret_file.as_ref())
        })
    }
}
