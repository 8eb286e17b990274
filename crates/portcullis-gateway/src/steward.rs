//! The steward: one thread for everything that must not disturb a worker. It follows the feed,
//! resolves upstream names, watches the clock. Never sees a request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_local;

use crate::metrics::seconds;
use crate::plan::UpstreamPlan;
use crate::pool::may_dial;
use crate::shared::Shared;
use crate::subscriber::{Origin, Subscriber};

/// How often the steward shows that it lives.
const TICK: Duration = Duration::from_millis(250);
/// How often names are resolved.
const RESOLVE: Duration = Duration::from_secs(30);
/// How soon a name that has no address yet is tried again.
const RESOLVE_SOON: Duration = Duration::from_secs(1);

/// Runs until every worker has ended. Call it on the steward's own thread.
///
/// # Errors
///
/// If there is no runtime to be had.
pub(crate) fn run(shared: Arc<Shared>, subscriber: Subscriber, origin: Origin) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let stopped = shared.stopped.clone();
        for upstream in &shared.plan.upstreams {
            spawn_local(resolve(Arc::clone(upstream)));
        }
        spawn_local(tick(Arc::clone(&shared)));
        tokio::select! {
            () = subscriber.run(origin) => {}
            () = stopped.cancelled() => {}
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
        if let Some(stale) = shared.staleness_ns(now) {
            shared.metrics.feed_staleness.set(seconds(stale));
        }
        let open: u64 = shared.in_flight.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let streams = shared.metrics.open_streams.with_label_values(&["request"]);
        streams.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// Keeps the addresses of one upstream fresh. The last good answer stands until a better one
/// comes.
async fn resolve(upstream: Arc<UpstreamPlan>) {
    let named: Vec<_> = upstream
        .addresses
        .iter()
        .filter(|address| address.host.parse::<SocketAddr>().is_err())
        .collect();
    while !named.is_empty() {
        let mut missing = false;
        for address in &named {
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
            missing |= address.resolved.load().is_empty();
        }
        tokio::time::sleep(if missing { RESOLVE_SOON } else { RESOLVE }).await;
    }
}
