//! Every transition of service-accounts.md 5, by random sequences of operations beside a small model
//! that knows nothing but the table (I-2 to I-8, I-17, I-18).

use std::collections::BTreeMap;

use portcullis_core::feed::Kind;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Plant, START_MS};
use crate::player::Gateway;

const MINUTE_MS: u64 = 60_000;
/// Counted keys that the policy allows.
const MOST_KEYS: usize = 3;

/// One thing that somebody does. Numbers pick a key among those ever made.
#[derive(Clone, Debug)]
enum Step {
    Account(Switch),
    Advance(u64),
    Create { name: u8, minutes: Option<u64>, active: bool },
    Expire { key: usize, minutes: Option<u64> },
    Key(usize, Switch),
    Keeping(bool),
    Restart,
    Rotate { key: usize, retain: u64, expires: Expires },
}

#[derive(Copy, Clone, Debug)]
enum Switch {
    Activate,
    Deactivate,
    Delete,
    Revoke,
}

#[derive(Copy, Clone, Debug)]
enum Expires {
    In(u64),
    Keep,
    Never,
    Past,
}

fn switch() -> impl Strategy<Value = Switch> {
    prop_oneof![
        4 => Just(Switch::Activate),
        4 => Just(Switch::Deactivate),
        1 => Just(Switch::Delete),
        1 => Just(Switch::Revoke),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let minutes = || prop_oneof![Just(None), (1..6_u64).prop_map(Some)];
    let expires = prop_oneof![
        (1..6_u64).prop_map(Expires::In),
        Just(Expires::Keep),
        Just(Expires::Never),
        Just(Expires::Past),
    ];
    prop_oneof![
        // The end of an account ends the story, so it is rare.
        2 => prop_oneof![6 => Just(Switch::Activate), 6 => Just(Switch::Deactivate), 1 => switch()]
            .prop_map(Step::Account),
        2 => prop_oneof![
            Just(1), Just(MINUTE_MS - 1), Just(MINUTE_MS), Just(2 * MINUTE_MS), Just(3 * MINUTE_MS)
        ]
        .prop_map(Step::Advance),
        3 => (0..4_u8, minutes(), any::<bool>())
            .prop_map(|(name, minutes, active)| Step::Create { name, minutes, active }),
        2 => (0..6_usize, minutes()).prop_map(|(key, minutes)| Step::Expire { key, minutes }),
        4 => (0..6_usize, switch()).prop_map(|(key, switch)| Step::Key(key, switch)),
        1 => any::<bool>().prop_map(Step::Keeping),
        1 => Just(Step::Restart),
        5 => (0..6_usize, 0..4_u64, expires)
            .prop_map(|(key, retain, expires)| Step::Rotate { key, retain, expires }),
    ]
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Active,
    Deleted,
    Inactive,
    Revoked,
}

impl State {
    fn is_listed(self) -> bool {
        self != State::Deleted
    }

    fn counts(self) -> bool {
        matches!(self, State::Active | State::Inactive)
    }

    /// What the table says: the state after it, or why not. `None` in it is no change.
    fn after(self, switch: Switch) -> Result<Option<State>, (u16, &'static str)> {
        let to = match switch {
            Switch::Activate => State::Active,
            Switch::Deactivate => State::Inactive,
            Switch::Delete => State::Deleted,
            Switch::Revoke => State::Revoked,
        };
        match (self, to) {
            (State::Deleted, _) => Err((404, "not_found")),
            (State::Revoked, State::Active | State::Inactive) => Err((409, "state_terminal")),
            (from, to) if from == to => Ok(None),
            (_, to) => Ok(Some(to)),
        }
    }
}

struct Key {
    id: String,
    name: u8,
    state: State,
    version: u64,
    generation: u64,
    expires: Option<u64>,
    current: String,
    previous: Option<(String, u64)>,
    /// Secrets that must never be accepted again.
    dead: Vec<String>,
}

impl Key {
    fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.version += 1;
    }
}

struct Model {
    state: State,
    version: u64,
    keys: Vec<Key>,
    deletes_keys: bool,
    now: u64,
}

impl Model {
    fn counted(&self) -> usize {
        self.keys.iter().filter(|key| key.state.counts()).count()
    }

    /// Every secret ever shown, and whether it is accepted now.
    fn verdicts(&self) -> BTreeMap<&str, bool> {
        let mut verdicts = BTreeMap::new();
        for key in &self.keys {
            let usable = self.state == State::Active
                && key.state == State::Active
                && !key.is_expired(self.now);
            verdicts.insert(key.current.as_str(), usable);
            if let Some((value, until)) = &key.previous {
                verdicts.insert(value, usable && self.now < *until);
            }
            verdicts.extend(key.dead.iter().map(|value| (value.as_str(), false)));
        }
        verdicts
    }
}

struct World {
    plant: Plant,
    account: String,
    model: Model,
}

fn instant(ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
    at.to_string()
}

/// What was said against what the table says.
#[track_caller]
fn assert_end(answer: &Answer, expected: Result<(), (u16, &str)>, step: &Step) {
    match expected {
        Ok(()) => assert!(answer.status.is_success(), "{step:?}: {}", answer.text),
        Err((status, code)) => {
            let found = (answer.status.as_u16(), answer.body["code"].as_str());
            assert_eq!(found, (status, Some(code)), "{step:?}: {}", answer.text);
        }
    }
}

impl World {
    async fn new() -> World {
        let plant = Plant::start().await;
        plant.patch(&plant.o("/policy"), json!({"max_keys_per_sa": MOST_KEYS})).await;
        let account = plant.account(json!({"username": "ci", "role_id": "viewer"})).await;
        let model = Model {
            state: State::Active,
            version: 1,
            keys: Vec::new(),
            deletes_keys: false,
            now: START_MS,
        };
        World { plant, account, model }
    }

    fn path(&self, rest: &str) -> String {
        self.plant.s(&self.account, rest)
    }

    async fn seq(&self) -> u64 {
        self.plant.get("/readyz").await.number("/seq")
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Account(switch) => self.switch_account(*switch, step).await,
            Step::Advance(ms) => self.advance(*ms),
            Step::Create { name, minutes, active } => {
                self.create(*name, *minutes, *active, step).await;
            }
            Step::Expire { key, minutes } => self.expire(*key, *minutes, step).await,
            Step::Key(key, switch) => self.switch_key(*key, *switch, step).await,
            Step::Keeping(keeping) => {
                let change = if *keeping { "preserve" } else { "delete" };
                let path = self.plant.o("/policy");
                let changed = self.plant.patch(&path, json!({"sa_deactivate_keys": change})).await;
                assert!(changed.status.is_success(), "{}", changed.text);
                self.model.deletes_keys = !keeping;
            }
            Step::Restart => {
                self.plant.restart().await;
            }
            Step::Rotate { key, retain, expires } => {
                self.rotate(*key, *retain, *expires, step).await;
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        self.plant.clock.advance_ms(ms);
        self.model.now += ms;
    }

    async fn switch_account(&mut self, switch: Switch, step: &Step) {
        let (method, verb) = request(switch);
        let seq = self.seq().await;
        let answer = self.plant.ask(method, &self.path(verb)).send().await;
        let after = self.model.state.after(switch);
        assert_end(&answer, after.map(|_| ()), step);
        let Ok(after) = after else { return };
        match after {
            None => assert_eq!(self.seq().await, seq, "a repetition changes nothing"),
            Some(state) => {
                let before = std::mem::replace(&mut self.model.state, state);
                self.model.version += 1;
                for key in &mut self.model.keys {
                    match state {
                        State::Deleted if key.state.is_listed() => key.end(State::Deleted),
                        State::Revoked if key.state.counts() => key.end(State::Revoked),
                        State::Inactive if self.model.deletes_keys && key.state.is_listed() => {
                            key.end(State::Deleted);
                        }
                        _ => {}
                    }
                }
                assert_ne!(before, state);
            }
        }
        assert_eq!(answer.number("/service_account/version"), self.model.version);
    }

    async fn create(&mut self, name: u8, minutes: Option<u64>, active: bool, step: &Step) {
        let model = &self.model;
        let expires = minutes.map(|minutes| model.now + minutes * MINUTE_MS);
        let taken = model.keys.iter().any(|key| key.name == name && key.state.is_listed());
        let expected = match model.state {
            State::Deleted => Err((404, "not_found")),
            State::Inactive => Err((409, "service_account_inactive")),
            State::Revoked => Err((409, "state_terminal")),
            State::Active if taken => Err((409, "name_taken")),
            State::Active if model.counted() >= MOST_KEYS => Err((409, "key_limit_reached")),
            State::Active => Ok(()),
        };
        let body = json!({
            "name": format!("key {name}"), "expires_at": expires.map(instant), "active": active,
        });
        let answer = self.plant.post(&self.path("/keys"), body).await;
        assert_end(&answer, expected, step);
        if expected.is_ok() {
            let state = if active { State::Active } else { State::Inactive };
            self.model.keys.push(Key {
                id: answer.text("/key/id"),
                name,
                state,
                version: 1,
                generation: 1,
                expires,
                current: answer.text("/value"),
                previous: None,
                dead: Vec::new(),
            });
        }
    }

    /// The index of a key and its path, if there is any.
    fn pick(&self, key: usize) -> Option<(usize, String)> {
        let index = key.checked_rem(self.model.keys.len())?;
        let id = &self.model.keys[index].id;
        Some((index, self.path(&format!("/keys/{id}"))))
    }

    async fn switch_key(&mut self, key: usize, switch: Switch, step: &Step) {
        let Some((index, path)) = self.pick(key) else { return };
        let (method, verb) = request(switch);
        let seq = self.seq().await;
        let answer = self.plant.ask(method, &format!("{path}{verb}")).send().await;
        let after = self.model.keys[index].state.after(switch);
        assert_end(&answer, after.map(|_| ()), step);
        let key = &mut self.model.keys[index];
        match after {
            Ok(Some(state)) => key.end(state),
            Ok(None) => assert_eq!(self.seq().await, seq, "a repetition changes nothing"),
            Err(_) => return,
        }
        assert_eq!(answer.number("/key/version"), self.model.keys[index].version);
    }

    async fn expire(&mut self, key: usize, minutes: Option<u64>, step: &Step) {
        let Some((index, path)) = self.pick(key) else { return };
        let wanted = minutes.map(|minutes| self.model.now + minutes * MINUTE_MS);
        let answer = self.plant.patch(&path, json!({"expires_at": wanted.map(instant)})).await;
        let key = &mut self.model.keys[index];
        let expected = match key.state {
            State::Deleted => Err((404, "not_found")),
            State::Revoked => Err((409, "state_terminal")),
            State::Active | State::Inactive => Ok(()),
        };
        assert_end(&answer, expected, step);
        if expected.is_ok() {
            // Never longer than before, and never beyond the key's end, old or new.
            let ends = [key.expires, wanted].into_iter().flatten();
            let nearest = ends.min().unwrap_or(u64::MAX);
            if let Some((_, until)) = &mut key.previous {
                *until = (*until).min(nearest);
            }
            key.expires = wanted;
            key.version += 1;
        }
    }

    async fn rotate(&mut self, key: usize, retain: u64, expires: Expires, step: &Step) {
        let Some((index, path)) = self.pick(key) else { return };
        let now = self.model.now;
        let wish = match expires {
            Expires::In(minutes) => json!(instant(now + minutes * MINUTE_MS)),
            Expires::Keep => json!("keep"),
            Expires::Never => json!("never"),
            Expires::Past => json!(instant(now)),
        };
        let body = json!({"retain_minutes": retain, "expires": wish});
        let answer = self.plant.post(&format!("{path}:rotate"), body).await;
        let key = &mut self.model.keys[index];
        let expected = match key.state {
            State::Deleted => Err((404, "not_found")),
            _ if matches!(expires, Expires::Past) => Err((422, "validation_failed")),
            State::Inactive => Err((409, "key_inactive")),
            State::Revoked => Err((409, "state_terminal")),
            State::Active if matches!(expires, Expires::Keep) && key.is_expired(now) => {
                Err((409, "key_expired"))
            }
            State::Active => Ok(()),
        };
        assert_end(&answer, expected, step);
        if expected.is_err() {
            return;
        }
        let old_end = key.expires;
        key.expires = match expires {
            Expires::In(minutes) => Some(now + minutes * MINUTE_MS),
            Expires::Keep => key.expires,
            Expires::Never | Expires::Past => None,
        };
        let old = std::mem::replace(&mut key.current, answer.text("/value"));
        let older = key.previous.take();
        key.dead.extend(older.map(|(value, _)| value));
        match retain {
            0 => key.dead.push(old),
            minutes => {
                let ends = [Some(now + minutes * MINUTE_MS), old_end, key.expires];
                key.previous = Some((old, ends.into_iter().flatten().min().unwrap()));
            }
        }
        key.generation += 1;
        key.version += 1;
        assert_eq!(answer.text("/key/id"), key.id, "the id stays (I-2)");
        assert_eq!(answer.number("/key/generation"), key.generation);
        assert_eq!(answer.number("/key/version"), key.version);
    }

    /// Compares everything that can be seen with the model.
    async fn check(&mut self) {
        for (value, accepted) in self.model.verdicts() {
            let found = self.plant.accepts(value).await == 200;
            assert_eq!(found, accepted, "{:?}", self.model.state);
        }
        let shown = self.plant.get(&self.path("?include_deleted=true")).await;
        assert_eq!(shown.number("/version"), self.model.version);
        if self.model.state.is_listed() {
            assert_eq!(shown.number("/key_count"), self.model.counted() as u64);
            let listed = self.plant.get(&self.path("/keys")).await;
            let listed: BTreeMap<String, Value> = listed.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| (key["id"].as_str().unwrap().to_owned(), key.clone()))
                .collect();
            let living = self.model.keys.iter().filter(|key| key.state.is_listed());
            assert_eq!(listed.len(), living.clone().count());
            for key in living {
                assert_eq!(listed[&key.id]["version"], key.version);
                assert_eq!(listed[&key.id]["expired"], key.is_expired(self.model.now));
            }
        }
        self.check_feed().await;
    }

    /// Gateways hold a key if and only if it and its account can be switched on (I-5, I-6).
    async fn check_feed(&mut self) {
        let gateway = Gateway { plant: &self.plant, id: "gw-1" };
        let records = gateway.snapshot().await.records;
        let account = records.get(&(Kind::Account, self.account.clone()));
        assert_eq!(account.is_some(), self.model.state.counts());
        for key in &self.model.keys {
            let record = records.get(&(Kind::Key, key.id.clone()));
            assert_eq!(record.is_some(), key.state.counts(), "{:?}", key.state);
            if let Some(record) = record {
                assert!(account.is_some(), "no key without its account");
                assert_eq!(record["generation"], key.generation);
                let until = key.previous.as_ref().map(|(_, until)| *until);
                assert_eq!(record["previous"]["retained_until_ms"].as_u64(), until);
            }
        }
        // A gateway that acknowledges nothing is lost after five seconds: nobody waits for it.
        self.advance(5001);
    }
}

fn request(switch: Switch) -> (Method, &'static str) {
    match switch {
        Switch::Activate => (Method::POST, ":activate"),
        Switch::Deactivate => (Method::POST, ":deactivate"),
        Switch::Delete => (Method::DELETE, ""),
        Switch::Revoke => (Method::POST, ":revoke"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_follows_the_table(
        steps in proptest::collection::vec(step(), 1..48)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for (n, step) in steps.iter().enumerate() {
                world.take(step).await;
                if n % 8 == 7 {
                    world.check().await;
                }
            }
            world.check().await;
            world.plant.stop().await;
        });
    }
}
