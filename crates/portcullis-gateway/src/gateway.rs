//! A gateway from its settings to its end: bind, run, drain, join. Holds the threads; decides
//! nothing about requests.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ed25519_dalek::VerifyingKey;
use portcullis_core::directory::Ledger;
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::Clock;
use tokio_util::sync::CancellationToken;

use crate::explain::explain;
use crate::feed_client::{Base, FeedClient};
use crate::listener::listen;
use crate::metrics::Metrics;
use crate::phase::nanos;
use crate::plan::Plan;
use crate::settings::{Fault, Feed, Limits, Records, Settings};
use crate::shared::{Shared, SourceCounts};
use crate::status::{Explanation, FeedStatus, Question, Status};
use crate::steward;
use crate::subscriber::{Origin, Subscriber, Subscription};
use crate::worker::Seed;

/// Buffers of records that may wait for the sink.
const RECORD_QUEUE: usize = 64;
/// Descriptors that connections may not use up.
const DESCRIPTOR_RESERVE: u64 = 64;
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
    let (drain, limits) = (settings.timeouts.drain, settings.limits.clone());
    let (plan, feed) = Plan::new(settings, ledger.symbols()).map_err(BindError::Settings)?;
    let (subscription, tracks_staleness) = subscribe(feed, &gateway, &plan)?;
    let sink = Sink::open(&records)?;
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
    let shared = Arc::new(Shared {
        boot: format!("{:016x}", random(&*entropy)?),
        gateway,
        plan: Arc::new(plan),
        clock,
        metrics,
        directory: ArcSwapOption::empty(),
        contact: AtomicU64::new(0),
        tracks_staleness,
        feed: ArcSwap::from_pointee(FeedStatus::default()),
        counts: ArcSwap::from_pointee(Vec::new()),
        draining: CancellationToken::new(),
        drain_until: AtomicU64::new(0),
        stopped: CancellationToken::new(),
        ticks: (0..=workers).map(|_| AtomicU64::new(0)).collect(),
        in_flight: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        connections: AtomicUsize::new(0),
        connection_limit: connection_limit(&limits),
        sources: SourceCounts::new(random(&*entropy)?),
        drain_timeout_ns: nanos(drain),
    });
    let (sink, lines) = sink.unzip();
    let seeds = sockets.into_iter().enumerate();
    let seeds =
        seeds.map(|(index, sockets)| Seed::new(index, &shared, &*entropy, sink.clone(), sockets));
    let seeds = seeds.collect::<Result<_, _>>()?;
    let subscriber = Subscriber::new(Arc::clone(&shared), entropy, ledger, &subscription);
    Ok(Bound { shared, addresses, seeds, subscriber, origin: subscription.origin, sink: lines })
}

fn random(entropy: &dyn Entropy) -> Result<u64, EntropyFailure> {
    let mut seed = [0; 8];
    entropy.fill(&mut seed)?;
    Ok(u64::from_le_bytes(seed))
}

fn subscribe(feed: Feed, gateway: &str, plan: &Plan) -> Result<(Subscription, bool), BindError> {
    let fault =
        |key: &str, what: String| BindError::Settings(vec![Fault { key: key.into(), what }]);
    let (origin, cluster, verify_key, tracks_staleness) = match feed {
        Feed::Control { url, token, cluster, verify_key } => {
            let base = Base::parse(&url).map_err(|what| fault("feed.url", what))?;
            let client = FeedClient::new(base, &token, gateway);
            (Origin::Control(client), cluster, verify_key, true)
        }
        Feed::File { path, verify_key } => (Origin::File(path), None, verify_key, false),
    };
    let verify_key = match verify_key {
        None => None,
        Some(bytes) => Some(VerifyingKey::from_bytes(&bytes).map_err(|_| {
            fault("feed.verify_key", "these 32 bytes are no Ed25519 public key".to_owned())
        })?),
    };
    let fence_ms = plan.fence_ms();
    Ok((Subscription { origin, cluster, verify_key, fence_ms }, tracks_staleness))
}

/// The configured limit, or 80 % of the descriptors this process may still open.
fn connection_limit(limits: &Limits) -> usize {
    if limits.connections > 0 {
        return limits.connections;
    }
    let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let free = allowed.unwrap_or(u64::MAX / 8).saturating_sub(DESCRIPTOR_RESERVE);
    // Each request needs a connection on either side.
    usize::try_from(free / 5 * 4 / 2).unwrap_or(usize::MAX).max(1)
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
    #[error("log.records: cannot open {path}: {source}")]
    Records {
        /// The file.
        path: PathBuf,
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
    subscriber: Subscriber,
    origin: Origin,
    sink: Option<Sink>,
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
        let Self { shared, addresses: _, seeds, subscriber, origin, sink } = self;
        let named = |name: String| Builder::new().name(name);
        let sink = match sink {
            Some(sink) => Some(named("records".to_owned()).spawn(move || sink.run())?),
            None => None,
        };
        let of_steward = Arc::clone(&shared);
        let steward = named("steward".to_owned())
            .spawn(move || steward::run(of_steward, subscriber, origin))?;
        let workers = seeds
            .into_iter()
            .map(|seed| named(format!("worker-{}", seed.index)).spawn(move || seed.run()))
            .collect::<io::Result<_>>()?;
        Ok(Running { shared, workers, steward, sink })
    }
}

/// A gateway that runs. Dropping it neither stops nor waits for it; [`Running::join`] waits.
pub struct Running {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steward: JoinHandle<io::Result<()>>,
    sink: Option<JoinHandle<()>>,
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
        let Self { shared, workers, steward, sink } = self;
        let mut result = Ok(());
        for worker in workers {
            result = result.and(ended(worker.join()));
        }
        shared.stopped.cancel();
        result = result.and(ended(steward.join()));
        if let Some(sink) = sink {
            result = result.and(ended(sink.join().map(Ok)));
        }
        result
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
            feed,
            counts: Vec::clone(&shared.counts.load()),
        }
    }

    /// Would this request pass with this key, and why (not)?
    pub fn explain(&self, question: &Question) -> Explanation {
        explain(&self.shared, question)
    }

    /// Begins the drain: no new connections, accepted requests finish, at most `deadline` long
    /// (`timeouts.drain` by default).
    pub fn drain(&self, deadline: Option<Duration>) {
        let patience = deadline.map_or(self.shared.drain_timeout_ns, nanos);
        let until = self.shared.clock.now().mono.0.saturating_add(patience).max(1);
        self.shared.drain_until.store(until, Ordering::Relaxed);
        self.shared.draining.cancel();
    }
}

/// Where access records end: writes what workers send, on a thread of its own.
struct Sink {
    lines: Receiver<String>,
    out: Box<dyn Write + Send>,
}

impl Sink {
    fn open(records: &Records) -> Result<Option<(SyncSender<String>, Self)>, BindError> {
        let out: Box<dyn Write + Send> = match records {
            Records::Off => return Ok(None),
            Records::Stdout => Box::new(io::stdout()),
            Records::File(path) => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
                Box::new(file.map_err(|source| BindError::Records { path: path.clone(), source })?)
            }
        };
        let (sender, lines) = sync_channel(RECORD_QUEUE);
        Ok(Some((sender, Self { lines, out })))
    }

    /// Writes until every worker has ended.
    fn run(mut self) {
        for text in self.lines {
            // A sink that cannot be written to must not stop traffic.
            if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())
            {
                tracing::error!(%error, "access records are lost: the sink cannot be written to");
            }
        }
    }
}
