//! `portcullis up --demo`: a small upstream, an organization, a service account with a role and a
//! key, all made through the real admin API, so that a newcomer sees a request pass.

use std::convert::Infallible;
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Usage;
use super::api::Api;
use crate::app::{Addresses, OPERATOR_TOKEN};
use crate::client::Failure;
use crate::config::{self, sections::Config};
use crate::files::{read_token, write_token};

/// The name of the demo's organization, upstream and key.
const DEMO: &str = "demo";
/// Its service account.
const ACCOUNT: &str = "demo-app";
/// The role of that account.
const ROLE: &str = "viewer";
/// The key of the demo organization's owner, in the data directory.
const DEMO_TOKEN: &str = "demo-admin-token";

/// Sends every path to the demo upstream: reading needs `demo:read`, anything else `demo:write`.
pub(super) fn put_over(config: &mut Config, upstream: SocketAddr) -> anyhow::Result<()> {
    if !(config.upstreams.is_empty() && config.routes.is_empty()) {
        let message = "--demo brings its own upstream and routes, but the configuration has some; \
                       leave out --demo or --config";
        return Err(Usage(message.to_owned()).into());
    }
    config.upstreams = vec![config::upstream(DEMO, &upstream.to_string())?];
    config.routes = vec![
        config::route_requiring("demo-read", DEMO, &["GET", "HEAD"], "demo:read")?,
        config::route_requiring(
            "demo-write",
            DEMO,
            &["POST", "PUT", "PATCH", "DELETE"],
            "demo:write",
        )?,
    ];
    Ok(())
}

/// What the demo tells.
pub(super) struct Demo {
    gateway: SocketAddr,
    key: String,
}

impl Demo {
    /// For the start line of programs.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "organization": DEMO,
            "account": ACCOUNT,
            "role": ROLE,
            "key": self.key,
            "curl": self.curl(""),
        })
    }

    fn curl(&self, options: &str) -> String {
        let Self { gateway, key } = self;
        format!("curl {options}-H 'Authorization: Bearer {key}' http://{gateway}/hello")
    }
}

impl fmt::Display for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nDemo: organization {DEMO}, service account {ACCOUNT} with the role {ROLE}."
        )?;
        writeln!(f, "Its key, shown only now (the next start makes a new one):\n")?;
        writeln!(f, "  {}\n", self.key)?;
        writeln!(f, "This is allowed:\n\n  {}\n", self.curl(""))?;
        writeln!(f, "This is not, since a {ROLE} may only read:\n")?;
        writeln!(f, "  {}", self.curl("-X POST "))
    }
}

/// Makes the organization, the account and the key, or a new secret for a key made before.
pub(super) async fn prepare(addresses: &Addresses, data: &Path) -> anyhow::Result<Demo> {
    let gateway = addresses.listeners.first().map(|(_, address)| *address);
    let gateway = gateway.context("the demo needs a listener")?;
    let server = format!("http://{}", addresses.control.context("the demo needs a control plane")?);
    let token_file = data.join(DEMO_TOKEN);
    if !token_file.exists() {
        let operator = read_token(&data.join(OPERATOR_TOKEN))?;
        let api = Api::new("--control", &server, operator, None, true)?;
        make_organization(&api, &token_file).await?;
    }
    let token = read_token(&token_file)?;
    let api = Api::new("--control", &server, token, Some(DEMO.to_owned()), true)?;
    let org = api.org_path().await?;
    let accounts = format!("{org}/service-accounts");
    let found = api.list(&format!("{accounts}?username={ACCOUNT}")).await?;
    let made = match revived(&api, &accounts, found.first()).await? {
        None => {
            let account = json!({
                "username": ACCOUNT,
                "description": "Made by `portcullis up --demo`.",
                "role_id": ROLE,
                "create_key": { "name": DEMO },
            });
            api.change(Method::POST, &accounts, Some(&account)).await?
        }
        Some(account) => new_secret(&api, &format!("{account}/keys")).await?,
    };
    let key =
        made.get("value").and_then(Value::as_str).context("a new key has a value")?.to_owned();
    Ok(Demo { gateway, key })
}

async fn make_organization(api: &Api, token_file: &Path) -> anyhow::Result<()> {
    let organization = json!({
        "name": DEMO,
        "owner": { "username": "demo-owner", "email": "owner@demo.invalid" },
        "owner_key": { "name": "up --demo" },
    });
    let made = match api.attempt(Method::POST, "/v1/organizations", Some(&organization)).await {
        Ok(made) => made.body,
        Err(Failure::Refused(problem)) => bail!(
            "the organization {DEMO} could not be made ({}, {}); if it exists already, give the \
             demo a directory of its own: --data DIR",
            problem.status,
            problem.detail
        ),
        Err(failure) => return Err(api.advised(&failure)),
    };
    let value = made.get("value").and_then(Value::as_str).context("the owner's key has a value")?;
    write_token(token_file, value)
}

/// Secrets are shown once, so a later start rotates the key of an earlier one.
async fn new_secret(api: &Api, keys: &str) -> anyhow::Result<Value> {
    let found = api.list(keys).await?;
    let demo_key = found.iter().find(|key| key.get("name").and_then(Value::as_str) == Some(DEMO));
    match revived(api, keys, demo_key).await? {
        Some(key) => api.change(Method::POST, &format!("{key}:rotate"), Some(&json!({}))).await,
        None => api.change(Method::POST, keys, Some(&json!({ "name": DEMO }))).await,
    }
}

/// The path of an account or key that an earlier start made, fit for use again whatever was tried
/// on it: what was switched off is switched on, what was revoked is deleted to free its name.
async fn revived(api: &Api, list: &str, found: Option<&Value>) -> anyhow::Result<Option<String>> {
    let Some(found) = found else { return Ok(None) };
    let path = format!("{list}/{}", super::api::id_of(found)?);
    match found.get("state").and_then(Value::as_str) {
        Some("active") => Ok(Some(path)),
        Some("inactive") => {
            api.change(Method::POST, &format!("{path}:activate"), None).await?;
            Ok(Some(path))
        }
        _ => {
            api.change(Method::DELETE, &path, None).await?;
            Ok(None)
        }
    }
}

/// A service that answers every request with what it received. Ends with the value.
pub(super) struct DemoUpstream {
    address: SocketAddr,
    end: CancellationToken,
}

impl DemoUpstream {
    /// Starts it on a free port of loopback, on a thread of its own.
    pub(super) fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = CancellationToken::new();
        let ended = end.clone();
        std::thread::Builder::new().name("demo-upstream".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = ended.cancelled() => {}
                    result = serve(listener) => {
                        if let Err(error) = result {
                            tracing::error!(%error, "the demo upstream failed");
                        }
                    }
                }
            });
        })?;
        Ok(Self { address, end })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DemoUpstream {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let service = service_fn(|request| async move { Ok::<_, Infallible>(echo(&request)) });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the demo upstream ended early");
            }
        });
    }
}

/// The method, the path and what the gateway says about the caller.
fn echo(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let identity: serde_json::Map<String, Value> = request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-auth-"))
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let body = json!({
        "message": "Hello from the demo upstream. It never saw the key.",
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "identity": identity,
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
