//! `GET O/audit-events` with another `Accept`: everything that passes the filters, streamed in the
//! order of the chain as JSON lines, CSV or CloudEvents. It reads a few hundred events at a time,
//! each time from a view of its own, and ends with the event that was the last when it began.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use crate::api::App;
use crate::api::admission::Admitted;
use crate::api::fields;
use crate::api::problem::FieldCode;
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::chain::Checkpoint;
use crate::store::audit::{self, AuditFilter, AuditRow};
use crate::store::page::{Found, Order, Slice};
use crate::store::{StoreError, checkpoints};

/// Events that are read at a time.
const STEP: i64 = 500;
/// Bytes of a piece of the body, at least.
const PIECE: usize = 16 << 10;

/// A form of the export.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Form {
    /// A JSON array of CloudEvents.
    CloudEvents,
    Csv,
    /// One event per line, and the chain's checkpoints between them if `sealed`.
    Lines {
        sealed: bool,
    },
    /// One CloudEvent per line.
    LinesOfCloudEvents,
}

/// What a caller accepts, if it is not the list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    CloudEvents,
    Csv,
    Lines,
}

impl Accepted {
    /// The first of the accepted types that is an export; anything else gets the list.
    pub(super) fn of(headers: &HeaderMap) -> Option<Accepted> {
        let text = headers.get(header::ACCEPT)?.to_str().ok()?;
        text.split(',').find_map(|part| {
            let essence = part.split(';').next().unwrap_or_default().trim();
            match essence.to_ascii_lowercase().as_str() {
                "application/cloudevents-batch+json" => Some(Accepted::CloudEvents),
                "application/x-ndjson" => Some(Accepted::Lines),
                "text/csv" => Some(Accepted::Csv),
                _ => None,
            }
        })
    }

    fn read(self, query: &mut Query) -> Form {
        let mut flag = |name| match self {
            Accepted::Lines => query.read(name, fields::boolean).unwrap_or(false),
            Accepted::CloudEvents | Accepted::Csv => false,
        };
        let (sealed, cloud_events) = (flag("checkpoints"), flag("cloudevents"));
        match self {
            Accepted::CloudEvents => Form::CloudEvents,
            Accepted::Csv => Form::Csv,
            Accepted::Lines if cloud_events => Form::LinesOfCloudEvents,
            Accepted::Lines => Form::Lines { sealed },
        }
    }
}

/// Answers with the stream.
pub(super) async fn send(
    admitted: &Admitted,
    accepted: Accepted,
    mut query: Query,
    filter: AuditFilter,
) -> Reply {
    let form = accepted.read(&mut query);
    if form == (Form::Lines { sealed: true }) && filter != AuditFilter::default() {
        query.fault(
            "checkpoints",
            FieldCode::BadFormat,
            "checkpoints are of all events: no filters",
        );
    }
    query.finish()?;
    let mut view = admitted.view().await?;
    let org_id = admitted.org()?.id.clone();
    let last = audit::find_head(view.conn(), &org_id).await?.map_or(0, |(seq, _)| seq);
    drop(view);
    let app = admitted.app().clone();
    let walk = Export { app, org_id, filter, form, after: 0, last, written: 0, ended: false };
    let mut response = Response::new(Body::from_stream(stream::try_unfold(walk, Export::next)));
    let kind = match form {
        Form::CloudEvents => "application/cloudevents-batch+json",
        Form::Csv => "text/csv; charset=utf-8",
        Form::Lines { .. } | Form::LinesOfCloudEvents => "application/x-ndjson",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// An export under way.
struct Export {
    app: App,
    org_id: String,
    filter: AuditFilter,
    form: Form,
    /// The last event read.
    after: i64,
    /// The last event there was.
    last: i64,
    written: u64,
    ended: bool,
}

impl Export {
    /// The next piece of the body.
    async fn next(mut self) -> Result<Option<(Bytes, Export)>, StoreError> {
        let mut out = String::new();
        if self.written == 0 && !self.ended {
            out.push_str(self.opening());
        }
        // An empty piece would be the end; a search can go far without finding anything.
        while !self.ended && out.len() < PIECE {
            self.read(&mut out).await?;
        }
        Ok((!out.is_empty()).then(|| (Bytes::from(out), self)))
    }

    /// Reads the next events and writes them.
    async fn read(&mut self, out: &mut String) -> Result<(), StoreError> {
        let mut view = self.app.store.view().await?;
        let slice = Slice {
            order: Order::OldestFirst,
            after: Some((self.after, String::new())),
            limit: STEP,
            count: false,
        };
        let found = audit::list(view.conn(), &self.org_id, &self.filter, &slice).await?;
        let Found { mut rows, total: _, horizon } = found;
        let full = i64::try_from(rows.len()).unwrap_or(STEP) >= STEP;
        let through = match (full, rows.last(), horizon) {
            (true, Some(row), _) => row.seq,
            (_, _, Some((seq, _))) => seq,
            (_, _, None) => self.last,
        };
        rows.retain(|row| row.seq <= self.last);
        let shown = super::with_states(view.conn(), &self.org_id, &rows).await?;
        let sealed = match self.form {
            Form::Lines { sealed: true } => {
                let range = (self.after, through);
                let mut sealed = checkpoints::list(view.conn(), &self.org_id, range).await?;
                if through >= self.last {
                    // The end may be cut off; what was written since the export began is not.
                    let gone = checkpoints::list_orphans(view.conn(), &self.org_id, self.last);
                    sealed.extend(gone.await?);
                }
                sealed
            }
            Form::CloudEvents | Form::Csv | Form::Lines { .. } | Form::LinesOfCloudEvents => {
                Vec::new()
            }
        };
        drop(view);
        let mut sealed = sealed.into_iter().peekable();
        for (row, event) in rows.iter().zip(shown) {
            self.write(out, row, &event);
            self.written += 1;
            let stored = sealed.next_if(|checkpoint| checkpoint.seq == row.seq);
            if self.form == (Form::Lines { sealed: true }) {
                self.write_checkpoint(out, stored, row);
            }
        }
        // Those whose event is missing; whoever verifies must see them.
        for checkpoint in sealed {
            let _ = writeln!(out, "{}", checkpoint.to_line());
        }
        self.after = through;
        if self.after >= self.last {
            self.ended = true;
            if self.form == Form::CloudEvents {
                out.push(']');
            }
        }
        Ok(())
    }

    fn opening(&self) -> &'static str {
        match self.form {
            Form::CloudEvents => "[",
            Form::Csv => CSV_HEAD,
            Form::Lines { .. } | Form::LinesOfCloudEvents => "",
        }
    }

    fn write(&self, out: &mut String, row: &AuditRow, event: &Value) {
        // Writing to a String cannot fail.
        let _ = match self.form {
            Form::CloudEvents if self.written > 0 => write!(out, ",{}", cloud_event(row, event)),
            Form::CloudEvents => write!(out, "{}", cloud_event(row, event)),
            Form::Csv => write!(out, "{}\r\n", csv_line(event)),
            Form::Lines { .. } => writeln!(out, "{event}"),
            Form::LinesOfCloudEvents => writeln!(out, "{}", cloud_event(row, event)),
        };
    }

    /// The event's stored checkpoint, or a new one of the last event, so that the export vouches
    /// for all of itself.
    fn write_checkpoint(&self, out: &mut String, stored: Option<Checkpoint>, row: &AuditRow) {
        let checkpoint = stored.or_else(|| {
            let head = (row.seq, row.hash.as_str());
            let now = self.app.now();
            (row.seq == self.last)
                .then(|| Checkpoint::sign(&self.org_id, head, now, &self.app.ledger.signer))
        });
        if let Some(checkpoint) = checkpoint {
            let _ = writeln!(out, "{}", checkpoint.to_line());
        }
    }
}

/// CloudEvents 1.0, with the sequence extension.
fn cloud_event(row: &AuditRow, event: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": row.id,
        "source": format!("/v1/organizations/{}", row.org_id),
        "type": format!("portcullis.audit.{}", row.action),
        "subject": format!("{}/{}", row.target_kind, row.target_id),
        "time": event["ts"],
        "sequence": format!("{:020}", row.seq),
        "datacontenttype": "application/json",
        "data": event,
    })
}

const CSV_COLUMNS: [(&str, &str); 21] = [
    ("seq", "/seq"),
    ("id", "/id"),
    ("ts", "/ts"),
    ("actor_kind", "/actor/kind"),
    ("actor_id", "/actor/id"),
    ("actor_username", "/actor/username"),
    ("actor_key_id", "/actor/key_id"),
    ("actor_state_now", "/actor/state_now"),
    ("action", "/action"),
    ("target_kind", "/target/kind"),
    ("target_id", "/target/id"),
    ("target_name", "/target/name"),
    ("target_state_now", "/target/state_now"),
    ("outcome", "/outcome"),
    ("reason", "/reason"),
    ("ip", "/ip"),
    ("user_agent", "/user_agent"),
    ("request_id", "/request_id"),
    ("before", "/before"),
    ("after", "/after"),
    ("hash", "/hash"),
];

const CSV_HEAD: &str = "seq,id,ts,actor_kind,actor_id,actor_username,actor_key_id,actor_state_now,\
    action,target_kind,target_id,target_name,target_state_now,outcome,reason,ip,user_agent,\
    request_id,before,after,hash\r\n";

/// One record of RFC 4180. What a spreadsheet would take for a formula is made text.
fn csv_line(event: &Value) -> String {
    let cell = |(_, pointer): &(&str, &str)| {
        let text = match event.pointer(pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = if formula { format!("'{text}") } else { text };
        match text.contains(['"', ',', '\r', '\n']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    };
    CSV_COLUMNS.iter().map(cell).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_cell_is_quoted_and_is_never_a_formula() {
        let names: Vec<&str> = CSV_COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(format!("{}\r\n", names.join(",")), CSV_HEAD);
        let event = json!({
            "seq": 7, "target": {"name": "=cmd|' /C calc'!A0"}, "user_agent": "a \"b\", c\nd",
        });
        let line = csv_line(&event);
        assert!(line.starts_with("7,,,"), "{line}");
        assert!(line.contains(",'=cmd|' /C calc'!A0,"), "{line}");
        assert!(line.contains(",\"a \"\"b\"\", c\nd\","), "{line}");
    }
}
