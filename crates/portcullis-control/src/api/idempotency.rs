//! `Idempotency-Key` (service-accounts.md 9.3): a POST that is sent again changes nothing again and
//! gets the first answer again.
//!
//! ```text
//! first call    runs; its answer is written in the transaction of its change, without secrets
//! same body     the written answer, Idempotency-Replayed: true; a secret once, and only while it works
//! other body    422 idempotency_key_reused
//! still running 409 idempotency_in_progress
//! cut off       409 idempotency_outcome_unknown
//! refused       nothing is written: the call had no effect and may be sent again
//! ```
//!
//! An operation of several transactions (a batch) writes a sign with the first of them and its
//! answer at the end. If the process dies in between, or the caller goes away, the sign stays without
//! a call that runs: what was done is for the caller to find out. No other process runs it, for the
//! data directory is locked by one; several on one database would have to sign with their names.
//! What changes nothing has no transaction; its answer is written afterwards.
//!
//! Secrets are kept sealed ([`crate::sealer`]), for a quarter of an hour at most. They never stand in
//! the written body.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, http};
use portcullis_core::account::{AccountState, Expiry, KeyState};
use portcullis_core::feed::Position;
use portcullis_core::key;
use portcullis_core::time::WallMs;
use serde_json::{Value, json};
use sqlx::SqliteConnection;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::admission::Admitted;
use super::operation::{Answer, Operation};
use super::problem::{Code, FieldCode, Problem};
use super::reply::{self, Envelope, Reply};
use super::{App, Shared};
use crate::caller;
use crate::instant::{column, wall};
use crate::store::answers::{self, AnswerRow, CallName};
use crate::store::organizations::{self, OrganizationRow};
use crate::store::{StoreError, keys, unit};

const HEADER: &str = "idempotency-key";
/// How long answers are kept.
const KEPT_MS: i64 = 24 * 3_600_000;
/// How long secrets are kept; pruning may take a minute longer.
const SEALED_MS: i64 = 14 * 60_000;
/// The largest answer that is kept.
const MAX_ANSWER: usize = 16 << 20;

/// Runs a POST, or gives its first answer again.
pub(super) async fn run(operation: &'static Operation, mut admitted: Admitted) -> Reply {
    let Some(key) = read_key(&admitted.call.headers)? else {
        return (operation.run)(admitted).await;
    };
    // What tells calls apart leaves the waiting out, so a replay has to be asked for rightly, too.
    if let Answer::Mutation(_) = operation.answer {
        admitted.wait()?;
    }
    let app = admitted.app().clone();
    let digest = admitted.call.digest().await?;
    let principal = admitted.caller.actor().id;
    let path = admitted.call.path().to_owned();
    let name = CallName { principal, method: "POST", path, key };
    // Registered before the look-up: a first call that ends in between is either still here or
    // already written.
    let _running = app.running.enter(&name).await.ok_or_else(in_progress)?;
    let mut view = admitted.view().await?;
    let written = answers::find(view.conn(), &name, oldest_ms(app.now())).await?;
    drop(view);
    if let Some(row) = written {
        return replay(&admitted, &name, &digest, row).await;
    }
    let once = Arc::new(Once { name, digest, begun: Flag::default(), answered: Flag::default() });
    admitted.once = Some(Arc::clone(&once));
    let response = (operation.run)(admitted).await?;
    if once.answered.is_set() {
        return Ok(response);
    }
    once.write_afterwards(&app, response).await
}

/// 1 to 128 visible ASCII characters, once.
fn read_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut lines = headers.get_all(HEADER).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let well_formed = (1..=128).contains(&line.len())
        && line.as_bytes().iter().all(u8::is_ascii_graphic)
        && lines.next().is_none();
    match line.to_str() {
        Ok(text) if well_formed => Ok(Some(text.to_owned())),
        Ok(_) | Err(_) => Err(Problem::field(
            "Idempotency-Key",
            FieldCode::BadFormat,
            "one header of 1 to 128 visible ASCII characters is wanted",
        )),
    }
}

fn in_progress() -> Problem {
    let detail = "The first call with this Idempotency-Key has not been answered.";
    Problem::new(Code::IdempotencyInProgress, detail)
}

fn outcome_unknown() -> Problem {
    let detail = "The first call with this Idempotency-Key was cut off: some of it may be done, and \
                  nothing more of it will be. Look at what it was about, and send the rest with \
                  another key.";
    Problem::new(Code::IdempotencyOutcomeUnknown, detail)
}

fn oldest_ms(now: WallMs) -> i64 {
    column(now) - KEPT_MS
}

/// The calls with a key that run now. An entry is alive as long as its call holds it.
#[derive(Default)]
pub(crate) struct Running(Mutex<HashMap<CallName, Weak<()>>>);

impl Running {
    async fn enter(&self, name: &CallName) -> Option<Arc<()>> {
        let mut calls = self.0.lock().await;
        calls.retain(|_, call| call.strong_count() > 0);
        if calls.contains_key(name) {
            return None;
        }
        let call = Arc::new(());
        calls.insert(name.clone(), Arc::downgrade(&call));
        Some(call)
    }
}

/// Something that happens once.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Flag {
    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The first call with a key, while it runs.
#[derive(Debug)]
pub(crate) struct Once {
    name: CallName,
    digest: String,
    begun: Flag,
    answered: Flag,
}

impl Once {
    /// Refuses to go on if the call was run meanwhile, by another process or by one that its caller
    /// gave up.
    pub(super) async fn check(
        &self,
        conn: &mut SqliteConnection,
        now: WallMs,
    ) -> Result<(), Problem> {
        let written = answers::find(conn, &self.name, oldest_ms(now)).await?;
        match written {
            Some(_) if !self.begun.is_set() => Err(in_progress()),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes that the call has begun to change something, in the transaction of each change.
    pub(super) async fn begin(
        &self,
        conn: &mut SqliteConnection,
        now: WallMs,
    ) -> Result<(), Problem> {
        // Asked each time: what wrote it first may have been undone.
        if answers::find(conn, &self.name, oldest_ms(now)).await?.is_none() {
            let row = AnswerRow { created_ms: column(now), ..self.row() };
            answers::save(conn, &self.name, &row).await?;
        }
        self.begun.set();
        Ok(())
    }

    /// Writes the answer in the transaction of its change.
    pub(super) async fn answer(
        &self,
        app: &Shared,
        conn: &mut SqliteConnection,
        envelope: &Envelope,
    ) -> Result<(), Problem> {
        let row = AnswerRow {
            status: Some(i64::from(envelope.status().as_u16())),
            version: envelope.version,
            location: envelope.location.clone(),
            narrowing: Some(envelope.narrowing),
            epoch: i64::try_from(envelope.position.epoch).ok(),
            seq: i64::try_from(envelope.position.seq).ok(),
            ..self.row()
        };
        let body = Value::Object(envelope.members.clone());
        let row = self.sealed(app, conn, row, body).await?;
        answers::prune(conn, oldest_ms(app.now()), app.now()).await?;
        answers::save(conn, &self.name, &row).await?;
        self.answered.set();
        Ok(())
    }

    /// Writes an answer that no transaction of its own holds.
    async fn write_afterwards(&self, app: &App, response: Response) -> Reply {
        let (parts, body) = response.into_parts();
        let json = HeaderValue::from_static("application/json");
        if parts.headers.get(header::CONTENT_TYPE) != Some(&json) {
            return Ok(Response::from_parts(parts, body));
        }
        let bytes = to_bytes(body, MAX_ANSWER).await;
        let bytes = Zeroizing::new(bytes.map_err(|_| too_long())?.to_vec());
        let body: Value = serde_json::from_slice(&bytes).map_err(|_| too_long())?;
        let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let row = AnswerRow {
            status: Some(i64::from(parts.status.as_u16())),
            version: text(header::ETAG).and_then(|tag| tag.trim_matches('"').parse().ok()),
            location: text(header::LOCATION).map(str::to_owned),
            ..self.row()
        };
        let mut view = app.store.view().await?;
        let row = self.sealed(app, view.conn(), row, body).await?;
        drop(view);
        unit::record_answer(&app.store, &self.name, &row, oldest_ms(app.now()), app.now()).await?;
        Ok(Response::from_parts(parts, Body::from(bytes.to_vec())))
    }

    fn row(&self) -> AnswerRow {
        AnswerRow { digest: self.digest.clone(), ..AnswerRow::default() }
    }

    /// The row with its body, whose secrets are withheld and sealed where the policy allows it.
    async fn sealed(
        &self,
        app: &Shared,
        conn: &mut SqliteConnection,
        row: AnswerRow,
        mut body: Value,
    ) -> Result<AnswerRow, Problem> {
        let now = app.now();
        let mut sealable = Vec::new();
        for (pointer, value) in withhold(&mut body) {
            if let Some(generation) = working_generation(conn, &value, now).await? {
                sealable.push((pointer, generation, value.to_string()));
            }
        }
        let sealed = match sealable.is_empty() {
            true => None,
            false => {
                let text = Zeroizing::new(json!(sealable).to_string());
                Some(app.sealer.seal(&context(&self.name), &text, app.entropy.as_ref())?)
            }
        };
        Ok(AnswerRow {
            body: Some(body.to_string()),
            sealed_until_ms: sealed.as_ref().map(|_| column(now) + SEALED_MS),
            sealed,
            created_ms: column(now),
            ..row
        })
    }
}

fn too_long() -> Problem {
    Problem::new(Code::Internal, "The answer could not be kept; what was asked for is done.")
}

fn context(name: &CallName) -> String {
    let CallName { principal, method, path, key } = name;
    format!("{principal} {method} {path} {key}")
}

/// Takes the secrets out of a body; each with the place it had.
fn withhold(body: &mut Value) -> Vec<(String, Zeroizing<String>)> {
    let mut found = Vec::new();
    let mut places = vec![(String::new(), body)];
    while let Some((pointer, place)) = places.pop() {
        match place {
            Value::Object(members) => {
                let secret = members.get("secret").is_some_and(Value::is_string);
                if let (true, Some(Value::String(value))) = (secret, members.get("value")) {
                    found.push((pointer.clone(), Zeroizing::new(value.clone())));
                    members.insert("value".to_owned(), Value::Null);
                    members.insert("secret".to_owned(), Value::Null);
                    members.insert("value_withheld".to_owned(), Value::Bool(true));
                }
                let below = members.iter_mut().filter(|(_, value)| !value.is_null());
                places.extend(below.map(|(name, value)| (format!("{pointer}/{name}"), value)));
            }
            Value::Array(items) => {
                let below = items.iter_mut().enumerate();
                places.extend(below.map(|(at, item)| (format!("{pointer}/{at}"), item)));
            }
            Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
        }
    }
    found
}

/// The generation of a key that works and whose policy lets its secret be handed out once more.
async fn working_generation(
    conn: &mut SqliteConnection,
    value: &str,
    now: WallMs,
) -> Result<Option<i64>, StoreError> {
    let Ok(parsed) = key::parse(value.as_bytes()) else { return Ok(None) };
    let Some(row) = keys::find_by_id(conn, &parsed.id().to_string()).await? else {
        return Ok(None);
    };
    let owner = caller::find_owner(conn, &row).await?;
    let org = organizations::find(conn, &row.org_id).await?;
    let allowed = org
        .is_some_and(|org| org.state == OrganizationRow::ACTIVE && org.policy.replay_secret_once);
    let works = row.state()? == KeyState::Active
        && owner.state == AccountState::Active
        && !Expiry::from(row.expires_ms.map(wall)).is_past(now);
    Ok((allowed && works).then_some(row.generation))
}

/// Gives a written answer again. A call that has none does not run any more: this one has taken its
/// place among those that run.
async fn replay(admitted: &Admitted, name: &CallName, digest: &str, row: AnswerRow) -> Reply {
    if row.digest != digest {
        let detail = "Another body was sent with this Idempotency-Key.";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail));
    }
    let Some(text) = row.body else { return Err(outcome_unknown()) };
    let mut body: Value =
        serde_json::from_str(&text).map_err(|_| StoreError::Broken("idempotent answer"))?;
    if let Some(sealed) = &row.sealed {
        hand_out(admitted.app(), name, sealed, row.sealed_until_ms, &mut body).await?;
    }
    let mut response = match (row.epoch, row.seq, body) {
        (Some(epoch), Some(seq), Value::Object(members)) => {
            let number = |column: i64| u64::try_from(column).unwrap_or(0);
            let envelope = Envelope {
                members,
                version: row.version,
                location: row.location,
                narrowing: row.narrowing.unwrap_or(false),
                position: Position { epoch: number(epoch), seq: number(seq) },
            };
            let wait = admitted.wait()?;
            let waits = wait.applied.unwrap_or(envelope.narrowing);
            envelope.send(admitted, if waits { wait.timeout_ms } else { 0 }).await
        }
        (_, _, body) => {
            let status = row.status.and_then(|status| u16::try_from(status).ok());
            let status = status.and_then(|status| http::StatusCode::from_u16(status).ok());
            let mut response = (status.unwrap_or_default(), Json(&body)).into_response();
            if let Some(version) = row.version {
                reply::set_etag(&mut response, version);
            }
            reply::forbid_storing(&mut response, &body);
            response
        }
    };
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
    Ok(response)
}

/// Puts the secrets back that were sealed, once, where they still work.
async fn hand_out(
    app: &App,
    name: &CallName,
    sealed: &str,
    until_ms: Option<i64>,
    body: &mut Value,
) -> Result<(), Problem> {
    let now = app.now();
    let text = app.sealer.open(&context(name), sealed);
    let Some(text) = text.filter(|_| until_ms.is_some_and(|until| column(now) < until)) else {
        return Ok(());
    };
    // Forgotten before it is handed out, durably: what goes wrong from here on withholds it.
    if !unit::record_handing_out(&app.store, name).await? {
        return Ok(());
    }
    let places: Vec<(String, i64, String)> =
        serde_json::from_str(&text).map_err(|_| StoreError::Broken("sealed secrets"))?;
    let mut view = app.store.view().await?;
    for (pointer, generation, value) in places {
        let value = Zeroizing::new(value);
        let works = working_generation(view.conn(), &value, now).await? == Some(generation);
        let place = body.pointer_mut(&pointer).and_then(Value::as_object_mut);
        let tail = value.rsplit_once('_').map(|(_, tail)| tail.to_owned());
        if let (true, Some(members), Some(tail)) = (works, place, tail) {
            members.insert("value".to_owned(), Value::String(value.to_string()));
            members.insert("secret".to_owned(), Value::String(tail));
            members.remove("value_withheld");
        }
    }
    Ok(())
}

/// Forgets what is too old, if there is anything.
pub(crate) async fn prune(app: &App) {
    let now = app.now();
    let pruned = async {
        let mut view = app.store.view().await?;
        if answers::is_prunable(view.conn(), oldest_ms(now), now).await? {
            drop(view);
            unit::prune_answers(&app.store, oldest_ms(now), now).await?;
        }
        Ok::<(), StoreError>(())
    };
    if let Err(error) = pruned.await {
        tracing::warn!(%error, "old answers to idempotent calls were not forgotten");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::withhold;

    #[test]
    fn secrets_are_taken_out_wherever_they_stand() {
        let mut body = json!({
            "key": {"id": "a"}, "value": "one", "secret": "1",
            "results": [{"id": "b", "value": "two", "secret": "2"}, {"id": "c", "value": 7}],
        });
        let found = withhold(&mut body);
        let mut found: Vec<(&str, &str)> =
            found.iter().map(|(pointer, value)| (pointer.as_str(), value.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, [("", "one"), ("/results/0", "two")]);
        let withheld = json!({"id": "b", "value": null, "secret": null, "value_withheld": true});
        assert_eq!(body["results"][0], withheld);
        assert_eq!(body["value"], json!(null));
        assert_eq!(body["value_withheld"], true);
        assert_eq!(body["results"][1], json!({"id": "c", "value": 7}));
    }
}
