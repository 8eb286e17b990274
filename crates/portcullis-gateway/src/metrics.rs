//! The gateway's metrics: shared handles, registered once, and each worker's private counters,
//! which its ticker adds to them four times a second. Label values are closed enums or names from
//! the configuration, never ids and never text from a request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use portcullis_core::verdict::DenyReason;
use prometheus::local::LocalHistogram;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::outcome::Outcome;

/// Every metric of the data plane. The doc comment of a field is its help text.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) responses: IntCounterVec,
    pub(crate) decision_seconds: Histogram,
    pub(crate) request_seconds: HistogramVec,
    pub(crate) upstream_seconds: HistogramVec,
    pub(crate) upstream_attempts: IntCounterVec,
    pub(crate) upstream_connections: IntGaugeVec,
    pub(crate) connections: IntGaugeVec,
    pub(crate) connections_total: IntCounterVec,
    pub(crate) open_streams: IntGaugeVec,
    pub(crate) directory_records: IntGaugeVec,
    pub(crate) tombstones: IntGauge,
    pub(crate) feed_connected: IntGauge,
    pub(crate) feed_epoch: IntGauge,
    pub(crate) feed_seq: IntGauge,
    pub(crate) feed_staleness: prometheus::Gauge,
    pub(crate) feed_changes: IntCounterVec,
    pub(crate) feed_resyncs: IntCounterVec,
    pub(crate) feed_alarms: IntCounterVec,
    pub(crate) feed_apply_seconds: Histogram,
    pub(crate) revocation_propagation_seconds: Histogram,
    pub(crate) records_dropped: IntCounterVec,
    pub(crate) usage_reports: IntCounterVec,
    pub(crate) usage_dropped: IntCounterVec,
    pub(crate) panics: IntCounterVec,
    pub(crate) worker_stall_seconds: Histogram,
}

const DECISION_BUCKETS: &[f64] =
    &[250e-9, 500e-9, 1e-6, 2.5e-6, 5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3];
const REQUEST_BUCKETS: &[f64] = &[
    250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

impl Metrics {
    /// Registers every metric.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let to = Registrar { registry };
        let metrics = Self {
            requests: to.counters(
                "requests_total",
                "Requests by route and final outcome.",
                &["route", "outcome"],
            )?,
            responses: to.counters(
                "responses_total",
                "Responses by route and status class.",
                &["route", "class"],
            )?,
            decision_seconds: to.histogram(
                "decision_seconds",
                "Time from the request's head to the decision, of one request in eight at least.",
                DECISION_BUCKETS,
            )?,
            request_seconds: to.histograms(
                "request_seconds",
                "Time from the request's head to the end of the response.",
                "route",
            )?,
            upstream_seconds: to.histograms(
                "upstream_seconds",
                "Time from the forwarded head to the response's head.",
                "upstream",
            )?,
            upstream_attempts: to.counters(
                "upstream_attempts_total",
                "Attempts to send a request to an upstream.",
                &["upstream", "result"],
            )?,
            upstream_connections: to.gauges(
                "upstream_connections",
                "Connections to an upstream.",
                &["upstream", "state"],
            )?,
            connections: to.gauges(
                "connections",
                "Open downstream connections.",
                &["listener", "protocol"],
            )?,
            connections_total: to.counters(
                "connections_total",
                "Downstream connections by what became of them at accept.",
                &["listener", "result"],
            )?,
            open_streams: to.gauges("open_streams", "Requests being served.", &["kind"])?,
            directory_records: to.gauges(
                "directory_records",
                "Records in the directory.",
                &["kind"],
            )?,
            tombstones: to.gauge("tombstones", "Ids that were revoked for good.")?,
            feed_connected: to.gauge("feed_connected", "1 while the feed is being followed.")?,
            feed_epoch: to.gauge("feed_epoch", "Epoch of the directory.")?,
            feed_seq: to.gauge("feed_seq", "Sequence number of the directory.")?,
            feed_staleness: to.float_gauge(
                "feed_staleness_seconds",
                "Time since the last valid line of the feed.",
            )?,
            feed_changes: to.counters(
                "feed_changes_total",
                "Changes by kind and by what became of them.",
                &["kind", "result"],
            )?,
            feed_resyncs: to.counters(
                "feed_resyncs_total",
                "Snapshots that were fetched, by reason.",
                &["why"],
            )?,
            feed_alarms: to.counters(
                "feed_alarms_total",
                "Answers of the feed that an operator should look at.",
                &["why"],
            )?,
            feed_apply_seconds: to.histogram(
                "feed_apply_seconds",
                "Time to apply one transaction.",
                DECISION_BUCKETS,
            )?,
            revocation_propagation_seconds: to.histogram(
                "revocation_propagation_seconds",
                "Time from a revocation's commit to its effect here.",
                REQUEST_BUCKETS,
            )?,
            records_dropped: to.counters(
                "records_dropped_total",
                "Access records that were dropped because the queue was full.",
                &["sink"],
            )?,
            usage_reports: to.counters(
                "usage_reports_total",
                "Reports of usage by what became of them.",
                &["result"],
            )?,
            usage_dropped: to.counters(
                "usage_dropped_total",
                "Uses of keys that no report will carry, by reason.",
                &["why"],
            )?,
            panics: to.counters(
                "panics_total",
                "Panics, each of which ended one request.",
                &["phase"],
            )?,
            worker_stall_seconds: to.histogram(
                "worker_stall_seconds",
                "How much later than due a worker's ticker ran.",
                REQUEST_BUCKETS,
            )?,
        };
        // An alarm on a failure needs its series before the first failure.
        metrics.records_dropped.with_label_values(&["records"]);
        for why in ["full", "undelivered", "unreadable"] {
            metrics.usage_dropped.with_label_values(&[why]);
        }
        metrics.panics.with_label_values(&["request"]);
        Ok(metrics)
    }
}

/// Names, registers and returns metrics.
struct Registrar<'r> {
    registry: &'r Registry,
}

impl Registrar<'_> {
    fn added<M>(&self, metric: M) -> Result<M, prometheus::Error>
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.added(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.added(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.added(IntGauge::with_opts(opts(name, help))?)
    }

    fn float_gauge(&self, name: &str, help: &str) -> Result<prometheus::Gauge, prometheus::Error> {
        self.added(prometheus::Gauge::with_opts(opts(name, help))?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        self.added(Histogram::with_opts(opts)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        label: &str,
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(REQUEST_BUCKETS.to_vec());
        self.added(HistogramVec::new(opts, &[label])?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("portcullis")
}

/// Label of a request that met no route.
pub(crate) const NO_ROUTE: &str = "none";

/// One worker's counters: plain cells, no atomics, no lock. Only its own thread touches them. They
/// outlive every configuration: a route or an upstream that keeps its name keeps its counters.
pub(crate) struct Meters {
    shared: Metrics,
    /// One for each name that any configuration had.
    routes: RefCell<HashMap<String, Rc<RouteMeter>>>,
    /// Routes with something to add.
    touched: RefCell<Vec<Rc<RouteMeter>>>,
    decision: LocalHistogram,
    /// One for each name that any configuration had.
    upstreams: RefCell<HashMap<String, Rc<UpstreamMeter>>>,
    pub(crate) records_dropped: Cell<u64>,
    turn: Cell<u32>,
}

/// The counters of one route in one worker.
pub(crate) struct RouteMeter {
    name: String,
    touched: Cell<bool>,
    outcomes: [Cell<u32>; Outcome::COUNT],
    classes: [Cell<u32>; 5],
    seconds: LocalHistogram,
}

/// The counters of one upstream in one worker.
pub(crate) struct UpstreamMeter {
    name: String,
    /// Idle and active connections of this worker.
    open: Cell<(usize, usize)>,
    /// What of them the gauges show.
    shown: Cell<(usize, usize)>,
    seconds: LocalHistogram,
    attempts: [Cell<u32>; Attempt::ALL.len()],
}

/// How an attempt to reach an upstream ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Connect,
    Ok,
    Protocol,
    ReusedDead,
    Timeout,
}

impl Attempt {
    const ALL: [(Attempt, &str); 5] = [
        (Attempt::Connect, "connect"),
        (Attempt::Ok, "ok"),
        (Attempt::Protocol, "protocol"),
        (Attempt::ReusedDead, "reused_dead"),
        (Attempt::Timeout, "timeout"),
    ];
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl UpstreamMeter {
    /// Counts one attempt to reach the upstream.
    pub(crate) fn attempt(&self, result: Attempt) {
        bump(self.attempts.get(result as usize));
    }

    /// Notes how long the upstream took for a response's head.
    pub(crate) fn head(&self, ns: u64) {
        self.seconds.observe(seconds(ns));
    }

    /// Counts the connections of one more pool; the counting begins anew with each flush.
    pub(crate) fn connections(&self, idle: usize, active: usize) {
        let (idle_before, active_before) = self.open.get();
        self.open.set((idle_before + idle, active_before + active));
    }
}

impl Meters {
    pub(crate) fn new(shared: Metrics) -> Self {
        let decision = shared.decision_seconds.local();
        Self {
            shared,
            routes: RefCell::default(),
            touched: RefCell::default(),
            decision,
            upstreams: RefCell::default(),
            records_dropped: Cell::new(0),
            turn: Cell::new(0),
        }
    }

    /// The counters of the route with this name.
    pub(crate) fn route(&self, name: &str) -> Rc<RouteMeter> {
        let mut known = self.routes.borrow_mut();
        let meter = known.entry(name.to_owned()).or_insert_with(|| {
            Rc::new(RouteMeter {
                name: name.to_owned(),
                touched: Cell::new(false),
                outcomes: [const { Cell::new(0) }; Outcome::COUNT],
                classes: [const { Cell::new(0) }; 5],
                seconds: self.shared.request_seconds.with_label_values(&[name]).local(),
            })
        });
        Rc::clone(meter)
    }

    /// The counters of the upstream with this name.
    pub(crate) fn upstream(&self, name: &str) -> Rc<UpstreamMeter> {
        let mut known = self.upstreams.borrow_mut();
        let meter = known.entry(name.to_owned()).or_insert_with(|| {
            Rc::new(UpstreamMeter {
                name: name.to_owned(),
                open: Cell::new((0, 0)),
                shown: Cell::new((0, 0)),
                seconds: self.shared.upstream_seconds.with_label_values(&[name]).local(),
                attempts: [const { Cell::new(0) }; Attempt::ALL.len()],
            })
        });
        Rc::clone(meter)
    }

    /// Counts one request, at its end.
    pub(crate) fn request(&self, meter: &Rc<RouteMeter>, outcome: Outcome, status: u16, ns: u64) {
        bump(meter.outcomes.get(outcome.index()));
        bump(meter.classes.get(usize::from(status / 100).wrapping_sub(1)));
        meter.seconds.observe(seconds(ns));
        if !meter.touched.replace(true) {
            self.touched.borrow_mut().push(Rc::clone(meter));
        }
    }

    /// True once in `of` calls, the first time included.
    pub(crate) fn is_turn(&self, of: u32) -> bool {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn.is_multiple_of(of)
    }

    /// Notes how long a decision took.
    pub(crate) fn decision(&self, ns: u64) {
        self.decision.observe(seconds(ns));
    }

    /// Adds everything to the shared metrics and starts from zero.
    pub(crate) fn flush(&self) {
        for meter in self.touched.borrow_mut().drain(..) {
            meter.touched.set(false);
            for (cell, label) in meter.outcomes.iter().zip(Outcome::labels()) {
                add(cell, &self.shared.requests, &[meter.name.as_str(), label]);
            }
            for (cell, label) in meter.classes.iter().zip(CLASSES) {
                add(cell, &self.shared.responses, &[meter.name.as_str(), label]);
            }
            meter.seconds.flush();
        }
        for meter in self.upstreams.borrow().values() {
            for (cell, (_, label)) in meter.attempts.iter().zip(Attempt::ALL) {
                add(cell, &self.shared.upstream_attempts, &[meter.name.as_str(), label]);
            }
            meter.seconds.flush();
            self.show_connections(meter);
        }
        self.decision.flush();
        let dropped = self.records_dropped.replace(0);
        if dropped > 0 {
            self.shared.records_dropped.with_label_values(&["records"]).inc_by(dropped);
        }
    }

    /// Renews this worker's share of an upstream's connections.
    fn show_connections(&self, meter: &UpstreamMeter) {
        let (idle, active) = meter.open.replace((0, 0));
        let (idle_before, active_before) = meter.shown.replace((idle, active));
        for (state, now, before) in [("idle", idle, idle_before), ("active", active, active_before)]
        {
            if now != before {
                let labels = [meter.name.as_str(), state];
                let gauge = self.shared.upstream_connections.with_label_values(&labels);
                gauge.add(i64::try_from(now).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
            }
        }
    }
}

fn bump(cell: Option<&Cell<u32>>) {
    if let Some(cell) = cell {
        cell.set(cell.get().wrapping_add(1));
    }
}

fn add(cell: &Cell<u32>, to: &IntCounterVec, labels: &[&str]) {
    let count = cell.replace(0);
    if count > 0 {
        to.with_label_values(labels).inc_by(u64::from(count));
    }
}

/// Nanoseconds as the seconds Prometheus wants.
#[expect(clippy::cast_precision_loss, reason = "a duration, and f64 is what the format has")]
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

const _: () = assert!(DenyReason::ALL.len() + 4 == Outcome::COUNT);
