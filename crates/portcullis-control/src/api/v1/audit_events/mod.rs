//! `O/audit-events`: what was done, by whom, in a chain that shows any tampering.

mod export;
pub(super) mod list;
pub(super) mod read;
pub(super) mod verify;

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::api::views;
use crate::store::StoreError;
use crate::store::audit::AuditRow;
use crate::store::states::States;

/// The events, each with the state that its actor and its target have now: events outlive their
/// subjects.
async fn with_states(
    conn: &mut SqliteConnection,
    org_id: &str,
    rows: &[AuditRow],
) -> Result<Vec<Value>, StoreError> {
    let mut states = States::default();
    for row in rows {
        states.want(&row.actor_kind, &row.actor_id);
        states.want(&row.target_kind, &row.target_id);
    }
    states.read(conn, org_id).await?;
    let shown = rows.iter().map(|row| {
        let mut event = views::audit_event(row);
        event["actor"]["state_now"] = json!(states.find(&row.actor_kind, &row.actor_id));
        event["target"]["state_now"] = json!(states.find(&row.target_kind, &row.target_id));
        event
    });
    Ok(shown.collect())
}
