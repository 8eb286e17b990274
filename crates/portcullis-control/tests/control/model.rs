//! Random changes of roles, groups, policies, bindings, resources and accounts against a small model
//! of service-accounts.md 8.1 that shares no code with the product. After every change the
//! directory of a gateway that follows the real feed, `explain` and the access rows say what the
//! model says (I-9), nobody who may not is in a group's benefit (I-12), and somebody with few rights
//! has handed out nothing beyond them (I-19).
//!
//! The seed is printed; `PORTCULLIS_SEED=<number>` at the build repeats or explores.

use std::collections::BTreeSet;

use portcullis_core::directory::{Ledger, Place, SnapshotRecord, Unknown};
use portcullis_core::feed::Position;
use portcullis_core::key::{Pepper, PepperRing, parse};
use portcullis_core::time::Clock as _;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant};
use crate::player::{Fold, Gateway, Stream};

/// What is asked of everybody everywhere: data and management, reading and more.
const ASKED: [&str; 5] =
    ["cluster:read", "cluster:write", "project:read", "role:update", "group_member:create"];
const LISTS: [&[&str]; 7] = [
    &[],
    &["*:read"],
    &["cluster:*"],
    &["*:*"],
    &["cluster:write", "project:read"],
    &["role:update", "*:write"],
    &["**"],
];

/// The change of the policy, which only the owner makes.
const POLICY: u8 = 15;

struct RoleM {
    id: String,
    permissions: Vec<String>,
    deny: Vec<String>,
    sticky: bool,
    sa_assignable: bool,
    built_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubjectM {
    Account(usize),
    Group(usize),
}

struct BindingM {
    id: String,
    subject: SubjectM,
    role: usize,
    resource: usize,
    propagate: bool,
    policy: Option<usize>,
}

struct ResourceM {
    id: String,
    place: String,
    parent: Option<usize>,
    archived: bool,
    gone: bool,
}

struct AccountM {
    id: String,
    key: String,
    value: String,
    active: bool,
}

struct GroupM {
    id: String,
    members: BTreeSet<usize>,
    gone: bool,
}

/// The definition, written down once more.
#[derive(Default)]
struct Model {
    union: bool,
    denies: bool,
    forbidden_groups: BTreeSet<usize>,
    forbidden_roles: BTreeSet<usize>,
    roles: Vec<RoleM>,
    bindings: Vec<BindingM>,
    resources: Vec<ResourceM>,
    accounts: Vec<AccountM>,
    groups: Vec<GroupM>,
    policies: Vec<(String, bool)>,
}

fn covers(pattern: &str, permission: &str) -> bool {
    let (of_type, verb) = permission.split_once(':').unwrap();
    let data = matches!(of_type, "cluster" | "project");
    match pattern.split_once(':') {
        None => pattern == "**",
        Some((kind, wanted)) => {
            (kind == of_type || (kind == "*" && data)) && (wanted == verb || wanted == "*")
        }
    }
}

impl Model {
    fn up(&self, resource: usize) -> Vec<usize> {
        std::iter::successors(Some(resource), |at| self.resources[*at].parent).collect()
    }

    /// The bindings of a subject that count for accounts and reach the resource, level by level.
    fn levels(&self, subject: SubjectM, resource: usize) -> Vec<Vec<&BindingM>> {
        let counts = |one: &&BindingM| {
            one.subject == subject
                && one.policy.is_none_or(|policy| self.policies[policy].1)
                && self.roles[one.role].sa_assignable
                && !self.forbidden_roles.contains(&one.role)
        };
        let at = |level: usize| {
            let here = self.bindings.iter().filter(counts).filter(move |one| one.resource == level);
            here.filter(|one| one.propagate || level == resource).collect()
        };
        self.up(resource).into_iter().map(at).collect()
    }

    fn subjects(&self, account: usize) -> Vec<SubjectM> {
        let groups = (0..self.groups.len()).filter(|group| {
            let of = &self.groups[*group];
            !of.gone && of.members.contains(&account) && !self.forbidden_groups.contains(group)
        });
        std::iter::once(SubjectM::Account(account)).chain(groups.map(SubjectM::Group)).collect()
    }

    /// What the bindings say, of places that are not archived.
    fn has(&self, account: usize, resource: usize, permission: &str) -> bool {
        let (mut granted, mut denied) = (false, false);
        for subject in self.subjects(account) {
            let levels = self.levels(subject, resource);
            let nearest = levels.iter().position(|level| !level.is_empty());
            for (distance, one) in
                levels.iter().enumerate().flat_map(|(d, level)| level.iter().map(move |o| (d, o)))
            {
                let role = &self.roles[one.role];
                if self.union || role.sticky || Some(distance) == nearest {
                    granted |= role.permissions.iter().any(|it| covers(it, permission));
                }
                denied |= self.denies && role.deny.iter().any(|it| covers(it, permission));
            }
        }
        granted && !denied
    }

    /// The same with archives, whether or not the account is active.
    fn holds(&self, account: usize, resource: usize, permission: &str) -> bool {
        let archived = self.up(resource).iter().any(|at| self.resources[*at].archived);
        self.has(account, resource, permission) && (!archived || permission.ends_with(":read"))
    }

    fn allows(&self, account: usize, resource: usize, permission: &str) -> bool {
        self.accounts[account].active && self.holds(account, resource, permission)
    }

    fn living(&self) -> impl Iterator<Item = usize> {
        (0..self.resources.len()).filter(|at| !self.resources[*at].gone)
    }

    /// Everything that anybody has; who may change a resource may lift its archive, so that counts
    /// for nothing here.
    fn table(&self) -> BTreeSet<(usize, usize, &'static str)> {
        let mut table = BTreeSet::new();
        for account in 0..self.accounts.len() {
            for resource in self.living() {
                for permission in ASKED {
                    if self.has(account, resource, permission) {
                        table.insert((account, resource, permission));
                    }
                }
            }
        }
        table
    }
}

/// One random change; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
struct Op {
    what: u8,
    a: u8,
    b: u8,
    c: u8,
    d: u8,
    /// By the account with few rights, not by the owner.
    weak: bool,
}

fn any_op() -> impl Strategy<Value = Op> {
    (any::<u8>(), any::<[u8; 4]>(), any::<u8>()).prop_map(|(what, [a, b, c, d], weak)| Op {
        what,
        a,
        b,
        c,
        d,
        weak: weak.is_multiple_of(3),
    })
}

struct World<'p> {
    plant: &'p Plant,
    model: Model,
    ledger: Ledger,
    fold: Fold,
    stream: Stream,
    made: usize,
}

fn nth(number: u8, count: usize) -> usize {
    usize::from(number) % count
}

fn list(number: u8) -> Vec<String> {
    LISTS[nth(number, LISTS.len())].iter().map(|text| (*text).to_owned()).collect()
}

impl World<'_> {
    async fn ask(&self, op: &Op, method: Method, path: &str, body: Value) -> Answer {
        let token = if op.weak { &self.model.accounts[0].value } else { &self.plant.admin };
        let sent = self.plant.ask(method, &self.plant.o(path)).token(token).json(body).send().await;
        assert!(sent.status.as_u16() < 500, "{}", sent.text);
        sent
    }

    fn pick_resource(&self, number: u8) -> usize {
        let living: Vec<usize> = self.model.living().collect();
        living[nth(number, living.len())]
    }

    fn pick_group(&self, number: u8) -> Option<usize> {
        let groups = &self.model.groups;
        let living: Vec<usize> = (0..groups.len()).filter(|at| !groups[*at].gone).collect();
        (!living.is_empty()).then(|| living[nth(number, living.len())])
    }

    /// Does it at the API, and in the model if the API did.
    async fn step(&mut self, op: &Op) {
        self.made += 1;
        let name = format!("x{}", self.made);
        match op.what % 16 {
            0 => {
                let (permissions, deny) = (list(op.a), list(op.b));
                let (sticky, sa_assignable) = (op.c.is_multiple_of(4), !op.d.is_multiple_of(5));
                let body = json!({
                    "name": name, "permissions": permissions, "deny": deny,
                    "sticky": sticky, "sa_assignable": sa_assignable,
                });
                let sent = self.ask(op, Method::POST, "/roles", body).await;
                if sent.status.is_success() {
                    let id = sent.text("/role/id");
                    let built_in = false;
                    self.model.roles.push(RoleM {
                        id,
                        permissions,
                        deny,
                        sticky,
                        sa_assignable,
                        built_in,
                    });
                }
            }
            1 | 2 => {
                let role = nth(op.a, self.model.roles.len());
                if role == 3 {
                    return;
                }
                let (permissions, deny) = (list(op.b), list(op.c));
                let path = format!("/roles/{}", self.model.roles[role].id);
                let body = json!({"permissions": permissions, "deny": deny});
                let sent = self.ask(op, Method::PATCH, &path, body).await;
                let expected =
                    !self.model.roles[role].built_in && (deny.is_empty() || self.model.denies);
                assert!(op.weak || sent.status.is_success() == expected, "{}", sent.text);
                let ours = &mut self.model.roles[role];
                if sent.status.is_success() {
                    (ours.permissions, ours.deny) = (permissions, deny);
                }
            }
            3 => {
                let sent = self.ask(op, Method::POST, "/groups", json!({"name": name})).await;
                if sent.status.is_success() {
                    let id = sent.text("/group/id");
                    self.model.groups.push(GroupM { id, members: BTreeSet::new(), gone: false });
                }
            }
            4 => {
                let Some(group) = self.pick_group(op.a) else { return };
                let path = format!("/groups/{}", self.model.groups[group].id);
                if op.b.is_multiple_of(3)
                    && self.ask(op, Method::DELETE, &path, json!({})).await.status.is_success()
                {
                    self.model.groups[group].gone = true;
                    self.model.bindings.retain(|one| one.subject != SubjectM::Group(group));
                }
            }
            5 | 6 => self.join(op).await,
            7 => {
                let Some(group) = self.pick_group(op.a) else { return };
                let account = nth(op.b, self.model.accounts.len());
                let (group_id, id) =
                    (&self.model.groups[group].id, &self.model.accounts[account].id);
                let path = format!("/groups/{group_id}/members/{id}");
                let sent = self.ask(op, Method::DELETE, &path, json!({})).await;
                let was = self.model.groups[group].members.contains(&account);
                assert!(op.weak || sent.status.is_success() == was, "{}", sent.text);
                if sent.status.is_success() {
                    self.model.groups[group].members.remove(&account);
                }
            }
            8..=10 => self.bind(op).await,
            11 => {
                if self.model.bindings.is_empty() {
                    return;
                }
                let one = nth(op.a, self.model.bindings.len());
                let path = format!("/role-bindings/{}", self.model.bindings[one].id);
                if self.ask(op, Method::DELETE, &path, json!({})).await.status.is_success() {
                    self.model.bindings.remove(one);
                }
            }
            12 => {
                let policy = nth(op.a, self.model.policies.len());
                let enabled = op.b.is_multiple_of(2);
                let verb = if enabled { "enable" } else { "disable" };
                let path = format!("/security-policies/{}:{verb}", self.model.policies[policy].0);
                if self.ask(op, Method::POST, &path, json!({})).await.status.is_success() {
                    self.model.policies[policy].1 = enabled;
                }
            }
            13 => self.change_tree(op, &name).await,
            14 => {
                // Account 0 goes on acting.
                let account = 1 + nth(op.a, self.model.accounts.len() - 1);
                let active = op.b.is_multiple_of(2);
                let verb = if active { "activate" } else { "deactivate" };
                let path = format!("/service-accounts/{}:{verb}", self.model.accounts[account].id);
                if self.ask(op, Method::POST, &path, json!({})).await.status.is_success() {
                    self.model.accounts[account].active = active;
                }
            }
            POLICY.. => self.change_policy(op).await,
        }
    }

    async fn join(&mut self, op: &Op) {
        let Some(group) = self.pick_group(op.a) else { return };
        let account = nth(op.b, self.model.accounts.len());
        let (group_id, id) = (&self.model.groups[group].id, &self.model.accounts[account].id);
        let sent = match op.c % 3 {
            0 => {
                let path = format!("/service-accounts/{id}/groups:assign");
                self.ask(op, Method::POST, &path, json!({"group_ids": [group_id]})).await
            }
            _ => {
                let body = json!({"principal": {"kind": "service_account", "id": id}});
                self.ask(op, Method::POST, &format!("/groups/{group_id}/members"), body).await
            }
        };
        let forbidden = self.model.forbidden_groups.contains(&group);
        assert!(!(sent.status.is_success() && forbidden), "I-12: {}", sent.text);
        assert!(op.weak || sent.status.is_success() != forbidden, "{}", sent.text);
        if sent.status.is_success() {
            self.model.groups[group].members.insert(account);
        }
    }

    async fn bind(&mut self, op: &Op) {
        let subject = match (op.a % 2, self.pick_group(op.b)) {
            (0, Some(group)) => SubjectM::Group(group),
            _ => SubjectM::Account(nth(op.b, self.model.accounts.len())),
        };
        let role = nth(op.c, self.model.roles.len());
        let resource = self.pick_resource(op.d);
        let propagate = !op.a.is_multiple_of(5);
        let policy = (op.b.is_multiple_of(3)).then(|| nth(op.a, self.model.policies.len()));
        let (kind, id) = match subject {
            SubjectM::Account(at) => ("service_account", &self.model.accounts[at].id),
            SubjectM::Group(at) => ("group", &self.model.groups[at].id),
        };
        let body = json!({
            "role_id": self.model.roles[role].id,
            "subject": {"kind": kind, "id": id},
            "resource_id": self.model.resources[resource].id,
            "propagate": propagate,
            "policy_id": policy.map(|at| &self.model.policies[at].0),
        });
        let sent = match op.d % 4 {
            0 => {
                let batch = json!({"create": [body]});
                self.ask(op, Method::POST, "/role-bindings:batch", batch).await
            }
            _ => self.ask(op, Method::POST, "/role-bindings", body).await,
        };
        let model = &self.model;
        let taken = model.bindings.iter().any(|one| {
            (one.subject, one.role, one.resource, one.policy) == (subject, role, resource, policy)
        });
        let forbidden = kind == "service_account"
            && (model.forbidden_roles.contains(&role) || !model.roles[role].sa_assignable);
        // Of an archived place only reading is left, for its administrators too.
        let archived = model.up(resource).iter().any(|at| model.resources[*at].archived);
        let refused = taken || forbidden || archived;
        assert!(op.weak || sent.status.is_success() != refused, "{}", sent.text);
        if sent.status.is_success() {
            let pointer = if op.d.is_multiple_of(4) { "/created/0/id" } else { "/role_binding/id" };
            let id = sent.text(pointer);
            self.model.bindings.push(BindingM { id, subject, role, resource, propagate, policy });
        }
    }

    async fn change_tree(&mut self, op: &Op, name: &str) {
        let (resource, other) = (self.pick_resource(op.a), self.pick_resource(op.b));
        let id = self.model.resources[resource].id.clone();
        let path = format!("/resources/{id}");
        match op.c % 4 {
            0 => {
                let body = json!({"kind": "workspace", "name": name, "parent_id": id});
                let sent = self.ask(op, Method::POST, "/resources", body).await;
                if sent.status.is_success() {
                    self.model.resources.push(ResourceM {
                        id: sent.text("/resource/id"),
                        place: format!("workspace/{name}"),
                        parent: Some(resource),
                        archived: false,
                        gone: false,
                    });
                }
            }
            1 => {
                let body = json!({"parent_id": self.model.resources[other].id});
                if self.ask(op, Method::PATCH, &path, body).await.status.is_success() {
                    self.model.resources[resource].parent = Some(other);
                }
            }
            2 => {
                let archived = op.d.is_multiple_of(2);
                let verb = if archived { "archive" } else { "unarchive" };
                let path = format!("{path}:{verb}");
                // Whoever may change a resource may lift its archive, and what that frees.
                let owner = Op { weak: false, ..op.clone() };
                if self.ask(&owner, Method::POST, &path, json!({})).await.status.is_success() {
                    self.model.resources[resource].archived = archived;
                }
            }
            _ => {
                if self.ask(op, Method::DELETE, &path, json!({})).await.status.is_success() {
                    self.model.resources[resource].gone = true;
                    self.model.bindings.retain(|one| one.resource != resource);
                }
            }
        }
    }

    async fn change_policy(&mut self, op: &Op) {
        let owner = Op { weak: false, ..op.clone() };
        let mut groups = BTreeSet::new();
        if let (Some(group), true) = (self.pick_group(op.a), op.b.is_multiple_of(2)) {
            groups.insert(group);
        }
        // The acting account keeps its role.
        let custom = self.model.roles.len() - 4;
        let forbidden: BTreeSet<usize> = match (op.c % 2, custom) {
            (0, 1..) => BTreeSet::from([4 + nth(op.d, custom)]),
            _ => BTreeSet::new(),
        };
        let (denies, union) = (!op.d.is_multiple_of(4), op.c.is_multiple_of(3));
        let body = json!({
            "sa_forbidden_groups": groups.iter().map(|at| &self.model.groups[*at].id).collect::<Vec<_>>(),
            "sa_forbidden_roles": forbidden.iter().map(|at| &self.model.roles[*at].id).collect::<Vec<_>>(),
            "deny_enabled": denies,
            "inheritance": if union { "union" } else { "override" },
        });
        let sent = self.ask(&owner, Method::PATCH, "/policy", body).await;
        assert!(sent.status.is_success(), "{}", sent.text);
        (self.model.forbidden_groups, self.model.forbidden_roles) = (groups, forbidden);
        (self.model.denies, self.model.union) = (denies, union);
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

    /// Everybody everywhere at the gateway.
    fn compare_gateway(&mut self) {
        let peppers = PepperRing::new(vec![Pepper::new(1, [7; 32])]).unwrap();
        let needs = ASKED.map(|text| self.ledger.symbols().requirement(&text.parse().unwrap()));
        let view = self.ledger.view();
        let (now, peer) = (self.plant.clock.now().wall, "127.0.0.1".parse().unwrap());
        for (account, AccountM { value, .. }) in self.model.accounts.iter().enumerate() {
            let presented = parse(value.as_bytes()).unwrap();
            let principal = view.verify(&presented, peer, now, &peppers).ok();
            for resource in self.model.living() {
                let place = match self.model.resources[resource].place.as_str() {
                    "org" => Place::Root,
                    place => Place::At(place, Unknown::Deny),
                };
                for (permission, need) in ASKED.iter().zip(&needs) {
                    let gateway = principal
                        .is_some_and(|principal| principal.authorize(need, place, "GET").is_ok());
                    let model = self.model.allows(account, resource, permission);
                    assert_eq!(gateway, model, "{permission} of {account} on {resource}");
                }
            }
        }
    }

    /// One account at the API: what `explain` and the rows say.
    async fn compare_api(&self, account: usize) {
        let AccountM { id, key, .. } = &self.model.accounts[account];
        let rows = self.plant.get(&self.plant.s(id, "/access?page_size=200")).await;
        let rows = rows.body["items"].as_array().unwrap().clone();
        for resource in self.model.living() {
            let resource_id = &self.model.resources[resource].id;
            let body = json!({"key_id": key, "resource_id": resource_id});
            let told = self.plant.post(&self.plant.o(":explain"), body).await;
            let row = rows.iter().find(|row| row["resource"]["id"] == json!(resource_id));
            let has = |shown: &Value, permission: &str| {
                let any = |member: &str| {
                    let listed = shown[member].as_array().cloned().unwrap_or_default();
                    listed.iter().any(|it| covers(it.as_str().unwrap(), permission))
                };
                any("permissions") && !any("denied")
            };
            for permission in ASKED {
                let model = self.model.allows(account, resource, permission);
                assert_eq!(has(&told.body, permission), model, "{permission}: {}", told.text);
                let held = self.model.holds(account, resource, permission);
                let shown = row.is_some_and(|row| has(row, permission));
                assert_eq!(shown, held, "{permission} on {resource}: {row:?}");
            }
            // An applied contribution gives something; each exclusion has its word.
            for one in told.body["contributions"].as_array().unwrap() {
                assert_eq!(one["applied"] == true, one["excluded"].is_null(), "{one}");
            }
        }
    }
}

async fn run(ops: Vec<Op>) {
    let plant = Plant::start().await;
    let gateway = Gateway { plant: &plant, id: "gw-1" };
    plant.patch(&plant.o("/policy"), json!({"deny_enabled": true})).await;
    let mut model = Model { denies: true, ..Model::default() };
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (id, permissions, sticky) in [
        ("viewer", texts(&["*:read"]), false),
        ("member", texts(&["*:read", "*:write"]), false),
        ("owner", texts(&["**"]), true),
    ] {
        let (deny, sa_assignable, built_in) = (Vec::new(), true, true);
        let id = id.to_owned();
        model.roles.push(RoleM { id, permissions, deny, sticky, sa_assignable, built_in });
    }
    let rights = texts(&[
        "*:read",
        "role:*",
        "role_binding:*",
        "group:*",
        "group_member:*",
        "security_policy:*",
        "resource:*",
    ]);
    let body = json!({"name": "weak", "permissions": rights});
    let id = plant.post(&plant.o("/roles"), body).await.text("/role/id");
    let (deny, built_in) = (Vec::new(), false);
    model.roles.push(RoleM {
        id: id.clone(),
        permissions: rights,
        deny,
        sticky: false,
        sa_assignable: true,
        built_in,
    });
    for name in ["weak", "a", "b"] {
        let (id, key, value) = plant.agent(name, None).await;
        model.accounts.push(AccountM { id, key, value, active: true });
    }
    let weak = json!({"kind": "service_account", "id": model.accounts[0].id});
    let body = json!({"role_id": id, "subject": weak, "resource_id": plant.root});
    let id = plant.post(&plant.o("/role-bindings"), body).await.text("/role_binding/id");
    let subject = SubjectM::Account(0);
    model.bindings.push(BindingM {
        id,
        subject,
        role: 3,
        resource: 0,
        propagate: true,
        policy: None,
    });
    let root = ResourceM {
        id: plant.root.clone(),
        place: "org".to_owned(),
        parent: None,
        archived: false,
        gone: false,
    };
    model.resources.push(root);
    for name in ["k1", "k2"] {
        let id = plant.resource("cluster", name).await;
        let place = format!("cluster/{name}");
        model.resources.push(ResourceM {
            id,
            place,
            parent: Some(0),
            archived: false,
            gone: false,
        });
    }
    for name in ["g1", "g2"] {
        let id = plant.post(&plant.o("/groups"), json!({"name": name})).await.text("/group/id");
        model.groups.push(GroupM { id, members: BTreeSet::new(), gone: false });
        let made = plant.post(&plant.o("/security-policies"), json!({"name": name})).await;
        model.policies.push((made.text("/security_policy/id"), true));
    }
    let stream = gateway.follow(Position { epoch: 1, seq: 0 }).await;
    // This gateway acknowledges nothing; once it is lost, no mutation waits for it.
    plant.clock.advance_ms(5001);
    let mut ledger = Ledger::new(1);
    ledger.load(Position { epoch: 1, seq: 0 }, [] as [SnapshotRecord; 0]).expect("an empty state");
    let mut world = World { plant: &plant, model, ledger, fold: Fold::default(), stream, made: 0 };
    for (n, op) in ops.iter().enumerate() {
        let (before, known) = (world.model.table(), world.model.resources.len());
        world.step(op).await;
        if op.weak && op.what % 16 != POLICY {
            for gain in world.model.table().difference(&before) {
                let (_, resource, permission) = gain;
                // At a new place everybody has what propagates there.
                let handed_out = *resource < known;
                assert!(
                    !handed_out || before.contains(&(0, *resource, permission)),
                    "I-19: {op:?} gave {gain:?}"
                );
            }
        }
        world.catch_up().await;
        world.compare_gateway();
        world.compare_api(n % world.model.accounts.len()).await;
    }
    let snapshot = gateway.snapshot().await;
    assert_eq!(snapshot.records, world.fold.records);
}

#[test]
fn store_gateway_explain_and_rows_say_what_the_definition_says() {
    let seed: u64 = option_env!("PORTCULLIS_SEED").map_or(1, |text| text.parse().unwrap());
    println!("PORTCULLIS_SEED={seed}");
    let mut bytes = [0_u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config =
        Config { cases: 10, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let ops = proptest::collection::vec(any_op(), 30..50);
    let outcome = TestRunner::new_with_rng(config, rng).run(&ops, |ops| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(run(ops));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
