//! The publisher: what gateways are told and what they have confirmed (gateway.md 13.3,
//! threats.md 8). The change table is the truth; everything here can be lost and is learnt again.
//!
//! It never decides what changes, and never holds back a commit for a slow gateway.

mod acks;
mod changes;
mod entrance;
mod snapshot;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use portcullis_core::feed::Position;
use portcullis_core::time::{Clock, MonoNs, Now};
use serde::Serialize;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::api::App;
use crate::instant::column;
use crate::store::gateways::{self, GatewayRow};
use crate::store::unit::{self, Ledger};
use crate::store::{Store, StoreError};

/// A gateway without an ack for this long is lost: nobody waits for it any more.
const LEASE: Duration = Duration::from_secs(5);
/// How old a line can be when a gateway reads it: a connection that is silent for this long is
/// dropped by the gateway. A fence is counted from the last instant it may have heard from us.
const LINE_FLIGHT: Duration = Duration::from_secs(3);
/// How often a gateway's last contact is saved.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// How often a waiting call looks whether a lease ran out meanwhile.
const LEASE_CHECK: Duration = Duration::from_millis(100);
/// Refused positions remembered per gateway.
const MOST_REFUSED: usize = 1000;

/// The feed's endpoints.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/feed/v1/snapshot", get(snapshot::send))
        .route("/feed/v1/changes", get(changes::follow))
        .route("/feed/v1/acks", post(acks::receive))
        .route("/feed/v1/usage", post(usage::receive))
}

/// Who follows, and how far everybody is.
pub(crate) struct Publisher {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    gateways: Mutex<BTreeMap<String, Gateway>>,
    /// Rises with every ack; waiting calls watch it.
    acked: watch::Sender<u64>,
    end: OnceLock<CancellationToken>,
}

/// What is known of one gateway.
#[derive(Clone, Debug)]
struct Gateway {
    row: GatewayRow,
    applied: Position,
    fence: Option<Duration>,
    /// The last ack; at the start of this process, that start.
    acked_at: MonoNs,
    /// The last instant at which it may have been sent something.
    told_at: MonoNs,
    saved_at: MonoNs,
    refused: BTreeSet<Position>,
}

/// How a gateway stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Silent for so long that it serves no key: counts as applied.
    Fenced,
    /// Acks, but has not applied everything.
    Lagging,
    /// Acks and has applied everything.
    Live,
    /// Silent: still pending, but not waited for.
    Lost,
}

impl Gateway {
    fn standing(&self, now: MonoNs, wanted: Position) -> Standing {
        let silence = |since: MonoNs| Duration::from_nanos(now.since(since));
        if self.fence.is_some_and(|fence| silence(self.told_at) > fence + LINE_FLIGHT) {
            return Standing::Fenced;
        }
        if silence(self.acked_at) > LEASE {
            return Standing::Lost;
        }
        if self.applied >= wanted { Standing::Live } else { Standing::Lagging }
    }
}

/// Who has applied a position. Lost gateways are pending until they are fenced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    pub(crate) applied: Vec<String>,
    pub(crate) pending: Vec<String>,
    pub(crate) fenced: Vec<String>,
    /// Whether any pending gateway is alive and worth waiting for.
    #[serde(skip)]
    awaited: bool,
    /// Whether any gateway refused a record of the position.
    #[serde(skip)]
    pub(crate) refused: bool,
}

/// A gateway as the API shows it.
#[derive(Clone, Debug)]
pub(crate) struct GatewayStatus {
    pub(crate) row: GatewayRow,
    pub(crate) applied: Position,
    pub(crate) standing: Standing,
}

/// What an ack says.
pub(crate) struct Ack {
    pub(crate) applied: Position,
    pub(crate) fence_ms: Option<u64>,
    pub(crate) refused: Vec<u64>,
}

impl Publisher {
    /// Learns the gateways of the database. The fence of each is counted from now: it may have
    /// heard from the process before us until just now.
    pub(crate) async fn open(
        store: Arc<Store>,
        ledger: Arc<Ledger>,
        clock: Arc<dyn Clock>,
    ) -> Result<Publisher, StoreError> {
        let mut view = store.view().await?;
        let now = clock.now().mono;
        let known = gateways::list(view.conn()).await?;
        let known = known.into_iter().map(|row| (row.id.clone(), Gateway::stored(row, now)));
        let known = known.collect();
        drop(view);
        Ok(Publisher {
            store,
            ledger,
            clock,
            gateways: Mutex::new(known),
            acked: watch::Sender::new(0),
            end: OnceLock::new(),
        })
    }

    /// The newest committed position.
    pub(crate) fn position(&self) -> Position {
        *self.ledger.head.borrow()
    }

    /// Streams end when this is cancelled, so that a drain does not wait for them.
    pub(crate) fn end_streams_at(&self, end: CancellationToken) {
        let _ = self.end.set(end);
    }

    fn end(&self) -> CancellationToken {
        self.end.get().cloned().unwrap_or_default()
    }

    /// Notes that this gateway follows, before it is told anything: from here on, changes wait for
    /// it. False if it was removed by the operator.
    async fn register(&self, id: &str, build: Option<&str>) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let row = {
            let mut gateways = self.gateways.lock().await;
            if let Some(gateway) = gateways.get_mut(id) {
                gateway.told_at = now.mono;
                gateway.row.build = build.map(str::to_owned);
                return Ok(gateway.row.removed_ms.is_none());
            }
            let row = GatewayRow {
                id: id.to_owned(),
                build: build.map(str::to_owned),
                first_seen_ms: column(now.wall),
                last_seen_ms: column(now.wall),
                epoch: 0,
                applied_seq: 0,
                fence_ms: None,
                removed_ms: None,
            };
            gateways.insert(id.to_owned(), Gateway::stored(row.clone(), now.mono));
            row
        };
        // Saved before it is told anything, so that a restart knows whom to wait for. Where nothing
        // can be saved, nothing can be changed that it would be waited for either: it gets its
        // state all the same, and is saved with one of its next acknowledgements.
        match unit::record_gateway(&self.store, &row).await {
            Err(error @ StoreError::Unavailable(_)) => {
                tracing::warn!(gateway = id, %error, "a new gateway was not saved");
                if let Some(gateway) = self.gateways.lock().await.get_mut(id) {
                    gateway.saved_at = MonoNs(0);
                }
                Ok(true)
            }
            saved => saved.map(|()| true),
        }
    }

    /// Notes that this gateway was just sent a line. False if it was removed meanwhile.
    async fn told(&self, id: &str) -> bool {
        let now = self.clock.now().mono;
        let mut gateways = self.gateways.lock().await;
        match gateways.get_mut(id) {
            Some(gateway) if gateway.row.removed_ms.is_none() => {
                gateway.told_at = now;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Takes an ack. It counts in memory at once and is saved now and then.
    async fn ack(&self, id: &str, ack: Ack) {
        let Now { wall, mono } = self.clock.now();
        let Ack { applied: claimed, fence_ms, refused } = ack;
        // A gateway ahead of us follows a history that we do not have: it has applied nothing of
        // ours, whatever its number says.
        let ahead = claimed > self.position();
        let applied = if ahead { Position::default() } else { claimed };
        if ahead {
            tracing::error!(gateway = id, %claimed, "a gateway is ahead of the control plane");
        }
        let to_save = {
            let mut gateways = self.gateways.lock().await;
            let Some(gateway) = gateways.get_mut(id) else { return };
            let fence = fence_ms.map(Duration::from_millis);
            let fence_changed = gateway.fence != fence;
            gateway.applied = applied;
            gateway.fence = fence;
            gateway.acked_at = mono;
            gateway.told_at = mono;
            for seq in refused {
                gateway.refused.insert(Position { epoch: applied.epoch, seq });
            }
            while gateway.refused.len() > MOST_REFUSED {
                gateway.refused.pop_first();
            }
            gateway.row.last_seen_ms = column(wall);
            gateway.row.epoch = counter(applied.epoch);
            gateway.row.applied_seq = counter(applied.seq);
            gateway.row.fence_ms = fence_ms.map(counter);
            let due = Duration::from_nanos(mono.since(gateway.saved_at)) >= SAVE_EVERY;
            (due || fence_changed).then(|| {
                gateway.saved_at = mono;
                gateway.row.clone()
            })
        };
        self.acked.send_modify(|count| *count = count.wrapping_add(1));
        if let Some(row) = to_save
            && let Err(error) = unit::record_gateway(&self.store, &row).await
        {
            tracing::warn!(gateway = id, %error, "last contact with a gateway was not saved");
        }
    }

    /// Saves every gateway as it is known now.
    pub(crate) async fn save_all(&self) {
        let rows: Vec<GatewayRow> =
            self.gateways.lock().await.values().map(|gateway| gateway.row.clone()).collect();
        for row in rows.iter().filter(|row| row.removed_ms.is_none()) {
            if let Err(error) = unit::record_gateway(&self.store, row).await {
                tracing::warn!(gateway = row.id, %error, "last contact was not saved");
            }
        }
    }

    /// Waits until every live gateway has applied the position, at most for `timeout_ms`.
    pub(crate) async fn wait_applied(&self, position: Position, timeout_ms: u64) -> Spread {
        // Interest is registered before the first look, so no ack falls between the two.
        let mut acked = self.acked.subscribe();
        let wait = async {
            while self.spread(position).await.awaited {
                tokio::select! {
                    _ = acked.changed() => {}
                    () = tokio::time::sleep(LEASE_CHECK) => {}
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), wait).await;
        self.spread(position).await
    }

    /// Who has applied the position now.
    pub(crate) async fn spread(&self, position: Position) -> Spread {
        let now = self.clock.now().mono;
        let mut spread = Spread::default();
        for (id, gateway) in &*self.gateways.lock().await {
            if gateway.row.removed_ms.is_some() {
                continue;
            }
            spread.refused |= gateway.refused.contains(&position);
            if gateway.applied >= position {
                spread.applied.push(id.clone());
                continue;
            }
            match gateway.standing(now, position) {
                Standing::Fenced => spread.fenced.push(id.clone()),
                Standing::Lost => spread.pending.push(id.clone()),
                Standing::Lagging | Standing::Live => {
                    spread.awaited = true;
                    spread.pending.push(id.clone());
                }
            }
        }
        spread
    }

    /// Every gateway that was not removed.
    pub(crate) async fn list(&self) -> Vec<GatewayStatus> {
        let now = self.clock.now().mono;
        let head = self.position();
        let gateways = self.gateways.lock().await;
        gateways
            .values()
            .filter(|gateway| gateway.row.removed_ms.is_none())
            .map(|gateway| GatewayStatus {
                row: gateway.row.clone(),
                applied: gateway.applied,
                standing: gateway.standing(now, head),
            })
            .collect()
    }

    /// Whether every gateway acks, so that none can have seen anything that we do not know of.
    pub(crate) async fn hears_all(&self) -> bool {
        let now = self.clock.now().mono;
        let gateways = self.gateways.lock().await;
        gateways
            .values()
            .filter(|gateway| gateway.row.removed_ms.is_none())
            .all(|gateway| Duration::from_nanos(now.since(gateway.acked_at)) <= LEASE)
    }

    /// Forgets a gateway whose removal was committed.
    pub(crate) async fn remove(&self, id: &str, now_ms: i64) {
        if let Some(gateway) = self.gateways.lock().await.get_mut(id) {
            gateway.row.removed_ms = Some(now_ms);
        }
        self.acked.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How many gateways follow at the moment.
    async fn count_live(&self) -> u64 {
        let now = self.clock.now().mono;
        let gateways = self.gateways.lock().await;
        let live = gateways.values().filter(|gateway| {
            gateway.row.removed_ms.is_none()
                && Duration::from_nanos(now.since(gateway.acked_at)) <= LEASE
        });
        live.count() as u64
    }
}

impl Gateway {
    fn stored(row: GatewayRow, now: MonoNs) -> Gateway {
        Gateway {
            applied: Position {
                epoch: row.epoch.unsigned_abs(),
                seq: row.applied_seq.unsigned_abs(),
            },
            fence: row.fence_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            row,
            acked_at: now,
            told_at: now,
            saved_at: now,
            refused: BTreeSet::new(),
        }
    }
}

fn counter(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
