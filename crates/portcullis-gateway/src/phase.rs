//! Where each connection of a worker stands and since when, so that one ticker can hold every
//! deadline. Registers no timer and allocates nothing per request.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Waker};

use portcullis_core::time::MonoNs;
use portcullis_core::verdict::DenyReason;

use crate::head::Fields;
use crate::pool::Link;
use crate::settings::Timeouts;
use crate::way::Way;

/// What a connection is doing.
///
/// ```text
/// Connected ─first byte─▶ Head ─head complete─▶ Exchange ─response ended─▶ Flushing ─flushed─▶ Idle
///                           ▲                                                                  │
///                           └───────────────────────────first byte─────────────────────────────┘
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connected,
    Head,
    Exchange,
    Flushing,
    Idle,
}

/// What the ticker wants done with a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Close without an answer.
    Close,
    /// Answer the next request with `Connection: close`; close at once when idle.
    Finish,
    /// Answer 408 and close.
    HeadTimeout,
}

/// Which deadline of an exchange has passed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// The upstream's head or the next piece of its body.
    Upstream,
    /// The request as a whole.
    Whole,
}

/// Whom an exchange waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nobody,
    UpstreamBody,
    UpstreamHead,
}

/// One downstream connection, as its driver, its stream, its exchange and the ticker see it.
pub(crate) struct Connection {
    /// The host that was asked for last, and what its upstream is told of the way here; the next
    /// request is likely to need the same.
    way: RefCell<Option<(Box<str>, Fields)>>,
    /// Index of the listener it came through.
    pub(crate) listener: usize,
    /// The socket's other end.
    pub(crate) peer: SocketAddr,
    phase: Cell<Phase>,
    since: Cell<MonoNs>,
    order: Cell<Option<Order>>,
    waker: RefCell<Option<Waker>>,
    /// Bytes read since the first one of the present head.
    head_bytes: Cell<usize>,
    /// The answer that hyper wanted to give by itself.
    fault: Cell<Option<DenyReason>>,
    /// Requests so far.
    pub(crate) served: Cell<u32>,
    pub(crate) bytes_in: Cell<u64>,
    pub(crate) bytes_out: Cell<u64>,
    /// Bytes of the present request's body.
    pub(crate) body_in: Cell<u64>,
    /// The present request's body exceeds its route's limit.
    pub(crate) overlong: Cell<bool>,
    /// Whether unread input must be drained before the socket is closed.
    pub(crate) linger: Cell<bool>,
    waiting: Cell<Waiting>,
    waiting_since: Cell<MonoNs>,
    late: Cell<Option<Late>>,
    /// Longest pause of the upstream's body in this exchange.
    read_limit_ns: Cell<u64>,
    /// End of the present exchange; `None` = no limit.
    deadline: Cell<Option<MonoNs>>,
    /// The peer takes no more bytes.
    pub(crate) blocked: Cell<bool>,
    /// The peer's body is being waited for.
    pub(crate) starved: Cell<bool>,
    rate_since: Cell<MonoNs>,
    rate_bytes: Cell<u64>,
    /// The upstream connection that takes this exchange's request body. The driver polls it too:
    /// an upload must go on while the download is blocked.
    pub(crate) uploading: RefCell<Option<Rc<Link>>>,
}

/// What an exchange is allowed, by its route.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ExchangeLimits {
    /// Longest pause of the upstream's body, in ns.
    pub(crate) read_ns: u64,
    /// Longest exchange, in ns; 0 = no limit.
    pub(crate) whole_ns: u64,
}

impl Connection {
    /// A connection just accepted.
    pub(crate) fn new(listener: usize, peer: SocketAddr, now: MonoNs) -> Self {
        Self {
            way: RefCell::new(None),
            listener,
            peer,
            phase: Cell::new(Phase::Connected),
            since: Cell::new(now),
            order: Cell::new(None),
            waker: RefCell::new(None),
            head_bytes: Cell::new(0),
            fault: Cell::new(None),
            served: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            body_in: Cell::new(0),
            overlong: Cell::new(false),
            linger: Cell::new(false),
            waiting: Cell::new(Waiting::Nobody),
            waiting_since: Cell::new(now),
            late: Cell::new(None),
            read_limit_ns: Cell::new(u64::MAX),
            deadline: Cell::new(None),
            blocked: Cell::new(false),
            starved: Cell::new(false),
            rate_since: Cell::new(now),
            rate_bytes: Cell::new(0),
            uploading: RefCell::new(None),
        }
    }

    /// Whether no request is being answered: bytes that hyper writes now are an answer of its own.
    pub(crate) fn before_request(&self) -> bool {
        matches!(self.phase.get(), Phase::Connected | Phase::Head | Phase::Idle)
    }

    /// Whether nothing of a request has come and nothing of a response is left.
    fn is_idle(&self) -> bool {
        matches!(self.phase.get(), Phase::Connected | Phase::Idle) && self.order.get().is_none()
    }

    fn enter(&self, phase: Phase, now: MonoNs) {
        self.phase.set(phase);
        self.since.set(now);
    }

    /// `count` bytes came in.
    pub(crate) fn received(&self, count: usize, coarse: MonoNs) {
        if count == 0 {
            return;
        }
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        match self.phase.get() {
            Phase::Connected | Phase::Idle => {
                self.head_bytes.set(count);
                self.enter(Phase::Head, coarse);
            }
            Phase::Head => self.head_bytes.set(self.head_bytes.get() + count),
            Phase::Exchange | Phase::Flushing => {}
        }
    }

    /// Whether the head, still incomplete, is already at its limit.
    pub(crate) fn head_overrun(&self, limit: usize) -> bool {
        self.phase.get() == Phase::Head && self.head_bytes.get() >= limit
    }

    /// A head is complete: an exchange begins.
    pub(crate) fn begin(&self, now: MonoNs) {
        self.served.set(self.served.get().saturating_add(1));
        self.enter(Phase::Exchange, now);
        self.body_in.set(0);
        self.overlong.set(false);
        self.late.set(None);
        self.waiting.set(Waiting::Nobody);
        self.deadline.set(None);
        self.read_limit_ns.set(u64::MAX);
        self.starved.set(false);
        self.rate_since.set(now);
        self.rate_bytes.set(self.moved());
    }

    /// The exchange's route is known.
    pub(crate) fn limit(&self, limits: ExchangeLimits) {
        self.read_limit_ns.set(limits.read_ns);
        if limits.whole_ns > 0 {
            self.deadline.set(Some(MonoNs(self.since.get().0.saturating_add(limits.whole_ns))));
        }
    }

    /// The response's body has ended or was dropped.
    pub(crate) fn finish(&self, coarse: MonoNs) {
        self.enter(Phase::Flushing, coarse);
        self.uploading.replace(None);
    }

    /// Everything written so far is in the kernel's hands.
    pub(crate) fn flushed(&self, coarse: MonoNs) {
        self.blocked.set(false);
        if self.phase.get() == Phase::Flushing {
            self.enter(Phase::Idle, coarse);
        }
    }

    /// hyper refused the head and wrote an answer of its own, which was withheld.
    pub(crate) fn refuse(&self, reason: DenyReason) {
        self.fault.set(Some(reason));
    }

    pub(crate) fn fault(&self) -> Option<DenyReason> {
        self.fault.get()
    }

    /// The exchange now waits for `whom`.
    pub(crate) fn wait_for(&self, whom: Waiting, coarse: MonoNs) {
        if self.waiting.replace(whom) != whom {
            self.waiting_since.set(coarse);
        }
    }

    /// Writes what an upstream is told of the way here, by a peer that asks for `authority` and is
    /// not believed about anything else.
    pub(crate) fn write_way(&self, authority: &str, fields: &mut Fields) {
        let mut way = self.way.borrow_mut();
        match &*way {
            Some((known, written)) if **known == *authority => fields.append(written),
            Some(_) | None => {
                let mut fresh = Fields::default();
                Way::from_peer(self.peer.ip()).write(authority, &mut fresh);
                fields.append(&fresh);
                *way = Some((authority.into(), fresh));
            }
        }
    }

    /// Which deadline of the exchange has passed, if one has.
    pub(crate) fn late(&self) -> Option<Late> {
        self.late.get()
    }

    pub(crate) fn order(&self) -> Option<Order> {
        self.order.get()
    }

    /// Tells the driver what to do, and wakes it.
    pub(crate) fn give_order(&self, order: Order) {
        self.order.set(Some(order));
        self.wake();
    }

    /// Takes an order that has been obeyed.
    pub(crate) fn obeyed(&self) {
        self.order.set(None);
    }

    /// Remembers whom to wake. Costs nothing when it is the same as before.
    pub(crate) fn driven_by(&self, cx: &Context<'_>) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *slot = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn moved(&self) -> u64 {
        self.bytes_in.get() + self.bytes_out.get()
    }

    /// Looks at every deadline of this connection.
    fn tick(&self, now: MonoNs, limits: &PhaseLimits) {
        let waited = now.since(self.since.get());
        match self.phase.get() {
            Phase::Connected if waited >= limits.first_byte => self.give_order(Order::Close),
            Phase::Idle if waited >= limits.idle => self.give_order(Order::Close),
            Phase::Head if waited >= limits.head => self.give_order(Order::HeadTimeout),
            Phase::Flushing if self.too_slow(now, limits) => self.give_order(Order::Close),
            Phase::Exchange => self.tick_exchange(now, limits),
            Phase::Connected | Phase::Flushing | Phase::Head | Phase::Idle => {}
        }
    }

    fn tick_exchange(&self, now: MonoNs, limits: &PhaseLimits) {
        if self.too_slow(now, limits) {
            return self.give_order(Order::Close);
        }
        let waited = now.since(self.waiting_since.get());
        let late = match self.waiting.get() {
            _ if self.deadline.get().is_some_and(|deadline| now >= deadline) => Late::Whole,
            Waiting::UpstreamHead if waited >= limits.upstream_head => Late::Upstream,
            Waiting::UpstreamBody if waited >= self.read_limit_ns.get() => Late::Upstream,
            Waiting::Nobody | Waiting::UpstreamBody | Waiting::UpstreamHead => return,
        };
        self.late.set(Some(late));
        if self.blocked.get() {
            // Nobody asks a body for more while the peer takes nothing.
            return self.give_order(Order::Close);
        }
        self.wake();
    }

    /// Whether the peer has kept us waiting for `rate_grace` at less than `min_rate`.
    fn too_slow(&self, now: MonoNs, limits: &PhaseLimits) -> bool {
        let moved = self.moved();
        let window = now.since(self.rate_since.get());
        if !self.blocked.get() && !self.starved.get() {
            self.rate_since.set(now);
            self.rate_bytes.set(moved);
            return false;
        }
        if limits.rate_bytes == 0 || window < limits.rate_window {
            return false;
        }
        let slow = moved.saturating_sub(self.rate_bytes.get()) < limits.rate_bytes;
        self.rate_since.set(now);
        self.rate_bytes.set(moved);
        slow
    }
}

/// The deadlines the ticker holds, in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct PhaseLimits {
    first_byte: u64,
    head: u64,
    idle: u64,
    upstream_head: u64,
    rate_window: u64,
    /// Bytes that must move within `rate_window`; 0 = any.
    rate_bytes: u64,
}

impl PhaseLimits {
    pub(crate) fn new(timeouts: &Timeouts) -> Self {
        let whole_seconds = timeouts.rate_grace.as_secs().max(1);
        Self {
            first_byte: nanos(timeouts.first_byte),
            head: nanos(timeouts.head),
            idle: nanos(timeouts.idle),
            upstream_head: nanos(timeouts.upstream_head),
            rate_window: nanos(timeouts.rate_grace).max(1),
            rate_bytes: timeouts.min_rate.saturating_mul(whole_seconds),
        }
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Every open connection of one worker.
#[derive(Default)]
pub(crate) struct Connections {
    open: RefCell<Vec<Option<Rc<Connection>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
}

impl Connections {
    /// Adds a connection; the result is its place.
    pub(crate) fn add(&self, connection: Rc<Connection>) -> usize {
        self.count.set(self.count.get() + 1);
        let mut open = self.open.borrow_mut();
        if let Some(place) = self.free.borrow_mut().pop()
            && let Some(slot) = open.get_mut(place)
        {
            *slot = Some(connection);
            return place;
        }
        open.push(Some(connection));
        open.len() - 1
    }

    /// Removes the connection at `place`.
    pub(crate) fn remove(&self, place: usize) {
        let removed = self.open.borrow_mut().get_mut(place).and_then(Option::take);
        if removed.is_some() {
            self.free.borrow_mut().push(place);
            self.count.set(self.count.get() - 1);
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// Looks at every deadline.
    pub(crate) fn tick(&self, now: MonoNs, limits: &PhaseLimits) {
        for connection in self.open.borrow().iter().flatten() {
            connection.tick(now, limits);
        }
    }

    /// Tells the longest idle connections to close, up to `count`; the result is their listeners.
    pub(crate) fn close_idle(&self, count: usize) -> Vec<usize> {
        let open = self.open.borrow();
        let mut idle: Vec<_> = open.iter().flatten().filter(|one| one.is_idle()).collect();
        idle.sort_unstable_by_key(|one| one.since.get());
        idle.truncate(count);
        idle.iter().for_each(|one| one.give_order(Order::Close));
        idle.iter().map(|one| one.listener).collect()
    }

    /// Tells every connection to finish.
    pub(crate) fn finish_all(&self) {
        for connection in self.open.borrow().iter().flatten() {
            connection.give_order(Order::Finish);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> MonoNs {
        MonoNs(ms * 1_000_000)
    }

    fn connection() -> Connection {
        Connection::new(0, SocketAddr::from(([127, 0, 0, 1], 1)), at(0))
    }

    #[test]
    fn a_head_has_ten_seconds_from_its_first_byte_however_it_trickles() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.received(1, at(9_000));
        for second in 10..19 {
            connection.received(1, at(second * 1000));
            connection.tick(at(second * 1000), &limits);
            assert_eq!(connection.order(), None, "{second} s");
        }
        connection.tick(at(19_000), &limits);
        assert_eq!(connection.order(), Some(Order::HeadTimeout));
    }

    #[test]
    fn a_connection_that_sends_nothing_is_closed_without_an_answer() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.tick(at(9_999), &limits);
        assert_eq!(connection.order(), None);
        connection.tick(at(10_000), &limits);
        assert_eq!(connection.order(), Some(Order::Close));
    }

    #[test]
    fn an_idle_connection_is_kept_for_a_minute_after_the_last_flush() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.received(10, at(0));
        connection.begin(at(0));
        connection.tick(at(50_000), &limits);
        connection.finish(at(50_000));
        connection.flushed(at(50_000));
        connection.tick(at(109_999), &limits);
        assert_eq!(connection.order(), None);
        connection.tick(at(110_000), &limits);
        assert_eq!(connection.order(), Some(Order::Close));
    }

    #[test]
    fn an_upstream_that_gives_no_head_is_late_after_its_limit() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.begin(at(1_000));
        connection.wait_for(Waiting::UpstreamHead, at(1_000));
        connection.wait_for(Waiting::UpstreamHead, at(30_000));
        connection.tick(at(60_999), &limits);
        assert_eq!(connection.late(), None);
        connection.tick(at(61_000), &limits);
        assert_eq!(connection.late(), Some(Late::Upstream));
    }

    #[test]
    fn a_route_s_whole_limit_counts_from_the_head() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.begin(at(1_000));
        let second = Duration::from_secs(1);
        connection.limit(ExchangeLimits { read_ns: u64::MAX, whole_ns: nanos(second) });
        connection.tick(at(1_999), &limits);
        assert_eq!(connection.late(), None);
        connection.tick(at(2_000), &limits);
        assert_eq!(connection.late(), Some(Late::Whole));
    }

    #[test]
    fn a_peer_that_takes_nothing_is_closed_on_at_the_deadline() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.begin(at(1_000));
        connection.limit(ExchangeLimits { read_ns: u64::MAX, whole_ns: 1_000_000_000 });
        connection.blocked.set(true);
        connection.tick(at(1_999), &limits);
        assert_eq!(connection.order(), None);
        connection.tick(at(2_000), &limits);
        assert_eq!(connection.order(), Some(Order::Close));
    }

    #[test]
    fn a_peer_that_takes_bytes_slower_than_the_least_rate_is_closed_on() {
        let (connection, limits) = (connection(), PhaseLimits::new(&Timeouts::default()));
        connection.begin(at(0));
        connection.blocked.set(true);
        connection.bytes_out.set(4_999);
        connection.tick(at(9_999), &limits);
        assert_eq!(connection.order(), None);
        connection.tick(at(10_000), &limits);
        assert_eq!(connection.order(), Some(Order::Close));
    }

    #[test]
    fn the_longest_idle_connections_are_closed_first_and_no_others() {
        let connections = Connections::default();
        let all: Vec<_> = (0..4).map(|_| Rc::new(connection())).collect();
        for one in &all {
            connections.add(Rc::clone(one));
        }
        let limits = [3, 1, 2].map(|second| at(second * 1000));
        for (one, idle_since) in all.iter().zip(limits) {
            one.received(1, at(0));
            one.begin(at(0));
            one.finish(idle_since);
            one.flushed(idle_since);
        }
        all[3].received(1, at(0));
        all[3].begin(at(0));
        assert_eq!(connections.close_idle(2).len(), 2);
        let closed: Vec<_> = all.iter().map(|one| one.order() == Some(Order::Close)).collect();
        assert_eq!(closed, [false, true, true, false]);
        assert_eq!(connections.close_idle(9).len(), 1, "one in use, two told before");
    }

    #[test]
    fn places_are_used_again() {
        let connections = Connections::default();
        let first = connections.add(Rc::new(connection()));
        connections.add(Rc::new(connection()));
        connections.remove(first);
        connections.remove(first);
        assert_eq!(connections.count(), 1);
        assert_eq!(connections.add(Rc::new(connection())), first);
    }
}
