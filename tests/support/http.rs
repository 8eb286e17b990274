//! A small blocking HTTP/1.1 client over a plain socket. It sends the bytes it is told, well-formed
//! or not, and reads answers strictly. Panics are reports: a test whose exchange breaks in an
//! unforeseen way has failed.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

const IO_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer, body read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came: status line and fields, in order, without the empty line.
    pub(crate) head: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The only value of a field; panics when it occurs twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.headers_named(name);
        assert!(all.len() <= 1, "{name} occurs {} times: {}", all.len(), self.head);
        all.first().copied()
    }

    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error} in {}\n{}", self.head, String::from_utf8_lossy(&self.body))
        })
    }

    /// The `code` of a problem body.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        self.json()["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code in {}", self.text()))
            .to_owned()
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        self
    }
}

/// A request in the making. Fields are sent in the order and spelling given; `Host` is added unless
/// given.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, key: &str) -> Self {
        self.header("Authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    fn to_bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        if !self.has("host") {
            bytes.extend_from_slice(format!("Host: {host}\r\n").as_bytes());
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let framed = self.has("content-length") || self.has("transfer-encoding");
        if !framed
            && (!self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH"))
        {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends the request on a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, to: SocketAddr) -> Answer {
        Connection::open(to).exchange(self)
    }

    /// Sends the request on a connection of its own; `None` when the server is not there or hangs
    /// up without a word.
    pub(crate) fn try_send(&self, to: SocketAddr) -> Option<Answer> {
        let mut connection = Connection::try_open(to)?;
        connection.stream.write_all(&self.to_bytes(&to.to_string())).ok()?;
        connection.try_read_answer(&self.method).ok().flatten()
    }
}

/// One connection. Bytes read past an answer are kept for the next one.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    peer: SocketAddr,
    pending: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub(crate) fn open(to: SocketAddr) -> Self {
        Self::try_open(to).unwrap_or_else(|| panic!("nobody listens on {to}"))
    }

    pub(crate) fn try_open(to: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&to, IO_TIMEOUT).ok()?;
        stream.set_read_timeout(Some(IO_TIMEOUT)).ok()?;
        stream.set_write_timeout(Some(IO_TIMEOUT)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self { stream, peer: to, pending: Vec::new() })
    }

    #[track_caller]
    pub(crate) fn exchange(&mut self, request: &Request) -> Answer {
        let bytes = request.to_bytes(&self.peer.to_string());
        // A server may answer and hang up while a long request is still being written; what it said
        // still counts.
        let written = self.stream.write_all(&bytes);
        match self.try_read_answer(&request.method) {
            Ok(Some(answer)) => answer,
            other => panic!("no answer from {}: {other:?}, write: {written:?}", self.peer),
        }
    }

    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server takes the bytes");
    }

    /// Reads the next answer; panics when the server hangs up instead.
    #[track_caller]
    pub(crate) fn read_answer(&mut self, method: &str) -> Answer {
        match self.try_read_answer(method) {
            Ok(Some(answer)) => answer,
            other => panic!("no answer from {}: {other:?}", self.peer),
        }
    }

    /// True when the server closed without sending anything more.
    pub(crate) fn is_closed_by_peer(&mut self) -> bool {
        let mut byte = [0];
        self.pending.is_empty()
            && match self.stream.read(&mut byte) {
                Ok(read) => read == 0,
                Err(error) => error.kind() == ErrorKind::ConnectionReset,
            }
    }

    pub(crate) fn try_read_answer(&mut self, method: &str) -> std::io::Result<Option<Answer>> {
        let mut answer = loop {
            let Some(head) = self.read_head()? else { return Ok(None) };
            if head.status >= 200 || head.status == 101 {
                break head;
            }
        };
        answer.body = self.read_body(method, &answer)?;
        Ok(Some(answer))
    }

    /// Reads a head only, for a body that the caller streams itself with
    /// [`Connection::drain_body`].
    pub(crate) fn read_head(&mut self) -> std::io::Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return if self.pending.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let head: Vec<u8> = self.pending.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.get(9..12).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Ok(Some(Answer { status, head, headers, body: Vec::new() }))
    }

    fn read_body(&mut self, method: &str, answer: &Answer) -> std::io::Result<Vec<u8>> {
        if method == "HEAD" || matches!(answer.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if answer
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            return self.read_chunks();
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("Content-Length is a number");
            return self.take(length);
        }
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.pending))
    }

    fn read_chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line()?;
            let size = usize::from_str_radix(&size, 16).expect("a chunk size is hexadecimal");
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n", "a chunk ends in CRLF");
        }
    }

    /// Everything until the other side closes or breaks off.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().is_ok_and(|read| read > 0) {}
        std::mem::take(&mut self.pending)
    }

    /// The next chunk of an endless body.
    pub(crate) fn read_chunk(&mut self) -> std::io::Result<String> {
        let size = self.read_line()?;
        let size = usize::from_str_radix(&size, 16).expect("a chunk size is hexadecimal");
        let chunk = self.take(size)?;
        self.take(2)?;
        Ok(String::from_utf8_lossy(&chunk).into_owned())
    }

    fn read_line(&mut self) -> std::io::Result<String> {
        let end = loop {
            if let Some(at) = self.pending.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let line = self.take(end + 2)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn take(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.pending.len() < length {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.pending.drain(..length).collect())
    }

    fn fill(&mut self) -> std::io::Result<usize> {
        let mut block = [0; 16 * 1024];
        let read = self.stream.read(&mut block)?;
        self.pending.extend_from_slice(&block[..read]);
        Ok(read)
    }

    /// Reads and drops `length` body bytes, all of which must be zero; calls `watch` now and then.
    #[track_caller]
    pub(crate) fn drain_zeros(&mut self, length: u64, mut watch: impl FnMut()) {
        let zeros = vec![0; 256 * 1024];
        let mut left = length - self.pending.len() as u64;
        assert!(self.pending.drain(..).all(|byte| byte == 0), "the body is not zeros");
        let mut block = vec![0; zeros.len()];
        let mut next_watch = left;
        while left > 0 {
            let room = usize::try_from(left).map_or(block.len(), |left| left.min(block.len()));
            let read = self.stream.read(&mut block[..room]).expect("the body goes on");
            assert!(read > 0, "the body ended {left} bytes early");
            // Compared as a whole, since counting bytes one by one would be the slowest part of the
            // test.
            assert!(block[..read] == zeros[..read], "the body is not zeros");
            left -= read as u64;
            if left <= next_watch {
                watch();
                next_watch = left.saturating_sub(64 << 20);
            }
        }
    }
}
