//! `portcullis key`: API keys, and the offline check of a key's form.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use portcullis_core::key::{self, KeyId};
use reqwest::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::api::{Api, Remote};
use super::batch;
use super::names::put_names;
use super::outcome::{refuse_existing, show_change};
use super::output::{Column, Output};
use super::user::filtered;
use super::{Negative, Usage};
use crate::client::{KeyPatch, NewKey, Rotation};
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
    /// List the keys of one account or user, or of the organization.
    List(Box<List>),
    /// Create a key; its value is shown once.
    Create(Create),
    /// Show one key (never its value).
    Show(Named),
    /// Change the name, description or expiry of a key.
    Update(Update),
    /// Replace the secret of a key; its id stays, the new value is shown once.
    Rotate(Box<Rotate>),
    /// Switch keys on.
    Activate(Several),
    /// Switch keys off until they are switched on again.
    Deactivate(Several),
    /// End keys for good; they stay listed.
    Revoke(Several),
    /// Delete keys for good.
    Delete(Several),
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

/// One or more keys by their ids, or all of one owner.
#[derive(Debug, Args)]
pub(super) struct Several {
    /// The ids: the 11 characters after the first `_` of each key.
    #[arg(value_name = "KEY_ID", required_unless_present = "all", conflicts_with = "all")]
    key_ids: Vec<String>,
    /// All keys of the account or user.
    #[arg(long, requires = "owner")]
    all: bool,
    #[command(flatten)]
    owner: Owner,
    #[command(flatten)]
    remote: Remote,
}

/// Whose keys.
#[derive(Debug, Args)]
#[group(id = "owner", multiple = false)]
struct Owner {
    /// Of this account, by id or username.
    #[arg(long = "account", value_name = "ACCOUNT", id = "owner_account")]
    account: Option<String>,
    /// Of this user, by id or username.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
}

/// List keys.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Id or username of the account.
    #[arg(conflicts_with = "user")]
    account: Option<String>,
    /// Of this user, by id or username.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only those in this state: active, inactive or revoked.
    #[arg(long)]
    state: Option<String>,
    /// Only those with this name.
    #[arg(long)]
    name: Option<String>,
    /// Only those that have expired (true) or not (false).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    expired: Option<bool>,
    /// Only those not used since this time, or never.
    #[arg(long, value_name = "TIME")]
    unused_since: Option<String>,
    /// Only those that should be rotated by the organization's policy (true), or not (false).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true",
          conflicts_with_all = ["account", "user"])]
    stale: Option<bool>,
    /// Only those whose secret is at least so many days old.
    #[arg(long, value_name = "DAYS", conflicts_with_all = ["account", "user"])]
    older_than_days: Option<u64>,
    /// Only those of: service_account or user.
    #[arg(long, value_name = "KIND", conflicts_with_all = ["account", "user"])]
    owner_kind: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// Create a key.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Id or username of the account.
    #[arg(required_unless_present = "user")]
    account: Option<String>,
    /// Of this user instead, by id or username.
    #[arg(long, value_name = "USER", conflicts_with = "account")]
    user: Option<String>,
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
    keys: Several,
    /// How long the former secret works on.
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    retain_minutes: u64,
    /// End the former secret sooner, once nobody has used it for so long.
    #[arg(long, value_name = "HOURS")]
    retire_after_quiet_hours: Option<u32>,
    /// "keep", "never" or a time [default: by the organization's policy]
    #[arg(long, value_name = "EXPIRY")]
    expires: Option<String>,
    /// Write the key to this file, mode 0600, and do not show it; for one key.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "secret_dir"])]
    secret_file: Option<PathBuf>,
    /// Write each key to its own file KEY_ID.key in this directory, mode 0600, and show none.
    #[arg(long, value_name = "DIR")]
    secret_dir: Option<PathBuf>,
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
            Self::List(list) => list.run(),
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
            Self::Activate(several) => several.change("activate", None),
            Self::Deactivate(several) => {
                several.change("deactivate", Some("Callers with it will be refused."))
            }
            Self::Revoke(several) => {
                several.change("revoke", Some("Callers with it will be refused, for good."))
            }
            Self::Delete(several) => several.change(
                "delete",
                Some("It will be deleted and callers with it refused, for good."),
            ),
            Self::Parse(parse) => parse.run(),
        }
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let remote = &self.remote;
        remote.with_api(async |api| {
            let org = api.org_path().await?;
            let owner = match (&self.account, &self.user) {
                (Some(account), _) => api.account_path(account).await?,
                (None, Some(user)) => api.user_path(user).await?,
                (None, None) => org.clone(),
            };
            let text = |flag: Option<bool>| flag.map(|flag| flag.to_string());
            let (expired, stale) = (text(self.expired), text(self.stale));
            let days = self.older_than_days.map(|days| days.to_string());
            let filters = [
                ("state", self.state.as_deref()),
                ("name", self.name.as_deref()),
                ("expired", expired.as_deref()),
                ("unused_since", self.unused_since.as_deref()),
                ("stale", stale.as_deref()),
                ("older_than_days", days.as_deref()),
                ("owner_kind", self.owner_kind.as_deref()),
            ];
            let mut keys = api.list(&filtered(&format!("{owner}/keys"), &filters)).await?;
            if !remote.output().is_json() {
                put_names(api, &org, &mut keys, &["/owner/id"]).await;
            }
            remote.output().list(COLUMNS, &keys)
        })
    }
}

impl Owner {
    /// The path of the owner's keys.
    async fn keys_path(&self, api: &Api) -> anyhow::Result<String> {
        let owner = match (&self.account, &self.user) {
            (Some(account), _) => api.account_path(account).await?,
            (None, Some(user)) => api.user_path(user).await?,
            (None, None) => return Err(Usage("give --account or --user".to_owned()).into()),
        };
        Ok(format!("{owner}/keys"))
    }
}

impl Several {
    /// The ids as they are written, each once.
    fn ids(&self) -> Result<Vec<String>, Usage> {
        let mut ids = Vec::with_capacity(self.key_ids.len());
        for text in &self.key_ids {
            let id = key_id(text)?.to_string();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Which keys, for a question.
    fn named(&self) -> Result<String, Usage> {
        let owner = self.owner.account.as_ref().or(self.owner.user.as_ref());
        match (self.all, owner) {
            (true, Some(owner)) => Ok(format!("All keys of {owner}")),
            _ => Ok(format!("Key {}", self.ids()?.join(", "))),
        }
    }

    /// One key by its own call, whose answer shows it; more in batches.
    fn change(&self, action: &str, warning: Option<&str>) -> anyhow::Result<()> {
        let ids = self.ids()?;
        if let Some(warning) = warning {
            self.remote.confirm(&format!("{}: {warning} Go on?", self.named()?))?;
        }
        self.remote.with_api(async |api| {
            if let ([id], false) = (ids.as_slice(), self.all) {
                let path = format!("{}/{id}", api.keys_path_of(id).await?);
                let changed = match action {
                    "delete" => api.change(Method::DELETE, &path, None).await?,
                    verb => api.change(Method::POST, &format!("{path}:{verb}"), None).await?,
                };
                return show_change(self.remote.output(), changed, "key", None);
            }
            let results = self.batch(api, &ids, &json!({ "action": action })).await?;
            batch::show(self.remote.output(), results, None)
        })
    }

    /// Keys of one owner go in one batch; of several owners, in one for each.
    async fn batch(&self, api: &Api, ids: &[String], body: &Value) -> anyhow::Result<Vec<Value>> {
        if self.all {
            let path = format!("{}:batch", self.owner.keys_path(api).await?);
            return batch::call(api, &path, body, None).await;
        }
        let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            by_owner.entry(api.keys_path_of(id).await?).or_default().push(id.clone());
        }
        let mut results = Vec::with_capacity(ids.len());
        for (keys, ids) in &by_owner {
            results.extend(batch::call(api, &format!("{keys}:batch"), body, Some(ids)).await?);
        }
        Ok(results)
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
        let body = json!(NewKey {
            name: self.name.clone(),
            description: self.description.clone(),
            expires_at: self.expires_at.clone(),
            ttl_seconds: self.ttl_seconds,
        });
        self.remote.with_api(async |api| {
            let owner = Owner { account: self.account.clone(), user: self.user.clone() };
            let path = owner.keys_path(api).await?;
            let made = api.change(Method::POST, &path, Some(&body)).await?;
            show_change(self.remote.output(), made, "key", self.secret_file.as_ref())
        })
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<()> {
        let body = json!(KeyPatch {
            name: self.name.clone(),
            description: self.description.clone(),
            expires_at: self.expires_at.clone().map(|time| (time != "never").then_some(time)),
        });
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
        let (ids, remote) = (self.keys.ids()?, &self.keys.remote);
        refuse_existing(self.secret_file.as_ref())?;
        if let (Some(_), [_, _, ..]) = (&self.secret_file, ids.as_slice()) {
            let message = "--secret-file is for one key; --secret-dir takes several";
            return Err(Usage(message.to_owned()).into());
        }
        if self.retain_minutes == 0 {
            remote.confirm(&format!(
                "{}: the present secret ends at once (--retain-minutes keeps it for a while). \
                 Go on?",
                self.keys.named()?
            ))?;
        }
        let body = json!(Rotation {
            retain_minutes: self.retain_minutes,
            retire_after_quiet_hours: self.retire_after_quiet_hours,
            expires: self.expires.clone(),
        });
        remote.with_api(async |api| {
            let single = match (ids.as_slice(), self.keys.all, &self.secret_dir) {
                ([id], false, None) => Some(id),
                _ => None,
            };
            let Some(id) = single else {
                let mut body = body;
                body["action"] = json!("rotate");
                let results = self.keys.batch(api, &ids, &body).await?;
                return batch::show(remote.output(), results, self.secret_dir.as_ref());
            };
            let path = format!("{}/{id}:rotate", api.keys_path_of(id).await?);
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
