//! `portcullis usage`: who called how often, and when last.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{Remote, encode};
use super::key::key_id;
use super::output::{Column, Output};

const DAYS: &[Column] =
    &[("DAY", "/day"), ("CALLS", "/calls"), ("DENIED", "/denied"), ("LAST FROM", "/last_ip")];

/// Usage of keys: calls, refusals and last use, by day in UTC.
#[derive(Debug, Subcommand)]
pub(super) enum Usage {
    /// The organization in numbers.
    Org {
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        remote: Remote,
    },
    /// All keys of one account together.
    Account {
        /// Id or username of the account.
        account: String,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        remote: Remote,
    },
    /// One key.
    Key {
        /// The 11 characters after the first `_` of the key.
        key_id: String,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Which days.
#[derive(Debug, Args)]
pub(super) struct Days {
    /// The first day, such as 2026-11-01T00:00:00Z [default: 90 days back]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// The last day [default: today]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl Days {
    fn query(&self) -> String {
        let given = [("from", &self.from), ("to", &self.to)];
        let given = given.into_iter().filter_map(|(name, time)| Some((name, time.as_ref()?)));
        let pairs: Vec<String> =
            given.map(|(name, time)| format!("{name}={}", encode(time))).collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

impl Usage {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Org { days, remote } => remote.with_api(async |api| {
                let path = format!("{}/usage{}", api.org_path().await?, days.query());
                remote.output().object(&api.read(&path).await?)
            }),
            Self::Account { account, days, remote } => remote.with_api(async |api| {
                let path = format!("{}/usage{}", api.account_path(&account).await?, days.query());
                show(remote.output(), &api.read(&path).await?)
            }),
            Self::Key { key_id: text, days, remote } => {
                let id = key_id(&text)?;
                remote.with_api(async |api| {
                    let path = format!("{}/usage{}", api.key_path(&id).await?, days.query());
                    show(remote.output(), &api.read(&path).await?)
                })
            }
        }
    }
}

/// Totals, then the days.
fn show(output: Output, usage: &Value) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(usage);
    }
    let mut totals = usage.clone();
    let days = totals.as_object_mut().and_then(|members| members.remove("days"));
    output.object(&totals)?;
    match days {
        Some(Value::Array(days)) if !days.is_empty() => {
            output.line("")?;
            output.list(DAYS, &days)
        }
        _ => Ok(()),
    }
}
