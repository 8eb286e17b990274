//! The load: a fixed number of keep-alive connections, each with exactly one request in flight,
//! each request with a random key. Bounded in time and connections, loopback only.
//!
//! A response counts only if it is a 200 with the exact body; anything else is an error, and the
//! first error ends the round.
//!
//! One thread serves both ends in turns, the callers and the upstream, and never sleeps while a
//! round runs. Otherwise a proxy would pay for waking its peers, by an interrupt to their core
//! (several microseconds on a virtual machine), the more often the slower it is and the longer they
//! sleep: a price of the loopback interface that no real peer sends it.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::keys::KeySet;
use crate::seeded::Seeded;
use crate::upstream::{BODY, Upstream};

/// An answer that takes longer is an error.
const STALL: Duration = Duration::from_secs(5);
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// The head before and after the key.
pub(crate) const BEFORE_KEY: &str = "GET /v1/clusters/c1/nodes HTTP/1.1\r\n\
    Host: api.example.com\r\nUser-Agent: compare\r\nAccept: */*\r\nAuthorization: Bearer ";
pub(crate) const AFTER_KEY: &str = "\r\n\r\n";

pub(crate) struct Load<'k> {
    target: SocketAddr,
    keys: Vec<&'k str>,
    random: Seeded,
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    request: Vec<u8>,
    ready: Vec<usize>,
    /// What happened since the last [`Load::count_anew`].
    pub(crate) counted: Counted,
}

/// Completed requests of a window.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) latencies_ns: Vec<u32>,
    pub(crate) elapsed: Duration,
    /// Connections opened again because the proxy announced that it closes.
    pub(crate) reconnects: u64,
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    response: Vec<u8>,
}

impl<'k> Load<'k> {
    /// Opens the connections and sends the first request on each.
    pub(crate) fn open(
        target: SocketAddr,
        connections: u16,
        keys: &'k KeySet,
        seed: u64,
    ) -> Result<Self> {
        ensure!(target.ip().is_loopback(), "load goes to loopback addresses only, not {target}");
        let mut load = Self {
            target,
            keys: keys.texts().collect(),
            random: Seeded::new(seed),
            poll: Poll::new()?,
            events: Events::with_capacity(usize::from(connections)),
            connections: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            request: Vec::new(),
            ready: Vec::new(),
            counted: Counted::default(),
        };
        for index in 0..usize::from(connections) {
            let connection = load.connect(Token(index))?;
            load.connections.push(connection);
            load.send(index)?;
        }
        Ok(load)
    }

    /// Begins a new window.
    pub(crate) fn count_anew(&mut self) {
        self.counted = Counted::default();
    }

    /// Keeps the load up for `duration` and adds to the window what completes in it.
    pub(crate) fn drive(&mut self, duration: Duration, upstream: &mut Upstream) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            self.turn()?;
            upstream.turn(Duration::ZERO)?;
        }
        let stalled = |connection: &&Connection| connection.sent.elapsed() > STALL;
        if let Some(connection) = self.connections.iter().find(stalled) {
            bail!("no answer for {:?}", connection.sent.elapsed());
        }
        self.counted.elapsed += begin.elapsed();
        Ok(())
    }

    /// Takes the answers that are there and sends the next requests.
    fn turn(&mut self) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.extend(self.events.iter().map(|event| event.token().0));
        for index in ready.drain(..) {
            self.receive(index)?;
        }
        self.ready = ready;
        Ok(())
    }

    fn connect(&self, token: Token) -> Result<Connection> {
        let stream = std::net::TcpStream::connect(self.target).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
        Ok(Connection { stream, sent: Instant::now(), response: Vec::new() })
    }

    fn send(&mut self, index: usize) -> Result<()> {
        let key = self.keys[self.random.below(self.keys.len())];
        self.request.clear();
        for part in [BEFORE_KEY, key, AFTER_KEY] {
            self.request.extend_from_slice(part.as_bytes());
        }
        let connection = &mut self.connections[index];
        connection.sent = Instant::now();
        // A few hundred bytes always fit the empty send buffer of a connection at rest.
        connection.stream.write_all(&self.request).context("sending a request")
    }

    /// Reads once; registration is edge-triggered, and with one request in flight there is nothing
    /// after a complete response, so reading until the socket is dry would only cost a call.
    fn receive(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let read = match connection.stream.read(&mut self.buffer) {
            Ok(0) => bail!("the connection was closed before the answer"),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading an answer"),
        };
        ensure!(read < BUFFER_BYTES, "an answer of more than {BUFFER_BYTES} bytes");
        let verdict = if connection.response.is_empty() {
            judge(&self.buffer[..read])?
        } else {
            connection.response.extend_from_slice(&self.buffer[..read]);
            judge(&connection.response)?
        };
        let closes = match verdict {
            Verdict::Partial => {
                if connection.response.is_empty() {
                    connection.response.extend_from_slice(&self.buffer[..read]);
                }
                return Ok(());
            }
            Verdict::Complete { closes } => closes,
        };
        connection.response.clear();
        let latency = connection.sent.elapsed().as_nanos();
        self.counted.latencies_ns.push(u32::try_from(latency).unwrap_or(u32::MAX));
        if closes {
            self.counted.reconnects += 1;
            self.connections[index] = self.connect(Token(index))?;
        }
        self.send(index)
    }
}

/// What the bytes of an answer amount to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Complete { closes: bool },
    Partial,
}

/// Judges an answer; everything but a 200 with exactly the expected body is an error.
pub(crate) fn judge(bytes: &[u8]) -> Result<Verdict> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).context("a malformed answer")? else {
        return Ok(Verdict::Partial);
    };
    let status = head.code.unwrap_or_default();
    ensure!(status == 200, "status {status}: {}", String::from_utf8_lossy(bytes).escape_debug());
    let mut closes = false;
    let mut length = None;
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("content-length") {
            length = str::from_utf8(header.value).ok().and_then(|text| text.parse::<usize>().ok());
        }
    }
    ensure!(length == Some(BODY.len()), "a body of {length:?} bytes in place of {}", BODY.len());
    let body = &bytes[end..];
    if body.len() < BODY.len() {
        return Ok(Verdict::Partial);
    }
    ensure!(body == BODY, "another body than the upstream's");
    Ok(Verdict::Complete { closes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, extra: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{extra}\r\n", BODY.len())
                .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn only_a_200_with_the_exact_body_counts() {
        let good = answer("200 OK", "", BODY);
        assert_eq!(judge(&good).expect("good"), Verdict::Complete { closes: false });
        judge(&answer("401 Unauthorized", "", BODY)).expect_err("a refusal is no answer");
        judge(&answer("200 OK", "", &[b'x'; BODY.len()])).expect_err("another body is no answer");
        judge(&[&good[..], b"x"].concat()).expect_err("a surplus byte is no answer");
        judge(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("no length is no answer");
    }

    #[test]
    fn a_cut_answer_is_partial_wherever_it_is_cut() {
        let good = answer("200 OK", "", BODY);
        for end in 0..good.len() {
            assert_eq!(judge(&good[..end]).expect("so far good"), Verdict::Partial, "at {end}");
        }
    }

    #[test]
    fn an_announced_close_is_seen() {
        let last = answer("200 OK", "Connection: close\r\n", BODY);
        assert_eq!(judge(&last).expect("good"), Verdict::Complete { closes: true });
    }
}
