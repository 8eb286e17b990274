//! `/v1/gateways` and `/v1/propagation`: who follows the feed and how far they are.

pub(super) mod list;
pub(super) mod propagation;
pub(super) mod read;
pub(super) mod remove;

use portcullis_core::feed::{Line, Position, parse_line};
use serde_json::Value;

use crate::api::admission::Admitted;
use crate::api::problem::Problem;
use crate::api::views;
use crate::publisher::GatewayStatus;
use crate::store::feed;

/// The gateway as the API shows it. Its lag is the age of the oldest change it has not applied.
async fn shown(admitted: &Admitted, status: &GatewayStatus) -> Result<Value, Problem> {
    let head = admitted.app().publisher.position();
    let lag_ms = if status.applied >= head {
        0
    } else {
        let mut view = admitted.view().await?;
        let from = Position { epoch: head.epoch, seq: status.applied.seq };
        let next = feed::list_changes(view.conn(), from, 1).await?;
        let line = next.first().and_then(|row| parse_line(row.line.as_bytes()).ok());
        match line {
            Some(Line::Txn(txn)) => admitted.call.now.0.saturating_sub(txn.at_ms),
            Some(
                Line::End(_)
                | Line::Header(_)
                | Line::Heartbeat(_)
                | Line::Record { .. }
                | Line::Unknown { .. },
            )
            | None => 0,
        }
    };
    Ok(views::gateway(status, lag_ms))
}
