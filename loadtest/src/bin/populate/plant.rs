//! The control plane that is asked to make the first of everything. It ends exactly the process it
//! started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Resources and groups over which accounts are spread.
const CLUSTERS: usize = 1000;
const GROUPS: usize = 200;

/// A running `portcullis control`.
pub(crate) struct Plant {
    child: Child,
    address: String,
    token: String,
    organization: String,
}

impl Plant {
    pub(crate) fn start(program: &Path, data: &Path) -> Result<Plant> {
        let mut child = Command::new(program)
            .args(["control", "--control", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut line = String::new();
        let output = child.stdout.take().context("it has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).context("it did not start")?;
        let address = said["control"].as_str().context("it has no address")?.to_owned();
        let token = std::fs::read_to_string(data.join("admin-token"))?.trim().to_owned();
        let mut plant = Plant { child, address, token, organization: String::new() };
        let organizations = plant.call("GET", "/v1/organizations", None)?;
        plant.organization = text(&organizations, "/items/0/id")?;
        Ok(plant)
    }

    /// A call below the organization.
    fn below(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(method, &format!("/v1/organizations/{}{path}", self.organization), body)
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.below("POST", path, Some(body))
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: control\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.token,
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
        ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {head}\n{body}");
        serde_json::from_str(body).context("the answer's body")
    }

    /// Makes the account of a recipe.
    pub(crate) fn make(&self, recipe: &Recipe) -> Result<()> {
        let made = self.post("/service-accounts", &recipe.account)?;
        let account = text(&made, "/service_account/id")?;
        for key in 0..recipe.keys {
            let body = json!({"name": format!("key {key}")});
            self.post(&format!("/service-accounts/{account}/keys"), &body)?;
        }
        if let Some(verb) = recipe.verb {
            self.post(&format!("/service-accounts/{account}:{verb}"), &json!({}))?;
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the control plane ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        // After a failure; ended before otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What accounts share.
pub(crate) struct Pools {
    pub(crate) organization: String,
    pub(crate) root: String,
    /// Id and ref of each.
    pub(crate) clusters: Vec<(String, String)>,
    pub(crate) groups: Vec<String>,
    pub(crate) big_group: String,
    pub(crate) big_role: String,
    pub(crate) other_role: String,
    pub(crate) big_resource: String,
}

impl Pools {
    pub(crate) fn make(plant: &Plant) -> Result<Pools> {
        let organization = plant.below("GET", "", None)?;
        let root = text(&organization, "/root_resource_id")?;
        let resource = |name: &str| -> Result<(String, String)> {
            let made = plant.post("/resources", &json!({"kind": "cluster", "name": name}))?;
            Ok((text(&made, "/resource/id")?, text(&made, "/resource/ref")?))
        };
        let clusters = (0..CLUSTERS)
            .map(|number| resource(&format!("cluster-{number:05}")))
            .collect::<Result<Vec<_>>>()?;
        let (big_resource, _) = resource("big-cluster")?;
        let role = |name: &str, permissions: &[&str]| -> Result<String> {
            let body = json!({"name": name, "permissions": permissions});
            text(&plant.post("/roles", &body)?, "/role/id")
        };
        let big_role = role("big role", &["*:read"])?;
        let other_role = role("other role", &["*:read", "*:write"])?;
        let group = |name: &str, role: &str| -> Result<String> {
            let made = plant.post("/groups", &json!({"name": name}))?;
            let id = text(&made, "/group/id")?;
            let binding = json!({
                "role_id": role, "resource_id": root, "subject": {"kind": "group", "id": id},
            });
            plant.post("/role-bindings", &binding)?;
            Ok(id)
        };
        let groups = (0..GROUPS)
            .map(|number| group(&format!("group-{number:05}"), "viewer"))
            .collect::<Result<Vec<_>>>()?;
        let big_group = group("big group", "viewer")?;
        let organization = plant.organization.clone();
        Ok(Pools {
            organization,
            root,
            clusters,
            groups,
            big_group,
            big_role,
            other_role,
            big_resource,
        })
    }

    /// The shapes of accounts and how many of a thousand have each.
    pub(crate) fn recipes(&self, keys: u32) -> Vec<Recipe> {
        let viewer = |resource: &str| json!([{"role_id": "viewer", "resource_id": resource}]);
        let cluster = self.clusters.first().map_or("", |(id, _)| id);
        let group = self.groups.first().map_or("", String::as_str);
        let recipe = |name: &'static str, share, members: Value, verb| {
            let mut account = members;
            account["username"] = json!(format!("template-of-{name}"));
            account["description"] = json!("made by populate");
            Recipe { name, share, account, verb, keys }
        };
        vec![
            recipe("everywhere", 300, json!({"bindings": viewer(&self.root)}), None),
            recipe("cluster", 250, json!({"bindings": viewer(cluster)}), None),
            recipe("grouped", 100, json!({"group_ids": [group]}), None),
            recipe("big-group", 100, json!({"group_ids": [self.big_group]}), None),
            recipe(
                "big-role",
                100,
                json!({"bindings": [{"role_id": self.big_role, "resource_id": self.root}]}),
                None,
            ),
            recipe("big-resource", 100, json!({"bindings": viewer(&self.big_resource)}), None),
            recipe("inactive", 30, json!({"bindings": viewer(&self.root)}), Some("deactivate")),
            recipe("revoked", 20, json!({"bindings": viewer(&self.root)}), Some("revoke")),
        ]
    }
}

/// How an account of one shape is made.
pub(crate) struct Recipe {
    pub(crate) name: &'static str,
    /// Of a thousand accounts.
    pub(crate) share: u32,
    pub(crate) account: Value,
    /// What is done to it afterwards.
    verb: Option<&'static str>,
    keys: u32,
}

fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no {pointer} in {value}"))?.to_owned())
}
