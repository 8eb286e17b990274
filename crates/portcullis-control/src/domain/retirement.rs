//! Ends replaced secrets that nobody uses any more, as the rotation asked for: an ordinary
//! narrowing change with its audit event, made by the installation itself. Ends nothing that some
//! gateway may have seen in use without having told.

use portcullis_core::time::WallMs;

use super::records;
use crate::api::App;
use crate::api::views::{self, KeyContext};
use crate::caller::find_owner;
use crate::instant::column;
use crate::store::audit::{Actor, Event, Origin, Outcome, Target};
use crate::store::keys::{self, KeyRow};
use crate::store::{StoreError, Unit, organizations};

/// Keys of one round; the next round goes on.
const ROUND: i64 = 100;

/// Retires every replaced secret whose quiet time is over. How many.
pub(crate) async fn retire_quiet(app: &App) -> Result<usize, StoreError> {
    let mut view = app.store.view().await?;
    let due = keys::list_quiet(view.conn(), column(app.now()), ROUND).await?;
    drop(view);
    let mut retired = 0;
    for id in &due {
        retired += usize::from(retire(app, id).await?);
    }
    Ok(retired)
}

/// Retires the secret unless it was used, rotated away or ended meanwhile.
async fn retire(app: &App, id: &str) -> Result<bool, StoreError> {
    let now = app.now();
    let mut unit = Unit::begin(&app.store, app.ledger.clone(), now).await?;
    let Some(mut row) = keys::find_by_id(unit.conn(), id).await? else { return Ok(false) };
    if !row.is_quiet(column(now)) {
        return Ok(false);
    }
    let before = shown(&mut unit, &row, now).await?;
    row.forget_previous();
    keys::update(unit.conn(), &mut row, now).await?;
    records::publish_key(&mut unit, &row).await?;
    let after = shown(&mut unit, &row, now).await?;
    let event = Event {
        org_id: row.org_id.clone(),
        actor: Actor::installation(),
        action: "api_key.retire_secret".to_owned(),
        target: Target { kind: "api_key", id: row.id, name: row.name },
        resource_id: None,
        outcome: Outcome::Ok,
        origin: Origin::default(),
        before: Some(before),
        after: Some(after),
    };
    unit.commit(event, app.entropy.as_ref()).await?;
    Ok(true)
}

async fn shown(
    unit: &mut Unit,
    row: &KeyRow,
    now: WallMs,
) -> Result<serde_json::Value, StoreError> {
    let owner = find_owner(unit.conn(), row).await?.state;
    let org = organizations::find(unit.conn(), &row.org_id).await?;
    let org = org.ok_or(StoreError::Broken("organization of a key"))?;
    let shown = views::key(row, KeyContext { org: &org, owner, now });
    shown.map_err(|_| StoreError::Broken("state of a key"))
}
