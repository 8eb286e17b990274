//! One worker: a thread with a runtime of its own, its listeners, its upstream pools, its counters
//! and one ticker that holds every deadline. Shares nothing with other workers that is written on
//! the success path.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use portcullis_core::entropy::{Entropy, EntropyFailure};
use portcullis_core::time::{MonoNs, Now};
use tokio::task::spawn_local;

use crate::connection;
use crate::memory::Pressure;
use crate::metrics::{Meters, seconds};
use crate::phase::{Connections, nanos};
use crate::plan::Plan;
use crate::pool::Pool;
use crate::record::Lines;
use crate::request_id::RequestIds;
use crate::setup::Setup;
use crate::shared::Shared;
use crate::usage::Tally;

/// How often deadlines are looked at and counters handed over.
const TICK: Duration = Duration::from_millis(250);
/// Pause after the operating system has refused an accept, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What one worker's tasks share. Never leaves its thread.
pub(crate) struct Worker {
    /// The configuration in force. Requests and connections keep the one they began with.
    setup: RefCell<Rc<Setup>>,
    pub(crate) shared: Arc<Shared>,
    /// The clock as of the last sample that anybody took: at most one tick old.
    pub(crate) coarse: Cell<MonoNs>,
    pub(crate) request_ids: RequestIds,
    pub(crate) meters: Meters,
    pub(crate) records: Lines,
    pub(crate) usage: Tally,
    /// Pools of earlier configurations that still have a connection in use.
    retired: RefCell<Vec<Rc<Pool>>>,
    pub(crate) connections: Connections,
    /// Requests whose record is open.
    pub(crate) in_flight: Cell<usize>,
    /// Requests that wait for what they can be decided with.
    pub(crate) waiting: Cell<usize>,
    index: usize,
}

/// What a worker is made of before its thread starts.
pub(crate) struct Seed {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) request_ids: RequestIds,
    pub(crate) records: SyncSender<String>,
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
        records: SyncSender<String>,
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
        let meters = Meters::new(shared.metrics.clone());
        let setup = Setup::new(shared.plan.load_full(), &meters, None);
        shared.took(index, setup.plan.generation);
        let worker = Rc::new(Worker {
            setup: RefCell::new(Rc::new(setup)),
            coarse: Cell::new(shared.clock.now().mono),
            request_ids,
            meters,
            records: Lines::new(records),
            usage: Tally::new(shared.usage.clone()),
            retired: RefCell::default(),
            connections: Connections::default(),
            in_flight: Cell::new(0),
            waiting: Cell::new(0),
            index,
            shared,
        });
        (worker, listeners)
    }
}

impl Worker {
    /// The configuration in force.
    pub(crate) fn setup(&self) -> Rc<Setup> {
        Rc::clone(&self.setup.borrow())
    }

    /// One clock sample; also renews the coarse time.
    pub(crate) fn sample(&self) -> Now {
        let now = self.shared.clock.now();
        self.coarse.set(now.mono);
        now
    }

    /// A sample of the monotonic clock alone, which is half the price; also renews the coarse time.
    pub(crate) fn sample_mono(&self) -> MonoNs {
        let mono = self.shared.clock.mono();
        self.coarse.set(mono);
        mono
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
        while self.connections.count() > 0 && !self.shared.drain_is_over(self.sample_mono()) {
            rounds.tick().await;
        }
        ticker.abort();
        self.hand_over();
        self.usage.finish().await;
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
        let setup = self.setup();
        let plan = &setup.plan;
        let Some(listener) = plan.listeners.get(index) else { return };
        let shared = &self.shared;
        let count = |result: &str| {
            let labels = [listener.name.as_str(), result];
            shared.metrics.connections_total.with_label_values(&labels).inc();
        };
        let full = shared.connections.load(Ordering::Relaxed) >= plan.connection_limit;
        if full || shared.memory.read() >= Pressure::High {
            return count("shed");
        }
        let exempt = listener.trusts(peer.ip());
        if !exempt && !shared.sources.enter(peer.ip(), plan.limits.connections_per_source) {
            return count("source_cap");
        }
        count("accepted");
        spawn_local(connection::serve(Rc::clone(self), socket, peer, index, exempt));
    }

    async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = self.sample_mono();
        loop {
            interval.tick().await;
            let now = self.sample_mono();
            let stall = now.since(last).saturating_sub(nanos(TICK));
            self.shared.metrics.worker_stall_seconds.observe(seconds(stall));
            last = now;
            self.take_over();
            let setup = self.setup();
            self.connections.tick(now, &setup.plan.phases);
            self.shed_idle(&setup.plan);
            setup.pools().for_each(|pool| pool.tick(now));
            self.hand_over();
            self.shared.ticked(self.index, now);
        }
    }

    /// Closes this worker's share of what is open beyond 90 % of the limit, as far as it is idle, the
    /// longest idle first: whoever comes next is more likely to have something to ask.
    fn shed_idle(&self, plan: &Plan) {
        let open = self.shared.connections.load(Ordering::Relaxed);
        let most = plan.connection_limit - plan.connection_limit / 10;
        let beyond = open.saturating_sub(most);
        if beyond == 0 {
            return;
        }
        let share = beyond.div_ceil(self.shared.in_flight.len().max(1));
        for listener in self.connections.close_idle(share) {
            let Some(listener) = plan.listeners.get(listener) else { continue };
            let labels = [listener.name.as_str(), "shed"];
            self.shared.metrics.connections_total.with_label_values(&labels).inc();
        }
    }

    /// Takes over the newest configuration. Pools whose upstream did not change live on in it; the
    /// others serve the requests they have and take no new ones.
    fn take_over(&self) {
        let newest = self.shared.plan.load();
        let old = self.setup();
        if Arc::ptr_eq(&newest, &old.plan) {
            return;
        }
        let fresh = Setup::new(Arc::clone(&newest), &self.meters, Some(&old));
        let dropped = old.pools().filter(|pool| !fresh.pools().any(|kept| Rc::ptr_eq(kept, pool)));
        for pool in dropped {
            pool.close();
            self.retired.borrow_mut().push(Rc::clone(pool));
        }
        self.setup.replace(Rc::new(fresh));
        self.shared.took(self.index, newest.generation);
    }

    /// Hands counters and records over to those who publish them.
    fn hand_over(&self) {
        let dropped = self.records.flush();
        self.meters.records_dropped.set(self.meters.records_dropped.get() + dropped);
        // A pool that nobody else holds has no connection either.
        self.retired.borrow_mut().retain(|pool| Rc::strong_count(pool) > 1);
        self.setup.borrow().pools().for_each(|pool| pool.count());
        self.retired.borrow().iter().for_each(|pool| pool.count());
        self.meters.flush();
        self.usage.hand_over();
        if let Some(in_flight) = self.shared.in_flight.get(self.index) {
            in_flight.store(self.in_flight.get() as u64, Ordering::Relaxed);
        }
    }
}
