//! A caller of the admin API: one token, one organization, and the few objects that tests need.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::{Answer, Request};

/// Somebody who may call the admin API.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    token: String,
    /// `/v1/organizations/<id of the organization this token belongs to>`.
    pub(crate) organization: String,
}

/// A service account.
pub(crate) struct Account {
    pub(crate) id: String,
    /// Its path in the admin API.
    pub(crate) path: String,
}

/// A key with the secret that its creation or rotation returned.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    /// Its path in the admin API.
    pub(crate) path: String,
    /// What a client presents.
    pub(crate) value: String,
}

impl Admin {
    /// The caller with this token, in the one organization it sees.
    #[track_caller]
    pub(crate) fn new(address: SocketAddr, token: String) -> Self {
        let mut admin = Self { address, token, organization: String::new() };
        let organizations = admin.call("GET", "/v1/organizations", None).expect_status(200).json();
        let id =
            organizations["items"][0]["id"].as_str().expect("the caller is in an organization");
        admin.organization = format!("/v1/organizations/{id}");
        admin
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let request = Request::new(method, path).bearer(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        request.send(self.address)
    }

    /// `GET` in another representation than JSON.
    pub(crate) fn call_accepting(&self, path: &str, media_type: &str) -> Answer {
        let request = Request::get(path).bearer(&self.token).header("Accept", media_type);
        request.send(self.address)
    }

    /// `POST` below the organization.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", &format!("{}{path}", self.organization), Some(body))
    }

    /// `GET` below the organization.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", &format!("{}{path}", self.organization), None)
    }

    /// A service account without any role.
    #[track_caller]
    pub(crate) fn account(&self, name: &str) -> Account {
        self.account_from(&json!({"username": name}))
    }

    /// A service account from a whole request body.
    #[track_caller]
    pub(crate) fn account_from(&self, body: &Value) -> Account {
        let created = self.post("/service-accounts", body).expect_status(201).json();
        let id = created["service_account"]["id"].as_str().expect("an id").to_owned();
        let path = format!("{}/service-accounts/{id}", self.organization);
        Account { id, path }
    }

    /// A key of the account, by a whole request body.
    #[track_caller]
    pub(crate) fn key_from(&self, account: &Account, body: &Value) -> Key {
        let answer =
            self.call("POST", &format!("{}/keys", account.path), Some(body)).expect_status(201);
        issued(account, &answer)
    }

    #[track_caller]
    pub(crate) fn key(&self, account: &Account, name: &str) -> Key {
        self.key_from(account, &json!({"name": name}))
    }

    /// A custom verb such as `:revoke` that must succeed at once, on every gateway.
    #[track_caller]
    pub(crate) fn act(&self, path: &str, verb: &str) -> Value {
        self.call("POST", &format!("{path}:{verb}"), Some(&json!({}))).expect_status(200).json()
    }

    #[track_caller]
    pub(crate) fn rotate(&self, account: &Account, key: &Key, body: &Value) -> Key {
        let answer =
            self.call("POST", &format!("{}:rotate", key.path), Some(body)).expect_status(200);
        issued(account, &answer)
    }

    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Value {
        self.call("PATCH", path, Some(body)).expect_status(200).json()
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Value {
        self.call("DELETE", path, None).expect_status(200).json()
    }

    /// The organization's root resource.
    #[track_caller]
    pub(crate) fn root(&self) -> String {
        let organization = self.get("").expect_status(200).json();
        let root = ["/organization/root_resource_id", "/root_resource_id"]
            .into_iter()
            .find_map(|pointer| organization.pointer(pointer)?.as_str().map(str::to_owned));
        root.expect("an organization has a root resource")
    }

    /// A resource below the root.
    #[track_caller]
    pub(crate) fn resource(&self, kind: &str, name: &str) -> String {
        let body = json!({"name": name, "kind": kind, "parent_id": self.root()});
        let created = self.post("/resources", &body).expect_status(201).json();
        created["resource"]["id"].as_str().expect("an id").to_owned()
    }

    /// Binds a role to an account on a resource; returns the binding's path.
    #[track_caller]
    pub(crate) fn bind(&self, account: &Account, role: &str, resource: &str) -> String {
        let body = json!({
            "role_id": role,
            "subject": {"kind": "service_account", "id": account.id},
            "resource_id": resource,
        });
        let created = self.post("/role-bindings", &body).expect_status(201).json();
        let id = created["role_binding"]["id"].as_str().expect("an id");
        format!("{}/role-bindings/{id}", self.organization)
    }
}

#[track_caller]
fn issued(account: &Account, answer: &Answer) -> Key {
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "a secret is never stored on its way"
    );
    let body = answer.json();
    let id = body["key"]["id"].as_str().expect("an id").to_owned();
    let value = body["value"].as_str().expect("the secret, once").to_owned();
    let path = format!("{}/keys/{id}", account.path);
    Key { id, path, value }
}
