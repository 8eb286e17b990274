//! A client of the admin API: what the command line speaks through, and any other program may. A
//! method per operation on accounts and keys, with their bodies and answers as types; everything
//! else goes through [`Client::call`]. A refusal is a value, with its problem.
//!
//! It never prints, and no failure holds the credential.

mod accounts;
mod keys;
mod problem;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

pub use accounts::{Account, AccountMember, NewAccount, NewBinding};
pub use keys::{Key, KeyMember, KeyPatch, NewKey, Rotation};
pub use problem::{FieldFault, Problem};

/// A connection to the admin API with one credential.
pub struct Client {
    server: String,
    http: reqwest::Client,
    /// None where none is asked for, as at a socket file.
    token: Option<Zeroizing<String>>,
}

/// Why a call came to nothing.
#[derive(Debug, Error)]
pub enum Failure {
    /// The connection ended within the answer.
    #[error("the response broke off")]
    BrokeOff,
    /// Something else answers there.
    #[error("answered {status} without JSON as the admin API writes it")]
    NotOurs {
        /// The status of the answer.
        status: u16,
    },
    /// The control plane refused it.
    #[error("refused ({} {})", .0.status, .0.code)]
    Refused(Box<Problem>),
    /// Nobody answers there.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
}

/// An answer with its status.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// 202 means that some gateway has not applied the change.
    pub status: u16,
    /// The body.
    pub body: T,
}

/// What a mutation answers, besides its object. No Debug: it can hold a secret.
#[derive(Clone, Deserialize)]
pub struct Changed<T> {
    /// The object after the change.
    #[serde(flatten)]
    pub object: T,
    /// The number of the change.
    pub seq: u64,
    /// Which gateways have applied it.
    pub gateways: Gateways,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// A key's whole value, where it was issued.
    #[serde(default)]
    pub value: Option<Zeroizing<String>>,
}

/// Which gateways have applied a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Gateways {
    /// Those that have.
    pub applied: Vec<String>,
    /// Those that have not.
    pub pending: Vec<String>,
    /// Those that serve nothing until they have.
    pub fenced: Vec<String>,
}

/// Something that was done although it is unusual.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Warning {
    /// Stable.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The objects.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// Who a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Whoami {
    /// The principal.
    pub principal: Principal,
    /// None for the operator.
    pub org_id: Option<String>,
    /// The key that was shown.
    pub key_id: String,
}

/// A principal.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Principal {
    /// `service_account`, `user` or `operator`.
    pub kind: String,
    /// The id.
    pub id: String,
    /// The name.
    pub username: String,
}

impl Client {
    /// A client of `server`, an address like `http://127.0.0.1:7080`; nothing is sent yet.
    pub fn new(http: reqwest::Client, server: &str, token: Option<Zeroizing<String>>) -> Client {
        Client { server: server.trim_end_matches('/').to_owned(), http, token }
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A request with the credential, for what is no JSON.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.server));
        match &self.token {
            Some(token) => request.bearer_auth(token.as_str()),
            None => request,
        }
    }

    /// One call; what is not a success is a failure.
    ///
    /// # Errors
    ///
    /// [`Failure`] says whether it was refused, and why.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answered<T>, Failure> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|_| Failure::BrokeOff)?;
        let bytes = Zeroizing::new(if bytes.is_empty() { b"{}".to_vec() } else { bytes.to_vec() });
        let not_ours = |_| Failure::NotOurs { status: status.as_u16() };
        if status.is_success() {
            let body = serde_json::from_slice(&bytes).map_err(not_ours)?;
            return Ok(Answered { status: status.as_u16(), body });
        }
        let mut problem: Problem = serde_json::from_slice(&bytes).map_err(not_ours)?;
        problem.status = status.as_u16();
        Err(Failure::Refused(Box::new(problem)))
    }

    /// `GET /v1/whoami`.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn whoami(&self) -> Result<Whoami, Failure> {
        self.read("/v1/whoami").await
    }

    /// All items of a list, page by page.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page: Page<T> = self.read(&format!("{path}{cursor}")).await?;
            items.extend(page.items);
            let Some(next) = page.next_cursor else { return Ok(items) };
            let joint = if path.contains('?') { '&' } else { '?' };
            // A cursor is base64url: it needs no encoding.
            cursor = format!("{joint}cursor={next}");
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        Ok(self.call(Method::GET, path, None::<&Value>).await?.body)
    }

    async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Changed<T>, Failure> {
        Ok(self.call(method, path, body).await?.body)
    }
}

/// What went wrong at the bottom: the layers above it say only that a request failed.
pub(crate) fn unreachable(error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Failure::Unreachable(cause.to_string())
}
