//! One downstream connection from accept to close: lets hyper speak HTTP/1, obeys the ticker, and
//! answers where hyper would be silent or curt. Never looks at a request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis_core::verdict::DenyReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::phase::{Connection, Order};
use crate::record::Record;
use crate::request::{self, Step};
use crate::respond;
use crate::stream::DownstreamStream;
use crate::worker::Worker;

/// Most input that is drained before a connection is closed.
const LINGER_BYTES: usize = 64 * 1024;

/// How hyper's part of a connection ended.
enum End {
    /// hyper is done.
    Done,
    /// hyper could not go on.
    Failed(hyper::Error),
    /// The ticker wants it closed.
    Ordered(Order),
}

/// Serves one connection.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpStream,
    peer: SocketAddr,
    listener: usize,
    exempt: bool,
) {
    let connection = Rc::new(Connection::new(listener, peer, worker.coarse.get()));
    let _open = Open::new(&worker, &connection, exempt);
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let stream = DownstreamStream::new(socket, Rc::clone(&worker), Rc::clone(&connection));
    let service = service_fn(|request| {
        let step = request::decide(&worker, &connection, request);
        let (worker, connection) = (&worker, &connection);
        async move {
            Ok::<_, Infallible>(match step {
                Step::Answer(response) => response,
                // Boxed, for it is rare and its state is large.
                Step::Hold(held) => Box::pin(request::resume(worker, connection, held)).await,
                Step::Send(admission) => request::relay(worker, connection, admission).await,
            })
        }
    });
    let mut http = worker.setup().http.serve_connection(TokioIo::new(stream), service);
    let end = poll_fn(|cx| {
        connection.driven_by(cx);
        match connection.order() {
            Some(order @ (Order::Close | Order::HeadTimeout)) => {
                return Poll::Ready(End::Ordered(order));
            }
            Some(Order::Finish) => {
                connection.obeyed();
                Pin::new(&mut http).graceful_shutdown();
            }
            None => {}
        }
        let polled = Pin::new(&mut http).poll(cx);
        // An upload must go on even while its response waits for the downstream.
        let uploading = connection.uploading.borrow().clone();
        if let Some(link) = uploading {
            link.drive(cx);
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(End::Done),
            Poll::Ready(Err(error)) => Poll::Ready(End::Failed(error)),
        }
    })
    .await;

    let refused = refusal(&connection, &end);
    let parts = http.into_parts();
    let mut socket = parts.io.into_inner().into_socket();
    if let Some(reason) = refused {
        let target_bytes = worker.setup().plan.limits.target_bytes;
        let reason = sharpen(reason, &parts.read_buf, target_bytes);
        refuse(&worker, &connection, &mut socket, reason).await;
    }
    if connection.linger.get() {
        let limit = worker.setup().plan.linger;
        // Whoever does not stop sending by then is cut off.
        let _ = tokio::time::timeout(limit, drain(&mut socket)).await;
    }
}

/// The reason to be told to a peer whose head never became a request.
fn refusal(connection: &Connection, end: &End) -> Option<DenyReason> {
    match end {
        End::Ordered(Order::HeadTimeout) => Some(DenyReason::HeadTimeout),
        End::Ordered(Order::Close | Order::Finish) => None,
        End::Done | End::Failed(_) if connection.fault().is_some() => connection.fault(),
        End::Failed(error) if error.is_parse() && connection.before_request() => {
            Some(DenyReason::BadRequest)
        }
        End::Done | End::Failed(_) => None,
    }
}

/// Tells apart what hyper does not: a long target from long fields, another version from nonsense.
fn sharpen(reason: DenyReason, head: &[u8], target_bytes: usize) -> DenyReason {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (_method, target) = (words.next(), words.next().unwrap_or_default());
    let version = words.next().unwrap_or_default().trim_ascii_end();
    match reason {
        DenyReason::HeadTooLarge if target.len() > target_bytes => DenyReason::TargetTooLong,
        DenyReason::BadRequest
            if version.starts_with(b"HTTP/")
                && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
                && words.next().is_none() =>
        {
            DenyReason::Version
        }
        other => other,
    }
}

/// Answers a head that never became a request.
async fn refuse(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    socket: &mut TcpStream,
    reason: DenyReason,
) {
    let now = worker.sample();
    let mut record = Record::open(worker, connection, now);
    record.deny(reason);
    record.responded(reason.problem().status);
    let answer = respond::raw(reason, record.id().as_str(), now.wall.0);
    // A peer that does not take it does not get it.
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.write_all(answer.as_bytes())).await;
    record.sent(answer.len());
    connection.linger.set(true);
}

/// Reads on after our side is closed, so that the peer gets our last answer and not a reset.
async fn drain(socket: &mut TcpStream) {
    let mut scrap = [0; 4096];
    let mut left = LINGER_BYTES;
    if socket.shutdown().await.is_err() {
        return;
    }
    while left > 0 {
        match socket.read(&mut scrap).await {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
}

/// A connection that counts among the open ones for as long as this lives.
struct Open {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    place: usize,
    /// The source it counts for; trusted proxies do not count.
    source: Option<std::net::IpAddr>,
}

impl Open {
    fn new(worker: &Rc<Worker>, connection: &Rc<Connection>, exempt: bool) -> Self {
        let open = Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            place: worker.connections.add(Rc::clone(connection)),
            source: (!exempt).then(|| connection.peer.ip()),
        };
        worker.shared.connections.fetch_add(1, Ordering::Relaxed);
        if let Some(gauge) = open.gauge() {
            gauge.inc();
        }
        open
    }

    fn gauge(&self) -> Option<prometheus::IntGauge> {
        let setup = self.worker.setup();
        let listener = setup.plan.listeners.get(self.connection.listener)?;
        let labels = [listener.name.as_str(), "h1"];
        Some(self.worker.shared.metrics.connections.with_label_values(&labels))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // An exchange that is dropped midway ends its upload here: its request's body holds the
        // connection, and the connection what takes the body. Left alone, both would stay for ever.
        self.connection.uploading.take();
        self.worker.connections.remove(self.place);
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(source) = self.source {
            self.worker.shared.sources.leave(source);
        }
        if let Some(gauge) = self.gauge() {
            gauge.dec();
        }
        if std::thread::panicking() {
            self.worker.shared.metrics.panics.with_label_values(&["request"]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_target_is_told_from_long_fields() {
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n", "a".repeat(9000));
        let sharp = sharpen(DenyReason::HeadTooLarge, long.as_bytes(), 8192);
        assert_eq!(sharp, DenyReason::TargetTooLong);
        let wide = format!("GET / HTTP/1.1\r\nx: {}\r\n", "a".repeat(9000));
        let sharp = sharpen(DenyReason::HeadTooLarge, wide.as_bytes(), 8192);
        assert_eq!(sharp, DenyReason::HeadTooLarge);
    }

    #[test]
    fn another_version_is_told_from_nonsense() {
        let sharp = |head: &[u8]| sharpen(DenyReason::BadRequest, head, 8192);
        assert_eq!(sharp(b"PRI * HTTP/2.0\r\n\r\n"), DenyReason::Version);
        assert_eq!(sharp(b"GET / HTTP/1.2\r\n\r\n"), DenyReason::Version);
        assert_eq!(sharp(b"GET / HTTP/1.1\r\n:\r\n"), DenyReason::BadRequest);
        assert_eq!(sharp(b"GET  / HTTP/1.1\r\n\r\n"), DenyReason::BadRequest);
        assert_eq!(sharp(b"\x16\x03\x01"), DenyReason::BadRequest);
    }
}
