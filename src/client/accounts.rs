//! Service accounts of one organization: `/v1/organizations/{id}` and below.

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Changed, Client, Failure, Key, NewKey};

/// A service account as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// The id.
    pub id: String,
    /// Unique in the organization.
    pub username: String,
    /// What people see.
    pub display_name: String,
    /// `active`, `inactive`, `revoked` or `deleted`.
    pub state: String,
    /// For `If-Match`.
    pub version: u64,
}

/// The members of an answer that hold the account, and a first key if one was made.
#[derive(Clone, Debug, Deserialize)]
pub struct AccountMember {
    /// The account after the change.
    pub service_account: Account,
    /// The first key.
    #[serde(default)]
    pub key: Option<Key>,
}

/// What a new account is made of.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewAccount {
    /// Unique in the organization.
    pub username: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A role on the whole organization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// Roles on resources.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<NewBinding>,
    /// A first key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_key: Option<NewKey>,
}

/// A role on a resource.
#[derive(Clone, Debug, Serialize)]
pub struct NewBinding {
    /// The role.
    pub role_id: String,
    /// Where.
    pub resource_id: String,
}

impl Client {
    /// All accounts of an organization.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn list_accounts(&self, org: &str) -> Result<Vec<Account>, Failure> {
        self.list(&format!("{org}/service-accounts")).await
    }

    /// One account.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn read_account(&self, org: &str, id: &str) -> Result<Account, Failure> {
        self.read(&format!("{org}/service-accounts/{id}")).await
    }

    /// A new account, and if asked its roles and first key; all or nothing.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn create_account(
        &self,
        org: &str,
        new: &NewAccount,
    ) -> Result<Changed<AccountMember>, Failure> {
        self.change(Method::POST, &format!("{org}/service-accounts"), Some(new)).await
    }

    /// Makes an account and its active keys work again.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn activate_account(
        &self,
        org: &str,
        id: &str,
    ) -> Result<Changed<AccountMember>, Failure> {
        self.switch_account(org, id, ":activate").await
    }

    /// Stops all keys of an account at once.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn deactivate_account(
        &self,
        org: &str,
        id: &str,
    ) -> Result<Changed<AccountMember>, Failure> {
        self.switch_account(org, id, ":deactivate").await
    }

    /// Ends an account for good; it stays listed.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn revoke_account(
        &self,
        org: &str,
        id: &str,
    ) -> Result<Changed<AccountMember>, Failure> {
        self.switch_account(org, id, ":revoke").await
    }

    /// Ends an account and all its keys for good.
    ///
    /// # Errors
    ///
    /// [`Failure`], as for every call.
    pub async fn delete_account(
        &self,
        org: &str,
        id: &str,
    ) -> Result<Changed<AccountMember>, Failure> {
        let path = format!("{org}/service-accounts/{id}");
        self.change(Method::DELETE, &path, None::<&Value>).await
    }

    async fn switch_account(
        &self,
        org: &str,
        id: &str,
        verb: &str,
    ) -> Result<Changed<AccountMember>, Failure> {
        let path = format!("{org}/service-accounts/{id}{verb}");
        self.change(Method::POST, &path, None::<&Value>).await
    }
}
