//! `portcullis key`: API keys, and the offline check of a key's form.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use portcullis_core::key::{self, KeyId};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::api::{Remote, present};
use super::names::put_names;
use super::outcome::{refuse_existing, show_change};
use super::output::{Column, Output};
use super::{Negative, Usage};
use crate::config;
use crate::files::read_token;

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("OWNER", "/owner/id"),
    ("GENERATION", "/generation"),
    ("EXPIRES", "/expires_at"),
    ("LAST USED", "/last_used_at"),
];

/// API keys: what service accounts present.
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// List the keys of one account, or of the organization.
    List {
        /// Id or username of the account.
        account: Option<String>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Create a key; its value is shown once.
    Create(Create),
    /// Show one key (never its value).
    Show(Named),
    /// Change the name, description or expiry of a key.
    Update(Update),
    /// Replace the secret of a key; its id stays, the new value is shown once.
    Rotate(Rotate),
    /// Switch it on.
    Activate(Named),
    /// Switch it off until it is switched on again.
    Deactivate(Named),
    /// End it for good; it stays listed.
    Revoke(Named),
    /// Delete it for good.
    Delete(Named),
    /// Is this text a well-formed key? Asks nobody, and never shows the secret.
    Parse(Parse),
}

/// A key by its id.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The 11 characters after the first `_` of the key.
    key_id: String,
    #[command(flatten)]
    remote: Remote,
}

/// Create a key.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Id or username of the account.
    account: String,
    /// The name of the key, unique in the account.
    #[arg(long)]
    name: String,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// When it expires, such as 2027-01-31T00:00:00Z [default: by the organization's policy]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// In how many seconds it expires.
    #[arg(long, value_name = "SECONDS", conflicts_with = "expires_at")]
    ttl_seconds: Option<u64>,
    /// Write the key to this file, mode 0600, and do not show it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Change a key.
#[derive(Debug, Args)]
pub(super) struct Update {
    #[command(flatten)]
    key: Named,
    /// A new name.
    #[arg(long)]
    name: Option<String>,
    /// A new description.
    #[arg(long)]
    description: Option<String>,
    /// When it expires, or "never".
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

/// Replace the secret of a key.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    key: Named,
    /// How long the former secret works on.
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    retain_minutes: u64,
    /// End the former secret sooner, once nobody has used it for so long.
    #[arg(long, value_name = "HOURS")]
    retire_after_quiet_hours: Option<u32>,
    /// "keep", "never" or a time [default: by the organization's policy]
    #[arg(long, value_name = "EXPIRY")]
    expires: Option<String>,
    /// Write the key to this file, mode 0600, and do not show it.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Is this text a well-formed key?
#[derive(Debug, Args)]
pub(super) struct Parse {
    /// Read the key from this file, mode 0600 [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read the key from this environment variable.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    env: Option<String>,
    /// Takes what would be a key in argv, to refuse it without repeating it.
    #[arg(hide = true)]
    argv: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Key {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List { account, remote } => remote.with_api(async |api| {
                let org = api.org_path().await?;
                let owner = match &account {
                    Some(account) => api.account_path(account).await?,
                    None => org.clone(),
                };
                let mut keys = api.list(&format!("{owner}/keys")).await?;
                if !remote.output().is_json() {
                    put_names(api, &org, &mut keys, &["/owner/id"]).await;
                }
                remote.output().list(COLUMNS, &keys)
            }),
            Self::Create(create) => create.run(),
            Self::Show(named) => {
                let id = key_id(&named.key_id)?;
                named.remote.with_api(async |api| {
                    let found = api.read(&api.key_path(&id).await?).await?;
                    named.remote.output().object(found.get("key").unwrap_or(&found))
                })
            }
            Self::Update(update) => update.run(),
            Self::Rotate(rotate) => rotate.run(),
            Self::Activate(named) => named.change(Method::POST, ":activate", None),
            Self::Deactivate(named) => {
                named.change(Method::POST, ":deactivate", Some("Callers with it will be refused."))
            }
            Self::Revoke(named) => named.change(
                Method::POST,
                ":revoke",
                Some("Callers with it will be refused, for good."),
            ),
            Self::Delete(named) => named.change(
                Method::DELETE,
                "",
                Some("It will be deleted and callers with it refused, for good."),
            ),
            Self::Parse(parse) => parse.run(),
        }
    }
}

impl Named {
    fn change(&self, method: Method, verb: &str, warning: Option<&str>) -> anyhow::Result<()> {
        let id = key_id(&self.key_id)?;
        if let Some(warning) = warning {
            self.remote.confirm(&format!("Key {id}: {warning} Go on?"))?;
        }
        self.remote.with_api(async |api| {
            let path = format!("{}{verb}", api.key_path(&id).await?);
            let changed = api.change(method, &path, None).await?;
            show_change(self.remote.output(), changed, "key", None)
        })
    }
}

/// A key's id from the command line. What does not fit is not repeated: it may be a whole key.
pub(super) fn key_id(text: &str) -> Result<KeyId, Usage> {
    text.parse().map_err(|_| {
        let message = "KEY_ID: allowed: the 11 letters and digits after the first `_` of the key, as \
                       `portcullis key list` shows them; never the key itself";
        Usage(message.to_owned())
    })
}

impl Create {
    fn run(&self) -> anyhow::Result<()> {
        refuse_existing(self.secret_file.as_ref())?;
        let body = present([
            ("name", Some(json!(self.name))),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("expires_at", self.expires_at.as_ref().map(|time| json!(time))),
            ("ttl_seconds", self.ttl_seconds.map(|seconds| json!(seconds))),
        ]);
        self.remote.with_api(async |api| {
            let path = format!("{}/keys", api.account_path(&self.account).await?);
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "key", self.secret_file.as_ref())
        })
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<()> {
        let expires_at = self.expires_at.as_ref().map(|time| match time.as_str() {
            "never" => Value::Null,
            time => json!(time),
        });
        let body = present([
            ("name", self.name.as_ref().map(|text| json!(text))),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("expires_at", expires_at),
        ]);
        let (id, remote) = (key_id(&self.key.key_id)?, &self.key.remote);
        if body.as_object().is_some_and(serde_json::Map::is_empty) {
            let message = "nothing to change: give --name, --description or --expires-at";
            return Err(Usage(message.to_owned()).into());
        }
        remote.with_api(async |api| {
            let path = api.key_path(&id).await?;
            let changed = api.change(Method::PATCH, &path, Some(&body)).await?;
            show_change(remote.output(), changed, "key", None)
        })
    }
}

impl Rotate {
    fn run(&self) -> anyhow::Result<()> {
        let (id, remote) = (key_id(&self.key.key_id)?, &self.key.remote);
        refuse_existing(self.secret_file.as_ref())?;
        if self.retain_minutes == 0 {
            remote.confirm(&format!(
                "Key {id}: the present secret ends at once (--retain-minutes keeps it for a \
                 while). Go on?"
            ))?;
        }
        let body = present([
            ("retain_minutes", Some(json!(self.retain_minutes))),
            ("retire_after_quiet_hours", self.retire_after_quiet_hours.map(|hours| json!(hours))),
            ("expires", self.expires.as_ref().map(|expiry| json!(expiry))),
        ]);
        remote.with_api(async |api| {
            let path = format!("{}:rotate", api.key_path(&id).await?);
            let changed = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(remote.output(), changed, "key", self.secret_file.as_ref())
        })
    }
}

impl Parse {
    fn run(&self) -> anyhow::Result<()> {
        let text = self.text()?;
        let output = Output::new(self.json);
        match key::parse(text.as_bytes()) {
            Ok(parsed) => output.object(&json!({
                "well_formed": true,
                "prefix": parsed.prefix().as_str(),
                "key_id": parsed.id().to_string(),
            })),
            Err(malformed) => {
                let why = malformed.to_string();
                output.object(&json!({ "well_formed": false, "why": why }))?;
                Err(Negative.into())
            }
        }
    }

    fn text(&self) -> anyhow::Result<Zeroizing<String>> {
        if self.argv.is_some() {
            let message = "a key is never taken from the command line, where other users of the \
                           machine see it; use standard input, --file or --env";
            return Err(Usage(message.to_owned()).into());
        }
        if let Some(path) = &self.file {
            return read_token(path);
        }
        if let Some(name) = &self.env {
            let text = config::variable(name);
            return Ok(Zeroizing::new(text.with_context(|| format!("{name} is not set"))?));
        }
        let mut text = Zeroizing::new(String::new());
        std::io::stdin()
            .take(4096)
            .read_to_string(&mut text)
            .context("standard input holds no text in UTF-8")?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
