//! The claims of the five products, each proven under its product's policy profile, through the
//! admin API and at a running gateway. A test's name begins with the claim's number; `table.tsv`
//! lists the claims, and `docs/claims.md` is made of both.

mod aihub;
mod castai;
mod dezifi;
mod legacy;
mod page;
mod precisely;
mod sessions;
mod zenml;

use serde_json::{Value, json};

use crate::support::admin::{Account, Admin, Key};
use crate::support::http::{Answer, Request};
use crate::support::stage::Stage;
use crate::support::upstream::Upstream;

/// For each verb a route on each kind of resource and one on the organization itself; and one that
/// needs a valid key and nothing else.
pub(crate) fn routes() -> String {
    let mut text =
        String::from("[keys]\nimported = true\nsessions = true\nrenderings = [\"zenpro\"]\n");
    let verbs = [("GET", "read"), ("POST", "write"), ("PUT", "execute"), ("DELETE", "delete")];
    let mut route = |name: &str, path: &str, method: &str, needs: &str| {
        text.push_str(&format!(
            "[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nmethods = [\"{method}\"]\n\
             upstream = \"app\"\n{needs}\n"
        ));
    };
    for (method, verb) in verbs {
        for kind in ["cluster", "workspace", "project"] {
            let needs = format!(
                "require = {{ permission = \"data:{verb}\", resource = \"{kind}/{{name}}\" }}"
            );
            route(&format!("{kind}-{verb}"), &format!("/{kind}/{{name}}"), method, &needs);
        }
        let needs = format!("require = {{ permission = \"data:{verb}\" }}");
        route(&format!("organization-{verb}"), "/organization", method, &needs);
    }
    route("any", "/any", "GET", "authenticated_only = true");
    text
}

const VERBS: [(&str, &str); 4] =
    [("read", "GET"), ("write", "POST"), ("execute", "PUT"), ("delete", "DELETE")];

/// An organization under one product's profile, with its owner, before a running gateway.
struct Product {
    stage: Stage,
    owner: Admin,
    root: String,
}

impl Product {
    #[track_caller]
    fn new(profile: &str) -> Self {
        let stage = Stage::with(Upstream::uvicorn(), &routes());
        let owner = organization(&stage, profile, profile);
        let root = owner.root();
        Self { stage, owner, root }
    }

    /// Another organization of the same installation.
    #[track_caller]
    fn other(&self, profile: &str) -> Admin {
        organization(&self.stage, "other", profile)
    }

    fn operator(&self) -> Operator<'_> {
        Operator(&self.stage)
    }

    /// The answer of the gateway for a path, with a key or a session token.
    #[track_caller]
    fn at(&self, method: &str, path: &str, credential: &str) -> Answer {
        self.stage.send(&Request::new(method, path).bearer(credential))
    }

    /// Whether a key is accepted at all.
    #[track_caller]
    fn accepts(&self, credential: &str) -> bool {
        let answer = self.at("GET", "/any", credential);
        match answer.status {
            200 => true,
            401 => false,
            other => panic!("{other}: {}", answer.text()),
        }
    }

    /// The verbs that a key may use on `kind/name`, or on the organization for `""`.
    #[track_caller]
    fn verbs(&self, credential: &str, place: &str) -> Vec<&'static str> {
        let path = if place.is_empty() { "/organization" } else { &format!("/{place}") };
        let allowed = |method: &str| {
            let answer = self.at(method, path, credential);
            match answer.status {
                200 => true,
                403 => false,
                other => panic!("{other} for {method} {path}: {}", answer.text()),
            }
        };
        VERBS.iter().filter(|(_, method)| allowed(method)).map(|(verb, _)| *verb).collect()
    }

    /// An account with these roles on the organization, and a key of it.
    #[track_caller]
    fn caller(&self, name: &str, role: &str) -> (Account, Key) {
        let account = self.owner.account(name);
        if !role.is_empty() {
            self.owner.bind(&account, role, &self.root);
        }
        let key = self.owner.key(&account, "key");
        (account, key)
    }

    /// The admin API as the holder of a key sees it.
    #[track_caller]
    fn as_holder(&self, key: &Key) -> Admin {
        Admin::new(self.stage.program.control(), key.value.clone())
    }

    /// A group of this name.
    #[track_caller]
    fn group(&self, name: &str) -> String {
        let created = self.owner.post("/groups", &json!({"name": name})).expect_status(201);
        created.json()["group"]["id"].as_str().expect("an id").to_owned()
    }

    /// Gives a role to whoever is in a group.
    #[track_caller]
    fn bind_group(&self, group: &str, role: &str, resource: &str) -> String {
        let body = json!({
            "role_id": role, "subject": {"kind": "group", "id": group}, "resource_id": resource,
        });
        let created = self.owner.post("/role-bindings", &body).expect_status(201).json();
        created["role_binding"]["id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    fn assign(&self, account: &Account, groups: &[&str]) {
        let path = format!("{}/groups:assign", account.path);
        let body = json!({"group_ids": groups});
        self.owner.call("POST", &path, Some(&body)).expect_status(200);
    }

    #[track_caller]
    fn leave(&self, account: &Account, group: &str) {
        self.owner.delete(&format!("{}/groups/{group}", account.path));
    }

    #[track_caller]
    fn grant(&self, account: &Account, resources: &[&str], role: &str) {
        let path = format!("{}/access:grant", account.path);
        let body = json!({"resource_ids": resources, "role_id": role});
        self.owner.call("POST", &path, Some(&body)).expect_status(200);
    }

    /// The row of a resource in the access view.
    #[track_caller]
    fn row(&self, account: &Account, resource: &str) -> Option<Value> {
        let rows = self.owner.call("GET", &format!("{}/access", account.path), None);
        let rows = rows.expect_status(200).json();
        let rows = rows["items"].as_array().expect("rows").clone();
        rows.into_iter().find(|row| row["resource"]["id"] == resource)
    }

    /// A custom role.
    #[track_caller]
    fn role(&self, body: &Value) -> String {
        let created = self.owner.post("/roles", body).expect_status(201).json();
        created["role"]["id"].as_str().expect("an id").to_owned()
    }

    /// A person, and a key of that person.
    #[track_caller]
    fn person(&self, name: &str, role: Option<&str>) -> (String, Key) {
        let mut body = json!({"username": name, "email": format!("{name}@example.com")});
        if let Some(role) = role {
            body["role_id"] = json!(role);
        }
        let created = self.owner.post("/users", &body).expect_status(201).json();
        let id = created["user"]["id"].as_str().expect("an id").to_owned();
        let path = format!("{}/users/{id}", self.owner.organization);
        let account = Account { id: id.clone(), path };
        (id, self.owner.key(&account, "personal"))
    }

    /// The keys of an account, as listed.
    #[track_caller]
    fn keys(&self, account: &Account) -> Vec<Value> {
        items(&self.owner.call("GET", &format!("{}/keys", account.path), None))
    }

    #[track_caller]
    fn shown(&self, account: &Account) -> Value {
        let shown = self.owner.call("GET", &account.path, None).expect_status(200).json();
        shown.get("service_account").cloned().unwrap_or(shown)
    }

    #[track_caller]
    fn shown_key(&self, key: &Key) -> Value {
        let shown = self.owner.call("GET", &key.path, None).expect_status(200).json();
        shown.get("key").cloned().unwrap_or(shown)
    }

    /// The code of a refusal of the admin API.
    #[track_caller]
    fn refused(&self, status: u16, method: &str, path: &str, body: &Value) -> String {
        self.owner.call(method, path, Some(body)).expect_status(status).code()
    }
}

/// The installation's operator.
struct Operator<'s>(&'s Stage);

impl Operator<'_> {
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let token = self.0.home.token("operator-token");
        Request::new(method, path).bearer(&token).json(body).send(self.0.program.control())
    }
}

/// The `items` of a list.
#[track_caller]
fn items(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().expect("a list").clone()
}

#[track_caller]
fn organization(stage: &Stage, name: &str, profile: &str) -> Admin {
    let body = json!({
        "name": name,
        "profile": profile,
        "owner": {"username": "olivia", "email": "olivia@example.com"},
    });
    let created = Operator(stage).call("POST", "/v1/organizations", &body).expect_status(201);
    let value = created.json()["value"].as_str().expect("the owner's key").to_owned();
    Admin::new(stage.program.control(), value)
}

/// Neither the answer nor what lies in the account's lists contains the secret.
#[track_caller]
fn assert_shown_once(product: &Product, account: &Account, key: &Key) {
    let tail = &key.value[key.value.len() - 40..];
    let lists = [format!("{}/keys", account.path), format!("{}/keys", product.owner.organization)];
    for path in [&key.path, &account.path].into_iter().chain(&lists) {
        let answer = product.owner.call("GET", path, None).expect_status(200);
        assert!(!answer.text().contains(tail), "{path} shows the secret again");
    }
    let events = product.owner.get("/audit-events?page_size=200").expect_status(200);
    assert!(!events.text().contains(tail), "the audit log shows the secret");
}
