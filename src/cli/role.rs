//! `portcullis role`: named sets of permissions.

use clap::Subcommand;

use super::api::{Remote, encode};
use super::output::Column;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("LEVEL", "/level"),
    ("STICKY", "/sticky"),
    ("PERMISSIONS", "/permissions"),
];

/// Roles: named sets of permissions.
#[derive(Debug, Subcommand)]
pub(super) enum Role {
    /// List the roles.
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one role.
    Show {
        /// The id, such as viewer.
        role: String,
        #[command(flatten)]
        remote: Remote,
    },
}

impl Role {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                remote.output().list(COLUMNS, &api.list(&format!("{org}/roles")).await?)
            }),
            Self::Show { role, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let found = api.read(&format!("{org}/roles/{}", encode(&role))).await?;
                remote.output().object(found.get("role").unwrap_or(&found))
            }),
        }
    }
}
