//! `portcullis user`: the humans of an organization. Their keys are those of `portcullis key … --user`.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::api::{Remote, encode, present};
use super::outcome::show_change;
use super::output::Column;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("USERNAME", "/username"),
    ("E-MAIL", "/email"),
    ("STATE", "/state"),
    ("CREATED", "/created_at"),
];

/// Human users: each takes a seat.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// List the users.
    List {
        /// Only those in this state: active or removed [default: active]
        #[arg(long)]
        state: Option<String>,
        /// Only those whose username or address contains this text.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Invite a user, with a role in the organization if asked.
    Create(Create),
    /// Show one user.
    Show(Named),
    /// Remove a user: the user's own keys end, what the user made for others stays.
    Delete(Named),
}

/// A user by id or username.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Id or username.
    user: String,
    #[command(flatten)]
    remote: Remote,
}

/// Invite a user.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The username, unique among the organization's users.
    name: String,
    /// The e-mail address.
    #[arg(long, value_name = "ADDRESS")]
    email: String,
    /// The role in the whole organization, by id, such as viewer or owner.
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl User {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { state, search, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let filters = [("state", state.as_deref()), ("q", search.as_deref())];
                let users = api.list(&filtered(&format!("{org}/users"), &filters)).await?;
                remote.output().list(COLUMNS, &users)
            }),
            Self::Create(create) => create.run(),
            Self::Show(named) => named.remote.with_api(async |api| {
                let found = api.read(&api.user_path(&named.user).await?).await?;
                named.remote.output().object(&found)
            }),
            Self::Delete(named) => named.delete(),
        }
    }
}

impl Named {
    fn delete(&self) -> anyhow::Result<()> {
        let warning = "The user's own keys will end, for good.";
        self.remote.confirm(&format!("{}: {warning} Go on?", self.user))?;
        self.remote.with_api(async |api| {
            let path = api.user_path(&self.user).await?;
            let changed = api.change(Method::DELETE, &path, None).await?;
            show_change(self.remote.output(), changed, "user", None)
        })
    }
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        let body = present([
            ("username", Some(json!(self.name))),
            ("email", Some(json!(self.email))),
            ("role_id", self.role.as_ref().map(|role| json!(role))),
        ]);
        self.remote.with_api(async |api| {
            let path = format!("{}/users", api.org_path().await?);
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "user", None)
        })
    }
}

/// A list's path with the filters that are given.
pub(super) fn filtered(path: &str, filters: &[(&str, Option<&str>)]) -> String {
    let mut filtered = path.to_owned();
    for (name, value) in filters {
        if let Some(value) = value {
            let joint = if filtered.contains('?') { '&' } else { '?' };
            filtered.push_str(&format!("{joint}{name}={}", encode(value)));
        }
    }
    filtered
}

#[cfg(test)]
mod tests {
    use super::filtered;

    #[test]
    fn only_given_filters_are_in_the_query() {
        let path = filtered("/x", &[("a", Some("1 2")), ("b", None), ("c", Some("3"))]);
        assert_eq!(path, "/x?a=1%202&c=3");
        assert_eq!(filtered("/x", &[("a", None)]), "/x");
    }
}
