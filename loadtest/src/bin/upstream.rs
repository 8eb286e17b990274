//! The upstream behind every contender: answers each request head with one small fixed body.
//!
//! It exists to cost the load core as little as possible, so that the proxy's core is the one that
//! is busy. It must never be mistaken for an HTTP server: a request with a body confuses it.
//!
//! `upstream LISTEN BODY-FILE`

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const HEAD_BYTES: usize = 16 * 1024;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: upstream LISTEN BODY-FILE";
    let address: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let body = std::fs::read(arguments.next().context(usage)?).context("reading the body")?;
    let response = response(&body);

    let mut listener = TcpListener::bind(address).context("binding")?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections = HashMap::new();
    let mut next = 0;
    let mut events = Events::with_capacity(256);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                    connections.insert(Token(next), Connection::new(stream));
                    next += 1;
                }
            } else if let Some(connection) = connections.get_mut(&event.token())
                && connection.answer(&response).is_err()
            {
                connections.remove(&event.token());
            }
        }
    }
}

/// The whole response, framed once.
fn response(body: &[u8]) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    response
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    filled: usize,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, head: vec![0; HEAD_BYTES], filled: 0 }
    }

    /// Reads until the socket is dry and answers every head that has ended.
    fn answer(&mut self, response: &[u8]) -> std::io::Result<()> {
        loop {
            let free = &mut self.head[self.filled..];
            let room = free.len();
            let read = match self.stream.read(free) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            self.filled += read;
            while let Some(end) = memchr::memmem::find(&self.head[..self.filled], b"\r\n\r\n") {
                self.head.copy_within(end + 4..self.filled, 0);
                self.filled -= end + 4;
                self.stream.write_all(response)?;
            }
            if self.filled == self.head.len() {
                return Err(ErrorKind::InvalidData.into());
            }
            // A short read means the socket is dry; what comes later raises a new event.
            if read < room {
                return Ok(());
            }
        }
    }
}
