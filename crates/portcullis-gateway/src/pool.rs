//! Upstream connections of one worker: opened, kept while idle, given out one request at a time.
//! A connection is driven by whoever uses it and by nobody else, so that an exchange costs no task
//! switch: the request's own task writes the head and is woken by the response (see
//! `docs/adr/0001`). Never decides whether a request may be sent.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::Version;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use portcullis_core::time::MonoNs;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::body::UpstreamBody;
use crate::head::Fields;
use crate::metrics::UpstreamMeter;
use crate::phase::nanos;
use crate::plan::UpstreamPlan;
use crate::upstream_stream::{Seen, UpstreamStream};

/// Connections of one worker to one upstream.
pub(crate) struct Pool {
    plan: Arc<UpstreamPlan>,
    meter: Rc<UpstreamMeter>,
    addresses: Vec<AddressPool>,
    /// Whether the configuration has gone on without it: nothing is kept any more.
    closed: Cell<bool>,
    /// Place in the round-robin order.
    turn: Cell<usize>,
}

struct AddressPool {
    idle: RefCell<Vec<Rc<Link>>>,
    /// Connections that exist, idle or not.
    open: Cell<usize>,
    /// Told when a connection becomes idle or ends.
    freed: Notify,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unlinked {
    /// Every connection is busy, and stayed so.
    #[error("every connection is busy")]
    Full,
    /// The upstream's name has no usable address.
    #[error("its name has no usable address")]
    NoAddress,
    /// It refused, or could not be reached.
    #[error("it cannot be reached: {0}")]
    Refused(io::Error),
    /// It did not answer in time.
    #[error("it did not accept in time")]
    Timeout,
}

/// How long ago a connection may have become idle to be used without a look.
const JUST_NOW_NS: u64 = 250_000_000;
/// How long a request waits for one of too many connections.
const FULL_WAIT: Duration = Duration::from_millis(100);

impl Pool {
    /// An empty pool.
    pub(crate) fn new(plan: Arc<UpstreamPlan>, meter: Rc<UpstreamMeter>) -> Self {
        let address =
            || AddressPool { idle: RefCell::default(), open: Cell::new(0), freed: Notify::new() };
        let addresses = plan.addresses.iter().map(|_| address()).collect();
        Self { plan, meter, addresses, closed: Cell::new(false), turn: Cell::new(0) }
    }

    /// Whether it is the pool of this very upstream.
    pub(crate) fn serves(&self, upstream: &Arc<UpstreamPlan>) -> bool {
        Arc::ptr_eq(&self.plan, upstream)
    }

    pub(crate) fn meter(&self) -> &UpstreamMeter {
        &self.meter
    }

    /// Closes idle connections now and the others as soon as their exchange is over.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        for address in &self.addresses {
            let idle = std::mem::take(&mut *address.idle.borrow_mut());
            drop(idle);
        }
    }

    pub(crate) fn plan(&self) -> &UpstreamPlan {
        &self.plan
    }

    /// The address whose turn it is.
    pub(crate) fn next_address(&self) -> usize {
        let order = &self.plan.order;
        let turn = self.turn.get();
        self.turn.set(if turn + 1 >= order.len() { 0 } else { turn + 1 });
        order.get(turn).copied().unwrap_or(0)
    }

    /// An idle connection to `address` that is alive as far as can be known without asking.
    ///
    /// A request that may be sent twice takes one that became idle just now as it is: if the
    /// upstream closed it meanwhile, the request goes again over a fresh one, which costs less than
    /// to look before every request. Bytes that nobody asked for are seen by hyper all the same,
    /// before it writes.
    pub(crate) fn reuse(&self, address: usize, now: MonoNs, repeatable: bool) -> Option<Rc<Link>> {
        let pool = self.addresses.get(address)?;
        loop {
            let link = pool.idle.borrow_mut().pop()?;
            if !repeatable || now.since(link.idle_since.get()) >= JUST_NOW_NS {
                // Polled without a waker: whoever sends the next request polls it again with one.
                link.drive(&mut Context::from_waker(Waker::noop()));
            }
            if link.is_ready() {
                link.seen.forget();
                return Some(link);
            }
        }
    }

    /// Opens a connection to `address`.
    pub(crate) async fn connect(
        self: &Rc<Self>,
        address: usize,
        now: MonoNs,
    ) -> Result<Rc<Link>, Unlinked> {
        let pool = self.addresses.get(address).ok_or(Unlinked::NoAddress)?;
        let room = async {
            while pool.open.get() >= self.plan.connections {
                // What was freed may be taken again by now, or was freed before anybody waited.
                pool.freed.notified().await;
                let link = self.reuse(address, now, false);
                if link.is_some() {
                    return link;
                }
            }
            None
        };
        let freed = tokio::time::timeout(FULL_WAIT, room).await.map_err(|_| Unlinked::Full)?;
        if let Some(link) = freed {
            return Ok(link);
        }
        let place = Place::taken(self, address);
        let to = self.plan.resolved(address).ok_or(Unlinked::NoAddress)?;
        let dial = TcpStream::connect(to);
        let socket = match tokio::time::timeout(self.plan.connect_timeout, dial).await {
            Err(_) => return Err(Unlinked::Timeout),
            Ok(Err(error)) => return Err(Unlinked::Refused(error)),
            Ok(Ok(socket)) => socket,
        };
        socket.set_nodelay(true).map_err(Unlinked::Refused)?;
        let seen = Rc::new(Seen::default());
        let stream = UpstreamStream::new(socket, Rc::clone(&seen));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(self.plan.response_head_bytes.max(8 * 1024))
            .max_header_size(self.plan.response_head_bytes)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Unlinked::Refused(io::Error::other(error)))?;
        Ok(Rc::new(Link {
            sender: RefCell::new(sender),
            driver: RefCell::new(Some(driver)),
            seen,
            served: Cell::new(0),
            spent: Cell::new(false),
            idle_since: Cell::new(MonoNs(0)),
            place,
        }))
    }

    /// Takes a connection back after an exchange; drops it unless it can carry another one.
    pub(crate) fn give_back(link: Rc<Link>, now: MonoNs) {
        link.served.set(link.served.get() + 1);
        let pool = Rc::clone(&link.place.pool);
        let Some(address) = pool.addresses.get(link.place.address) else { return };
        let worn = link.served.get() >= pool.plan.requests_per_connection;
        let room = !pool.closed.get() && address.idle.borrow().len() < pool.plan.idle;
        if room && !worn && link.is_ready() {
            link.idle_since.set(now);
            address.idle.borrow_mut().push(link);
            address.freed.notify_one();
        }
    }

    /// Closes connections that were idle for too long or that the upstream has closed.
    pub(crate) fn tick(&self, now: MonoNs) {
        let idle_time = nanos(self.plan.idle_time);
        for pool in &self.addresses {
            let mut idle = std::mem::take(&mut *pool.idle.borrow_mut());
            idle.retain(|link| {
                link.drive(&mut Context::from_waker(Waker::noop()));
                link.is_ready() && now.since(link.idle_since.get()) < idle_time
            });
            *pool.idle.borrow_mut() = idle;
        }
    }

    /// Counts connections that wait for a request, and connections in use.
    pub(crate) fn count(&self) {
        let idle: usize = self.addresses.iter().map(|pool| pool.idle.borrow().len()).sum();
        let open: usize = self.addresses.iter().map(|pool| pool.open.get()).sum();
        self.meter.connections(idle, open.saturating_sub(idle));
    }
}

/// A place among an address's connections, free again when dropped.
struct Place {
    pool: Rc<Pool>,
    address: usize,
}

impl Place {
    fn taken(pool: &Rc<Pool>, address: usize) -> Self {
        if let Some(counted) = pool.addresses.get(address) {
            counted.open.set(counted.open.get() + 1);
        }
        Self { pool: Rc::clone(pool), address }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counted) = self.pool.addresses.get(self.address) {
            counted.open.set(counted.open.get().saturating_sub(1));
            counted.freed.notify_one();
        }
    }
}

/// One upstream connection. Dropping it closes it.
pub(crate) struct Link {
    sender: RefCell<http1::SendRequest<UpstreamBody>>,
    /// `None` when the connection has ended.
    driver: RefCell<Option<http1::Connection<TokioIo<UpstreamStream>, UpstreamBody>>>,
    seen: Rc<Seen>,
    served: Cell<u32>,
    /// It must not carry another request.
    spent: Cell<bool>,
    idle_since: Cell<MonoNs>,
    place: Place,
}

impl Link {
    /// Lets the connection do whatever it can do now. Whoever waits for it must call this.
    pub(crate) fn drive(&self, cx: &mut Context<'_>) {
        // Borrowed already only when the connection itself polls the request's body, and that body
        // has nothing to do with this connection.
        let Ok(mut slot) = self.driver.try_borrow_mut() else { return };
        let ended = match &mut *slot {
            Some(driver) => Pin::new(driver).poll(cx).is_ready(),
            None => false,
        };
        if ended {
            *slot = None;
        }
    }

    /// Whether it can take a request now. What was written before must be out: see
    /// [`crate::upstream_stream`].
    fn is_ready(&self) -> bool {
        !self.spent.get()
            && self.driver.borrow().is_some()
            && !self.seen.is_unflushed()
            && self.sender.borrow().is_ready()
    }

    /// Whether any byte of a response has come in this exchange.
    pub(crate) fn has_answered(&self) -> bool {
        self.seen.has_received()
    }

    /// Whether it has carried a request before.
    pub(crate) fn is_used(&self) -> bool {
        self.served.get() > 0
    }

    /// Sends `request` with this head. The future must be polled together with [`Link::drive`].
    pub(crate) fn send(
        &self,
        request: http::Request<UpstreamBody>,
        head: &Fields,
    ) -> impl Future<Output = Result<http::Response<hyper::body::Incoming>, TrySend>> + use<> {
        self.seen.begin(request.method(), head);
        self.sender.borrow_mut().try_send_request(request)
    }

    /// The response's head is known, and of this version: what comes now is its body.
    pub(crate) fn answered(&self, version: Version) {
        // hyper would write the next request in this version, and the heads that we put in the place
        // of its own are HTTP/1.1.
        self.spent.set(version != Version::HTTP_11);
        self.seen.answered();
    }
}

/// hyper's error that may carry the unsent request.
pub(crate) type TrySend = hyper::client::conn::TrySendError<http::Request<UpstreamBody>>;

/// Whether an upstream may have this address: never one that names services of the machine's own
/// network or cloud, unless that was asked for.
pub(crate) fn may_dial(address: SocketAddr, allow_link_local: bool) -> bool {
    let link_local = match address.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => {
            (v6.segments()[0] & 0xffc0) == 0xfe80
                || v6.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
        }
    };
    (allow_link_local || !link_local) && !address.ip().is_unspecified() && address.port() != 0
}
