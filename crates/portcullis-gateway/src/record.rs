//! The access record of one request: opened once, closed exactly once, also when the request is
//! dropped. Closing counts the final outcome and, if records are kept, writes one line of JSON to
//! the worker's buffer. Never holds a credential, a header value or a query.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use portcullis_core::directory::Principal;
use portcullis_core::feed::Position;
use portcullis_core::key::KeyId;
use portcullis_core::time::{MonoNs, Now};
use portcullis_core::verdict::DenyReason;

use crate::body::BodyFault;
use crate::forward::ProvenBy;
use crate::metrics::Meters;
use crate::outcome::Outcome;
use crate::phase::{Connection, Late};
use crate::request_id::RequestId;
use crate::setup::Setup;
use crate::trace::Trace;
use crate::usage::Use;
use crate::worker::Worker;

/// What is known of one request. Dropping it closes it.
pub(crate) struct Record {
    worker: Rc<Worker>,
    /// The configuration this request is served with.
    setup: Rc<Setup>,
    connection: Rc<Connection>,
    opened: Now,
    outcome: Outcome,
    status: u16,
    route: Option<u32>,
    id: RequestId,
    attempts: u8,
    upstream_status: u16,
    decision_ns: u64,
    upstream_ns: u64,
    sent: u64,
    /// Whom the request comes from, once trusted proxies were asked; the peer until then.
    client: IpAddr,
    /// The known key that was presented, and the generation of its secret if that was proven.
    key: Option<(KeyId, Option<u32>)>,
    /// What only the line needs; `None` when no line will be written.
    line: Option<Box<LineParts>>,
}

#[derive(Default)]
struct LineParts {
    /// The trace it belongs to; that of its own id until the head was looked at.
    trace: Option<[u8; 32]>,
    method: String,
    host: String,
    path: String,
    identity: Option<(Bytes, Bytes, KeyId, ProvenBy)>,
    key_claimed: Option<KeyId>,
    permission: Option<Rc<str>>,
    resource: String,
    position: Option<Position>,
    stale_ms: Option<u64>,
}

/// Status of a request that nobody waited for.
const NO_RESPONSE: u16 = 499;
/// Of so many requests one decision is timed.
const TIMED: u32 = 8;
/// Longest path in a record; what is longer is cut off.
const PATH_MAX: usize = 1024;

impl Record {
    /// Opens the record of the request that has just arrived on `connection`.
    pub(crate) fn open(worker: &Rc<Worker>, connection: &Rc<Connection>, now: Now) -> Self {
        worker.in_flight.set(worker.in_flight.get() + 1);
        let setup = worker.setup();
        let line = setup.plan.records.then(Box::default);
        Self {
            worker: Rc::clone(worker),
            setup,
            connection: Rc::clone(connection),
            opened: now,
            outcome: Outcome::ClientGone,
            status: NO_RESPONSE,
            route: None,
            id: worker.request_ids.next(),
            attempts: 0,
            upstream_status: 0,
            decision_ns: 0,
            upstream_ns: 0,
            sent: 0,
            client: connection.peer.ip(),
            key: None,
            line,
        }
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(crate) fn setup(&self) -> &Rc<Setup> {
        &self.setup
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    /// Notes which trace the request belongs to.
    pub(crate) fn traced(&mut self, trace: &Trace) {
        if let Some(line) = &mut self.line {
            line.trace = Some(trace.id());
        }
    }

    /// Notes what was asked for.
    pub(crate) fn asked(&mut self, method: &str, host: &str, path: &str) {
        if let Some(line) = &mut self.line {
            line.method = method.to_owned();
            line.host = host.to_owned();
            line.path = path.get(..path.floor_char_boundary(PATH_MAX)).unwrap_or(path).to_owned();
        }
    }

    /// Notes whom the request comes from.
    pub(crate) fn came_from(&mut self, client: IpAddr) {
        self.client = client;
    }

    /// Notes the route that was found.
    pub(crate) fn routed(&mut self, route: usize) {
        self.route = u32::try_from(route).ok();
    }

    /// Notes the directory that decides.
    pub(crate) fn decided_by(&mut self, position: Position, stale_ms: Option<u64>) {
        if let Some(line) = &mut self.line {
            line.position = Some(position);
            line.stale_ms = stale_ms;
        }
    }

    /// Notes the id that a refused credential claims. Only a known key's refusals are counted, so
    /// that strangers cannot fill the counters.
    pub(crate) fn refused(&mut self, key: KeyId, reason: DenyReason) {
        self.key = (reason != DenyReason::UnknownKey).then_some((key, None));
        if let Some(line) = &mut self.line {
            line.key_claimed = Some(key);
        }
    }

    /// Notes who was verified.
    pub(crate) fn verified(&mut self, principal: &Principal<'_>, by: ProvenBy) {
        self.key = Some((principal.key_id(), Some(principal.secret_generation())));
        if let Some(line) = &mut self.line {
            line.key_claimed = None;
            let (org, account) = (principal.org_id().clone(), principal.account_id());
            line.identity = Some((org, account, principal.key_id(), by));
        }
    }

    /// Notes what the route requires.
    pub(crate) fn required(&mut self, permission: &str, resource: &str) {
        if let Some(line) = &mut self.line {
            line.permission = Some(Rc::from(permission));
            line.resource = resource.to_owned();
        }
    }

    /// The request may pass; `outcome` stands unless something goes wrong later.
    pub(crate) fn passed(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The gateway answers, or would have if the head were not out already.
    pub(crate) fn deny(&mut self, reason: DenyReason) {
        self.outcome = Outcome::Denied(reason);
    }

    /// The decision stands: it is counted for the known key that was presented, denied for `reason`
    /// or not.
    pub(crate) fn counted(&mut self, reason: Option<DenyReason>) {
        if let Some((key, generation)) = self.key {
            let used = Use::new(key, generation, reason, self.opened.wall);
            self.worker.usage.count(used, self.opened.wall, self.client);
        }
    }

    /// The time the decision took ends here. It is taken where a line will show it, and of one
    /// request in [`TIMED`] for the histogram: reading the clock is a good part of what it measures.
    pub(crate) fn decided(&mut self) {
        if self.line.is_some() || self.worker.meters.is_turn(TIMED) {
            self.decision_ns = self.worker.sample_mono().since(self.opened.mono);
            self.worker.meters.decision(self.decision_ns);
        }
    }

    /// The decision ends here, after a wait: no measure of how long deciding takes.
    pub(crate) fn decided_late(&mut self) {
        self.decision_ns = self.worker.sample_mono().since(self.opened.mono);
    }

    /// An attempt to reach the upstream begins.
    pub(crate) fn attempted(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The upstream's head arrived.
    pub(crate) fn answered(&mut self, upstream: usize, status: u16, now: MonoNs) {
        let since = self.opened.mono.0.saturating_add(self.decision_ns);
        self.upstream_ns = now.0.saturating_sub(since);
        self.upstream_status = status;
        if let Some(meter) = self.setup.upstream_meter(upstream) {
            meter.head(self.upstream_ns);
        }
    }

    /// A response with this status goes out.
    pub(crate) fn responded(&mut self, status: u16) {
        self.status = status;
    }

    /// `count` bytes of the response's body went out.
    pub(crate) fn sent(&mut self, count: usize) {
        self.sent += count as u64;
    }

    /// The body was dropped before its end: the downstream went away, unless it is known better.
    pub(crate) fn gone(&mut self) {
        if matches!(self.outcome, Outcome::Allowed | Outcome::Public) {
            self.outcome = Outcome::ClientGone;
        }
    }

    /// The response is broken off because a deadline has passed.
    pub(crate) fn cut(&mut self, late: Late) -> BodyFault {
        match late {
            Late::Upstream => {
                self.outcome = Outcome::Denied(DenyReason::UpstreamTimeout);
                BodyFault::UpstreamLate
            }
            Late::Whole => {
                self.outcome = Outcome::Cut;
                BodyFault::WholeLate
            }
        }
    }

    fn write_line(&self, line: &LineParts, total_ns: u64) {
        let Some(listener) = self.setup.plan.listeners.get(self.connection.listener) else {
            return;
        };
        let route = self.route.and_then(|route| self.setup.plan.route(route as usize));
        let mut out = self.worker.records.begin();
        out.instant("at", self.opened.wall.0);
        out.text("request_id", self.id.as_str());
        out.bytes("trace_id", &line.trace.unwrap_or(self.id.digits()));
        out.text("listener", &listener.name);
        out.text("protocol", "h1");
        out.shown("peer", &self.connection.peer);
        out.shown("client", &self.client);
        out.text("method", &line.method);
        out.text("host", &line.host);
        out.text("path", &line.path);
        if let Some(route) = route {
            out.text("route", &route.name);
        }
        let outcome = match self.outcome {
            Outcome::Denied(reason) => {
                out.text("outcome", "denied");
                reason.label()
            }
            Outcome::Allowed | Outcome::ClientGone | Outcome::Cut | Outcome::Public => {
                out.text("outcome", self.outcome.label());
                ""
            }
        };
        if !outcome.is_empty() {
            out.text("reason", outcome);
        }
        out.number("status", u64::from(self.status));
        if let Some((org, account, key, by)) = &line.identity {
            out.bytes("org", org);
            out.bytes("account", account);
            out.shown("key", key);
            out.text("auth", by.label());
        }
        if let Some(key) = &line.key_claimed {
            out.shown("key_claimed", key);
        }
        if let Some(permission) = &line.permission {
            out.text("permission", permission);
            out.text("resource", &line.resource);
        }
        if let Some(position) = line.position {
            out.number("epoch", position.epoch);
            out.number("seq", position.seq);
        }
        if let Some(stale_ms) = line.stale_ms {
            out.number("stale_ms", stale_ms);
        }
        if self.attempts > 0
            && let Some(upstream) =
                route.and_then(|route| self.setup.plan.upstreams.get(route.upstream))
        {
            out.text("upstream", &upstream.name);
            out.number("attempts", u64::from(self.attempts));
        }
        if self.upstream_status > 0 {
            out.number("upstream_status", u64::from(self.upstream_status));
            out.millis("upstream_ms", self.upstream_ns);
        }
        out.number("bytes_in", self.connection.body_in.get());
        out.number("bytes_out", self.sent);
        out.number("decision_ns", self.decision_ns);
        out.millis("total_ms", total_ns);
        out.end();
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.status == NO_RESPONSE {
            self.gone();
        }
        let worker = &self.worker;
        worker.in_flight.set(worker.in_flight.get().saturating_sub(1));
        let total_ns = worker.sample_mono().since(self.opened.mono);
        let route = self.route.map(|route| route as usize);
        let meter = self.setup.route_meter(route);
        worker.meters.request(meter, self.outcome, self.status, total_ns);
        if let Some(line) = &self.line {
            let always = matches!(self.outcome, Outcome::Denied(_) | Outcome::Cut);
            if always || worker.request_ids.chance(self.setup.plan.sample_allowed) {
                self.write_line(line, total_ns);
                worker.records.flush_if_full(&worker.meters);
            }
        }
    }
}

/// Whole lines of JSON, on their way to the sink. Full buffers and ticks send them off.
pub(crate) struct Lines {
    buffer: std::cell::RefCell<String>,
    count: std::cell::Cell<u64>,
    sink: std::sync::mpsc::SyncSender<String>,
}

/// Size at which a buffer is sent off before the next tick.
const BUFFER_FULL: usize = 32 * 1024;

impl Lines {
    pub(crate) fn new(sink: std::sync::mpsc::SyncSender<String>) -> Self {
        Self { buffer: Default::default(), count: std::cell::Cell::new(0), sink }
    }

    fn begin(&self) -> LineWriter<'_> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.push('{');
        LineWriter { buffer, lines: self }
    }

    /// Sends everything off; returns how many lines were dropped because the queue is full.
    pub(crate) fn flush(&self) -> u64 {
        let mut buffer = self.buffer.borrow_mut();
        let count = self.count.replace(0);
        if buffer.is_empty() {
            return 0;
        }
        let next = String::with_capacity(buffer.capacity().min(BUFFER_FULL * 2));
        let full = std::mem::replace(&mut *buffer, next);
        if self.sink.try_send(full).is_ok() { 0 } else { count }
    }

    /// Sends everything off if enough has come together.
    fn flush_if_full(&self, meters: &Meters) {
        if self.buffer.borrow().len() >= BUFFER_FULL {
            meters.records_dropped.set(meters.records_dropped.get() + self.flush());
        }
    }
}

/// One line being written.
struct LineWriter<'l> {
    buffer: std::cell::RefMut<'l, String>,
    lines: &'l Lines,
}

impl LineWriter<'_> {
    fn name(&mut self, name: &str) {
        if !self.buffer.ends_with('{') {
            self.buffer.push(',');
        }
        self.buffer.push('"');
        self.buffer.push_str(name);
        self.buffer.push_str("\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.buffer.push('"');
        for character in value.chars() {
            match character {
                '"' => self.buffer.push_str("\\\""),
                '\\' => self.buffer.push_str("\\\\"),
                '\u{20}'.. => self.buffer.push(character),
                control => {
                    // Writing to a String cannot fail.
                    let _ = write!(self.buffer, "\\u{:04x}", u32::from(control));
                }
            }
        }
        self.buffer.push('"');
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.text(name, std::str::from_utf8(value).unwrap_or_default());
    }

    /// A value whose display needs no escapes.
    fn shown(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.name(name);
        let _ = write!(self.buffer, "\"{value}\"");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let mut digits = itoa::Buffer::new();
        self.buffer.push_str(digits.format(value));
    }

    /// Milliseconds with three decimals.
    fn millis(&mut self, name: &str, ns: u64) {
        self.name(name);
        let micros = ns / 1000;
        let _ = write!(self.buffer, "{}.{:03}", micros / 1000, micros % 1000);
    }

    /// An instant as RFC 3339 in UTC.
    fn instant(&mut self, name: &str, ms: u64) {
        self.name(name);
        let (year, month, day) = civil(ms / 86_400_000);
        let (second, rest) = (ms / 1000 % 86_400, ms % 1000);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let _ = write!(
            self.buffer,
            "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z\""
        );
    }

    fn end(mut self) {
        self.buffer.push_str("}\n");
        self.lines.count.set(self.lines.count.get() + 1);
    }
}

/// Year, month and day of a day since 1970-01-01 in the proleptic Gregorian calendar: years begin
/// in March, so that the leap day comes last (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut LineWriter<'_>)) -> String {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let lines = Lines::new(sender);
        let mut out = lines.begin();
        write(&mut out);
        out.end();
        assert_eq!(lines.flush(), 0);
        receiver.recv().unwrap()
    }

    #[test]
    fn a_line_is_json_whatever_the_request_said() {
        let text = line(|out| {
            out.text("host", "a\"b\\c\u{1}\u{e9}");
            out.number("status", 200);
            out.millis("total_ms", 1_234_567);
        });
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["host"], "a\"b\\c\u{1}\u{e9}");
        assert_eq!(parsed["status"], 200);
        assert_eq!(parsed["total_ms"], 1.234);
    }

    #[test]
    fn instants_are_written_as_rfc_3339() {
        assert_eq!(
            line(|out| out.instant("at", 1_795_305_600_123)),
            "{\"at\":\"2026-11-22T00:00:00.123Z\"}\n"
        );
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(47_540), (2100, 2, 28));
        assert_eq!(civil(47_541), (2100, 3, 1));
    }

    #[test]
    fn a_full_queue_drops_lines_and_says_how_many() {
        let (sender, _receiver) = std::sync::mpsc::sync_channel(1);
        let lines = Lines::new(sender);
        lines.begin().end();
        assert_eq!(lines.flush(), 0);
        lines.begin().end();
        lines.begin().end();
        assert_eq!(lines.flush(), 2);
    }
}
