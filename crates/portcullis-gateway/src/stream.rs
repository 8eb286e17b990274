//! The downstream socket as hyper sees it: counts bytes, stops feeding a head that is too large,
//! and withholds the empty error answers hyper would give by itself, so that every answer of the
//! gateway has its own body. The strict line guard will stand here.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use portcullis_core::verdict::DenyReason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::phase::Connection;
use crate::worker::Worker;

/// The socket of one downstream connection.
pub(crate) struct DownstreamStream {
    socket: TcpStream,
    worker: Rc<Worker>,
    connection: Rc<Connection>,
}

impl DownstreamStream {
    pub(crate) fn new(socket: TcpStream, worker: Rc<Worker>, connection: Rc<Connection>) -> Self {
        Self { socket, worker, connection }
    }

    /// The socket itself, when hyper is done with it.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// Whether hyper is about to answer by itself. Notes which answer, and swallows it.
    fn withheld(&self, answer: &[u8]) -> bool {
        if !self.connection.before_request() {
            return false;
        }
        let reason = match answer.get(9..12) {
            Some(b"414") => DenyReason::TargetTooLong,
            Some(b"431") => DenyReason::HeadTooLarge,
            _ => DenyReason::BadRequest,
        };
        if self.connection.fault().is_none() {
            self.connection.refuse(reason);
        }
        true
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Pending => self.connection.blocked.set(true),
            Poll::Ready(Ok(count)) => {
                self.connection.blocked.set(false);
                let out = &self.connection.bytes_out;
                out.set(out.get() + *count as u64);
            }
            Poll::Ready(Err(_)) => {}
        }
    }
}

impl AsyncRead for DownstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.head_overrun(self.worker.setup().plan.limits.head_bytes) {
            self.connection.refuse(DenyReason::HeadTooLarge);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.connection.received(buf.filled().len() - before, self.worker.coarse.get());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DownstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.withheld(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.withheld(bufs.first().map(|buf| &**buf).unwrap_or_default()) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.connection.flushed(self.worker.coarse.get());
        Poll::Ready(Ok(()))
    }

    /// Does nothing: when and how the socket is closed is the connection's affair.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
