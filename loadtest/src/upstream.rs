//! The upstream behind every contender: answers each request head with one small fixed body.
//!
//! It runs in turns, in the load generator's own thread, so that the two never wait for each other
//! and never sleep while a round runs: see [`crate::load`]. It must never be mistaken for an HTTP
//! server: a request with a body confuses it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// What every response must carry, byte for byte.
pub(crate) const BODY: &[u8] =
    br#"{"nodes":[{"id":"n1","ready":true},{"id":"n2","ready":true},{"id":"n3","ready":false}]}"#;

const LISTENER: Token = Token(usize::MAX);
const HEAD_BYTES: usize = 16 * 1024;

pub(crate) struct Upstream {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    /// By token; a closed one leaves its place to the next.
    connections: Vec<Option<Connection>>,
    response: Vec<u8>,
}

impl Upstream {
    pub(crate) fn bind() -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut listener = TcpListener::bind(address).context("no free loopback port")?;
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            BODY.len()
        );
        Ok(Self {
            poll,
            events: Events::with_capacity(256),
            listener,
            connections: Vec::new(),
            response: [head.as_bytes(), BODY].concat(),
        })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Answers what is there, waiting at most `patience` for the first of it.
    pub(crate) fn turn(&mut self, patience: Duration) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut knocked = false;
        for event in &self.events {
            let Token(index) = event.token();
            if event.token() == LISTENER {
                knocked = true;
            } else if let Some(place) = self.connections.get_mut(index)
                && place.as_mut().is_some_and(|one| one.answer(&self.response).is_err())
            {
                *place = None;
            }
        }
        if knocked { self.accept() } else { Ok(()) }
    }

    fn accept(&mut self) -> Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            let free = self.connections.iter().position(Option::is_none);
            let index = free.unwrap_or(self.connections.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            let connection = Connection { stream, head: vec![0; HEAD_BYTES], filled: 0 };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
        Ok(())
    }

    /// Keeps answering while `work` runs in a thread of its own.
    pub(crate) fn serve_while<T: Send>(&mut self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                self.turn(Duration::from_millis(1))?;
            }
            worker.join().map_err(|_| anyhow::anyhow!("a probe panicked"))
        })
    }
}

struct Connection {
    stream: TcpStream,
    head: Vec<u8>,
    filled: usize,
}

impl Connection {
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
