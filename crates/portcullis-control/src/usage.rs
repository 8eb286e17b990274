//! The use of keys at the admin API itself, gathered in memory and counted together now and then:
//! a call never waits for a write of its own.

use std::collections::HashMap;

use portcullis_core::time::WallMs;
use tokio::sync::Mutex;

use crate::api::Shared;
use crate::instant::column;
use crate::store::usage::{self, DAY_MS, Report, Used};

/// Different uses that may wait. What comes after is not counted until they are.
const MOST: usize = 1 << 16;

/// What was used since the last flush.
#[derive(Default)]
pub(crate) struct OwnUsage(Mutex<HashMap<Kind, Used>>);

/// What is counted apart: key, secret, refusal, day.
type Kind = (String, Option<i64>, bool, i64);

impl OwnUsage {
    /// Counts one call.
    pub(crate) async fn note(
        &self,
        key_id: &str,
        generation: Option<i64>,
        denied: bool,
        (now, ip): (WallMs, Option<&str>),
    ) {
        let at_ms = column(now);
        let kind = (key_id.to_owned(), generation, denied, at_ms / DAY_MS);
        let mut waiting = self.0.lock().await;
        if waiting.len() >= MOST && !waiting.contains_key(&kind) {
            return;
        }
        let used = waiting.entry(kind).or_insert_with(|| Used {
            key_id: key_id.to_owned(),
            generation,
            allowed: 0,
            denied: 0,
            at_ms,
            source: None,
            reason: None,
        });
        used.allowed += i64::from(!denied);
        used.denied += i64::from(denied);
        (used.at_ms, used.source) = (at_ms, ip.map(str::to_owned));
    }

    /// Writes what was used; what cannot be written now waits on. False if it does.
    pub(crate) async fn flush(&self, app: &Shared) -> bool {
        let taken = std::mem::take(&mut *self.0.lock().await);
        if taken.is_empty() {
            return true;
        }
        let used: Vec<Used> = taken.values().cloned().collect();
        let report = Report { id: None, used: &used, denials: Vec::new() };
        let now = app.now();
        let written =
            usage::record(&app.store, &app.ledger, report, now, app.entropy.as_ref()).await;
        let Err(error) = written else { return true };
        tracing::warn!(%error, "the use of keys at the admin API was not written yet");
        let mut waiting = self.0.lock().await;
        for (kind, earlier) in taken {
            waiting
                .entry(kind)
                .and_modify(|later| {
                    later.allowed += earlier.allowed;
                    later.denied += earlier.denied;
                })
                .or_insert(earlier);
        }
        false
    }
}
