//! Two organizations with one of everything, and requests for any operation of the document with
//! ids that one of them has.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::document::Described;
use crate::harness::{Answer, Ask, Plant};

/// Ids that nothing has.
const MISSING: &str = "01900000-0000-7000-8000-000000000000";
const MISSING_KEY: &str = "00000000abc";

/// What an id can be of.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Noun {
    Account,
    AccountKey,
    Binding,
    Event,
    Group,
    Policy,
    Resource,
    Role,
    User,
    UserKey,
}

pub(crate) const MADE: [Noun; 9] = [
    Noun::Account,
    Noun::AccountKey,
    Noun::Binding,
    Noun::Group,
    Noun::Policy,
    Noun::Resource,
    Noun::Role,
    Noun::User,
    Noun::UserKey,
];

impl Noun {
    pub(crate) fn missing(self) -> &'static str {
        match self {
            Noun::AccountKey | Noun::UserKey => MISSING_KEY,
            _ => MISSING,
        }
    }

    /// What a place called `name` refers to; nothing if it is no reference.
    pub(crate) fn of(path: &str, name: &str) -> Vec<Noun> {
        let of_key = if path.contains("/users/") { Noun::UserKey } else { Noun::AccountKey };
        match name {
            "sa" | "service_account_id" => vec![Noun::Account],
            "user" | "user_id" => vec![Noun::User],
            "key" => vec![of_key],
            "key_id" => vec![Noun::AccountKey, Noun::UserKey],
            "ids" if path.contains("/keys:") => vec![of_key],
            "ids" => vec![Noun::Account],
            "resource" | "resource_id" | "resource_ids" | "parent_id" | "workspace_id" => {
                vec![Noun::Resource]
            }
            "role" | "role_id" | "base_role_id" | "sa_forbidden_roles" | "sa_warn_roles" => {
                vec![Noun::Role]
            }
            "group" | "group_id" | "group_ids" | "sa_forbidden_groups" => vec![Noun::Group],
            "policy" | "policy_id" => vec![Noun::Policy],
            "binding" | "delete" => vec![Noun::Binding],
            "event" => vec![Noun::Event],
            "principal" | "owner_id" => vec![Noun::Account, Noun::User],
            "subject_id" | "actor_id" | "target_id" => {
                vec![Noun::Account, Noun::Group, Noun::User]
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn of_kind(kind: &str) -> Noun {
        match kind {
            "service_account" => Noun::Account,
            "group" => Noun::Group,
            "user" => Noun::User,
            other => panic!("a new kind of subject: {other}"),
        }
    }
}

/// One of the two organizations.
pub(crate) struct Side {
    pub(crate) org: String,
    pub(crate) token: String,
    pub(crate) ids: BTreeMap<Noun, Vec<String>>,
}

pub(crate) struct Pair {
    pub(crate) plant: Plant,
    pub(crate) sides: [Side; 2],
    made: usize,
}

impl Pair {
    /// Two organizations with one of everything.
    pub(crate) async fn new() -> Pair {
        let plant = Plant::start().await;
        let body = json!({"name": "other", "owner": {"username": "root"}});
        let other = plant.ask(Method::POST, "/v1/organizations").token(&plant.operator).json(body);
        let other = other.send().await;
        let side = |org, token| Side { org, token, ids: BTreeMap::new() };
        let sides = [
            side(plant.org.clone(), plant.admin.clone()),
            side(other.text("/organization/id"), other.text("/value")),
        ];
        let mut pair = Pair { plant, sides, made: 0 };
        for which in 0..2 {
            for noun in [Noun::Account, Noun::User, Noun::Role, Noun::Resource, Noun::Group] {
                pair.make(which, noun).await;
            }
            for noun in [Noun::AccountKey, Noun::UserKey, Noun::Binding, Noun::Policy] {
                pair.make(which, noun).await;
            }
            let events = pair.send(which, Method::GET, "/audit-events", None).await;
            let event = events.text("/items/0/id");
            pair.sides[which].ids.insert(Noun::Event, vec![event]);
        }
        pair
    }

    pub(crate) async fn send(
        &self,
        which: usize,
        method: Method,
        rest: &str,
        body: Option<Value>,
    ) -> Answer {
        let Side { org, token, .. } = &self.sides[which];
        let ask = self.plant.ask(method, &format!("/v1/organizations/{org}{rest}")).token(token);
        match body {
            Some(body) => ask.json(body).send().await,
            None => ask.send().await,
        }
    }

    /// The first of its kind, which lives as long as its organization.
    pub(crate) fn own(&self, which: usize, noun: Noun) -> &str {
        &self.sides[which].ids[&noun][0]
    }

    /// One more of a kind.
    pub(crate) async fn make(&mut self, which: usize, noun: Noun) {
        self.made += 1;
        let made = self.create(which, noun, &format!("thing {}", self.made)).await;
        if noun == Noun::Binding && [409, 422].contains(&made.status.as_u16()) {
            return;
        }
        assert_eq!(made.status, 201, "{noun:?}: {}", made.text);
        let member = match noun {
            Noun::Account => "service_account",
            Noun::AccountKey | Noun::UserKey => "key",
            Noun::Binding => "role_binding",
            Noun::Event => panic!("events make themselves"),
            Noun::Group => "group",
            Noun::Policy => "security_policy",
            Noun::Resource => "resource",
            Noun::Role => "role",
            Noun::User => "user",
        };
        let id = made.text(&format!("/{member}/id"));
        self.sides[which].ids.entry(noun).or_default().push(id);
    }

    /// What creating one with this name is answered with.
    pub(crate) async fn create(&self, which: usize, noun: Noun, name: &str) -> Answer {
        let own = |noun| self.own(which, noun);
        let body = match noun {
            Noun::Account => json!({"username": name}),
            Noun::Binding => {
                // The newest role, as the same binding cannot be made twice; it may be deleted.
                let role = self.sides[which].ids[&Noun::Role].last().unwrap();
                let subject = json!({"kind": "service_account", "id": own(Noun::Account)});
                json!({"role_id": role, "subject": subject, "resource_id": own(Noun::Resource)})
            }
            Noun::Event => panic!("events make themselves"),
            Noun::AccountKey | Noun::Group | Noun::Policy | Noun::UserKey => json!({"name": name}),
            Noun::Resource => json!({"name": name, "kind": "workspace"}),
            Noun::Role => json!({"name": name, "permissions": ["cluster:read"]}),
            Noun::User => json!({"username": name, "email": "ann@example.org"}),
        };
        self.send(which, Method::POST, &self.folder(which, noun), Some(body)).await
    }

    /// Where things of a kind are, in their organization.
    pub(crate) fn folder(&self, which: usize, noun: Noun) -> String {
        match noun {
            Noun::Account => "/service-accounts".to_owned(),
            Noun::AccountKey => {
                format!("/service-accounts/{}/keys", self.own(which, Noun::Account))
            }
            Noun::Binding => "/role-bindings".to_owned(),
            Noun::Event => "/audit-events".to_owned(),
            Noun::Group => "/groups".to_owned(),
            Noun::Policy => "/security-policies".to_owned(),
            Noun::Resource => "/resources".to_owned(),
            Noun::Role => "/roles".to_owned(),
            Noun::User => "/users".to_owned(),
            Noun::UserKey => format!("/users/{}/keys", self.own(which, Noun::User)),
        }
    }

    /// Ends one of a kind, but never the first.
    pub(crate) async fn end(&mut self, which: usize, noun: Noun, index: usize) {
        let ids = &self.sides[which].ids[&noun];
        let Some(id) = index.checked_rem(ids.len() - 1).map(|index| &ids[index + 1]) else {
            return;
        };
        let path = format!("{}/{id}", self.folder(which, noun));
        let ended = self.send(which, Method::DELETE, &path, None).await;
        // What is ended already is missing, and a role that is bound stays.
        assert!([200, 202, 404, 409].contains(&ended.status.as_u16()), "{}", ended.text);
    }

    pub(crate) async fn seq(&self) -> u64 {
        self.plant.get("/readyz").await.number("/seq")
    }

    /// The path of an operation on something of this organization, `id` standing at `place`.
    pub(crate) fn path(
        &self,
        which: usize,
        described: &Described,
        place: &str,
        id: &str,
    ) -> String {
        let mut path = described.path.replace("{org}", &self.sides[which].org);
        while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
            let name = path[from + 1..to].to_owned();
            let filled = if name == place {
                id
            } else {
                self.own(which, Noun::of(described.path, &name)[0])
            };
            path.replace_range(from..=to, filled);
        }
        path
    }

    /// The body of the document's example, about things of this organization.
    pub(crate) fn body(&self, which: usize, described: &Described) -> Option<Value> {
        let (schema, example) = described.body()?;
        let mut body = example.clone();
        self.localize(which, described, schema, "", &mut body);
        Some(body)
    }

    /// A request of whoever may do this here.
    pub(crate) fn ask(&self, which: usize, described: &Described, path: &str) -> Ask<'_> {
        let operator = described.operation["x-permission"] == "operator";
        let token = if operator { &self.plant.operator } else { &self.sides[which].token };
        let method: Method = described.method.to_uppercase().parse().unwrap();
        self.plant.ask(method, path).token(token)
    }

    /// Puts the organization's own ids where an example has others.
    fn localize(
        &self,
        which: usize,
        described: &Described,
        schema: &Value,
        name: &str,
        value: &mut Value,
    ) {
        let nouns = Noun::of(described.path, name);
        match value {
            Value::Array(items) => {
                for item in items {
                    self.localize(which, described, &schema["items"], name, item);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.localize(which, described, &schema["properties"][name], name, member);
                }
                if value["kind"].is_string() && value["id"].is_string() {
                    let noun = Noun::of_kind(value["kind"].as_str().unwrap());
                    value["id"] = json!(self.own(which, noun));
                }
            }
            Value::String(text) => {
                if let Some(noun) = nouns.first() {
                    self.own(which, *noun).clone_into(text);
                }
            }
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }

    /// A value that the schema takes, with no more members than it must have.
    pub(crate) fn sample(
        &self,
        which: usize,
        described: &Described,
        schema: &Value,
        name: &str,
    ) -> Value {
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
        match kind.unwrap() {
            "object" => {
                let mut value = json!({});
                for name in schema["required"].as_array().into_iter().flatten() {
                    let name = name.as_str().unwrap();
                    value[name] = self.sample(which, described, &schema["properties"][name], name);
                }
                self.localize(which, described, schema, "", &mut value);
                value
            }
            "array" => json!([]),
            "boolean" => json!(true),
            "integer" => schema["minimum"].clone(),
            _ => match (schema["enum"][0].as_str(), Noun::of(described.path, name).first()) {
                (Some(word), _) => json!(word),
                (None, Some(noun)) => json!(self.own(which, *noun)),
                (None, None) => json!("x"),
            },
        }
    }
}
