//! A gateway from its settings to its end: bind, run, drain, join. Holds the threads; decides
//! nothing about requests.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ed25519_dalek::VerifyingKey;
use portcullis_core::directory::Ledger;
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::Clock;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::explain::explain;
use crate::feed_client::{Base, FeedClient};
use crate::listener::listen;
use crate::memory::Gauge;
use crate::metrics::Metrics;
use crate::phase::nanos;
use crate::plan::{Plan, UpstreamPlan};
use crate::reload::{Order, ReloadError};
use crate::settings::{Fault, Feed, Records, Settings};
use crate::shared::{Shared, SourceCounts};
use crate::sink::{self, Sink};
use crate::slow::{self, SlowThreads};
use crate::status::{
    Explanation, FeedStatus, Question, Status, UpstreamAddressStatus, UpstreamStatus,
};
use crate::steward;
use crate::subscriber::{Origin, Subscription};
use crate::usage;
use crate::worker::Seed;

/// Fast digests that may wait for the steward.
const REHASH_QUEUE: usize = 256;
/// Reloads that may wait for the steward.
const RELOAD_QUEUE: usize = 4;
/// A thread that has not ticked for this long is not alive.
const ALIVE: Duration = Duration::from_secs(5);

/// Checks `settings` as a whole and opens every listening socket; starts nothing.
///
/// # Errors
///
/// [`BindError`]; every [`Fault`] of the settings is reported at once, before the first socket.
pub fn bind(
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    registry: &prometheus::Registry,
) -> Result<Bound, BindError> {
    let mut ledger = Ledger::new(random(&*entropy)?);
    let wanted: Vec<_> = settings
        .listeners
        .iter()
        .map(|listener| (listener.name.clone(), listener.address))
        .collect();
    let (gateway, records) = (settings.gateway_id.clone(), settings.log.records.clone());
    let workers = match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let (plan, feed) = Plan::new(settings, ledger.symbols()).map_err(BindError::Settings)?;
    let (subscription, desk) = subscribe(feed, &gateway)?;
    let (usage, counts) = desk.map(|desk| usage::channel(desk, workers)).unzip();
    let out = sink::open(&records).map_err(|source| BindError::Records { records, source })?;
    let (sink, lines, sinks) = Sink::new(out);
    let metrics = Metrics::register(registry)?;

    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (listener, address) in wanted {
        let (bound, opened) = listen(address, workers).map_err(|source| BindError::Address {
            listener: listener.clone(),
            address,
            source,
        })?;
        for (of_worker, socket) in sockets.iter_mut().zip(opened) {
            of_worker.push(socket);
        }
        addresses.push((listener, bound));
    }
    let (reloads, orders) = mpsc::channel(RELOAD_QUEUE);
    let (slow, hashers) = slow::queues();
    let (rehashes, found) = mpsc::channel(REHASH_QUEUE);
    let shared = Arc::new(Shared {
        boot: format!("{:016x}", random(&*entropy)?),
        gateway,
        plan: ArcSwap::from_pointee(plan),
        taken: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        reloads,
        sinks,
        clock,
        metrics,
        directory: ArcSwapOption::empty(),
        swapped: Notify::new(),
        contact: AtomicU64::new(0),
        tracks_staleness: usage.is_some(),
        feed: ArcSwap::from_pointee(FeedStatus::default()),
        counts: ArcSwap::from_pointee(Vec::new()),
        draining: CancellationToken::new(),
        drain_until: AtomicU64::new(0),
        stopped: CancellationToken::new(),
        ticks: (0..=workers).map(|_| AtomicU64::new(0)).collect(),
        in_flight: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        connections: AtomicUsize::new(0),
        sources: SourceCounts::new(random(&*entropy)?),
        memory: Gauge::default(),
        usage,
        slow,
        rehashes,
    });
    let seeds = sockets.into_iter().enumerate();
    let seeds =
        seeds.map(|(index, sockets)| Seed::new(index, &shared, &*entropy, lines.clone(), sockets));
    let seeds = seeds.collect::<Result<_, _>>()?;
    let of_steward = Arc::clone(&shared);
    let steward = steward::Seed {
        shared: of_steward,
        entropy,
        ledger,
        subscription,
        usage: counts,
        reloads: orders,
        rehashes: found,
    };
    Ok(Bound { shared, addresses, seeds, steward, sink, hashers })
}

fn random(entropy: &dyn Entropy) -> Result<u64, EntropyFailure> {
    let mut seed = [0; 8];
    entropy.fill(&mut seed)?;
    Ok(u64::from_le_bytes(seed))
}

/// Where usage is reported, and how often.
type UsageDesk = (FeedClient, Duration);

/// The feed's one reader, and whom to tell about usage: a file takes none.
fn subscribe(feed: Feed, gateway: &str) -> Result<(Subscription, Option<UsageDesk>), BindError> {
    let fault =
        |key: &str, what: String| BindError::Settings(vec![Fault { key: key.into(), what }]);
    let (origin, cluster, verify_key, usage) = match feed {
        Feed::Control { url, token, cluster, verify_key, usage_interval } => {
            let base = Base::parse(&url).map_err(|what| fault("feed.url", what))?;
            let client = FeedClient::new(base, &token, gateway);
            let usage = Some((client.sibling(), usage_interval));
            (Origin::Control(client), cluster, verify_key, usage)
        }
        Feed::File { path, verify_key } => (Origin::File(path), None, verify_key, None),
    };
    let verify_key = match verify_key {
        None => None,
        Some(bytes) => Some(VerifyingKey::from_bytes(&bytes).map_err(|_| {
            fault("feed.verify_key", "these 32 bytes are no Ed25519 public key".to_owned())
        })?),
    };
    Ok((Subscription { origin, cluster, verify_key }, usage))
}

/// Every fault of `settings`, without opening anything: what `portcullis config check` reports.
pub fn check(settings: Settings) -> Vec<Fault> {
    let mut ledger = Ledger::new(0);
    Plan::new(settings, ledger.symbols()).err().unwrap_or_default()
}

/// Why a gateway could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listening socket could not be opened.
    #[error("listeners.{listener}.address: cannot listen on {address}: {source}")]
    Address {
        /// Name of the listener.
        listener: String,
        /// The address it asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The random generator gave no seed.
    #[error(transparent)]
    Entropy(#[from] EntropyFailure),
    /// A metric is registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The file for access records could not be opened.
    #[error("log.records: cannot open {records}: {source}")]
    Records {
        /// What was to be opened.
        records: Records,
        /// What the operating system said.
        source: io::Error,
    },
    /// The settings contradict themselves.
    #[error("the configuration has {} faults", .0.len())]
    Settings(Vec<Fault>),
}

/// A gateway whose sockets are open and whose threads are not started.
pub struct Bound {
    pub(crate) shared: Arc<Shared>,
    addresses: Vec<(String, SocketAddr)>,
    pub(crate) seeds: Vec<Seed>,
    steward: steward::Seed,
    sink: Sink,
    hashers: SlowThreads,
}

impl Bound {
    /// Every listener's name and true address, in configured order.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// What may be done with the gateway from outside, also before it runs.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle { shared: Arc::clone(&self.shared) }
    }

    /// Starts the steward and the workers.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread.
    pub fn run(self) -> io::Result<Running> {
        let Self { shared, addresses: _, seeds, steward, sink, hashers } = self;
        let named = |name: String| Builder::new().name(name);
        let sink = named("records".to_owned()).spawn(move || sink.run())?;
        let steward = named("steward".to_owned()).spawn(move || steward::run(steward))?;
        let workers = seeds
            .into_iter()
            .map(|seed| named(format!("worker-{}", seed.index)).spawn(move || seed.run()))
            .collect::<io::Result<_>>()?;
        let hashers = hashers.start(&shared.stopped)?;
        Ok(Running { shared, workers, steward, sink, hashers })
    }
}

/// A gateway that runs. Dropping it neither stops nor waits for it; [`Running::join`] waits.
pub struct Running {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steward: JoinHandle<io::Result<()>>,
    sink: JoinHandle<()>,
    hashers: Vec<JoinHandle<()>>,
}

impl Running {
    /// What may be done with the gateway from outside.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle { shared: Arc::clone(&self.shared) }
    }

    /// Waits until every thread has ended, which they do after a drain. Blocks: call it from a
    /// thread that may.
    ///
    /// # Errors
    ///
    /// If a thread could not do its work.
    pub fn join(self) -> io::Result<()> {
        let Self { shared, workers, steward, sink, hashers } = self;
        let mut result = Ok(());
        for worker in workers {
            result = result.and(ended(worker.join()));
        }
        shared.stopped.cancel();
        result = result.and(ended(steward.join()));
        for hasher in hashers {
            result = result.and(ended(hasher.join().map(Ok)));
        }
        result.and(ended(sink.join().map(Ok)))
    }
}

fn upstream(shared: &Shared, plan: &UpstreamPlan) -> UpstreamStatus {
    let connections = |state: &str| {
        let labels = [plan.name.as_str(), state];
        shared.metrics.upstream_connections.with_label_values(&labels).get()
    };
    let addresses = plan.addresses.iter().map(|address| UpstreamAddressStatus {
        host: address.host.clone(),
        resolved: Vec::clone(&address.resolved.load()),
    });
    UpstreamStatus {
        name: plan.name.clone(),
        idle: connections("idle"),
        active: connections("active"),
        addresses: addresses.collect(),
    }
}

fn ended(joined: std::thread::Result<io::Result<()>>) -> io::Result<()> {
    joined.unwrap_or_else(|_| Err(io::Error::other("a thread of the gateway panicked")))
}

/// What the rest of the process may do with a gateway. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct GatewayHandle {
    shared: Arc<Shared>,
}

impl GatewayHandle {
    /// The gateway's state now.
    pub fn status(&self) -> Status {
        let shared = &self.shared;
        let now = shared.clock.now().mono;
        let ticks = shared.ticks.iter().map(|tick| tick.load(Ordering::Relaxed));
        let alive = ticks.clone().all(|tick| tick > 0 && now.0.saturating_sub(tick) < nanos(ALIVE));
        let mut failing = Vec::new();
        if shared.directory.load().is_none() {
            failing.push("no snapshot has been loaded");
        }
        if ticks.clone().any(|tick| tick == 0) {
            failing.push("not every thread has started");
        }
        if shared.is_draining() {
            failing.push("draining");
        }
        let mut feed = FeedStatus::clone(&shared.feed.load());
        feed.staleness_ms = shared.staleness_ns(now).map(|ns| ns / 1_000_000);
        Status {
            gateway: shared.gateway.clone(),
            boot: shared.boot.clone(),
            ready: failing.is_empty(),
            failing,
            alive,
            draining: shared.is_draining(),
            workers: shared.in_flight.len(),
            in_flight: shared.in_flight.iter().map(|count| count.load(Ordering::Relaxed)).sum(),
            connections: shared.connections.load(Ordering::Relaxed) as u64,
            upstreams: shared
                .plan
                .load()
                .upstreams
                .iter()
                .map(|plan| upstream(shared, plan))
                .collect(),
            feed,
            counts: Vec::clone(&shared.counts.load()),
        }
    }

    /// Would this request pass with this key, and why (not)?
    pub fn explain(&self, question: &Question) -> Explanation {
        explain(&self.shared, question)
    }

    /// Puts other settings in force, whole or not at all; open connections and requests in flight
    /// go on. Returns when every worker serves with them. The gateway's id, its number of workers,
    /// its feed, and its listeners' names and addresses stay what they were.
    ///
    /// # Errors
    ///
    /// [`ReloadError`]; with every [`Fault`] if the settings are at fault.
    pub async fn reload(&self, settings: Settings) -> Result<(), ReloadError> {
        let (done, answer) = oneshot::channel();
        let ordered = self.shared.reloads.send(Order { settings, done }).await;
        ordered.map_err(|_| ReloadError::Ending)?;
        answer.await.map_err(|_| ReloadError::Ending)?
    }

    /// Begins the drain: no new connections, accepted requests finish, at most `deadline` long
    /// (`timeouts.drain` by default).
    pub fn drain(&self, deadline: Option<Duration>) {
        let patience = nanos(deadline.unwrap_or(self.shared.plan.load().drain));
        let until = self.shared.clock.now().mono.0.saturating_add(patience).max(1);
        self.shared.drain_until.store(until, Ordering::Relaxed);
        self.shared.draining.cancel();
    }
}
