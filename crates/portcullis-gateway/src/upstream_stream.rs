//! The upstream socket as hyper sees it: sends the lines that [`crate::head`] holds in the place of
//! the request line that hyper writes, and notes what comes back. It never looks at a body.
//!
//! hyper is given a request to `/` without fields, since a map of fields is dear to fill, to walk
//! and to empty, and a target that is a piece of the downstream's read buffer keeps that buffer from
//! being used again. What hyper writes first in an exchange is the head, because a connection is
//! used again only after all that was written before has been flushed; it is checked all the same,
//! and a connection whose first bytes are another request line is broken off.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use arrayvec::ArrayVec;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::head::Fields;

/// What follows the method in the request line that hyper writes.
const AFTER_METHOD: &[u8] = b" / HTTP/1.1\r\n";
/// Pieces that are written at once.
const PIECES: usize = 16;
/// Room for a head that a connection keeps from one exchange to the next.
const KEPT: usize = 4096;
/// Most informational responses before the one that counts.
const MAX_INFORMATIONAL: u8 = 10;

pub(crate) struct UpstreamStream {
    socket: TcpStream,
    seen: Rc<Seen>,
}

/// What goes through an upstream connection in the present exchange.
#[derive(Default)]
pub(crate) struct Seen {
    /// Whether a byte came back.
    received: Cell<bool>,
    /// Informational responses so far; `None` once the response's head is known.
    informational: Cell<Option<u8>>,
    /// The head of the present or the last exchange.
    head: RefCell<Vec<u8>>,
    stage: Cell<Stage>,
    /// hyper has bytes that it could not write yet.
    unflushed: Cell<bool>,
}

/// How far the head of the present exchange is.
#[derive(Copy, Clone, Default)]
enum Stage {
    /// hyper writes next, and begins with a method of so many bytes.
    Due(usize),
    /// It is complete and on its way: `written` bytes of it went out, and it stands for the `taken`
    /// bytes that hyper wrote.
    Going { taken: usize, written: usize },
    /// It went out.
    #[default]
    Written,
}

impl Seen {
    /// An exchange begins: the next bytes that hyper writes are a request of this method, and these
    /// lines go in the place of its first one.
    pub(crate) fn begin(&self, method: &Method, lines: &Fields) {
        self.informational.set(Some(0));
        self.stage.set(Stage::Due(method.as_str().len()));
        let mut head = self.head.borrow_mut();
        head.clear();
        head.shrink_to(KEPT);
        head.extend_from_slice(lines.as_bytes());
    }

    /// The response's head is known: what comes now is its body.
    pub(crate) fn answered(&self) {
        self.informational.set(None);
    }

    /// Whether any byte of a response has come since [`Seen::forget`].
    pub(crate) fn has_received(&self) -> bool {
        self.received.get()
    }

    pub(crate) fn forget(&self) {
        self.received.set(false);
    }

    /// Whether hyper still has bytes to write.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed.get()
    }

    /// Completes the head with what hyper has written behind its request line.
    fn complete(&self, method: usize, written: &[u8]) -> io::Result<()> {
        let mut head = self.head.borrow_mut();
        let name = written.get(..method).filter(|name| head.starts_with(name));
        let rest = name.and_then(|_| written.get(method..)?.strip_prefix(AFTER_METHOD));
        let Some(rest) = rest else { return Err(io::ErrorKind::InvalidData.into()) };
        head.extend_from_slice(rest);
        self.stage.set(Stage::Going { taken: written.len(), written: 0 });
        Ok(())
    }

    /// Bytes came in. Counts informational responses while a response's head is awaited, for hyper
    /// skips any number of them.
    fn read(&self, fresh: &[u8]) -> io::Result<()> {
        if fresh.is_empty() {
            return Ok(());
        }
        self.received.set(true);
        let Some(before) = self.informational.get() else { return Ok(()) };
        let begins = |text: &[u8]| text.starts_with(b"HTTP/1.") && text.get(9) == Some(&b'1');
        if !begins(fresh) {
            return Ok(());
        }
        let more = fresh.split(|byte| *byte == b'\n').filter(|line| begins(line)).count();
        let count = before.saturating_add(u8::try_from(more).unwrap_or(u8::MAX));
        self.informational.set(Some(count));
        if count > MAX_INFORMATIONAL { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

impl UpstreamStream {
    pub(crate) fn new(socket: TcpStream, seen: Rc<Seen>) -> Self {
        Self { socket, seen }
    }

    /// Writes the head instead of hyper's, and what of `pieces` comes after it.
    fn poll_write_head(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some((first, others)) = pieces.split_first() else { return Poll::Ready(Ok(0)) };
        if let Stage::Due(method) = self.seen.stage.get() {
            self.seen.complete(method, first)?;
        }
        while let Stage::Going { taken, written } = self.seen.stage.get() {
            let head = self.seen.head.borrow();
            let left = head.get(written..).unwrap_or_default();
            let behind = first.get(taken..).unwrap_or_default();
            let behind = [left, behind].into_iter().chain(others.iter().map(|other| &**other));
            let behind = behind.filter(|piece| !piece.is_empty());
            let pieces: ArrayVec<IoSlice<'_>, PIECES> =
                behind.take(PIECES).map(IoSlice::new).collect();
            let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, &pieces))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match count.checked_sub(left.len()) {
                None => self.seen.stage.set(Stage::Going { taken, written: written + count }),
                Some(more) => {
                    self.seen.stage.set(Stage::Written);
                    return Poll::Ready(Ok(taken + more));
                }
            }
        }
        Poll::Ready(Ok(0))
    }

    fn is_head_next(&self) -> bool {
        !matches!(self.seen.stage.get(), Stage::Written)
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.seen.read(buf.filled().get(before..).unwrap_or_default())?;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.unflushed.set(true);
        if self.is_head_next() {
            return self.poll_write_head(cx, &[IoSlice::new(buf)]);
        }
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seen.unflushed.set(true);
        if self.is_head_next() {
            return self.poll_write_head(cx, bufs);
        }
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper comes here when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seen.unflushed.set(false);
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read as _;

    use http::HeaderName;

    use super::*;

    fn run<F: Future>(work: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    }

    /// A stream, what is seen of it, and its other end.
    async fn stream() -> (UpstreamStream, Rc<Seen>, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let seen = Rc::new(Seen::default());
        (UpstreamStream::new(socket, Rc::clone(&seen)), seen, listener.accept().unwrap().0)
    }

    /// Writes as hyper does: until everything has been taken, then flushes.
    async fn write_all(stream: &mut UpstreamStream, pieces: &[&[u8]]) -> io::Result<()> {
        let mut left: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        while !left.is_empty() {
            let slices: Vec<_> = left.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut count =
                poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &slices)).await?;
            assert!(count > 0);
            while count > 0 {
                let taken = count.min(left[0].len());
                left[0].drain(..taken);
                count -= taken;
                if left[0].is_empty() {
                    left.remove(0);
                }
            }
        }
        poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
    }

    #[test]
    fn the_head_goes_out_whole_however_little_the_socket_takes() {
        run(async {
            let (mut stream, seen, mut other) = stream().await;
            let mut head = Fields::of_request(&Method::PUT, "/a", Some("b")).unwrap();
            // More than the socket's buffers hold.
            let long = vec![b'x'; 20 << 20];
            head.put(&HeaderName::from_static("x-long"), &long);
            seen.begin(&Method::PUT, &head);
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                other.read_to_end(&mut got).unwrap();
                got
            });
            let hypers = b"PUT / HTTP/1.1\r\ncontent-length: 4\r\n\r\n";
            write_all(&mut stream, &[hypers, b"bo", b"dy"]).await.unwrap();
            // The next exchange on the same connection.
            assert!(!seen.is_unflushed());
            seen.begin(&Method::GET, &Fields::of_request(&Method::GET, "/c", None).unwrap());
            write_all(&mut stream, &[b"GET / HTTP/1.1\r\n\r\n"]).await.unwrap();
            drop(stream);
            let got = reader.join().unwrap();
            let wanted = [
                b"PUT /a?b HTTP/1.1\r\nx-long: ",
                &long[..],
                b"\r\ncontent-length: 4\r\n\r\nbodyGET /c HTTP/1.1\r\n\r\n",
            ];
            assert!(got == wanted.concat());
        });
    }

    #[test]
    fn another_request_line_than_the_announced_one_breaks_the_connection() {
        run(async {
            for written in [
                &b"left over from before"[..],
                b"GET /a HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.0\r\n\r\n",
                b"PUT / HTTP/1.1\r\n\r\n",
                b"GETS / HTTP/1.1\r\n\r\n",
                b"GET",
                b"G",
            ] {
                let (mut stream, seen, _other) = stream().await;
                seen.begin(&Method::GET, &Fields::of_request(&Method::GET, "/", None).unwrap());
                let failed = write_all(&mut stream, &[written]).await.unwrap_err();
                assert_eq!(failed.kind(), io::ErrorKind::InvalidData, "{written:?}");
                assert!(seen.is_unflushed());
            }
        });
    }
}
