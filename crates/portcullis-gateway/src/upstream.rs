//! Sends a request to its upstream: picks an address, reuses or opens a connection, tries once
//! more where that is certainly harmless. Never retries because of a response's status, and never
//! looks at what the request says.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_core::verdict::DenyReason;

use crate::body::UpstreamBody;
use crate::head::Outgoing;
use crate::metrics::Attempt;
use crate::phase::{Connection, Waiting};
use crate::pool::{Link, TrySend, Unlinked};
use crate::record::Record;
use crate::worker::Worker;

/// A response's head, and the connection its body comes from.
type Answered = (Response<Incoming>, Rc<Link>);

/// Sends `outgoing` to the upstream with this index.
///
/// # Errors
///
/// The reason why there is no response.
pub(crate) async fn send(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    upstream: usize,
    mut outgoing: Outgoing,
    record: &mut Record,
) -> Result<Answered, DenyReason> {
    let setup = Rc::clone(record.setup());
    let pool = setup.pool(upstream).ok_or(DenyReason::NoHealthyUpstream)?;
    let mut retries_left = pool.plan().retries;
    let mut fresh_only = false;
    loop {
        record.attempted();
        let address = pool.next_address();
        let again_allowed = retries_left > 0 && is_repeatable(&outgoing.request);
        let now = worker.coarse.get();
        let reused = if fresh_only { None } else { pool.reuse(address, now, again_allowed) };
        let link = match reused {
            Some(link) => link,
            // Boxed, for it is rare and its state is large.
            None => match Box::pin(pool.connect(address, now)).await {
                Ok(link) => link,
                Err(unlinked) => {
                    let (attempt, reason, again) = judge(&unlinked);
                    tracing::debug!(upstream = %pool.plan().name, %unlinked, "no connection");
                    pool.meter().attempt(attempt);
                    if !again || retries_left == 0 {
                        return Err(reason);
                    }
                    retries_left -= 1;
                    continue;
                }
            },
        };
        let repeatable = link.is_used() && again_allowed;
        let method = repeatable.then(|| outgoing.request.method().clone());
        if !outgoing.request.body().is_end_stream() {
            connection.uploading.replace(Some(Rc::clone(&link)));
        }
        // Given away right here: a request is large, and would be moved again by every function.
        let answer = link.send(outgoing.request, &outgoing.head);
        match exchange(worker, connection, &link, answer).await {
            Ok(response) => {
                pool.meter().attempt(Attempt::Ok);
                return Ok((response, link));
            }
            Err(Broken::Late) => {
                pool.meter().attempt(Attempt::Timeout);
                return Err(DenyReason::UpstreamTimeout);
            }
            Err(Broken::Off { unsent }) => {
                if connection.overlong.get() {
                    return Err(DenyReason::BodyTooLarge);
                }
                // Before a byte was sent, what came was no answer to it.
                let answered = unsent.is_none() && link.has_answered();
                let died_idle = link.is_used() && !answered;
                let attempt = if died_idle { Attempt::ReusedDead } else { Attempt::Protocol };
                pool.meter().attempt(attempt);
                let again = unsent.map(|unsent| *unsent).or_else(|| method.map(like));
                let again = again.filter(|_| died_idle && retries_left > 0);
                outgoing.request = again.ok_or(DenyReason::UpstreamProtocol)?;
                retries_left -= 1;
                fresh_only = true;
            }
        }
    }
}

/// What a missing connection counts as, what the caller is told, and whether to try again.
fn judge(unlinked: &Unlinked) -> (Attempt, DenyReason, bool) {
    match unlinked {
        Unlinked::Full => (Attempt::Connect, DenyReason::PoolFull, false),
        Unlinked::NoAddress => (Attempt::Connect, DenyReason::NoHealthyUpstream, true),
        Unlinked::Refused(_) => (Attempt::Connect, DenyReason::UpstreamConnect, true),
        Unlinked::Timeout => (Attempt::Timeout, DenyReason::UpstreamTimeout, true),
    }
}

/// Whether a request may be sent twice: of an idempotent method, without a body.
fn is_repeatable(request: &Request<UpstreamBody>) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    idempotent && matches!(request.body(), UpstreamBody::Empty)
}

/// A request without a body, to be sent with the head that another one like it was sent with.
fn like(method: Method) -> Request<UpstreamBody> {
    let mut request = Request::new(UpstreamBody::Empty);
    *request.method_mut() = method;
    request
}

/// Why an exchange gave no response.
enum Broken {
    /// It took too long.
    Late,
    /// The connection broke; `unsent` is the request if not a byte of it was sent.
    Off { unsent: Option<Box<Request<UpstreamBody>>> },
}

/// One attempt on one connection: waits for the answer to what was sent. The connection is driven
/// here, with this task's waker; the channels between it and us are polled without one, for nobody
/// else ever moves them.
async fn exchange(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    link: &Rc<Link>,
    answer: impl Future<Output = Result<Response<Incoming>, TrySend>>,
) -> Result<Response<Incoming>, Broken> {
    let mut answer = pin!(answer);
    connection.wait_for(Waiting::UpstreamHead, worker.coarse.get());
    let result = poll_fn(|cx| {
        // Asked first: an answer that comes behind its deadline is none.
        if connection.late().is_some() {
            return Poll::Ready(Err(Broken::Late));
        }
        link.drive(cx);
        let mut quiet = Context::from_waker(Waker::noop());
        match answer.as_mut().poll(&mut quiet) {
            Poll::Ready(Ok(response)) => {
                link.answered(response.version());
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(mut error)) => {
                let unsent = error.take_message().map(Box::new);
                Poll::Ready(Err(Broken::Off { unsent }))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    connection.wait_for(Waiting::Nobody, worker.coarse.get());
    if result.is_err() {
        connection.uploading.replace(None);
    }
    result
}
