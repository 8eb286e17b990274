//! Bodies on their way through: the request's to the upstream, the response's to the downstream.
//! They stream with back-pressure and are never collected. A response body carries its request's
//! record, which closes when the body ends or is dropped.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_core::verdict::DenyReason;

use crate::phase::{Connection, Waiting};
use crate::pool::{Link, Pool};
use crate::record::Record;

/// Why a body ended before its time. hyper then ends the connection it was written to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the downstream broke off")]
    Downstream,
    #[error("the request body is larger than allowed")]
    TooLarge,
    #[error("the upstream broke off")]
    Upstream,
    #[error("the upstream paused for too long")]
    UpstreamLate,
    #[error("the request took too long")]
    WholeLate,
}

/// A request's body on its way to the upstream. Trailers are dropped.
pub(crate) enum UpstreamBody {
    Empty,
    Stream {
        incoming: Incoming,
        connection: Rc<Connection>,
        /// Bytes that may still come.
        left: u64,
    },
    /// It was read before the request was decided.
    Whole(Bytes),
}

impl UpstreamBody {
    /// The body of a request on `connection`, of at most `limit` bytes; 0 = any size.
    pub(crate) fn new(incoming: Incoming, connection: &Rc<Connection>, limit: u64) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let left = if limit == 0 { u64::MAX } else { limit };
        Self::Stream { incoming, connection: Rc::clone(connection), left }
    }

    /// A body that has already been read.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let (incoming, connection, left) = match &mut *self {
            Self::Empty => return Poll::Ready(None),
            Self::Stream { incoming, connection, left } => (incoming, connection, left),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        };
        loop {
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            connection.starved.set(polled.is_pending());
            let Poll::Ready(frame) = polled else { return Poll::Pending };
            let frame = match frame {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyFault::Downstream))),
                Some(Ok(frame)) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            connection.body_in.set(connection.body_in.get() + bytes.len() as u64);
            *left = match left.checked_sub(bytes.len() as u64) {
                Some(rest) => rest,
                None => {
                    connection.overlong.set(true);
                    return Poll::Ready(Some(Err(BodyFault::TooLarge)));
                }
            };
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream { incoming, .. } => incoming.is_end_stream(),
            Self::Whole(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream { incoming, .. } => incoming.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// A response's body on its way to the downstream.
pub(crate) struct DownstreamBody {
    source: Source,
    record: Record,
}

enum Source {
    Empty,
    Problem(Bytes),
    Relay {
        incoming: Incoming,
        /// Given back to its pool at the body's clean end, else closed.
        link: Rc<Link>,
    },
}

impl DownstreamBody {
    /// No body.
    pub(crate) fn empty(record: Record) -> Self {
        Self { source: Source::Empty, record }
    }

    /// A body of our own.
    pub(crate) fn problem(bytes: Bytes, record: Record) -> Self {
        Self { source: Source::Problem(bytes), record }
    }

    /// The upstream's body, read from `link`.
    pub(crate) fn relay(incoming: Incoming, link: Rc<Link>, record: Record) -> Self {
        Self { source: Source::Relay { incoming, link }, record }
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        let Source::Relay { incoming, link } = &mut self.source else {
            return Poll::Ready(None);
        };
        let connection = self.record.connection();
        loop {
            // Asked before every piece: a body that never pauses ends at its deadline, too.
            if let Some(late) = connection.late() {
                return Poll::Ready(Some(Err(self.record.cut(late))));
            }
            // The connection to the upstream is driven right here, with the task's own waker, so
            // the channel between it and the body need wake nobody.
            let mut quiet = Context::from_waker(Waker::noop());
            let mut polled = Pin::new(&mut *incoming).poll_frame(&mut quiet);
            if polled.is_pending() {
                link.drive(cx);
                polled = Pin::new(&mut *incoming).poll_frame(&mut quiet);
            }
            let frame = match polled {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    connection.wait_for(Waiting::UpstreamBody, self.record.worker().coarse.get());
                    return Poll::Pending;
                }
            };
            connection.wait_for(Waiting::Nobody, self.record.worker().coarse.get());
            match frame {
                None => {
                    let link = Rc::clone(link);
                    self.source = Source::Empty;
                    Pool::give_back(link, self.record.worker().coarse.get());
                    return Poll::Ready(None);
                }
                Some(Err(_)) => {
                    self.record.deny(DenyReason::UpstreamProtocol);
                    return Poll::Ready(Some(Err(BodyFault::Upstream)));
                }
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}

impl Body for DownstreamBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let bytes = match &mut self.source {
            Source::Empty => return Poll::Ready(None),
            Source::Problem(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Source::Problem(bytes) => std::mem::take(bytes),
            Source::Relay { .. } => match self.poll_relay(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(fault))) => return Poll::Ready(Some(Err(fault))),
                Poll::Ready(Some(Ok(bytes))) => bytes,
            },
        };
        self.record.sent(bytes.len());
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Problem(bytes) => bytes.is_empty(),
            Source::Relay { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Problem(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Relay { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for DownstreamBody {
    fn drop(&mut self) {
        let coarse = self.record.worker().coarse.get();
        match std::mem::replace(&mut self.source, Source::Empty) {
            Source::Relay { incoming, link } if incoming.is_end_stream() => {
                Pool::give_back(link, coarse);
            }
            // The link is closed: what its upstream still sends belongs to nobody.
            Source::Relay { .. } => match self.record.connection().late() {
                Some(late) => {
                    self.record.cut(late);
                }
                None => self.record.gone(),
            },
            Source::Empty | Source::Problem(_) => {}
        }
        self.record.connection().finish(coarse);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use http::{Method, Request};
    use portcullis_core::time::MonoNs;

    use super::*;
    use crate::head::{Fields, Outgoing};
    use crate::phase::{Connections, ExchangeLimits};
    use crate::request::Bench;
    use crate::{Upstream, UpstreamAddress, upstream};

    fn run<F: Future>(work: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    #[test]
    fn a_body_that_never_pauses_meets_the_deadline_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address =
            UpstreamAddress { host: listener.local_addr().unwrap().to_string(), weight: 1 };
        let answering = std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let _ = socket.read(&mut [0; 4096]).unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
            socket
        });
        let bench = Bench::new(|settings| {
            settings.upstreams = vec![Upstream::new("main", vec![address])];
        });
        let (worker, connection) = (&bench.worker, &bench.connection);
        run(async {
            let now = worker.sample();
            let mut record = Record::open(worker, connection, now);
            connection.begin(now.mono);
            connection.limit(ExchangeLimits { read_ns: u64::MAX, whole_ns: 1 });
            let head = Fields::of_request(&Method::GET, "/", None).unwrap();
            let outgoing = Outgoing { request: Request::new(UpstreamBody::Empty), head };
            let sent = upstream::send(worker, connection, 0, outgoing, &mut record).await;
            // All of the body has come along with the head.
            let Ok((response, link)) = sent else { panic!("no answer") };
            let mut body = DownstreamBody::relay(response.into_body(), link, record);

            let open = Connections::default();
            open.add(Rc::clone(connection));
            open.tick(MonoNs(now.mono.0 + 1), &worker.setup().plan.phases);
            let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Err(fault))) = polled else { panic!("{polled:?}") };
            assert_eq!(fault, BodyFault::WholeLate);
        });
        answering.join().unwrap();
    }
}
