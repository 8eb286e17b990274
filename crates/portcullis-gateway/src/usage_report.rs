//! Reports usage to the control plane: on the steward's thread, in bodies with an id each, so that
//! a body which is sent twice counts once. Never delays a worker and never decides anything.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis_core::time::MonoNs;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::feed_client::Reported;
use crate::phase::nanos;
use crate::shared::Shared;
use crate::usage::{Count, Counts, Desk, Use};

/// Lines of one body: well below the 1 MiB that a control plane takes, and few enough that its
/// database is not held up for long.
const BODY_LINES: usize = 1000;
/// Most lines that wait for a control plane that does not answer, so that memory stays bounded.
const MOST_WAITING: usize = 1 << 18;
/// No control plane can ask for reports more often than this.
const SOONEST: Duration = Duration::from_secs(1);
/// A control plane that answers 404 is asked again after this long.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// A body that could not be delivered for so long is given up: the control plane remembers the ids
/// of bodies for two days, and must not count one that it has forgotten.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);

/// The one sender of reports.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    desk: Desk,
    waiting: HashMap<Use, Count>,
    /// Since when `waiting` has been gathering.
    since: MonoNs,
    sealed: Option<Sealed>,
    number: u64,
    /// Until when nothing is reported, because nobody wants it.
    off_until: Option<MonoNs>,
    /// How often reports go: as configured, or as soon as the control plane wants them.
    every: Duration,
}

/// A body that has its id and stays as it is until it is delivered.
struct Sealed {
    id: String,
    body: Bytes,
    uses: u64,
    at: MonoNs,
}

/// Whether there is more to do now.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Sent {
    Done,
    Failed,
}

impl Reporter {
    pub(crate) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        let (since, every) = (shared.clock.now().mono, desk.every);
        Self {
            shared,
            desk,
            waiting: HashMap::new(),
            since,
            sealed: None,
            number: 0,
            off_until: None,
            every,
        }
    }

    /// Reports at every interval, and once more when the workers have ended.
    pub(crate) async fn run(mut self, stopped: CancellationToken) {
        let mut rounds = rounds(self.every);
        loop {
            tokio::select! {
                received = self.desk.from.recv() => match received {
                    Some(counts) => self.gather(counts),
                    None => break,
                },
                _ = rounds.tick() => {
                    self.report().await;
                    if rounds.period() != self.every {
                        rounds = self::rounds(self.every);
                        rounds.reset();
                    }
                }
                () = stopped.cancelled() => break,
            }
        }
        while let Ok(counts) = self.desk.from.try_recv() {
            self.gather(counts);
        }
        self.report().await;
    }

    fn gather(&mut self, counts: Counts) {
        if self.is_off() {
            return;
        }
        for (used, count) in counts {
            let full = self.waiting.len() >= MOST_WAITING;
            match self.waiting.entry(used) {
                Entry::Occupied(mut before) => before.get_mut().add(count),
                Entry::Vacant(place) if !full => {
                    place.insert(count);
                }
                Entry::Vacant(_) => self.dropped("full", count.times),
            }
        }
    }

    fn is_off(&mut self) -> bool {
        let now = self.shared.clock.now().mono;
        self.off_until = self.off_until.filter(|until| now < *until);
        self.off_until.is_some()
    }

    /// Sends body after body until there is none or one fails.
    async fn report(&mut self) {
        if self.is_off() {
            return;
        }
        while let Some(sealed) = self.sealed.take().or_else(|| self.seal()) {
            if self.send(sealed).await == Sent::Failed {
                return;
            }
        }
    }

    async fn send(&mut self, sealed: Sealed) -> Sent {
        let now = self.shared.clock.now().mono;
        if now.since(sealed.at) > nanos(GIVE_UP) {
            self.dropped("undelivered", sealed.uses);
            return Sent::Done;
        }
        let result = self.desk.client.report(&sealed.id, sealed.body.clone()).await;
        let label = match &result {
            Ok(Reported::Taken { .. }) => "taken",
            Ok(Reported::NotWanted) => "not_wanted",
            Ok(Reported::Unreadable) => "unreadable",
            Err(_) => "failed",
        };
        self.shared.metrics.usage_reports.with_label_values(&[label]).inc();
        match result {
            Ok(Reported::Taken { within }) => {
                let within = within.unwrap_or(self.desk.every).max(SOONEST);
                self.every = self.desk.every.min(within);
                Sent::Done
            }
            Ok(Reported::NotWanted) => {
                tracing::info!("the control plane takes no reports of usage");
                self.off_until = Some(MonoNs(now.0.saturating_add(nanos(REFUSED_PAUSE))));
                self.waiting.clear();
                Sent::Failed
            }
            Ok(Reported::Unreadable) => {
                tracing::warn!("the control plane cannot read a report of usage; it is dropped");
                self.dropped("unreadable", sealed.uses);
                Sent::Done
            }
            Err(fault) => {
                tracing::debug!(%fault, "a report of usage was not delivered; it is sent again");
                self.sealed = Some(sealed);
                Sent::Failed
            }
        }
    }

    /// Takes the next body out of what waits.
    fn seal(&mut self) -> Option<Sealed> {
        let now = self.shared.clock.now().mono;
        let window_ms = now.since(self.since) / 1_000_000;
        let some: Vec<Use> = self.waiting.keys().copied().take(BODY_LINES).collect();
        let (mut body, mut uses) = (String::new(), 0_u64);
        for used in some {
            let Some(count) = self.waiting.remove(&used) else { continue };
            body.push_str(&line(&used, &count, window_ms));
            body.push('\n');
            uses = uses.saturating_add(count.times);
        }
        if self.waiting.is_empty() {
            self.since = now;
        }
        if body.is_empty() {
            return None;
        }
        self.number += 1;
        let id = format!("{}-{}", self.shared.boot, self.number);
        Some(Sealed { id, body: body.into(), uses, at: now })
    }

    fn dropped(&self, why: &str, uses: u64) {
        self.shared.metrics.usage_dropped.with_label_values(&[why]).inc_by(uses);
    }
}

fn rounds(every: Duration) -> tokio::time::Interval {
    let mut rounds = tokio::time::interval(every);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    rounds
}

/// One line of a report; a denied request's has the reason.
fn line(used: &Use, count: &Count, window_ms: u64) -> String {
    let (allowed, denied) = match used.reason {
        None => (count.times, 0),
        Some(_) => (0, count.times),
    };
    let mut line = json!({
        "key": used.key.to_string(),
        "window_ms": window_ms,
        "allowed": allowed,
        "denied": denied,
        "last_at_ms": count.last_at.0,
        "last_source": count.last_source.to_canonical().to_string(),
    });
    if let Some(generation) = used.generation {
        line["generation"] = json!(generation);
    }
    if let Some(reason) = used.reason {
        line["reason"] = json!(reason.label());
    }
    line.to_string()
}
