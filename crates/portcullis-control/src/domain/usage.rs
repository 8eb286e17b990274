//! Reports of usage from gateways: counted once, and refusals of known keys go to the audit log.

use portcullis_core::verdict::DenyReason;
use serde_json::json;

use super::Problem;
use crate::api::App;
use crate::caller::find_owner;
use crate::instant::Stamp;
use crate::store::audit::{Actor, CREDENTIAL_DENIED, Event, Origin, Outcome, Target};
use crate::store::usage::{self, Report, Used};
use crate::store::{StoreError, View, keys, organizations};

/// Refusals of one report that the audit log looks at: it must not be filled by whoever guesses.
const MOST_REFUSALS: usize = 1000;

/// Counts a report unless its id was counted before. Within how many seconds the organizations that
/// it names want the next one, by their policy.
pub(crate) async fn take(
    app: &App,
    gateway: &str,
    id: &str,
    used: &[Used],
) -> Result<Option<u32>, Problem> {
    let mut view = app.store.view().await?;
    let mut denials = Vec::new();
    for one in used.iter().filter(|one| one.denied > 0) {
        if denials.len() < MOST_REFUSALS
            && let Some(reason) = one.reason.filter(|reason| is_of_credential(*reason))
            && let Some(event) = refusal(&mut view, gateway, one, reason).await?
        {
            denials.push(event);
        }
    }
    drop(view);
    let id = format!("{gateway}/{id}");
    let report = Report { id: Some(&id), used, denials };
    let now = app.now();
    let counted = usage::record(&app.store, &app.ledger, report, now, app.entropy.as_ref()).await?;
    let Some(orgs) = counted else {
        tracing::debug!(gateway, id, "a report of usage came again and was not counted");
        return Ok(None);
    };
    let policies = organizations::list_policies(app.store.view().await?.conn(), &orgs).await?;
    Ok(policies.iter().map(|policy| policy.last_used_flush_s).min())
}

/// Whether the credential itself was refused. What a caller with a good key may not do is counted
/// and not audited.
fn is_of_credential(reason: DenyReason) -> bool {
    matches!(reason.problem().code, "invalid_token" | "source_not_allowed")
}

async fn refusal(
    view: &mut View,
    gateway: &str,
    used: &Used,
    reason: DenyReason,
) -> Result<Option<Event>, StoreError> {
    let Some(key) = keys::find_by_id(view.conn(), &used.key_id).await? else { return Ok(None) };
    let owner = find_owner(view.conn(), &key).await?;
    let seen = json!({
        "gateway": gateway,
        "denied": used.denied,
        "last_at": Stamp::of_column(used.at_ms),
    });
    Ok(Some(Event {
        org_id: key.org_id,
        actor: Actor {
            kind: owner.kind,
            id: key.owner_id,
            name: owner.name,
            key_id: Some(key.id.clone()),
            state: owner.state.as_str().to_owned(),
        },
        action: CREDENTIAL_DENIED.to_owned(),
        target: Target { kind: "api_key", id: key.id, name: key.name },
        resource_id: None,
        outcome: Outcome::Denied { reason: reason.label().to_owned() },
        origin: Origin { ip: used.source.clone(), ..Origin::default() },
        before: None,
        after: Some(seen),
    }))
}
