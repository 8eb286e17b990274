//! Keys of one owner: `…/service-accounts/{id}` or `…/users/{id}` and below.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changed, Client, Failure};

/// A key as the API shows it; it never holds the secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Key {
    /// The 11 characters that stand in its value.
    pub id: String,
    /// Unique among the owner's keys.
    pub name: String,
    /// `active`, `inactive` or `revoked`.
    pub state: String,
    /// RFC 3339; none if it does not expire.
    pub expires_at: Option<String>,
    /// Grows with each rotation.
    pub generation: u64,
    /// Whether it works now.
    pub usable: bool,
    /// For `If-Match`.
    pub version: u64,
}

/// The member of an answer that holds the key.
#[derive(Clone, Debug, Deserialize)]
pub struct KeyMember {
    /// The key after the change.
    pub key: Key,
}

/// What a new key is made of.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewKey {
    /// Unique among the owner's keys.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// RFC 3339; by the organization's policy if neither this nor `ttl_seconds` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// In how many seconds it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// What is to change; what is absent stays.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KeyPatch {
    /// A new name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// RFC 3339; `Some(None)` for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Option<String>>,
}

/// How a secret is replaced.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Rotation {
    /// How long the former secret works on.
    pub retain_minutes: u64,
    /// End the former secret sooner, once nobody has used it for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retire_after_quiet_hours: Option<u32>,
    /// `keep`, `never` or RFC 3339; by the organization's policy if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

impl Client {
    /// All keys of an owner.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn list_keys(&self, owner: &str) -> Result<Vec<Key>, Failure> {
        self.list(&format!("{owner}/keys")).await
    }

    /// One key.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn read_key(&self, owner: &str, id: &str) -> Result<Key, Failure> {
        self.read(&format!("{owner}/keys/{id}")).await
    }

    /// A new key; its value is in this answer and in no other.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn create_key(
        &self,
        owner: &str,
        new: &NewKey,
    ) -> Result<Changed<KeyMember>, Failure> {
        self.change(Method::POST, &format!("{owner}/keys"), Some(new)).await
    }

    /// Changes a key's description or expiry.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn update_key(
        &self,
        owner: &str,
        id: &str,
        patch: &KeyPatch,
    ) -> Result<Changed<KeyMember>, Failure> {
        self.change(Method::PATCH, &format!("{owner}/keys/{id}"), Some(patch)).await
    }

    /// A new secret under the same id.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn rotate_key(
        &self,
        owner: &str,
        id: &str,
        how: &Rotation,
    ) -> Result<Changed<KeyMember>, Failure> {
        self.change(Method::POST, &format!("{owner}/keys/{id}:rotate"), Some(how)).await
    }

    /// Makes a key work again.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn activate_key(&self, owner: &str, id: &str) -> Result<Changed<KeyMember>, Failure> {
        self.switch_key(owner, id, ":activate").await
    }

    /// Stops a key until it is activated.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn deactivate_key(
        &self,
        owner: &str,
        id: &str,
    ) -> Result<Changed<KeyMember>, Failure> {
        self.switch_key(owner, id, ":deactivate").await
    }

    /// Ends a key for good; it stays listed.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn revoke_key(&self, owner: &str, id: &str) -> Result<Changed<KeyMember>, Failure> {
        self.switch_key(owner, id, ":revoke").await
    }

    /// Ends a key for good; it is listed no more.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn delete_key(&self, owner: &str, id: &str) -> Result<Changed<KeyMember>, Failure> {
        self.change(Method::DELETE, &format!("{owner}/keys/{id}"), None::<&Value>).await
    }

    async fn switch_key(
        &self,
        owner: &str,
        id: &str,
        verb: &str,
    ) -> Result<Changed<KeyMember>, Failure> {
        self.change(Method::POST, &format!("{owner}/keys/{id}{verb}"), None::<&Value>).await
    }
}
