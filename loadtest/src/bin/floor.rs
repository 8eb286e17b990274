//! The floor: the least that an HTTP/1.1 proxy can cost on this kernel. A relay that parses both
//! heads, drops the fields that are for one hop only, moves everything else over a pooled upstream
//! connection, and checks nothing at all.
//!
//! One single-threaded tokio runtime, one pool, three buffers per connection. It must never grow a
//! feature: whatever a gateway costs above it is what the gateway's work costs. Bodies are framed
//! by `Content-Length`; anything else closes the connection.
//!
//! `floor LISTEN UPSTREAM`

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;
/// RFC 9110, 7.6.1. (A field that `Connection` names would have to go as well.)
const ONE_HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "te", "upgrade"];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: floor LISTEN UPSTREAM";
    let listen: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let upstream: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(listen, upstream))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.context("binding")?;
    let pool = Rc::new(Pool { upstream, idle: RefCell::new(Vec::new()) });
    loop {
        let (downstream, _) = listener.accept().await?;
        let pool = Rc::clone(&pool);
        // A connection that breaks is simply over; the load generator is who counts.
        tokio::task::spawn_local(async move { relay(downstream, &pool).await });
    }
}

struct Pool {
    upstream: SocketAddr,
    idle: RefCell<Vec<TcpStream>>,
}

impl Pool {
    async fn take(&self) -> io::Result<TcpStream> {
        let idle = self.idle.borrow_mut().pop();
        if let Some(stream) = idle {
            return Ok(stream);
        }
        let stream = TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Serves one downstream connection until either side ends it.
async fn relay(mut downstream: TcpStream, pool: &Pool) -> io::Result<()> {
    downstream.set_nodelay(true)?;
    let mut requests = vec![0; BUFFER_BYTES];
    let mut responses = vec![0; BUFFER_BYTES];
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    while let Some(missing) = read_head(&mut downstream, &mut requests, &mut out, request).await? {
        let mut upstream = pool.take().await?;
        upstream.write_all(&out).await?;
        pass(&mut downstream, &mut upstream, &mut requests, missing).await?;

        let missing = read_head(&mut upstream, &mut responses, &mut out, response)
            .await?
            .ok_or(ErrorKind::UnexpectedEof)?;
        downstream.write_all(&out).await?;
        pass(&mut upstream, &mut downstream, &mut responses, missing).await?;
        pool.idle.borrow_mut().push(upstream);
    }
    Ok(())
}

/// Reads until a head is complete and leaves in `out` what is to be sent: the head for the next
/// hop, and as much of the body as came along. Returns how much of the body is still to come;
/// `None` is an end of stream between two messages.
async fn read_head(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    out: &mut Vec<u8>,
    rewrite: impl Fn(&[u8], &mut Vec<u8>) -> io::Result<Option<Head>>,
) -> io::Result<Option<usize>> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return if filled == 0 { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        filled += read;
        out.clear();
        if let Some(head) = rewrite(&buffer[..filled], out)? {
            out.extend_from_slice(&buffer[head.length..filled]);
            // More than one message in the buffer is pipelining: not here.
            let missing = (head.length + head.body).checked_sub(filled);
            return missing.map(Some).ok_or_else(|| ErrorKind::InvalidData.into());
        }
    }
}

/// How long a head was, and how long its body is.
struct Head {
    length: usize,
    body: usize,
}

async fn pass(
    from: &mut TcpStream,
    to: &mut TcpStream,
    buffer: &mut [u8],
    mut missing: usize,
) -> io::Result<()> {
    while missing > 0 {
        let room = buffer.len().min(missing);
        let read = from.read(&mut buffer[..room]).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..read]).await?;
        missing -= read;
    }
    Ok(())
}

fn request(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let parsed = head.parse(bytes).map_err(io::Error::other)?;
    rewrite(bytes, parsed, head.headers, out)
}

fn response(bytes: &[u8], out: &mut Vec<u8>) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let parsed = head.parse(bytes).map_err(io::Error::other)?;
    rewrite(bytes, parsed, head.headers, out)
}

/// Writes the first line and the fields that go on; finds the length of the body.
fn rewrite(
    bytes: &[u8],
    parsed: httparse::Status<usize>,
    headers: &[httparse::Header<'_>],
    out: &mut Vec<u8>,
) -> io::Result<Option<Head>> {
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let line = memchr::memchr(b'\n', bytes).ok_or(ErrorKind::InvalidData)?;
    out.extend_from_slice(&bytes[..=line]);
    let mut body = 0;
    for header in headers {
        if ONE_HOP.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
            continue;
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(ErrorKind::Unsupported.into());
        }
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = str::from_utf8(header.value).map_err(io::Error::other)?;
            body = text.parse().map_err(io::Error::other)?;
        }
        for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Head { length, body }))
}
