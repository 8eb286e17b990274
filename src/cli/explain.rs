//! `portcullis explain`: why a request with a key is allowed or refused, as a chain of decisions.
//! The control plane is asked about the key and its access, the gateway about the whole request.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::Negative;
use super::api::{Api, Remote};
use super::key::key_id;
use super::names::put_names;
use super::output::Output;
use crate::files::read_token;

/// Why is a request with this key allowed or refused?
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the control plane about the key; with --permission also about that permission; with --path
also the gateway about the whole request, as it would decide it now.

Exit codes: 0 every answer is yes, 1 some answer is no.")]
pub(super) struct Explain {
    /// The key's id: the 11 characters after the first `_` of the key.
    key_id: String,
    /// The request's method.
    #[arg(long, default_value = "GET")]
    method: String,
    /// The request's host.
    #[arg(long, default_value = "")]
    host: String,
    /// The request's path.
    #[arg(long)]
    path: Option<String>,
    /// Where the request comes from.
    #[arg(long, value_name = "ADDRESS")]
    source: Option<std::net::IpAddr>,
    /// A permission such as cluster:read.
    #[arg(long)]
    permission: Option<String>,
    /// The resource of the permission: id, name or KIND/REF.
    #[arg(long, default_value = "org", requires = "permission")]
    resource: String,
    /// The gateway's admin listener: http://HOST:PORT, or unix:PATH for a socket file.
    #[arg(long, env = "PORTCULLIS_GATEWAY", default_value = "http://127.0.0.1:9901")]
    gateway: String,
    /// The file of its token.
    #[arg(
        long,
        env = "PORTCULLIS_GATEWAY_TOKEN_FILE",
        value_name = "FILE",
        default_value = "portcullis-data/operator-token"
    )]
    gateway_token_file: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

/// One line of the chain.
struct Step {
    asked: &'static str,
    name: String,
    passed: bool,
    found: String,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        key_id(&self.key_id)?;
        let (answers, steps) = self.remote.with_api(async |api| {
            let mut answers = serde_json::Map::new();
            let mut steps = Vec::new();
            self.ask_about_key(api, &mut answers, &mut steps).await?;
            if let Some(permission) = &self.permission {
                self.ask_about_permission(api, permission, &mut answers, &mut steps).await?;
            }
            if let Some(path) = &self.path {
                self.ask_gateway(path, &mut answers, &mut steps).await?;
            }
            Ok((answers, steps))
        })?;
        let allowed = steps.iter().all(|step| step.passed);
        let output = self.remote.output();
        if output.is_json() {
            let mut answers = answers;
            answers.insert("allowed".to_owned(), json!(allowed));
            output.json(&Value::Object(answers))?;
        } else {
            show(output, &steps, allowed)?;
        }
        if allowed { Ok(()) } else { Err(Negative.into()) }
    }

    /// The key, its account and its organization, as the control plane knows them.
    async fn ask_about_key(
        &self,
        api: &Api,
        answers: &mut serde_json::Map<String, Value>,
        steps: &mut Vec<Step>,
    ) -> anyhow::Result<()> {
        let org = api.org_path().await?;
        let question = json!({ "key_id": self.key_id });
        let answer = api.call(Method::POST, &format!("{org}:diagnose"), Some(&question)).await?;
        for check in answer.get("checks").and_then(Value::as_array).into_iter().flatten() {
            steps.push(Step {
                asked: "control",
                name: text(check, "check"),
                // A check that does not apply to an id without a secret has no verdict.
                passed: check.get("ok").and_then(Value::as_bool).unwrap_or(true),
                found: text(check, "detail"),
            });
        }
        let usable = answer.get("usable").and_then(Value::as_bool).unwrap_or(false);
        let reason = text(&answer, "reason");
        let found = if usable || reason.is_empty() { self.key_id.clone() } else { reason };
        steps.push(Step { asked: "control", name: "usable".to_owned(), passed: usable, found });
        answers.insert("diagnose".to_owned(), answer);
        Ok(())
    }

    /// The permission on the resource, and which bindings give it.
    async fn ask_about_permission(
        &self,
        api: &Api,
        permission: &str,
        answers: &mut serde_json::Map<String, Value>,
        steps: &mut Vec<Step>,
    ) -> anyhow::Result<()> {
        let org = api.org_path().await?;
        let question = json!({
            "key_id": self.key_id,
            "resource_id": api.resource_id(&org, &self.resource).await?,
            "permission": permission,
        });
        let mut answer = api.call(Method::POST, &format!("{org}:explain"), Some(&question)).await?;
        if let (false, Some(Value::Array(parts))) =
            (self.remote.output().is_json(), answer.get_mut("contributions"))
        {
            put_names(api, &org, parts, &["/resource_id"]).await;
        }
        for part in answer.get("contributions").and_then(Value::as_array).into_iter().flatten() {
            let excluded = text(part, "excluded");
            let fate = if excluded.is_empty() { "applies".to_owned() } else { excluded };
            steps.push(Step {
                asked: "control",
                name: "binding".to_owned(),
                passed: true,
                found: format!(
                    "role {} on {} ({}): {fate}",
                    text(part, "role_id"),
                    text(part, "resource_id"),
                    text(part, "via")
                ),
            });
        }
        let allowed = answer.get("allowed").and_then(Value::as_bool).unwrap_or(false);
        let found = format!("{permission} on {}", self.resource);
        steps.push(Step {
            asked: "control",
            name: "permission".to_owned(),
            passed: allowed,
            found,
        });
        answers.insert("explain".to_owned(), answer);
        Ok(())
    }

    /// The whole request, as the gateway would decide it now.
    async fn ask_gateway(
        &self,
        path: &str,
        answers: &mut serde_json::Map<String, Value>,
        steps: &mut Vec<Step>,
    ) -> anyhow::Result<()> {
        let gateway = match self.gateway.strip_prefix("unix:") {
            Some(socket) => Api::at_socket("--gateway", socket)?,
            None => {
                let token = read_token(&self.gateway_token_file)
                    .context("the gateway's admin listener needs a token: --gateway-token-file")?;
                Api::new("--gateway", &self.gateway, token, None, false)?
            }
        };
        let mut question = json!({
            "key_id": self.key_id,
            "method": self.method,
            "host": self.host,
            "path": path,
        });
        if let (Some(source), Some(members)) = (self.source, question.as_object_mut()) {
            members.insert("source".to_owned(), json!(source));
        }
        let call = gateway.call(Method::POST, "/admin/v1/explain", Some(&question));
        let answer = tokio::time::timeout(Duration::from_secs(10), call)
            .await
            .context("the gateway does not answer")??;
        for check in answer.get("checks").and_then(Value::as_array).into_iter().flatten() {
            steps.push(Step {
                asked: "gateway",
                name: text(check, "step"),
                passed: check.get("passed").and_then(Value::as_bool).unwrap_or(false),
                found: text(check, "found"),
            });
        }
        let allowed = answer.get("allowed").and_then(Value::as_bool).unwrap_or(false);
        let found = format!("{} at {}", text(&answer, "outcome"), text(&answer, "position"));
        steps.push(Step { asked: "gateway", name: "outcome".to_owned(), passed: allowed, found });
        answers.insert("gateway".to_owned(), answer);
        Ok(())
    }
}

fn show(output: Output, steps: &[Step], allowed: bool) -> anyhow::Result<()> {
    let columns =
        [("ASKED", "/asked"), ("STEP", "/step"), ("PASSED", "/passed"), ("FOUND", "/found")];
    let rows: Vec<Value> = steps
        .iter()
        .map(|step| {
            json!({
                "asked": step.asked,
                "step": step.name,
                "passed": step.passed,
                "found": step.found,
            })
        })
        .collect();
    output.list(&columns, &rows)?;
    output.line(if allowed { "\nAllowed." } else { "\nNot allowed." })
}

fn text(object: &Value, key: &str) -> String {
    object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
