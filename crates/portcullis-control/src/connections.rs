//! The connections of the control plane's listener: how many there are, how long a head may take,
//! and how they end. It never looks into a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Each gateway needs two, each caller of the admin API one; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
/// A connection on which no whole head arrives for so long is closed, also an idle one.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The longest head, which is far more than any client of the API or the feed sends.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Out of descriptors, most likely: the process gets a moment to close some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled and the calls in flight have been answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_up_to(MAX_CONNECTIONS, listener, router, shutdown).await;
}

async fn serve_up_to(
    most: usize,
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) {
    let seats = Arc::new(Semaphore::new(most));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &seats) => accepted,
        };
        match accepted {
            Ok((stream, peer, seat)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer, router, shutdown).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The seat comes first: a connection that cannot be served waits in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let seat = Arc::clone(seats).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, seat))
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) {
    // A revocation is a few bytes: they must not wait for more to fill a packet.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays with Nagle's algorithm");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the control listener ended early");
    }
}

#[cfg(test)]
mod tests {
    //! The clock stands still until every task waits, then jumps to the next timer: what would
    //! wait for ever fails at once, and nothing takes real time.

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);
    const CALL: &[u8] = b"GET / HTTP/1.1\r\nhost: control\r\n\r\n";

    /// A listener with so many seats, the token that ends it, and its task.
    async fn start(seats: usize) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "yes" }));
        let task = tokio::spawn(serve_up_to(seats, listener, router, shutdown.clone()));
        (address, shutdown, task)
    }

    async fn open(address: SocketAddr, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("the kernel accepts");
        stream.write_all(sent).await.expect("loopback takes a few bytes");
        stream
    }

    /// The first line of the answer, within `patience`.
    async fn answered(stream: &mut TcpStream, patience: Duration) -> Option<String> {
        let mut bytes = [0_u8; 1024];
        let count = timeout(patience, stream.read(&mut bytes)).await.ok()?.expect("it is readable");
        let text = String::from_utf8_lossy(bytes.get(..count)?).into_owned();
        text.lines().next().map(str::to_owned)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_ends_is_given_up_and_so_is_an_idle_connection() {
        let (address, _shutdown, _task) = start(8).await;
        let mut half = open(address, b"GET / HTTP/1.1\r\nhost: con").await;
        let mut rest = Vec::new();
        let closed = timeout(FOR_EVER, half.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the server waits for ever");

        let mut idle = open(address, CALL).await;
        assert_eq!(answered(&mut idle, FOR_EVER).await.as_deref(), Some("HTTP/1.1 200 OK"));
        assert!(timeout(FOR_EVER, idle.read_to_end(&mut rest)).await.is_ok(), "it stays open");
    }

    #[tokio::test(start_paused = true)]
    async fn connections_over_the_cap_wait_until_one_has_ended() {
        let (address, _shutdown, _task) = start(1).await;
        let mut first = open(address, CALL).await;
        assert_eq!(answered(&mut first, FOR_EVER).await.as_deref(), Some("HTTP/1.1 200 OK"));
        let mut second = open(address, CALL).await;
        assert_eq!(answered(&mut second, Duration::from_secs(1)).await, None);
        drop(first);
        assert_eq!(answered(&mut second, FOR_EVER).await.as_deref(), Some("HTTP/1.1 200 OK"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_closes_idle_connections_and_waits_for_all() {
        let (address, shutdown, task) = start(8).await;
        let mut idle = open(address, CALL).await;
        assert_eq!(answered(&mut idle, FOR_EVER).await.as_deref(), Some("HTTP/1.1 200 OK"));
        shutdown.cancel();
        let ended = timeout(Duration::from_secs(1), task).await.expect("before any time limit");
        ended.expect("it did not panic");
        assert_eq!(answered(&mut idle, FOR_EVER).await, None, "closed without a word");
    }
}
