//! The resolver of the control plane and the directory of a gateway agree after any mutation, and
//! both agree with the log: a mutation that forgot to tell gateways would be found here.

use portcullis_core::directory::{Ledger, Place, SnapshotRecord, Unknown};
use portcullis_core::feed::Position;
use portcullis_core::key::{Pepper, PepperRing, parse};
use portcullis_core::time::Clock as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Plant;
use crate::player::{Fold, Gateway, Stream};

/// A fixed sequence that looks random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A key that was made, with its owner and newest value.
struct Agent {
    account: String,
    key: String,
    value: String,
}

/// A resource and what gateways call it.
struct Spot {
    id: String,
    place: String,
}

struct World<'p> {
    plant: &'p Plant,
    agents: Vec<Agent>,
    spots: Vec<Spot>,
    /// Custom roles, groups and security policies, by id.
    roles: Vec<String>,
    groups: Vec<String>,
    policies: Vec<String>,
    ledger: Ledger,
    fold: Fold,
    stream: Stream,
}

const ROLES: [&str; 6] = ["owner", "admin", "member", "viewer", "executor", "org_member"];

impl World<'_> {
    /// Does something; whether it was allowed does not matter.
    async fn step(&mut self, dice: &mut Dice, n: usize) {
        let plant = self.plant;
        let agent = dice.below(self.agents.len());
        let Agent { account, key, .. } = &self.agents[agent];
        let spot = dice.below(self.spots.len());
        let resource = self.spots[spot].id.clone();
        let role = *dice.pick(&ROLES);
        let key_path = plant.s(account, &format!("/keys/{key}"));
        let none = json!({});
        if dice.below(2) == 0 {
            return self.indirect_step(dice, n).await;
        }
        match dice.below(16) {
            0..=3 => {
                let body = json!({
                    "resource_ids": [resource], "role_id": role, "propagate": dice.below(4) > 0,
                });
                plant.post(&plant.s(account, "/access:grant"), body).await;
            }
            4 => {
                plant.delete(&plant.s(account, &format!("/access/{resource}"))).await;
            }
            5 => {
                let path = plant.s(account, &format!("/access/{resource}"));
                plant.patch(&path, json!({"role_id": role})).await;
            }
            6 => {
                plant.post(&plant.s(account, ":deactivate"), none).await;
            }
            7 => {
                plant.post(&plant.s(account, ":activate"), none).await;
            }
            8 => {
                plant.post(&format!("{key_path}:deactivate"), none).await;
            }
            9 => {
                plant.post(&format!("{key_path}:activate"), none).await;
            }
            10 => {
                let body = json!({"retain_minutes": dice.below(2)});
                let rotated = plant.post(&format!("{key_path}:rotate"), body).await;
                if rotated.status.is_success() {
                    self.agents[agent].value = rotated.text("/value");
                }
            }
            11 => {
                let restriction = match dice.below(3) {
                    0 => Value::Null,
                    1 => json!({"permissions": ["*:read", "cluster:*"]}),
                    _ => json!({"resource_ids": [resource]}),
                };
                plant.patch(&key_path, json!({"restriction": restriction})).await;
            }
            12 => {
                let to = &dice.pick(&self.spots).id;
                let path = plant.o(&format!("/resources/{resource}"));
                plant.patch(&path, json!({"parent_id": to})).await;
            }
            13 => {
                let verb = if dice.below(2) == 0 { "archive" } else { "unarchive" };
                plant.post(&plant.o(&format!("/resources/{resource}:{verb}")), none).await;
            }
            14 => {
                let name = format!("r{n}");
                let body = json!({"kind": "workspace", "name": name, "parent_id": resource});
                let made = plant.post(&plant.o("/resources"), body).await;
                if made.status.is_success() {
                    let place = format!("workspace/{name}");
                    self.spots.push(Spot { id: made.text("/resource/id"), place });
                }
            }
            _ => {
                let removed = plant.delete(&plant.o(&format!("/resources/{resource}"))).await;
                if removed.status.is_success() {
                    self.spots.remove(spot);
                }
            }
        }
    }

    /// The same with custom roles, groups and security policies.
    async fn indirect_step(&mut self, dice: &mut Dice, n: usize) {
        let plant = self.plant;
        let account = dice.pick(&self.agents).account.clone();
        let resource = dice.pick(&self.spots).id.clone();
        let role = match dice.below(3) {
            0 => (*dice.pick(&ROLES)).to_owned(),
            _ => dice.pick(&self.roles).clone(),
        };
        let group = dice.pick(&self.groups).clone();
        let policy = dice.pick(&self.policies).clone();
        let members = plant.o(&format!("/groups/{group}/members"));
        let patterns = |dice: &mut Dice| match dice.below(4) {
            0 => json!([]),
            1 => json!(["*:read", "api_key:*"]),
            2 => json!(["cluster:write", "cluster:read"]),
            _ => json!(["*:*"]),
        };
        match dice.below(12) {
            0..=2 => {
                let subject = json!({"kind": "group", "id": group});
                let policy = if dice.below(2) == 0 { json!(policy) } else { Value::Null };
                let body = json!({
                    "role_id": role, "subject": subject, "resource_id": resource,
                    "propagate": dice.below(4) > 0, "policy_id": policy,
                });
                plant.post(&plant.o("/role-bindings"), body).await;
            }
            3 | 4 => {
                let principal = json!({"kind": "service_account", "id": account});
                plant.post(&members, json!({"principal": principal})).await;
            }
            5 => {
                plant.delete(&format!("{members}/{account}")).await;
            }
            6 => {
                let body = json!({"permissions": patterns(dice), "deny": patterns(dice)});
                plant.patch(&plant.o(&format!("/roles/{role}")), body).await;
            }
            7 => {
                let body = json!({
                    "role_id": role, "subject": {"kind": "service_account", "id": account},
                    "resource_id": resource, "policy_id": policy,
                });
                plant.post(&plant.o("/role-bindings"), body).await;
            }
            8 => {
                let verb = if dice.below(2) == 0 { "enable" } else { "disable" };
                plant
                    .post(&plant.o(&format!("/security-policies/{policy}:{verb}")), json!({}))
                    .await;
            }
            9 => {
                let bindings = plant.get(&plant.o("/role-bindings?subject_kind=group")).await;
                let all = bindings.body["items"].as_array().unwrap().clone();
                let one = dice.pick(&all)["id"].as_str().unwrap().to_owned();
                plant.delete(&plant.o(&format!("/role-bindings/{one}"))).await;
            }
            10 => {
                plant.delete(&plant.o(&format!("/groups/{group}"))).await;
                let made = plant.post(&plant.o("/groups"), json!({"name": format!("g{n}")})).await;
                self.groups.retain(|other| *other != group);
                self.groups.push(made.text("/group/id"));
            }
            _ => {
                let forbidden = if dice.below(2) == 0 { json!([]) } else { json!([group]) };
                let roles = if dice.below(2) == 0 { json!([]) } else { json!([role]) };
                let body = json!({
                    "sa_forbidden_groups": forbidden, "sa_forbidden_roles": roles,
                    "deny_enabled": dice.below(4) > 0,
                });
                plant.patch(&plant.o("/policy"), body).await;
            }
        }
    }

    /// Follows the log to its end, as a gateway would.
    async fn catch_up(&mut self) {
        let head = self.plant.get("/readyz").await.number("/seq");
        while self.fold.position.seq < head {
            let txn = self.stream.txn().await;
            let outcome = self.ledger.apply(&txn);
            assert!(outcome.refused.is_empty() && outcome.held.is_empty(), "{outcome:?}");
            self.fold.apply(txn);
        }
        assert_eq!(self.ledger.digest(), self.fold.digest());
    }

    /// Asks both about every key on every resource.
    async fn compare(&mut self) {
        let peppers = PepperRing::new(vec![Pepper::new(1, [7; 32])]).unwrap();
        let permissions = ["cluster:read", "cluster:write", "api_key:create"];
        let needs: Vec<_> = permissions
            .iter()
            .map(|text| self.ledger.symbols().requirement(&text.parse().unwrap()))
            .collect();
        let view = self.ledger.view();
        let now = self.plant.clock.now().wall;
        let peer = "127.0.0.1".parse().unwrap();
        for Agent { account, key, value } in &self.agents {
            let presented = parse(value.as_bytes()).unwrap();
            let principal = || view.verify(&presented, peer, now, &peppers).ok();
            let admitted = self.plant.accepts(value).await == 200;
            assert_eq!(principal().is_some(), admitted, "{account} {key}");
            for Spot { id, place } in &self.spots {
                for (text, need) in permissions.iter().zip(&needs) {
                    let gateway = principal().is_some_and(|principal| {
                        let place = match place.as_str() {
                            "org" => Place::Root,
                            place => Place::At(place, Unknown::Deny),
                        };
                        principal.authorize(need, place, "GET").is_ok()
                    });
                    let body = json!({"key_id": key, "resource_id": id, "permission": text});
                    let answer = self.plant.post(&self.plant.o(":explain"), body).await;
                    assert_eq!(answer.status, 200, "{}", answer.text);
                    assert_eq!(
                        answer.body["allowed"], gateway,
                        "{text} on {place} for {account}: {}",
                        answer.text
                    );
                }
            }
        }
    }
}

async fn agree(plant: &Plant, seed: u64) {
    let gateway = Gateway { plant, id: "gw-1" };
    let mut agents = Vec::new();
    for name in ["a", "b", "c"] {
        let (account, key, value) = plant.agent(name, None).await;
        agents.push(Agent { account, key, value });
    }
    let mut spots = vec![Spot { id: plant.root.clone(), place: "org".to_owned() }];
    for name in ["k1", "k2"] {
        let place = format!("cluster/{name}");
        spots.push(Spot { id: plant.resource("cluster", name).await, place });
    }
    let post = |rest: &str, body: Value| plant.ask(Method::POST, &plant.o(rest)).json(body).send();
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": true})).await;
    let (mut roles, mut groups, mut policies) = (Vec::new(), Vec::new(), Vec::new());
    for name in ["x", "y"] {
        let body = json!({"name": name, "permissions": ["cluster:write"], "deny": []});
        roles.push(post("/roles", body).await.text("/role/id"));
        groups.push(post("/groups", json!({"name": name})).await.text("/group/id"));
        let made = post("/security-policies", json!({"name": name})).await;
        policies.push(made.text("/security_policy/id"));
    }
    let stream = gateway.follow(Position { epoch: 1, seq: 0 }).await;
    // This gateway acknowledges nothing; once it is lost, no mutation waits for it.
    plant.clock.advance_ms(5001);
    let mut ledger = Ledger::new(seed);
    ledger.load(Position { epoch: 1, seq: 0 }, [] as [SnapshotRecord; 0]).expect("an empty state");
    let fold = Fold::default();
    let mut world = World { plant, agents, spots, roles, groups, policies, ledger, fold, stream };
    let mut dice = Dice(seed);
    for n in 0..320 {
        world.step(&mut dice, n).await;
        if n % 16 == 15 {
            world.catch_up().await;
            world.compare().await;
        }
    }
    let snapshot = gateway.snapshot().await;
    assert_eq!(snapshot.records, world.fold.records);
    let verdict = plant.ask(Method::GET, &plant.o("/audit-events:verify")).send().await;
    assert_eq!(verdict.body["ok"], true);
}

#[tokio::test]
async fn control_plane_and_gateway_agree_after_any_mutation_with_override() {
    agree(&Plant::start().await, 0x1234_5678_9abc_def1).await;
}

#[tokio::test]
async fn control_plane_and_gateway_agree_after_any_mutation_with_union() {
    let mut plant = Plant::start().await;
    plant.change_policy(r#""inheritance":"override""#, r#""inheritance":"union""#).await;
    agree(&plant, 0x0fed_cba9_8765_4321).await;
}
