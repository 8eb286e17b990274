//! What the control plane does by itself: it writes the use of keys at the admin API, retires
//! secrets that went quiet, signs the audit log, and forgets old days and answers. One task, which
//! ends with the listener; every deadline is read from the injected clock.

use std::time::Duration;

use portcullis_core::time::MonoNs;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::api::{App, idempotency};
use crate::domain::retirement;
use crate::store::usage;

/// How often it looks for something to do.
const ROUND: Duration = Duration::from_millis(250);
/// How long uses wait that could not be written.
const FLUSH_PAUSE: Duration = Duration::from_secs(10);
/// How often old days are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// How often answers to idempotent calls and the secrets sealed for them are looked through.
const FORGET_EVERY: Duration = Duration::from_secs(30);
/// How often the audit log is signed: what was written since is what nobody vouches for.
const SEAL_EVERY: Duration = Duration::from_secs(60);
/// How often quiet secrets are looked for.
const RETIRE_EVERY: Duration = Duration::from_secs(1);
/// How long every gateway must have been heard of before quiet counts: longer than the longest
/// usual interval of usage reports, so that what happened in between was told.
const HEARD: Duration = Duration::from_secs(60);

/// Works until `shutdown` is cancelled.
pub(crate) async fn run(app: App, shutdown: CancellationToken) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut prune, mut retire) = (Due::every(PRUNE_EVERY), Due::every(RETIRE_EVERY));
    let mut forget = Due::every(FORGET_EVERY);
    let mut flush_again = None;
    let (mut seal, mut heard_since) = (Due::every(SEAL_EVERY), None);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let now = app.clock.now();
        if flush_again.is_none_or(|at| now.mono >= at) {
            let failed = !app.usage.flush(&app).await;
            flush_again = failed.then(|| MonoNs(now.mono.0.saturating_add(nanos(FLUSH_PAUSE))));
        }
        heard_since = match app.publisher.hears_all().await {
            true => heard_since.or(Some(now.mono)),
            false => None,
        };
        let heard = heard_since.is_some_and(|since| now.mono.since(since) >= nanos(HEARD));
        if heard && retire.is_due(now.mono) {
            match retirement::retire_quiet(&app).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "replaced secrets went quiet and were retired"),
                Err(error) => tracing::warn!(%error, "quiet secrets were not retired"),
            }
        }
        if forget.is_due(now.mono) {
            idempotency::prune(&app).await;
        }
        if seal.is_due(now.mono) {
            app.seal_audit().await;
        }
        if prune.is_due(now.mono)
            && let Err(error) = usage::prune(&app.store, now.wall).await
        {
            tracing::warn!(%error, "old days of usage were not forgotten");
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Something that is done again and again, not at the start.
struct Due {
    every: Duration,
    next: Option<MonoNs>,
}

impl Due {
    fn every(every: Duration) -> Due {
        Due { every, next: None }
    }

    fn is_due(&mut self, now: MonoNs) -> bool {
        let due = self.next.is_some_and(|next| now >= next);
        if due || self.next.is_none() {
            self.next = Some(MonoNs(now.0.saturating_add(nanos(self.every))));
        }
        due
    }
}
