//! The operator's listener of a gateway: liveness, readiness, metrics, status, explain, reload and
//! drain.
//! It has a thread and a runtime of its own, so that it answers while every worker is busy, and
//! it never touches a request.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_gateway::{GatewayHandle, Question};
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Operators and their tools open few connections; more wait.
const MAX_CONNECTIONS: usize = 64;
/// The largest question that `explain` takes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// A head or a body that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Response<Full<Bytes>>;

/// What the listener is started with.
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bearer token of /admin/v1; none = those paths answer 403.
    pub token: Option<Zeroizing<String>>,
    /// The effective configuration, of which the hash is shown.
    pub configuration: String,
}

/// Opens the listener's socket; serves nothing yet.
///
/// # Errors
///
/// When the address cannot be listened on.
pub fn bind(settings: Settings, registry: Registry) -> anyhow::Result<Bound> {
    let Settings { address, token, configuration } = settings;
    let listener = TcpListener::bind(address).with_context(|| {
        format!("admin.address: cannot listen on {address}; choose another with --admin")
    })?;
    listener.set_nonblocking(true).context("admin.address: the socket cannot be prepared")?;
    let address = listener.local_addr().context("admin.address: the socket has no address")?;
    describe_build(&registry).context("the metric build_info cannot be registered")?;
    let configuration = hash(&configuration);
    let token = token.map(|token| blake3::hash(token.as_bytes()));
    Ok(Bound { listener, address, token, configuration, registry })
}

/// The hash of a configuration, as the status shows it.
pub fn hash(configuration: &str) -> String {
    blake3::hash(configuration.as_bytes()).to_hex().to_string()
}

/// What the status shows of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The hash of what is in force.
    pub configuration: String,
    /// What became of the last reload, if there was one.
    pub last_reload: Option<LastReload>,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastReload {
    /// `applied` or `refused`.
    pub result: &'static str,
    /// The keys whose new value takes a restart.
    pub needs_restart: Vec<String>,
    /// Why it was refused.
    pub errors: Vec<String>,
}

/// What the listener may ask of the process.
pub struct Orders {
    /// Cancelled when somebody posts to /admin/v1/drain.
    pub drain: CancellationToken,
    /// Notified when somebody posts to /admin/v1/reload.
    pub reload: Arc<Notify>,
}

/// `portcullis_build_info`, always 1: what runs is in its labels.
fn describe_build(registry: &Registry) -> prometheus::Result<()> {
    let options = Opts::new("portcullis_build_info", "What runs: its version and commit.");
    let build = IntGaugeVec::new(options, &["version", "commit"])?;
    let commit = option_env!("PORTCULLIS_COMMIT").unwrap_or("unknown");
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), commit]).set(1);
    registry.register(Box::new(build))
}

/// The listener with an open socket.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<blake3::Hash>,
    configuration: String,
    registry: Registry,
}

impl Bound {
    /// The real address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the thread. What the status shows of the configuration is written through the sender.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn run(
        self,
        gateway: GatewayHandle,
        orders: Orders,
    ) -> anyhow::Result<(Running, watch::Sender<InForce>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the admin listener's runtime cannot be started")?;
        let Self { listener, address, token, configuration, registry } = self;
        let public_metrics = address.ip().is_loopback();
        let (shown, in_force) = watch::channel(InForce { configuration, last_reload: None });
        let desk = Desk { gateway, token, in_force, registry, public_metrics, orders };
        let ended = CancellationToken::new();
        let end = ended.clone();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(serve(listener, Arc::new(desk), ended)))
            .context("the admin listener's thread cannot be started")?;
        Ok((Running { end, thread }, shown))
    }
}

/// The listener while it serves.
pub struct Running {
    end: CancellationToken,
    thread: JoinHandle<()>,
}

impl Running {
    /// Ends the listener and waits for its thread.
    pub fn end(self) {
        self.end.cancel();
        if self.thread.join().is_err() {
            tracing::error!("the admin listener's thread had panicked");
        }
    }
}

async fn serve(listener: TcpListener, desk: Arc<Desk>, ended: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin listener cannot be served"),
    };
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = ended.cancelled() => return,
            accepted = accept(&listener, &seats) => accepted,
        };
        let Some((stream, seat)) = accepted else {
            // Out of descriptors, most likely: give the process a moment to close some.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, Infallible>(desk.answer(request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_headers(64)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the admin listener ended early");
            }
            drop(seat);
        });
    }
}

async fn accept(
    listener: &tokio::net::TcpListener,
    seats: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, seat)),
        Err(error) => {
            tracing::warn!(%error, "the admin listener cannot accept");
            None
        }
    }
}

/// Answers one request after the other from what the gateway tells.
struct Desk {
    gateway: GatewayHandle,
    token: Option<blake3::Hash>,
    in_force: watch::Receiver<InForce>,
    registry: Registry,
    public_metrics: bool,
    orders: Orders,
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path();
        let (allowed, needs_token): (&'static str, bool) = match path {
            "/livez" | "/readyz" => ("GET, HEAD", false),
            "/metrics" => ("GET, HEAD", !self.public_metrics),
            "/admin/v1/status" => ("GET, HEAD", true),
            "/admin/v1/drain" | "/admin/v1/explain" | "/admin/v1/reload" => ("POST", true),
            _ if path.starts_with("/admin/v1/") => ("", true),
            _ => ("", false),
        };
        if needs_token && let Err(refusal) = self.authenticate(&request) {
            return *refusal;
        }
        if allowed.is_empty() {
            return problem(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.");
        }
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            let mut answer =
                problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "See Allow.");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return answer;
        }
        let head_only = request.method() == Method::HEAD;
        let mut answer = match path {
            "/livez" => self.live(),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            "/admin/v1/status" => self.status(),
            "/admin/v1/drain" => self.drain(),
            "/admin/v1/reload" => self.reload(),
            _ => self.explain(request).await,
        };
        if head_only {
            *answer.body_mut() = Full::default();
        }
        answer
    }

    /// The bearer token, compared by its hash and in constant time.
    fn authenticate<B>(&self, request: &Request<B>) -> Result<(), Box<Answer>> {
        let Some(token) = &self.token else {
            return Err(Box::new(problem(
                StatusCode::FORBIDDEN,
                "no_admin_token",
                "This gateway has no admin.token_file, so its administration is switched off.",
            )));
        };
        let mut lines = request.headers().get_all(AUTHORIZATION).iter();
        let presented = match (lines.next(), lines.next()) {
            (Some(line), None) => line.as_bytes().split_at_checked(7),
            _ => None,
        };
        match presented {
            Some((scheme, presented))
                if scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(presented) == *token =>
            {
                Ok(())
            }
            Some(_) | None => {
                let mut answer = problem(
                    StatusCode::UNAUTHORIZED,
                    "unauthenticated",
                    "This path needs the bearer token of admin.token_file.",
                );
                let challenge = HeaderValue::from_static("Bearer realm=\"portcullis-admin\"");
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
                Err(Box::new(answer))
            }
        }
    }

    fn live(&self) -> Answer {
        if self.gateway.status().alive {
            return json_answer(StatusCode::OK, &json!({ "live": true }));
        }
        json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "live": false }))
    }

    fn ready(&self) -> Answer {
        let status = self.gateway.status();
        let code = if status.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json_answer(code, &json!({ "ready": status.ready, "failing": status.failing }))
    }

    fn metrics(&self) -> Answer {
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "See the log.");
        }
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    fn status(&self) -> Answer {
        let InForce { configuration, last_reload } = self.in_force.borrow().clone();
        let status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "configuration": configuration,
            "last_reload": last_reload,
            "gateway": self.gateway.status(),
        });
        json_answer(StatusCode::OK, &status)
    }

    fn drain(&self) -> Answer {
        tracing::info!("the admin listener was asked to drain");
        self.orders.drain.cancel();
        json_answer(StatusCode::ACCEPTED, &json!({ "draining": true }))
    }

    fn reload(&self) -> Answer {
        self.orders.reload.notify_one();
        json_answer(StatusCode::ACCEPTED, &json!({ "reloading": true }))
    }

    async fn explain(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let body = match tokio::time::timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    "malformed_request",
                    "The body is incomplete, late, or longer than 64 KiB.",
                );
            }
        };
        match serde_json::from_slice::<Question>(&body) {
            Ok(question) => {
                let explanation = self.gateway.explain(&question);
                json_answer(StatusCode::OK, &json!(explanation))
            }
            Err(error) => problem(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_failed",
                &format!(
                    "{error}; allowed: {{\"key_id\", \"method\", \"host\", \"path\", \"source\"}}"
                ),
            ),
        }
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Answer {
    let body = json!({
        "type": format!("urn:portcullis:problem:{code}"),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    answer(status, "application/problem+json", body.to_string().into_bytes())
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer(status, "application/json", body.to_string().into_bytes())
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
