//! HTTP to the control plane: snapshot, changes, acknowledgements, usage. Carries lines and says what went
//! wrong; judges nothing of what it carries.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis_core::feed::{MAX_LINE, Position};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::settings::FeedToken;

/// Time for a connection, and for a response's head.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of a short answer's body that are looked at.
const SHORT_BODY: usize = 4096;
/// Time for the body of a short answer, whose head has come.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// A feed's base URL.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    authority: String,
    dial: String,
    path: String,
}

impl Base {
    /// Reads `http://host[:port][/path]`.
    ///
    /// # Errors
    ///
    /// What is wrong and what is allowed.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("{url:?} is not of the form http://host:port");
        let rest =
            url.strip_prefix("http://").ok_or_else(|| match url.starts_with("https://") {
                true => "https is not supported yet; use http:// on a trusted link".to_owned(),
                false => wrong(),
            })?;
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, String::new()),
        };
        let uri: http::uri::Authority = authority.parse().map_err(|_| wrong())?;
        if uri.host().is_empty() || authority.contains('@') {
            return Err(wrong());
        }
        let port = uri.port_u16().unwrap_or(80);
        Ok(Self {
            dial: format!("{}:{port}", uri.host()),
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

/// Why a call to the control plane brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFault {
    /// It could not be reached, or fell silent.
    #[error("cannot reach the control plane: {0}")]
    Lost(String),
    /// It refuses us, and will until somebody changes something.
    #[error("the control plane refuses this gateway with {0}")]
    Refused(StatusCode),
    /// 410: what we ask for is no longer there.
    #[error("the control plane no longer has the changes after our position")]
    Gone,
    /// 409: it stands behind us.
    #[error("the control plane is behind this gateway, at {0:?}")]
    Behind(Option<Position>),
    /// It asks us to come again later.
    #[error("the control plane is busy")]
    Busy(Option<Duration>),
}

/// What became of a report of usage.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// The control plane has no such endpoint.
    NotWanted,
    /// It wants the next one within this long.
    Taken { within: Option<Duration> },
    /// It will never take this body.
    Unreadable,
}

/// Calls one control plane.
pub(crate) struct FeedClient {
    base: Base,
    headers: HeaderMap,
    /// Kept for what is posted.
    post_sender: Option<http1::SendRequest<Full<Bytes>>>,
}

impl FeedClient {
    /// A client that shows `token` and calls itself `gateway`.
    pub(crate) fn new(base: Base, token: &FeedToken, gateway: &str) -> Self {
        let mut headers = HeaderMap::new();
        let bearer = Zeroizing::new(format!("Bearer {}", token.expose()));
        let entries = [
            (HOST, HeaderValue::from_str(&base.authority)),
            (AUTHORIZATION, HeaderValue::from_str(&bearer)),
            (HeaderName::from_static("portcullis-gateway"), HeaderValue::from_str(gateway)),
            (HeaderName::from_static("portcullis-feed"), HeaderValue::from_str("1")),
        ];
        for (name, value) in entries {
            // A token with a line break in it cannot be sent; the control plane will refuse us.
            if let Ok(mut value) = value {
                value.set_sensitive(name == AUTHORIZATION);
                headers.insert(name, value);
            }
        }
        Self { base, headers, post_sender: None }
    }

    /// Another client of the same control plane, with a connection of its own.
    pub(crate) fn sibling(&self) -> Self {
        Self { base: self.base.clone(), headers: self.headers.clone(), post_sender: None }
    }

    /// Full state.
    pub(crate) async fn snapshot(&self) -> Result<Lines, CallFault> {
        self.lines("/feed/v1/snapshot").await
    }

    /// Every change after `position`, until either side closes.
    pub(crate) async fn changes(&self, position: Position) -> Result<Lines, CallFault> {
        let Position { epoch, seq } = position;
        self.lines(&format!("/feed/v1/changes?after={seq}&epoch={epoch}")).await
    }

    async fn lines(&self, path: &str) -> Result<Lines, CallFault> {
        let mut sender = self.connect().await?;
        let request = self.request(Method::GET, path, Bytes::new())?;
        let response = within(PATIENCE, sender.send_request(request)).await?;
        let (parts, body) = response.into_parts();
        match parts.status {
            StatusCode::OK => Ok(Lines { body, buffer: BytesMut::new(), searched: 0 }),
            StatusCode::GONE => Err(CallFault::Gone),
            StatusCode::CONFLICT => Err(CallFault::Behind(position_in(body).await)),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let after = parts.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok());
                let seconds = after.and_then(|after| after.parse().ok());
                Err(CallFault::Busy(seconds.map(Duration::from_secs)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_ACCEPTABLE => {
                Err(CallFault::Refused(parts.status))
            }
            other => Err(CallFault::Lost(format!("it answered {other}"))),
        }
    }

    /// Acknowledges a state.
    pub(crate) async fn ack(&mut self, body: Bytes) -> Result<(), CallFault> {
        let request = self.request(Method::POST, "/feed/v1/acks", body)?;
        let status = self.post(request).await?.status;
        if status.is_success() { Ok(()) } else { Err(CallFault::Refused(status)) }
    }

    /// Reports usage. The control plane takes a body with an id once, however often it is sent.
    pub(crate) async fn report(&mut self, id: &str, body: Bytes) -> Result<Reported, CallFault> {
        let mut request = self.request(Method::POST, "/feed/v1/usage", body)?;
        let id = HeaderValue::from_str(id).map_err(|error| CallFault::Lost(error.to_string()))?;
        request.headers_mut().insert(HeaderName::from_static("idempotency-key"), id);
        let lines = HeaderValue::from_static("application/x-ndjson");
        request.headers_mut().insert(CONTENT_TYPE, lines);
        let answer = self.post(request).await?;
        match answer.status {
            status if status.is_success() => {
                let within = answer.headers.get("portcullis-usage-within");
                let seconds = within.and_then(|within| within.to_str().ok()?.parse().ok());
                Ok(Reported::Taken { within: seconds.map(Duration::from_secs) })
            }
            StatusCode::NOT_FOUND => Ok(Reported::NotWanted),
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => Ok(Reported::Unreadable),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(CallFault::Busy(None))
            }
            other => Err(CallFault::Refused(other)),
        }
    }

    async fn post(&mut self, request: Request<Full<Bytes>>) -> Result<Parts, CallFault> {
        let mut sender = match self.post_sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = within(PATIENCE, sender.send_request(request)).await?;
        let (parts, body) = response.into_parts();
        // The head says it all. A connection whose answer does not end is not used again.
        let ended = within(SHORT_PATIENCE, Limited::new(body, SHORT_BODY).collect()).await;
        self.post_sender = ended.is_ok().then_some(sender);
        Ok(parts)
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, CallFault> {
        let socket = within(PATIENCE, TcpStream::connect(&*self.base.dial)).await?;
        socket.set_nodelay(true).map_err(|error| CallFault::Lost(error.to_string()))?;
        let (sender, connection) = within(PATIENCE, http1::handshake(TokioIo::new(socket))).await?;
        // Ends with its sender or with the last body.
        tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, CallFault> {
        let mut request = Request::new(Full::new(body));
        *request.uri_mut() = format!("{}{path}", self.base.path)
            .parse()
            .map_err(|_| CallFault::Lost("feed.url has an impossible path".to_owned()))?;
        *request.headers_mut() = self.headers.clone();
        let kind = match method {
            Method::POST => (CONTENT_TYPE, "application/json"),
            _ => (ACCEPT, "application/x-ndjson"),
        };
        request.headers_mut().insert(kind.0, HeaderValue::from_static(kind.1));
        *request.method_mut() = method;
        Ok(request)
    }
}

async fn within<T, E: std::fmt::Display>(
    patience: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, CallFault> {
    match tokio::time::timeout(patience, call).await {
        Err(_) => Err(CallFault::Lost("no answer in time".to_owned())),
        Ok(Err(error)) => Err(CallFault::Lost(error.to_string())),
        Ok(Ok(value)) => Ok(value),
    }
}

async fn position_in(body: Incoming) -> Option<Position> {
    let body = within(SHORT_PATIENCE, Limited::new(body, SHORT_BODY).collect()).await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

/// A body as lines.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer that are known to hold no line end.
    searched: usize,
}

/// Why there is no further line.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinesFault {
    /// The connection broke.
    #[error("the connection broke")]
    Broken,
    /// A line is longer than any may be.
    #[error("a line is longer than 16 MiB")]
    TooLong,
}

impl Lines {
    /// The next line without its end; `None` at the clean end of the body. May be dropped while it
    /// waits: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LinesFault> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                return Err(LinesFault::TooLong);
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None | Some(Err(_)) => return Err(LinesFault::Broken),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_http_with_a_host() {
        let base = Base::parse("http://control.internal:7443/").unwrap();
        assert_eq!((base.dial.as_str(), base.path.as_str()), ("control.internal:7443", ""));
        assert_eq!(Base::parse("http://[::1]:80/x").unwrap().dial, "[::1]:80");
        assert_eq!(Base::parse("http://a").unwrap().dial, "a:80");
        for url in ["", "control:7443", "https://a:1", "http://", "http://u:p@a:1", "ftp://a"] {
            assert!(Base::parse(url).is_err(), "{url}");
        }
    }
}
