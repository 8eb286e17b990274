//! What a decision costs: parse, digest, find, authorize, at 1 thousand to 10 million keys; what a
//! key takes in memory; what updates do to readers.
//!
//! `cargo bench -p portcullis-core --bench verify [-- --keys 1000,100000,1000000,10000000]`
//!
//! Prints nanoseconds per decision (median of the rounds' means), resident bytes per key, and the
//! readers' percentiles without and with a writer that applies one change after the other.

#![expect(clippy::disallowed_methods, reason = "a bench measures time")]
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use portcullis_core::access::Permission;
use portcullis_core::directory::{Directory, Ledger, Place, Requirement, Unknown};
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::feed::{Change, Kind, Position, Txn};
use portcullis_core::key::{KeyId, Pepper, PepperRing, PlainKey, Prefix, mint_for, parse};
use portcullis_core::time::WallMs;
use serde_json::{Value, json};

const ROUNDS: usize = 9;
const KEYS_PER_ACCOUNT: u64 = 10;
const CLUSTERS: u64 = 64;
const NOW: WallMs = WallMs(1_795_305_600_000);
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn main() {
    let sizes = sizes();
    println!("machine: {}", machine());
    println!("{KEYS_PER_ACCOUNT} keys per account, one cluster resource per request");
    println!(
        "{:>10} {:>8} {:>8} {:>8} {:>10} {:>12} {:>12}",
        "keys", "hit ns", "miss ns", "dead ns", "bytes/key", "of it table", "load s"
    );
    let mut last = None;
    for &size in &sizes {
        drop(last.take());
        let before = resident();
        let started = Instant::now();
        let mut world = World::build(size);
        let loaded = started.elapsed().as_secs_f64();
        let bytes = resident().saturating_sub(before) / size;
        let table = world.ledger.counts().bytes as u64 / size;
        let hit = world.cost(&world.texts(size, Which::Live), Expect::Permit);
        let miss = world.cost(&world.texts(size, Which::Unknown), Expect::Refusal);
        let dead = world.texts(size, Which::Live);
        let dead = &dead[..dead.len().min(100_000)];
        world.revoke(dead);
        let revoked = world.cost(dead, Expect::Refusal);
        println!(
            "{size:>10} {hit:>8.0} {miss:>8.0} {revoked:>8.0} {bytes:>10} {table:>12} {loaded:>12.1}"
        );
        last = Some((world, size));
    }
    if let Some((world, size)) = last {
        readers_under_updates(world, size);
    }
}

/// A ledger with `size` keys and what is needed to ask it.
struct World {
    ledger: Ledger,
    view: Arc<Directory>,
    need: Requirement,
    peppers: PepperRing,
}

#[derive(Copy, Clone)]
enum Which {
    Live,
    Unknown,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Expect {
    Permit,
    Refusal,
}

impl World {
    fn build(size: u64) -> Self {
        let peppers = PepperRing::new(vec![Pepper::new(1, [3; 32])]).expect("one pepper");
        let mut ledger = Ledger::new(0x5eed);
        let permission: Permission = "cluster:read".parse().expect("a permission");
        let need = ledger.symbols().requirement(&permission);
        let position = Position { epoch: 1, seq: 1 };
        ledger.load(position, records(size, &peppers)).expect("good records");
        let view = ledger.view();
        Self { ledger, view, need, peppers }
    }

    /// Key texts in random order: at most two million, spread over all keys.
    fn texts(&self, size: u64, which: Which) -> Vec<[u8; 65]> {
        let count = size.clamp(100_000, 2_000_000);
        (0..count)
            .map(|draw| {
                let number = splitmix(draw) % size;
                let key = match which {
                    Which::Live => key(number),
                    Which::Unknown => key(number + size),
                };
                key.expose().as_bytes().try_into().expect("65 bytes with the usual prefix")
            })
            .collect()
    }

    /// Median over rounds of the mean nanoseconds per decision.
    fn cost(&self, texts: &[[u8; 65]], expect: Expect) -> f64 {
        let mut means: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let started = Instant::now();
                let permits =
                    texts.iter().filter(|text| self.decide(&self.view, &text[..])).count();
                let mean = started.elapsed().as_nanos() as f64 / texts.len() as f64;
                assert_eq!(permits, if expect == Expect::Permit { texts.len() } else { 0 });
                mean
            })
            .collect();
        means.sort_by(f64::total_cmp);
        means[ROUNDS / 2]
    }

    #[inline(never)]
    fn decide(&self, view: &Directory, text: &[u8]) -> bool {
        // As the gateway does it: the directory learns of the credential before it is read.
        view.anticipate(black_box(text));
        let Ok(presented) = parse(black_box(text)) else { return false };
        let Ok(principal) = view.verify(&presented, PEER, NOW, &self.peppers) else { return false };
        let number = presented.id().as_u64() % 10;
        let place = PLACES[number as usize];
        principal.authorize(&self.need, Place::At(place, Unknown::Deny), "GET").is_ok()
    }

    fn revoke(&mut self, texts: &[[u8; 65]]) {
        for text in texts {
            let id = parse(text).expect("minted").id().to_string();
            let position = self.ledger.position();
            let position = Position { seq: position.seq + 1, ..position };
            let change = Change::Revoke { kind: Kind::Key, id, expires_at_ms: None };
            self.ledger.apply(&Txn { position, at_ms: 0, changes: vec![change], sig: None });
        }
        self.view = self.ledger.view();
    }
}

const PLACES: [&str; 10] = [
    "cluster/c0",
    "cluster/c1",
    "cluster/c2",
    "cluster/c3",
    "cluster/c4",
    "cluster/c5",
    "cluster/c6",
    "cluster/c7",
    "cluster/c8",
    "cluster/c9",
];

fn records(size: u64, peppers: &PepperRing) -> impl Iterator<Item = (Kind, String, Value)> {
    let org = std::iter::once((Kind::Org, "o1".to_owned(), json!({"state": "active"})));
    let role = (Kind::Role, "viewer".to_owned(), json!({"permissions": ["*:read"]}));
    let clusters = (0..CLUSTERS)
        .map(|number| (Kind::Resource, format!("o1:cluster/c{number}"), json!({"parent": "org"})));
    let accounts = (0..size.div_ceil(KEYS_PER_ACCOUNT)).map(|number| {
        let grants = json!([{"at": "org", "self": ["@viewer"], "below": ["@viewer"]}]);
        let record = json!({"org": "o1", "state": "active", "name": "ci", "grants": grants});
        (Kind::Account, account(number), record)
    });
    let keys = (0..size).map(|number| {
        let key = key(number);
        let digest = key.parsed().digest(peppers.current()).to_hex();
        let record = json!({
            "account": account(number / KEYS_PER_ACCOUNT), "state": "active", "generation": 1,
            "current": {"alg": "b3", "pepper": 1, "digest": digest},
            "expires_at_ms": NOW.0 + 1_000_000,
        });
        (Kind::Key, key.id().to_string(), record)
    });
    org.chain([role]).chain(clusters).chain(accounts).chain(keys)
}

/// As long as the UUIDs that the control plane uses.
fn account(number: u64) -> String {
    format!("01939c3e-7e4b-7000-8000-{number:012x}")
}

fn key(number: u64) -> PlainKey {
    mint_for(KeyId::from_u64(splitmix(number ^ 0xabcd)), &Prefix::default(), &Counter(number))
        .expect("a counter never fails")
}

struct Counter(u64);

impl Entropy for Counter {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        for (word, bytes) in (0..).zip(out.chunks_mut(8)) {
            let drawn = splitmix(self.0.wrapping_mul(5).wrapping_add(word)).to_le_bytes();
            bytes.copy_from_slice(&drawn[..bytes.len()]);
        }
        Ok(())
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014).
fn splitmix(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One reader timing every decision, first alone, then beside a writer.
fn readers_under_updates(world: World, size: u64) {
    let texts = world.texts(size, Which::Live);
    let World { mut ledger, view, need, peppers } = world;
    let shared = Arc::new(ArcSwap::from(view));
    let stop = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicU64::new(0));
    let reader = World { ledger: Ledger::new(1), view: shared.load_full(), need, peppers };
    let alone = percentiles(&reader, &shared, &texts);
    let writer = std::thread::spawn({
        let (shared, stop, changes) =
            (Arc::clone(&shared), Arc::clone(&stop), Arc::clone(&changes));
        move || {
            let mut retired = Vec::new();
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let record = json!({
                    "account": account(number), "state": "active", "generation": 1,
                    "current": {"alg": "b3", "pepper": 1, "digest": "11".repeat(32)},
                });
                let id = KeyId::from_u64(splitmix(number ^ 0x7777)).to_string();
                let position = ledger.position();
                let position = Position { seq: position.seq + 1, ..position };
                let change = Change::Put { kind: Kind::Key, id, record };
                ledger.apply(&Txn { position, at_ms: 0, changes: vec![change], sig: None });
                retired.push(shared.swap(ledger.view()));
                retired.retain(|view| Arc::strong_count(view) > 1);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let started = Instant::now();
    let beside = percentiles(&reader, &shared, &texts);
    let rate = changes.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer stops when told");
    println!("reader alone:    p50 {} ns, p99 {} ns, p99.9 {} ns", alone[0], alone[1], alone[2]);
    println!(
        "beside a writer: p50 {} ns, p99 {} ns, p99.9 {} ns at {rate:.0} changes/s ({:.0} us each)",
        beside[0],
        beside[1],
        beside[2],
        1e6 / rate
    );
    println!("p99 ratio: {:.2}", beside[1] as f64 / alone[1] as f64);
}

fn percentiles(world: &World, shared: &ArcSwap<Directory>, texts: &[[u8; 65]]) -> [u64; 3] {
    let mut times = Vec::with_capacity(texts.len());
    for text in texts {
        let started = Instant::now();
        black_box(world.decide(&shared.load(), text));
        times.push(started.elapsed().as_nanos() as u64);
    }
    times.sort_unstable();
    [500, 990, 999].map(|permille| times[(times.len() - 1) * permille / 1000])
}

fn sizes() -> Vec<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--keys").skip(1);
    let list = arguments.next().unwrap_or_else(|| "1000,100000,1000000,10000000".to_owned());
    list.split(',').map(|size| size.parse().expect("--keys takes numbers with commas")).collect()
}

/// Resident bytes of this process, from `/proc/self/statm` in pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {count} cores", model.unwrap_or("unknown processor"))
}
