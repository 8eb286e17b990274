//! Another configuration for a running gateway, on the steward's thread: compiled and its names
//! resolved while the old one serves, then swapped whole. No request fails for it: each is served
//! to its end with the configuration it began with. Faulty settings change nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::plan::Plan;
use crate::settings::{Fault, Settings};
use crate::shared::Shared;
use crate::sink;
use crate::steward::{keep_resolved, resolve};
use crate::subscriber::LedgerSlot;

/// How often a state is looked at that others bring about.
const ROUND: Duration = Duration::from_millis(10);
/// How long a snapshot may keep the ledger away, and workers may take to change over.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long new names of upstreams may take to resolve before the configuration is used.
const RESOLVE_FIRST: Duration = Duration::from_secs(5);
/// How often it is looked whether an old plan is still in use.
const BURY: Duration = Duration::from_secs(1);

/// A wish for other settings, and where the answer goes.
pub(crate) struct Order {
    pub(crate) settings: Settings,
    pub(crate) done: oneshot::Sender<Result<(), ReloadError>>,
}

/// Why the settings were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The gateway has ended or is about to.
    #[error("the gateway is ending")]
    Ending,
    /// The settings contradict themselves.
    #[error("the configuration has {} faults", .0.len())]
    Settings(Vec<Fault>),
    /// The state of the directory keeps the settings from being compiled.
    #[error("the directory is being loaded; try again")]
    Loading,
    /// The settings are in force for new requests of some workers only.
    #[error("a worker has not taken the configuration over in time")]
    Slow,
}

/// Executes one order after the other.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    ledger: LedgerSlot,
    mut orders: mpsc::Receiver<Order>,
) {
    while let Some(Order { settings, done }) = orders.recv().await {
        let result = reload(&shared, &ledger, settings).await;
        // Whoever asked may have gone; the settings count all the same.
        let _ = done.send(result);
    }
}

async fn reload(
    shared: &Arc<Shared>,
    ledger: &LedgerSlot,
    settings: Settings,
) -> Result<(), ReloadError> {
    let fault = |key: &str, what: String| {
        Err(ReloadError::Settings(vec![Fault { key: key.to_owned(), what }]))
    };
    let before = shared.plan.load_full();
    let names = settings.listeners.iter().map(|listener| listener.name.as_str());
    if !names.eq(before.listeners.iter().map(|listener| listener.name.as_str())) {
        return fault("listeners", "other listeners need a restart".to_owned());
    }
    let out = match sink::open(&settings.log.records) {
        Ok(out) => out,
        Err(error) => return fault("log.records", format!("cannot be opened: {error}")),
    };
    let mut plan = compile(ledger, settings).await?;
    let fresh = plan.follow(&before);
    // A name that does not resolve is the state of the network and no fault of the settings: it is
    // tried again for as long as they are in force.
    let resolved = fresh.iter().map(|upstream| resolve(upstream));
    let _ = tokio::time::timeout(RESOLVE_FIRST, futures_util::future::join_all(resolved)).await;
    for route in plan.routes() {
        // So that workers find the series instead of making them.
        shared.metrics.request_seconds.with_label_values(&[&route.name]);
    }

    let generation = plan.generation;
    shared.plan.store(Arc::new(plan));
    // The sink's thread ends after the steward.
    let _ = shared.sinks.send(out);
    for upstream in &fresh {
        spawn_local(keep_resolved(Arc::downgrade(upstream)));
    }
    drop(fresh);
    spawn_local(bury(before));
    taken_over(shared, generation).await
}

/// Compiles the settings as soon as the ledger is there.
async fn compile(ledger: &LedgerSlot, settings: Settings) -> Result<Plan, ReloadError> {
    let mut settings = Some(settings);
    for _ in 0..PATIENCE.as_millis() / ROUND.as_millis() {
        let compiled = ledger.with(|ledger| {
            let settings = settings.take()?;
            Some(Plan::new(settings, ledger.symbols()))
        });
        match compiled.flatten() {
            Some(Ok((plan, _))) => return Ok(plan),
            Some(Err(faults)) => return Err(ReloadError::Settings(faults)),
            None => tokio::time::sleep(ROUND).await,
        }
    }
    Err(ReloadError::Loading)
}

/// Waits until every worker serves with the plan of this generation.
async fn taken_over(shared: &Shared, generation: u64) -> Result<(), ReloadError> {
    for _ in 0..PATIENCE.as_millis() / ROUND.as_millis() {
        if shared.all_took(generation) {
            return Ok(());
        }
        if shared.is_draining() {
            return Err(ReloadError::Ending);
        }
        tokio::time::sleep(ROUND).await;
    }
    Err(ReloadError::Slow)
}

/// Frees a plan when nobody uses it any more, here and not on a worker.
async fn bury(plan: Arc<Plan>) {
    while Arc::strong_count(&plan) > 1 {
        tokio::time::sleep(BURY).await;
    }
}
