//! The admin API (service-accounts.md 9) and the feed, on one listener. One operation per file
//! below `v1/`; this module wires them and frames every answer.
//!
//! It never logs a body or an `Authorization` header.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod body;
pub(crate) mod call;
mod credential;
mod dispatch;
mod endpoint;
pub(crate) mod fields;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod idempotency;
pub(crate) mod list;
mod mention;
mod oauth;
pub(crate) mod openapi;
pub(crate) mod operation;
pub(crate) mod problem;
pub(crate) mod query;
pub(crate) mod readers;
pub(crate) mod reply;
mod schemas;
mod v1;
pub(crate) mod views;
pub(crate) mod work;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use portcullis_core::entropy::Entropy;
use portcullis_core::key::{PepperRing, Prefix};
use portcullis_core::time::{Clock, WallMs};
use serde_json::json;
use tokio::sync::{Mutex, watch};

use crate::caller::Refused;
use crate::cursor::CursorKey;
use crate::publisher::Publisher;
use crate::resolve::Remembered;
use crate::sealer::Sealer;
use crate::sessions::Sessions;
use crate::settings::Settings;
use crate::slow::SlowHashes;
use crate::store::audit::{Actor, CREDENTIAL_DENIED, Event, Origin, Outcome, Target};
use crate::store::unit::{self, Ledger};
use crate::store::writer::Settlement;
use crate::store::{OpenError, Store, StoreError, checkpoints, feed, installation};
use crate::transfer::export::Exports;
use crate::usage::OwnUsage;
use idempotency::Running;
use problem::{Code, Problem};

/// Everything that outlives a call. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The one set of things that all calls share.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) publisher: Publisher,
    pub(crate) usage: OwnUsage,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) peppers: Arc<PepperRing>,
    pub(crate) prefix: Prefix,
    pub(crate) cursors: CursorKey,
    pub(crate) sealer: Sealer,
    pub(crate) running: Running,
    pub(crate) exports: Exports,
    pub(crate) slow: SlowHashes,
    pub(crate) sessions: Sessions,
    pub(crate) remembered: Remembered,
    refusals: Refusals,
}

impl App {
    /// Opens the database and checks that every stored digest has its pepper.
    pub(crate) async fn open(
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<App, OpenError> {
        let Settings {
            listen: _,
            database,
            peppers,
            prefix,
            signer,
            sealer,
            session_signers,
            public_url,
            change_log_length,
            integrity_check_bytes,
        } = settings;
        let store = Arc::new(Store::open(&database, integrity_check_bytes).await?);
        let failed = |error: StoreError| OpenError::unusable(&database, &error);
        let (cluster, cursor_key) =
            unit::settle_installation(&store, entropy.as_ref()).await.map_err(failed)?;
        let mut view = store.view().await.map_err(failed)?;
        for version in installation::list_peppers(view.conn()).await.map_err(failed)? {
            let known = u32::try_from(version).is_ok_and(|version| peppers.find(version).is_some());
            if !known {
                return Err(OpenError::UnknownPepper { file: database, version });
            }
        }
        let head = feed::find_head(view.conn()).await.map_err(failed)?;
        drop(view);
        let now = clock.now().wall;
        checkpoints::seal_old_chains(&store, &signer, now).await.map_err(failed)?;
        let ledger = Arc::new(Ledger {
            cluster,
            signer,
            change_log_length,
            head: watch::Sender::new(head.position),
        });
        let publisher =
            Publisher::open(Arc::clone(&store), Arc::clone(&ledger), Arc::clone(&clock))
                .await
                .map_err(failed)?;
        Ok(App(Arc::new(Shared {
            store,
            ledger,
            publisher,
            usage: OwnUsage::default(),
            clock,
            entropy,
            peppers,
            prefix,
            cursors: CursorKey::new(cursor_key),
            sealer,
            running: Running::default(),
            exports: Exports::default(),
            slow: SlowHashes::new(),
            sessions: Sessions::new(session_signers, public_url),
            remembered: Remembered::default(),
            refusals: Refusals::default(),
        })))
    }
}

impl Shared {
    pub(crate) fn now(&self) -> WallMs {
        self.clock.now().wall
    }

    /// Signs the last event of every chain of the audit log that has grown since the last time. The
    /// log names them, so that a copy of each is outside of the database.
    pub(crate) async fn seal_audit(&self) {
        let signer = &self.ledger.signer;
        match checkpoints::seal_heads(&self.store, signer, self.now()).await {
            Ok(signed) => signed.iter().for_each(|checkpoint| {
                tracing::info!(checkpoint = %checkpoint.to_line(), "the audit log was signed");
            }),
            Err(error) => tracing::warn!(%error, "the audit log was not signed"),
        }
    }

    /// Saves what is only in memory and closes the database.
    pub(crate) async fn close(&self) {
        self.usage.flush(self).await;
        self.seal_audit().await;
        self.publisher.save_all().await;
        self.store.close().await;
    }
}

/// The whole listener.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/openapi.json", get(openapi_document))
        .route("/readyz", get(readyz))
        .merge(dispatch::routes(v1::OPERATIONS))
        .merge(dispatch::routes(oauth::OPERATIONS))
        .merge(endpoint::routes(oauth::ENDPOINTS))
        .merge(crate::publisher::routes())
        .fallback(|| async { Problem::not_found() })
        .layer(middleware::from_fn_with_state(app.clone(), frame))
        .with_state(app)
}

/// What the API looks like; the same for everybody.
async fn openapi_document() -> impl IntoResponse {
    Json(openapi::document())
}

/// The process answers.
async fn healthz() -> impl IntoResponse {
    Json(json!({"status": "ok"}))
}

/// The database answers.
async fn readyz(State(app): State<App>) -> Result<Response, Problem> {
    let mut view = app.store.view().await?;
    let head = feed::find_head(view.conn()).await?;
    let position = head.position;
    let body = json!({"status": "ready", "epoch": position.epoch, "seq": position.seq});
    Ok(Json(body).into_response())
}

/// What a call learned about itself before it was denied: who, what, on what.
#[derive(Clone, Debug)]
pub(crate) struct Denial {
    pub(crate) org_id: String,
    pub(crate) actor: Actor,
    pub(crate) action: String,
    pub(crate) target: Target,
    /// For refused credentials, and for what is denied without a problem.
    pub(crate) reason: Option<&'static str>,
}

/// Shared between the frame and the call inside it.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    pub(crate) origin: Origin,
    pub(crate) denial: Arc<OnceLock<Denial>>,
    /// Of the write transaction, if the call opened one.
    pub(crate) settlement: Arc<OnceLock<Settlement>>,
    /// The known key that was presented, and the generation of its secret if that was proven.
    used: Arc<OnceLock<(String, Option<i64>)>>,
}

impl Framed {
    /// Notes the key that the call presented; it is counted when the answer is known.
    pub(crate) fn note_use(&self, key_id: &str, generation: Option<i64>) {
        let _ = self.used.set((key_id.to_owned(), generation));
    }

    /// Notes that the call's credential was refused, and why; the audit log is told if the key is
    /// known.
    pub(crate) fn note_refusal(&self, refused: Refused) {
        let Refused { reason, known } = refused;
        let Some((org_id, actor)) = known.map(|known| *known) else { return };
        let key_id = actor.key_id.clone().unwrap_or_default();
        self.note_use(&key_id, None);
        let _ = self.denial.set(Denial {
            org_id,
            actor,
            action: CREDENTIAL_DENIED.to_owned(),
            target: Target { kind: "api_key", id: key_id, name: String::new() },
            reason: Some(reason),
        });
    }
}

/// Gives every call an id, writes the body of every problem, and audits every denied call.
async fn frame(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let mut bytes = [0_u8; 16];
    if app.entropy.fill(&mut bytes).is_err() {
        tracing::error!("the random generator failed; a request has no id of its own");
    }
    let request_id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let framed = Framed {
        origin: Origin {
            ip: peer.map(|ip| ip.to_canonical().to_string()),
            user_agent: user_agent(request.headers()),
            request_id: Some(request_id.clone()),
        },
        denial: Arc::new(OnceLock::new()),
        settlement: Arc::new(OnceLock::new()),
        used: Arc::new(OnceLock::new()),
    };
    let instance = mention::path(request.uri().path());
    let bodiless = request.method() == Method::HEAD;
    request.extensions_mut().insert(framed.clone());

    let mut response = next.run(request).await;
    // A refusal, too, may rest on what another call wrote and what is not durable yet.
    if let Some(settlement) = framed.settlement.get()
        && let Err(error) = settlement.clone().wait().await
    {
        response = Problem::from(error).into_response();
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && response.extensions().get::<Problem>().is_none()
    {
        response.extensions_mut().insert(Problem::new(
            Code::MethodNotAllowed,
            "The Allow header lists what is allowed here.",
        ));
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if let Some(internal) = &problem.internal {
            tracing::error!(request_id, code = problem.code.label(), internal, "call failed");
        }
        audit_denial(&app, &framed, Some(&problem)).await;
        response = written(&problem, response.headers().get(header::ALLOW), &instance, &request_id);
        if bodiless {
            *response.body_mut() = axum::body::Body::empty();
        }
    } else {
        audit_denial(&app, &framed, None).await;
    }
    if let Some((key_id, generation)) = framed.used.get() {
        let denied = matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        app.usage.note(key_id, *generation, denied, (app.now(), framed.origin.ip.as_deref())).await;
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// At most 256 printable characters of it: it goes into the audit log.
fn user_agent(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(text.chars().take(256).collect())
}

fn written(
    problem: &Problem,
    allow: Option<&HeaderValue>,
    instance: &str,
    request_id: &str,
) -> Response {
    let body = problem.body(instance, request_id).to_string();
    let mut response = (problem.status(), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match problem.code {
        Code::Unauthenticated => {
            let challenge = HeaderValue::from_static(r#"Bearer realm="portcullis""#);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        Code::InvalidToken => {
            let challenge =
                HeaderValue::from_static(r#"Bearer realm="portcullis", error="invalid_token""#);
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        Code::Unavailable => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    let ours = problem.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok());
    if let Some(allow) = ours.or_else(|| allow.cloned()) {
        headers.insert(header::ALLOW, allow);
    }
    response
}

/// Records what was noted of a denied call. What answers in the words of another standard has no
/// problem: it is denied if a reason was noted.
async fn audit_denial(app: &App, framed: &Framed, problem: Option<&Problem>) {
    let Some(denial) = framed.denial.get() else { return };
    let now = app.now();
    let reason = match problem.map(|problem| (problem.code, problem.required_permission)) {
        Some((Code::PermissionDenied, Some(permission))) => {
            format!("permission_denied {permission}")
        }
        Some((Code::PermissionDenied, None)) => "permission_denied".to_owned(),
        Some((Code::PrivilegeEscalation, _)) => "privilege_escalation".to_owned(),
        Some((Code::InvalidToken, _)) | None => {
            let Some(reason) = denial.reason else { return };
            let key_id = denial.actor.key_id.clone().unwrap_or_default();
            if denial.action == CREDENTIAL_DENIED
                && !app.refusals.is_first(key_id, reason, now).await
            {
                return;
            }
            reason.to_owned()
        }
        Some(_) => return,
    };
    let Denial { org_id, actor, action, target, reason: _ } = denial.clone();
    let event = Event {
        org_id,
        actor,
        action,
        target,
        resource_id: None,
        outcome: Outcome::Denied { reason },
        origin: framed.origin.clone(),
        before: None,
        after: None,
    };
    let recorded =
        unit::record_denial(&app.store, &app.ledger, event, now, app.entropy.as_ref()).await;
    if let Err(error) = recorded {
        tracing::error!(%error, "a denied call could not be written to the audit log");
    }
}

/// Refused credentials of known keys: audited at most once per key, reason and minute, so that a
/// stranger who knows a key id cannot fill the disk.
#[derive(Default)]
struct Refusals(Mutex<RefusedLately>);

/// What was refused within one minute of the wall clock.
#[derive(Default)]
struct RefusedLately {
    minute: u64,
    keys: HashSet<(String, &'static str)>,
}

impl Refusals {
    /// More distinct refusals than this within a minute are not audited one by one.
    const MOST: usize = 1000;

    async fn is_first(&self, key_id: String, reason: &'static str, now: WallMs) -> bool {
        let minute = now.0 / 60_000;
        let mut lately = self.0.lock().await;
        if lately.minute != minute {
            *lately = RefusedLately { minute, keys: HashSet::new() };
        }
        lately.keys.len() < Self::MOST && lately.keys.insert((key_id, reason))
    }
}
