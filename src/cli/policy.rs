//! `portcullis org policy`: what an organization allows. Values are read as the API takes them, lists
//! with commas.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Usage;
use super::api::Remote;
use super::outcome::show_change;

/// Fields that are lists, also where one word is given.
const LISTS: [&str; 5] =
    ["sa_ops", "key_ops", "sa_forbidden_groups", "sa_forbidden_roles", "sa_warn_roles"];

/// What an organization allows.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Show every field.
    Show {
        #[command(flatten)]
        remote: Remote,
    },
    /// Change fields, or reset all of them to a profile.
    Set(Set),
}

/// Change fields of the policy.
#[derive(Debug, Args)]
pub(super) struct Set {
    /// FIELD=VALUE, such as max_keys_per_sa=2, sa_ops=deactivate,delete or key_ttl_max=null
    #[arg(value_name = "FIELD=VALUE", required_unless_present = "profile")]
    fields: Vec<String>,
    /// Reset every field first to this profile: aihub, castai, default, dezifi, precisely or zenml.
    #[arg(long)]
    profile: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

impl Policy {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Show { remote } => remote.with_api(async |api| {
                let found = api.read(&format!("{}/policy", api.org_path().await?)).await?;
                remote.output().object(&found)
            }),
            Self::Set(set) => set.run(),
        }
    }
}

impl Set {
    fn run(&self) -> anyhow::Result<()> {
        let mut body = Map::new();
        for field in &self.fields {
            let Some((name, value)) = field.split_once('=') else {
                let message = format!("{field}: allowed: FIELD=VALUE");
                return Err(Usage(message).into());
            };
            body.insert(name.to_owned(), value_of(name, value));
        }
        if let Some(profile) = &self.profile {
            body.insert("profile".to_owned(), json!(profile));
        }
        let what = match &self.profile {
            Some(profile) => format!("every field is reset to {profile}"),
            None => self.fields.join(", "),
        };
        self.remote.confirm(&format!("The policy changes at once: {what}. Go on?"))?;
        self.remote.with_api(async |api| {
            let path = format!("{}/policy", api.org_path().await?);
            let changed = api.change(Method::PATCH, &path, Some(&Value::Object(body))).await?;
            show_change(self.remote.output(), changed, "policy", None)
        })
    }
}

/// JSON if it is, else a list where the field is one, else text.
fn value_of(name: &str, text: &str) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    if LISTS.contains(&name) {
        return text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    }
    json!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_the_field_takes_them() {
        assert_eq!(value_of("max_keys_per_sa", "2"), json!(2));
        assert_eq!(value_of("max_keys_per_sa", "null"), Value::Null);
        assert_eq!(value_of("deny_enabled", "true"), json!(true));
        assert_eq!(value_of("inheritance", "union"), json!("union"));
        assert_eq!(value_of("sa_ops", "delete"), json!(["delete"]));
        assert_eq!(value_of("sa_ops", "deactivate, delete"), json!(["deactivate", "delete"]));
        assert_eq!(value_of("sa_ops", ""), json!([]));
        let modes = json!({"workspace": "detached"});
        assert_eq!(value_of("session_token_mode", r#"{"workspace": "detached"}"#), modes);
    }
}
