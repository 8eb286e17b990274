//! The operator's listener of a gateway: liveness, readiness, metrics, status, explain, reload and
//! drain. It has a thread and a runtime of its own, so that it answers while every worker is busy,
//! and it never touches a request.

mod desk;
mod socket;

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_gateway::GatewayHandle;
use prometheus::{IntGaugeVec, Opts, Registry};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::config::AdminAddress;
use desk::{Desk, Guard};
use socket::{Reserve, Socket, SocketFile};

/// Operators and their tools open few connections; more wait.
const MAX_CONNECTIONS: usize = 64;
/// A head or a body that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the listener is started with.
pub struct Settings {
    /// Where it listens.
    pub address: AdminAddress,
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
    let socket = Socket::open(&address)?;
    describe_build(&registry).context("the metric build_info cannot be registered")?;
    let configuration = hash(&configuration);
    let token = token.map(|token| blake3::hash(token.as_bytes()));
    Ok(Bound { socket, token, configuration, registry })
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
    socket: Socket,
    token: Option<blake3::Hash>,
    configuration: String,
    registry: Registry,
}

impl Bound {
    /// The real address.
    pub fn address(&self) -> AdminAddress {
        self.socket.address()
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
        let Self { socket, token, configuration, registry } = self;
        let address = socket.address();
        let guard = match (&address, token) {
            (AdminAddress::Socket(_), _) => Guard::FileMode,
            (AdminAddress::Tcp(_), Some(token)) => Guard::Token(token),
            (AdminAddress::Tcp(_), None) => Guard::Closed,
        };
        let (shown, in_force) = watch::channel(InForce { configuration, last_reload: None });
        let public_metrics = address.is_local();
        let desk = Desk { gateway, guard, in_force, registry, public_metrics, orders };
        let ended = CancellationToken::new();
        let end = ended.clone();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(serve(socket, Arc::new(desk), ended)))
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

async fn serve(socket: Socket, desk: Arc<Desk>, ended: CancellationToken) {
    let door = match Door::new(socket) {
        Ok(door) => door,
        Err(error) => return tracing::error!(%error, "the admin listener cannot be served"),
    };
    let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut reserve = Reserve::new();
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        reserve.refill();
        let accepted = tokio::select! {
            () = ended.cancelled() => return,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok(Caller::File(stream)) => {
                tokio::spawn(converse(stream, Arc::clone(&desk), seat));
            }
            Ok(Caller::Tcp(stream)) => {
                tokio::spawn(converse(stream, Arc::clone(&desk), seat));
            }
            Err(error) if reserve.relieves(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                // Give the process a moment to close some descriptors.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The socket within the runtime.
enum Door {
    File(tokio::net::UnixListener, #[expect(dead_code, reason = "removes the file")] SocketFile),
    Tcp(tokio::net::TcpListener),
}

enum Caller {
    File(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream),
}

impl Door {
    fn new(socket: Socket) -> std::io::Result<Self> {
        Ok(match socket {
            Socket::File(listener, file) => {
                Self::File(tokio::net::UnixListener::from_std(listener)?, file)
            }
            Socket::Tcp(listener, _) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> std::io::Result<Caller> {
        match self {
            Self::File(listener, _) => {
                listener.accept().await.map(|(stream, _)| Caller::File(stream))
            }
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Caller::Tcp(stream)),
        }
    }
}

/// Answers the requests of one connection.
async fn converse<S>(stream: S, desk: Arc<Desk>, seat: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
}
