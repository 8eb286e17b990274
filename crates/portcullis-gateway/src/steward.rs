//! The steward: one thread for everything that must not disturb a worker. It follows the feed,
//! resolves upstream names, reports usage, reloads the configuration, watches the clock. Never sees
//! a request.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use portcullis_core::directory::{Ledger, Rehash};
use portcullis_core::entropy::Entropy;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::metrics::seconds;
use crate::plan::UpstreamPlan;
use crate::pool::may_dial;
use crate::reload::{self, Order};
use crate::shared::Shared;
use crate::subscriber::{LedgerSlot, Subscriber, Subscription};
use crate::usage::Desk;
use crate::usage_report::Reporter;

/// How often the steward shows that it lives.
const TICK: Duration = Duration::from_millis(250);
/// How often names are resolved.
const RESOLVE: Duration = Duration::from_secs(30);
/// How soon a name that has no address yet is tried again.
const RESOLVE_SOON: Duration = Duration::from_secs(1);

/// How long the last report of usage may take at the end.
const LAST_REPORT: Duration = Duration::from_secs(3);

/// What the steward works with, before its thread starts.
pub(crate) struct Seed {
    pub(crate) shared: Arc<Shared>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) ledger: Ledger,
    pub(crate) subscription: Subscription,
    /// What workers count comes here; `None` where nobody takes it.
    pub(crate) usage: Option<Desk>,
    pub(crate) reloads: mpsc::Receiver<Order>,
    pub(crate) rehashes: mpsc::Receiver<Rehash>,
}

/// Runs until every worker has ended. Call it on the steward's own thread.
///
/// # Errors
///
/// If there is no runtime to be had.
pub(crate) fn run(seed: Seed) -> io::Result<()> {
    let Seed { shared, entropy, ledger, subscription, usage, reloads, rehashes } = seed;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let stopped = shared.stopped.clone();
        for upstream in &shared.plan.load().upstreams {
            spawn_local(keep_resolved(Arc::downgrade(upstream)));
        }
        spawn_local(tick(Arc::clone(&shared)));
        let reporting = usage.map(|desk| {
            let reporter = Reporter::new(Arc::clone(&shared), desk);
            spawn_local(reporter.run(stopped.clone()))
        });
        let ledger = LedgerSlot::new(ledger);
        spawn_local(reload::serve(Arc::clone(&shared), ledger.clone(), reloads));
        let subscriber = Subscriber::new(shared, entropy, (ledger, rehashes), &subscription);
        tokio::select! {
            () = subscriber.run(subscription.origin) => {}
            () = stopped.cancelled() => {}
        }
        if let Some(reporting) = reporting {
            // What the workers counted last is on its way; a control plane that is gone holds
            // nobody up for long.
            let _ = tokio::time::timeout(LAST_REPORT, reporting).await;
        }
    });
    runtime.shutdown_background();
    Ok(())
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        interval.tick().await;
        let now = shared.clock.now().mono;
        shared.ticked(shared.in_flight.len(), now);
        shared.memory.measure(shared.plan.load().memory_limit);
        if let Some(stale) = shared.staleness_ns(now) {
            shared.metrics.feed_staleness.set(seconds(stale));
        }
        let open: u64 = shared.in_flight.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let streams = shared.metrics.open_streams.with_label_values(&["request"]);
        streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// Keeps the addresses of one upstream fresh for as long as a configuration has it.
pub(crate) async fn keep_resolved(upstream: Weak<UpstreamPlan>) {
    loop {
        let Some(known) = upstream.upgrade() else { return };
        if !resolve(&known).await {
            return;
        }
        let missing = known.addresses.iter().any(|address| address.resolved.load().is_empty());
        drop(known);
        tokio::time::sleep(if missing { RESOLVE_SOON } else { RESOLVE }).await;
    }
}

/// Looks every name of one upstream up. The last good answer stands until a better one comes. The
/// result is whether there is any name.
pub(crate) async fn resolve(upstream: &UpstreamPlan) -> bool {
    let mut any = false;
    for address in &upstream.addresses {
        if address.host.parse::<SocketAddr>().is_ok() {
            continue;
        }
        any = true;
        match tokio::net::lookup_host(&*address.host).await {
            Ok(found) => {
                let found: Vec<_> =
                    found.filter(|found| may_dial(*found, upstream.allow_link_local)).collect();
                if !found.is_empty() {
                    address.resolved.store(Arc::new(found));
                }
            }
            Err(error) => {
                tracing::warn!(upstream = %upstream.name, host = %address.host, %error,
                    "an upstream's name does not resolve");
            }
        }
    }
    any
}
