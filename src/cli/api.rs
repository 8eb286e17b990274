//! The admin API as the commands use it: one place for the server's address, the token, the
//! organization, lists that go over pages, and refusals with advice.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use portcullis_core::key::KeyId;
use reqwest::Method;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Usage;
use super::outcome::refusal;
use super::output::Output;
use crate::client::{Answered, Client, Failure, Problem, unreachable};
use crate::config;
use crate::files::read_token;

/// How long a whole export may take.
const STREAM_PATIENCE: Duration = Duration::from_secs(3600);

const DEFAULT_TOKEN_FILE: &str = "portcullis-data/admin-token";

/// What every command that talks to the control plane understands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Remote {
    /// The control plane's address.
    #[arg(long, env = "PORTCULLIS_SERVER", default_value = "http://127.0.0.1:7080")]
    server: String,
    /// Id or name of the organization [default: the only one that the token belongs to]
    #[arg(long, env = "PORTCULLIS_ORG")]
    org: Option<String>,
    /// The file of the token [default: $PORTCULLIS_TOKEN, else that of `login`, else
    /// portcullis-data/admin-token]
    #[arg(long, env = "PORTCULLIS_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Do not ask before a change that breaks callers.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Do not wait until the gateways have applied a change.
    #[arg(long)]
    no_wait: bool,
}

impl Remote {
    /// How to print.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// Asks, unless --yes was given.
    pub(crate) fn confirm(&self, question: &str) -> anyhow::Result<()> {
        Output::confirm(question, self.yes)
    }

    /// Runs `command` with a connection to the admin API.
    pub(crate) fn with_api<T>(
        &self,
        command: impl AsyncFnOnce(&Api) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.with_token(self.token()?, command)
    }

    /// Like [`Remote::with_api`], with this token and no other.
    pub(crate) fn with_token<T>(
        &self,
        token: Zeroizing<String>,
        command: impl AsyncFnOnce(&Api) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let api = Api::new("--server", &self.server, token, self.org.clone(), !self.no_wait)?;
        block_on(command(&api))
    }

    fn token(&self) -> anyhow::Result<Zeroizing<String>> {
        if self.token_file.is_none()
            && let Some(token) = config::variable("PORTCULLIS_TOKEN")
        {
            let well_formed = token.bytes().all(|byte| byte.is_ascii_graphic());
            let token = Zeroizing::new(token);
            return match well_formed {
                true => Ok(token),
                false => Err(Usage("PORTCULLIS_TOKEN: allowed: visible ASCII".to_owned()).into()),
            };
        }
        let kept = || super::login::kept_token().filter(|file| file.exists());
        let default = || kept().unwrap_or_else(|| PathBuf::from(DEFAULT_TOKEN_FILE));
        let path = self.token_file.clone().unwrap_or_else(default);
        read_token(&path).context(
            "no token: name its file with --token-file or PORTCULLIS_TOKEN_FILE, or put the token \
             into PORTCULLIS_TOKEN, or run `portcullis login`; `portcullis up` leaves one in its data directory as admin-token",
        )
    }
}

/// Runs one future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?
        .block_on(future)
}

fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .timeout(Duration::from_secs(60))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
}

/// A connection to the admin API.
pub(crate) struct Api {
    /// The flag that names another server, for advice.
    flag: &'static str,
    client: Client,
    org: Option<String>,
    wait: bool,
}

impl Api {
    /// A client of `server`; nothing is sent yet.
    pub(crate) fn new(
        flag: &'static str,
        server: &str,
        token: Zeroizing<String>,
        org: Option<String>,
        wait: bool,
    ) -> anyhow::Result<Self> {
        let server = server.trim_end_matches('/').to_owned();
        if !server.strip_prefix("http://").is_some_and(config::is_authority) {
            let message = format!("{flag} {server}: allowed: http://HOST:PORT");
            return Err(Usage(message).into());
        }
        let http = http().build().context("the HTTP client cannot be started")?;
        let client = Client::new(http, &server, Some(token));
        Ok(Self { flag, client, org, wait })
    }

    /// A client of the server behind a socket file.
    pub(crate) fn at_socket(flag: &'static str, path: &str) -> anyhow::Result<Self> {
        let http = http().unix_socket(path).build();
        let http = http.context("the HTTP client cannot be started")?;
        let client = Client::new(http, "http://localhost", None);
        Ok(Self { flag, client, org: None, wait: false })
    }

    /// One call, whose refusal is for the caller to judge.
    pub(crate) async fn attempt(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answered<Value>, Failure> {
        self.client.call(method, path, body).await
    }

    /// One call that must succeed.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let answered = self.attempt(method, path, body).await;
        Ok(answered.map_err(|failure| self.advised(&failure))?.body)
    }

    /// The failure with what to do next.
    pub(crate) fn advised(&self, failure: &Failure) -> anyhow::Error {
        let (server, flag) = (self.client.server(), self.flag);
        match failure {
            Failure::BrokeOff => anyhow!("{failure}"),
            Failure::NotOurs { status } => {
                anyhow!(
                    "{server} answered {status} without JSON; is it a Portcullis control plane?"
                )
            }
            Failure::Refused(problem) => refusal(problem),
            Failure::Unreachable(cause) => anyhow!(
                "{server} cannot be reached: {cause}; is `portcullis up` running? {flag} names \
                 another"
            ),
        }
    }

    /// A read.
    pub(crate) async fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None).await
    }

    /// A change; says on standard error which gateways have not applied it.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let wait = if self.wait { "" } else { "?wait=none" };
        let answered = self.attempt(method, &format!("{path}{wait}"), body).await;
        let Answered { status, body: value } =
            answered.map_err(|failure| self.advised(&failure))?;
        let pending: Vec<&str> = value
            .pointer("/gateways/pending")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|gateway| gateway.as_str().or_else(|| gateway.get("id")?.as_str()))
            .collect();
        // 200 with pending gateways is a change that does not concern them.
        if self.wait && status != 200 && !pending.is_empty() {
            Output::note(&format!(
                "The change is committed, but not yet applied by: {}",
                pending.join(", ")
            ));
        }
        for warning in value.get("warnings").and_then(Value::as_array).into_iter().flatten() {
            if let Some(detail) = warning.get("detail").and_then(Value::as_str) {
                Output::note(&format!("Warning: {detail}"));
            }
        }
        Ok(value)
    }

    /// All items of a list, page by page.
    pub(crate) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.read(&format!("{path}{cursor}")).await?;
            let Some(Value::Array(found)) = page.get_mut("items").map(Value::take) else {
                bail!(
                    "{} answered without a list; is it a Portcullis control plane? {} names another",
                    self.client.server(),
                    self.flag
                );
            };
            items.extend(found);
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => {
                    let joint = if path.contains('?') { '&' } else { '?' };
                    cursor = format!("{joint}cursor={}", encode(next));
                }
                None => return Ok(items),
            }
        }
    }

    /// The first items of a list, at most `most`.
    pub(crate) async fn list_some(&self, path: &str, most: usize) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.read(&format!("{path}{cursor}")).await?;
            let found = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            items.extend(found);
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) if items.len() < most => {
                    let joint = if path.contains('?') { '&' } else { '?' };
                    cursor = format!("{joint}cursor={}", encode(next));
                }
                Some(_) | None => break,
            }
        }
        items.truncate(most);
        Ok(items)
    }

    /// Reads a long answer line by line, as it comes.
    pub(crate) async fn stream(
        &self,
        path: &str,
        accept: &str,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let request = self.client.request(Method::GET, path).timeout(STREAM_PATIENCE);
        let request = request.header(reqwest::header::ACCEPT, accept);
        let mut response =
            request.send().await.map_err(|error| self.advised(&unreachable(&error)))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            let problem = response.bytes().await.context("the response broke off")?;
            let problem: Problem = serde_json::from_slice(&problem).unwrap_or_default();
            return Err(refusal(&Problem { status, ..problem }));
        }
        let mut rest = Vec::new();
        while let Some(piece) = response.chunk().await.context("the response broke off")? {
            rest.extend_from_slice(&piece);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                take(rest.get(..end).unwrap_or_default())?;
                rest.drain(..=end);
            }
        }
        if rest.is_empty() { Ok(()) } else { take(&rest) }
    }

    /// The path of the organization: of the one named, else of the only one there is.
    pub(crate) async fn org_path(&self) -> anyhow::Result<String> {
        if let Some(wanted) = &self.org {
            return self.path_of_org(wanted).await;
        }
        let found = self.list("/v1/organizations").await?;
        match found.as_slice() {
            [org] => path_of(org),
            [] => bail!("this token belongs to no organization"),
            several => bail!("several organizations; choose one with --org: {}", names(several)),
        }
    }

    /// The path of the organization with this id or name.
    pub(crate) async fn path_of_org(&self, wanted: &str) -> anyhow::Result<String> {
        let found = self.list("/v1/organizations").await?;
        let mut matching = found.iter().filter(|org| is_called(org, wanted));
        match (matching.next(), matching.next()) {
            (Some(org), None) => path_of(org),
            (Some(_), Some(_)) => bail!("several organizations are called {wanted:?}; use the id"),
            (None, _) => bail!("no organization {wanted:?}; this token sees: {}", names(&found)),
        }
    }

    /// The path of the account with this id or username.
    pub(crate) async fn account_path(&self, wanted: &str) -> anyhow::Result<String> {
        let org = self.org_path().await?;
        if is_uuid(wanted) {
            return Ok(format!("{org}/service-accounts/{wanted}"));
        }
        let found =
            self.list(&format!("{org}/service-accounts?username={}", encode(wanted))).await?;
        match found.iter().find(|account| is_called(account, wanted)).or(found.first()) {
            Some(account) => Ok(format!("{org}/service-accounts/{}", id_of(account)?)),
            None => bail!("no service account {wanted:?}; `portcullis account list` shows them"),
        }
    }

    /// The path of the user with this id or username.
    pub(crate) async fn user_path(&self, wanted: &str) -> anyhow::Result<String> {
        let org = self.org_path().await?;
        if is_uuid(wanted) {
            return Ok(format!("{org}/users/{wanted}"));
        }
        let found = self.list(&format!("{org}/users?username={}", encode(wanted))).await?;
        match found.iter().find(|user| is_called(user, wanted)).or(found.first()) {
            Some(user) => Ok(format!("{org}/users/{}", id_of(user)?)),
            None => bail!("no user {wanted:?}; `portcullis user list` shows them"),
        }
    }

    /// The id of something in one of the organization's lists, given as id, name or username.
    /// Letter case counts only where two would match.
    pub(crate) async fn id_in(
        &self,
        org: &str,
        list: &str,
        wanted: &str,
    ) -> anyhow::Result<String> {
        if is_uuid(wanted) {
            return Ok(wanted.to_owned());
        }
        let filter = match list {
            "service-accounts" | "users" => format!("?username={}", encode(wanted)),
            _ => String::new(),
        };
        let found = self.list(&format!("{org}/{list}{filter}")).await?;
        let alike = |one: &&Value| {
            let name = one.get("name").or_else(|| one.get("username")).and_then(Value::as_str);
            name.is_some_and(|name| name.to_lowercase() == wanted.to_lowercase())
        };
        let exact = found.iter().find(|one| is_called(one, wanted));
        match exact.or_else(|| found.iter().find(alike)) {
            Some(one) => id_of(one),
            None => {
                let (what, family) = match list {
                    "groups" => ("group", "group"),
                    "roles" => ("role", "role"),
                    "security-policies" => ("security policy", "policy"),
                    "users" => ("user", "user"),
                    _ => ("service account", "account"),
                };
                bail!("no {what} {wanted:?}; `portcullis {family} list` shows them")
            }
        }
    }

    /// The path of a key: of the account or user that owns it.
    pub(crate) async fn key_path(&self, key_id: &KeyId) -> anyhow::Result<String> {
        let key_id = key_id.to_string();
        Ok(format!("{}/{key_id}", self.keys_path_of(&key_id).await?))
    }

    /// The path of the keys among which this one is.
    pub(crate) async fn keys_path_of(&self, key_id: &str) -> anyhow::Result<String> {
        let org = self.org_path().await?;
        let keys = self.list(&format!("{org}/keys?page_size=200")).await?;
        let key = keys.iter().find(|key| key.get("id").and_then(Value::as_str) == Some(key_id));
        let Some(key) = key else {
            bail!("no key {key_id}; `portcullis key list` shows the ids");
        };
        let owner =
            key.pointer("/owner/id").and_then(Value::as_str).context("a key has an owner")?;
        let family = match key.pointer("/owner/kind").and_then(Value::as_str) {
            Some("user") => "users",
            _ => "service-accounts",
        };
        Ok(format!("{org}/{family}/{owner}/keys"))
    }

    /// The id of a resource given as id, name or `kind/ref`; `org` is the root.
    pub(crate) async fn resource_id(&self, org: &str, wanted: &str) -> anyhow::Result<String> {
        if is_uuid(wanted) {
            return Ok(wanted.to_owned());
        }
        let found = self.list(&format!("{org}/resources")).await?;
        let text = |resource: &Value, key: &str| {
            resource.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let matches = |resource: &&Value| {
            let kind = text(resource, "kind");
            match wanted {
                "org" => resource.get("parent_id").is_none_or(Value::is_null),
                _ => {
                    wanted == text(resource, "name")
                        || wanted == format!("{kind}/{}", text(resource, "ref"))
                        || wanted == format!("{kind}/{}", text(resource, "name"))
                }
            }
        };
        let mut matching = found.iter().filter(matches);
        match (matching.next(), matching.next()) {
            (Some(resource), None) => id_of(resource),
            (Some(_), Some(_)) => bail!("several resources are called {wanted:?}; use the id"),
            (None, _) => bail!("no resource {wanted:?}; `portcullis resource list` shows them"),
        }
    }
}

fn path_of(org: &Value) -> anyhow::Result<String> {
    Ok(format!("/v1/organizations/{}", id_of(org)?))
}

fn names(orgs: &[Value]) -> String {
    orgs.iter().filter_map(|org| org.get("name")?.as_str()).collect::<Vec<_>>().join(", ")
}

/// A JSON object of the members that are there.
pub(crate) fn present<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// Whether the object has this id or name.
fn is_called(object: &Value, wanted: &str) -> bool {
    ["id", "name", "username"]
        .iter()
        .any(|key| object.get(key).and_then(Value::as_str) == Some(wanted))
}

/// The id of an object.
pub(crate) fn id_of(object: &Value) -> anyhow::Result<String> {
    let id =
        object.get("id").and_then(Value::as_str).context("the server sent an object without id")?;
    Ok(id.to_owned())
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `text` for a query or a path segment.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_paths_and_queries() {
        assert_eq!(encode("finance team/ü"), "finance%20team%2F%C3%BC");
    }

    #[test]
    fn the_server_must_be_an_http_authority() {
        for wrong in ["https://h:1", "http://h", "h:1", "http://h:1/path"] {
            let token = Zeroizing::new(String::new());
            assert!(Api::new("--server", wrong, token, None, true).is_err(), "{wrong}");
        }
    }
}
