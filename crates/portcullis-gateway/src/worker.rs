//! One worker: a thread with a runtime of its own, its listeners, its upstream pools, its counters
//! and one ticker that holds every deadline. Shares nothing with other workers that is written on
//! the success path.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::{MonoNs, Now};
use tokio::task::spawn_local;

use crate::connection;
use crate::metrics::{Meters, seconds};
use crate::phase::{Connections, nanos};
use crate::plan::{Plan, RoutePlan, UpstreamPlan};
use crate::pool::Pool;
use crate::record::Lines;
use crate::request_id::RequestIds;
use crate::shared::Shared;
use crate::text::Texts;

/// How often deadlines are looked at and counters handed over.
const TICK: Duration = Duration::from_millis(250);
/// Pause after the operating system has refused an accept, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What one worker's tasks share. Never leaves its thread.
pub(crate) struct Worker {
    pub(crate) plan: Arc<Plan>,
    pub(crate) shared: Arc<Shared>,
    /// The clock as of the last sample that anybody took: at most one tick old.
    pub(crate) coarse: Cell<MonoNs>,
    pub(crate) request_ids: RequestIds,
    pub(crate) texts: Texts,
    pub(crate) meters: Meters,
    pub(crate) records: Lines,
    pub(crate) pools: Vec<Rc<Pool>>,
    pub(crate) connections: Connections,
    /// Requests whose record is open.
    pub(crate) in_flight: Cell<usize>,
    pub(crate) http: http1::Builder,
    index: usize,
}

/// What a worker is made of before its thread starts.
pub(crate) struct Seed {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) request_ids: RequestIds,
    pub(crate) records: Option<SyncSender<String>>,
    pub(crate) listeners: Vec<TcpListener>,
}

impl Seed {
    /// A worker's seed.
    ///
    /// # Errors
    ///
    /// If there is no randomness for its request ids.
    pub(crate) fn new(
        index: usize,
        shared: &Arc<Shared>,
        entropy: &dyn Entropy,
        records: Option<SyncSender<String>>,
        listeners: Vec<TcpListener>,
    ) -> Result<Self, EntropyFailure> {
        let request_ids = RequestIds::new(entropy)?;
        Ok(Self { index, shared: Arc::clone(shared), request_ids, records, listeners })
    }

    /// Runs the worker until its drain is over. Call it on the worker's own thread.
    ///
    /// # Errors
    ///
    /// If there is no runtime to be had.
    pub(crate) fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())?;
        runtime.block_on(async move {
            let (worker, listeners) = self.grow();
            worker.serve(listeners).await
        })
    }

    /// The worker itself, on the thread it stays on.
    pub(crate) fn grow(self) -> (Rc<Worker>, Vec<TcpListener>) {
        let Self { index, shared, request_ids, records, listeners } = self;
        let worker = Rc::new(Worker {
            coarse: Cell::new(shared.clock.now().mono),
            plan: Arc::clone(&shared.plan),
            request_ids,
            texts: Texts::default(),
            meters: Meters::new(
                shared.metrics.clone(),
                shared.plan.routes().iter().map(|route: &RoutePlan| route.name.as_str()),
                shared.plan.upstreams.iter().map(|upstream| upstream.name.as_str()),
            ),
            records: Lines::new(records),
            pools: shared.plan.upstreams.iter().map(pool).collect(),
            connections: Connections::default(),
            in_flight: Cell::new(0),
            http: http_builder(&shared.plan),
            index,
            shared,
        });
        (worker, listeners)
    }
}

fn pool(plan: &Arc<UpstreamPlan>) -> Rc<Pool> {
    Rc::new(Pool::new(Arc::clone(plan)))
}

/// hyper's own limits, as a second wall behind ours.
fn http_builder(plan: &Plan) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // The ticker holds the head's deadline; a timer per request would cost more than it.
        .header_read_timeout(None)
        .max_buf_size(64 * 1024)
        .max_header_size(plan.limits.head_bytes)
        .half_close(false)
        .pipeline_flush(false);
    http
}

impl Worker {
    /// One clock sample; also renews the coarse time.
    pub(crate) fn sample(&self) -> Now {
        let now = self.shared.clock.now();
        self.coarse.set(now.mono);
        now
    }

    async fn serve(self: Rc<Self>, listeners: Vec<TcpListener>) -> io::Result<()> {
        let ticker = spawn_local(Rc::clone(&self).tick());
        let mut accepting = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            accepting.push(spawn_local(Rc::clone(&self).accept(index, listener)));
        }
        for accept in accepting {
            // A panic there is as good as a drain: the queue is gone either way.
            let _ = accept.await;
        }
        self.connections.finish_all();
        let mut rounds = tokio::time::interval(Duration::from_millis(10));
        while self.connections.count() > 0 && !self.shared.drain_is_over(self.sample().mono) {
            rounds.tick().await;
        }
        ticker.abort();
        self.hand_over();
        Ok(())
    }

    /// Takes connections until the drain begins, then empties the queue.
    async fn accept(self: Rc<Self>, index: usize, listener: tokio::net::TcpListener) {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => self.open(index, socket, peer),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                () = self.shared.draining.cancelled() => break,
            }
        }
        tokio::task::yield_now().await;
        while let Some(Ok((socket, peer))) =
            futures_util::FutureExt::now_or_never(listener.accept())
        {
            self.open(index, socket, peer);
        }
    }

    fn open(self: &Rc<Self>, index: usize, socket: tokio::net::TcpStream, peer: SocketAddr) {
        let Some(listener) = self.plan.listeners.get(index) else { return };
        let shared = &self.shared;
        let count = |result: &str| {
            let labels = [listener.name.as_str(), result];
            shared.metrics.connections_total.with_label_values(&labels).inc();
        };
        if shared.connections.load(Ordering::Relaxed) >= shared.connection_limit {
            return count("shed");
        }
        let exempt = listener.trusts(peer.ip());
        if !exempt && !shared.sources.enter(peer.ip(), self.plan.limits.connections_per_source) {
            return count("source_cap");
        }
        count("accepted");
        spawn_local(connection::serve(Rc::clone(self), socket, peer, index, exempt));
    }

    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = self.sample().mono;
        loop {
            interval.tick().await;
            let now = self.sample().mono;
            let stall = now.since(last).saturating_sub(nanos(TICK));
            self.shared.metrics.worker_stall_seconds.observe(seconds(stall));
            last = now;
            self.connections.tick(now, &self.plan.phases);
            self.pools.iter().for_each(|pool| pool.tick(now));
            self.hand_over();
            self.shared.ticked(self.index, now);
        }
    }

    /// Hands counters and records over to those who publish them.
    fn hand_over(&self) {
        let dropped = self.records.flush();
        self.meters.records_dropped.set(self.meters.records_dropped.get() + dropped);
        self.meters.flush();
        if let Some(in_flight) = self.shared.in_flight.get(self.index) {
            in_flight.store(self.in_flight.get() as u64, Ordering::Relaxed);
        }
        for (place, pool) in self.pools.iter().enumerate() {
            let (idle, active) = pool.counts();
            self.meters.upstream_connections(place, idle, active);
        }
    }
}
