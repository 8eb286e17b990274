//! The life of a request, in the order in which it happens (gateway.md 1.2). Steps 3 to 11 are one
//! synchronous function that decides from one clock sample and one directory; on success it neither
//! waits nor locks nor logs, and allocates for nothing but the outgoing head.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_core::directory::{
    Directory, Place, Principal, Proof, Session, SlowCheck, TokenRefusal, Unproven,
};
use portcullis_core::feed::Position;
use portcullis_core::key::PepperRing;
use portcullis_core::route::{self, Lookup, RawTarget, ResourceText, Scheme, Target, TargetFault};
use portcullis_core::time::{Now, WallMs};
use portcullis_core::verdict::{Challenge, DenyReason};
use tokio::sync::oneshot;

use crate::body::{DownstreamBody, UpstreamBody};
use crate::credential::{self, Form, Places, Presented};
use crate::forward::{self, Caller, ProvenBy, Removal, Writing};
use crate::head::{Fields, Outgoing};
use crate::memory::Pressure;
use crate::outcome::Outcome;
use crate::phase::Connection;
use crate::plan::{AccessPlan, ListenerPlan, Plan, RoutePlan};
use crate::record::Record;
use crate::respond::{self, Denial, Manner};
use crate::settings::OnStale;
use crate::setup::Setup;
use crate::shared::Published;
use crate::slow::Busy;
use crate::trace::Trace;
use crate::upstream;
use crate::way;
use crate::worker::Worker;

pub(crate) use wait::{Held, resume};

/// What becomes of a request once its head is known.
pub(crate) enum Step {
    /// The gateway answers.
    Answer(Response<DownstreamBody>),
    /// It is decided when what it needs has come.
    Hold(Box<Held>),
    /// It goes to its upstream.
    Send(Admission),
}

/// A request that may go to its upstream. Only this module makes one.
pub(crate) struct Admission {
    pub(crate) outgoing: Outgoing,
    pub(crate) record: Record,
    pub(crate) route: usize,
    pub(crate) manner: Manner,
}

/// How a request ends without an upstream.
enum Ending<'p> {
    Denied(Denial<'p>),
    /// `OPTIONS *`.
    Options,
    /// To the one spelling of its path.
    Redirect(String),
    /// Not yet: it cannot be decided before this has come.
    Waits(Need, &'p RoutePlan),
}

/// What a decision may have to wait for.
enum Need {
    /// The body, which may hold the credential.
    Form,
    /// A slow hash of the credential, which is under way.
    Hash(oneshot::Receiver<Proof>),
    /// A directory at this position or later.
    Position(Position),
}

/// What earlier rounds of a decision left for the next one. Empty for nearly every request, which
/// is decided in one round.
#[derive(Default)]
struct Earlier {
    /// The body, read as a form.
    form: Option<Form>,
    /// The credential, already taken from the request.
    presented: Option<Presented>,
    /// The query without its credential, if one was cut from it.
    rewritten: Option<Option<String>>,
    /// The position that was asked for has been waited for.
    waited: bool,
    /// What a slow hash of the credential said.
    proof: Option<Proof>,
}

impl From<DenyReason> for Ending<'_> {
    fn from(reason: DenyReason) -> Self {
        Self::Denied(Denial::of(reason))
    }
}

/// Opens the record, decides, and either answers or makes the request ready for its upstream.
pub(crate) fn decide(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Step {
    let now = worker.sample();
    connection.begin(now.mono);
    let mut record = Record::open(worker, connection, now);
    let setup = Rc::clone(record.setup());
    let (mut parts, incoming) = request.into_parts();
    let manner = manner(&parts, &incoming);
    let size = Size::of(&incoming);
    let mut earlier = Earlier::default();
    let asked = Asked { parts: &mut parts, size, now, earlier: &mut earlier };
    let decided = admit((worker, &setup), connection, asked, &mut record);
    record.decided();
    count(&decided, &mut record);
    match decided {
        Ok((route, head)) => {
            connection.limit(route.exchange);
            let body = UpstreamBody::new(incoming, connection, route.body_bytes);
            let outgoing = Outgoing { request: Request::from_parts(parts, body), head };
            Step::Send(Admission { outgoing, record, route: route.index, manner })
        }
        Err(Ending::Denied(denial)) => Step::Answer(respond::deny(record, &denial, manner)),
        Err(Ending::Options) => Step::Answer(respond::options(record)),
        Err(Ending::Redirect(to)) => Step::Answer(respond::redirect(record, &to, manner)),
        Err(Ending::Waits(need, route)) => {
            connection.limit(route.exchange);
            let route = route.index;
            Step::Hold(Box::new(Held { parts, incoming, record, manner, earlier, need, route }))
        }
    }
}

/// Counts a decision for the key that was presented, once it stands: now and not at the end of the
/// response, since a stream may last for days.
fn count<A>(decided: &Result<A, Ending<'_>>, record: &mut Record) {
    match decided {
        Ok(_) => record.counted(None),
        Err(Ending::Denied(denial)) => record.counted(Some(denial.reason)),
        Err(Ending::Options | Ending::Redirect(_) | Ending::Waits(..)) => {}
    }
}

fn manner(parts: &Parts, incoming: &Incoming) -> Manner {
    let grpc = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    Manner { head: parts.method == Method::HEAD, grpc, unread: !incoming.is_end_stream() }
}

/// What is known of a request's body before a byte of it is read.
#[derive(Copy, Clone)]
struct Size {
    /// Bytes that will come at least.
    least: u64,
    /// Whether they are all.
    exact: bool,
}

impl Size {
    fn of(incoming: &Incoming) -> Self {
        let hint = incoming.size_hint();
        Self { least: hint.lower(), exact: hint.exact().is_some() }
    }
}

/// A request as one round of its decision sees it.
struct Asked<'r> {
    parts: &'r mut Parts,
    size: Size,
    /// The round's one clock sample.
    now: Now,
    earlier: &'r mut Earlier,
}

/// Steps 3 to 11. On success the second result is the upstream's head, and `parts` keep the method
/// and what frames the body.
fn admit<'w>(
    (worker, setup): (&Rc<Worker>, &'w Setup),
    connection: &Connection,
    asked: Asked<'_>,
    record: &mut Record,
) -> Result<(&'w RoutePlan, Fields), Ending<'w>> {
    let Asked { parts, size, now, earlier } = asked;
    let trace = Trace::read(&parts.headers, record.id());
    record.traced(&trace);

    // 3: the target, in the one spelling that is matched and forwarded.
    let (uri, method) = (parts.uri.clone(), parts.method.clone());
    let host = forward::only_host(&parts.headers)?;
    let raw = raw_target(&uri);
    let target = match read_target(&setup.plan, &method, &raw, host.as_ref()) {
        Ok(target) => target,
        Err(ending) => {
            record.asked(method.as_str(), "", "");
            return Err(ending);
        }
    };
    record.asked(method.as_str(), target.host().authority(), target.path());

    // 4 to 10: the decision.
    let directory = worker.shared.directory.load();
    if let (Some(published), Some(credential)) =
        (directory.as_deref(), parts.headers.get(AUTHORIZATION))
    {
        published.directory().anticipate(credential.as_bytes());
    }
    let asking =
        Asking { worker, setup, connection, directory: directory.as_deref(), method: &method };
    let mut removal = Removal::default();
    let asked = Asked { parts: &mut *parts, size, now, earlier: &mut *earlier };
    let decision = judge(&asking, &target, asked, &mut removal, record)?;

    // 11: the upstream's head.
    let route = decision.route;
    let mut head = decision.request_line(&method, &target)?;
    let writing = Writing {
        names: &setup.plan.identity_names,
        listener: decision.listener,
        connection,
        authority: target.host().authority(),
        request_id: record.id(),
        trace: &trace,
        chunked: !size.exact && matches!(method, Method::GET | Method::HEAD),
    };
    if let Some(form) = &earlier.form {
        form.announce(&mut parts.headers);
    }
    writing.write(&mut parts.headers, &removal, decision.caller.as_ref(), &mut head);
    parts.uri = Uri::default();
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Ok((route, head))
}

/// The request target as it stood on the request line. Borrowed if it was in origin form.
fn raw_target(uri: &Uri) -> Cow<'_, str> {
    match uri.path_and_query() {
        Some(origin) if uri.scheme().is_none() && uri.authority().is_none() => {
            Cow::Borrowed(origin.as_str())
        }
        Some(_) | None => Cow::Owned(uri.to_string()),
    }
}

/// Step 3.
fn read_target<'r, 'p>(
    plan: &Plan,
    method: &'r Method,
    raw: &'r str,
    host: Option<&'r HeaderValue>,
) -> Result<Target<'r>, Ending<'p>> {
    if raw.len() > plan.limits.target_bytes {
        return Err(DenyReason::TargetTooLong.into());
    }
    let asked = route::Incoming {
        method: method.as_str(),
        target: RawTarget::parse(raw),
        host: host.map(HeaderValue::as_bytes),
        scheme: Scheme::Http,
    };
    Target::canonical(&asked, plan.paths).map_err(|fault| match fault {
        TargetFault::Asterisk => Ending::Options,
        TargetFault::Redirect(to) => Ending::Redirect(to),
        TargetFault::AmbiguousPath | TargetFault::Malformed(_) | TargetFault::MethodNotAllowed => {
            fault.deny_reason().unwrap_or(DenyReason::BadRequest).into()
        }
    })
}

/// Who decides about what: one configuration, one snapshot, one connection, one method.
struct Asking<'a, 'w> {
    worker: &'a Rc<Worker>,
    setup: &'w Setup,
    connection: &'a Connection,
    directory: Option<&'a Published>,
    method: &'a Method,
}

/// That a request may pass, and what its upstream's head depends on. Made by [`judge`] alone.
struct Decision<'w, 'a, 't> {
    route: &'w RoutePlan,
    listener: &'w ListenerPlan,
    /// Who asks; `None` on a public route.
    caller: Option<Caller<'a>>,
    /// The path the upstream sees.
    path: &'t str,
    /// The query without its credential, if one was cut from it.
    rewritten: Option<Option<String>>,
}

/// Steps 4 to 10.
fn judge<'w, 'a, 't>(
    asking: &Asking<'a, 'w>,
    target: &'t Target<'_>,
    asked: Asked<'_>,
    removal: &mut Removal,
    record: &mut Record,
) -> Result<Decision<'w, 'a, 't>, Ending<'w>> {
    let Asked { parts, size, now, earlier } = asked;
    let Asking { worker, setup, connection, directory: _, method } = *asking;
    let plan = &*setup.plan;
    let listener = plan.listeners.get(connection.listener).ok_or(DenyReason::BadRequest)?;

    // 4: the route.
    let found = match plan.table.find(target, method.as_str()) {
        Lookup::Found(found) => found,
        Lookup::EncodedSlash => return Err(DenyReason::BadRequest.into()),
        Lookup::NoRoute => return Err(DenyReason::NoRoute.into()),
        Lookup::MethodNotAllowed { allow } => {
            let denial = Denial::of(DenyReason::MethodNotAllowed);
            return Err(Ending::Denied(Denial { allow: Some(allow), ..denial }));
        }
    };
    let route = plan.route(*found.value()).ok_or(DenyReason::NoRoute)?;
    let denied = |reason| Ending::Denied(Denial::on(route, reason));
    record.routed(route.index);

    // 5: what can be refused without knowing who asks.
    if listener.require_tls {
        return Err(denied(DenyReason::Plaintext));
    }
    if parts.headers.len() > plan.limits.header_count {
        return Err(denied(DenyReason::HeadTooLarge));
    }
    let at_least = plan.headers.examine(&parts.headers, removal).map_err(denied)?;
    if route.body_bytes > 0 && size.least > route.body_bytes {
        return Err(denied(DenyReason::BodyTooLarge));
    }

    // 6 to 9: who asks, and may they?
    let client = way::client_address(&parts.headers, listener, connection.peer.ip());
    record.came_from(client);
    let caller = if let AccessPlan::Public = route.access {
        record.passed(Outcome::Public);
        None
    } else {
        let seeking = Seeking { headers: &mut parts.headers, query: target.query(), earlier };
        let wanted = Wanted { route, resource: found.resource(), client, at_least, now };
        Some(identify(asking, &wanted, seeking, record)?)
    };

    // 10: the gateway's own limits.
    let full = worker.shared.memory.read() >= Pressure::Full;
    if full || worker.in_flight.get() > plan.limits.in_flight_per_worker {
        return Err(denied(DenyReason::Overloaded));
    }
    let path = found.upstream_path().map_err(|_| denied(DenyReason::BadRequest))?;
    let rewritten = earlier.rewritten.take();
    Ok(Decision { route, listener, caller, path, rewritten })
}

impl<'w> Decision<'w, '_, '_> {
    /// The upstream's head, so far.
    fn request_line(&self, method: &Method, target: &Target<'_>) -> Result<Fields, Ending<'w>> {
        let query = match &self.rewritten {
            Some(rest) => rest.as_deref(),
            None => target.query(),
        };
        // The scanner lets nothing pass that a request line cannot have.
        Fields::of_request(method, self.path, query)
            .ok_or_else(|| Ending::Denied(Denial::on(self.route, DenyReason::BadRequest)))
    }
}

/// What a caller wants to use, from where, and when.
struct Wanted<'w> {
    route: &'w RoutePlan,
    resource: Option<ResourceText>,
    client: IpAddr,
    /// The position the caller knows its credential to be valid at.
    at_least: Option<Position>,
    now: Now,
}

/// Where a credential is looked for, and what an earlier round has already found.
struct Seeking<'r> {
    headers: &'r mut HeaderMap,
    query: Option<&'r str>,
    earlier: &'r mut Earlier,
}

/// Steps 6 to 9: usable state, credential, verification, authorization.
fn identify<'w, 'a>(
    asking: &Asking<'a, 'w>,
    wanted: &Wanted<'w>,
    mut seeking: Seeking<'_>,
    record: &mut Record,
) -> Result<Caller<'a>, Ending<'w>> {
    let Asking { worker, setup, connection: _, directory, method } = *asking;
    let Wanted { route, resource, client, at_least, now } = *wanted;
    let plan = &*setup.plan;
    let denied = |reason| Ending::Denied(Denial::on(route, reason));

    let published = directory.ok_or_else(|| denied(DenyReason::NoState))?;
    let stale = worker.shared.staleness_ns(now.mono);
    record.decided_by(published.position(), stale.map(|ns| ns / 1_000_000));
    if refuses_stale(route.max_staleness_ns, route.on_stale, stale, method) {
        return Err(denied(DenyReason::Stale));
    }
    let presented = match seeking.earlier.presented.take() {
        Some(presented) => presented,
        None => take(asking, wanted, &mut seeking)?,
    };
    let proof = seeking.earlier.proof.as_ref();
    let verified =
        verify(published.directory(), &presented, (client, now.wall), (&plan.peppers, proof));
    let (principal, session) = match verified {
        Ok(verified) => verified,
        Err(Unproven::Slow(check)) => {
            return Err(hash(asking, wanted, (check, presented), seeking.earlier));
        }
        Err(Unproven::Refused(refusal, claimed)) => {
            if let Some(claimed) = claimed {
                record.refused(claimed, refusal.reason);
            }
            let behind = at_least.filter(|wanted| published.position() < *wanted);
            let Some(position) = behind.filter(|_| is_failure(refusal.reason)) else {
                let denial = failed(asking, wanted, refusal.reason);
                let reveal = refusal.reveal && denial.reason == refusal.reason;
                return Err(Ending::Denied(Denial { reveal, ..denial }));
            };
            let earlier = seeking.earlier;
            if earlier.waited || plan.failures.is_flooding(client, now.mono) {
                return Err(Ending::Denied(failed(asking, wanted, DenyReason::Behind)));
            }
            earlier.presented = Some(presented);
            return Err(Ending::Waits(Need::Position(position), route));
        }
    };
    let by = ProvenBy::of(&presented);
    record.verified(&principal, by);
    if !route.orgs.is_empty() && !route.orgs.contains(principal.org_id()) {
        return Err(denied(DenyReason::WrongOrg));
    }
    if let Some((max_ms, on_stale)) = principal.staleness()
        && refuses_stale(max_ms.saturating_mul(1_000_000), on_stale, stale, method)
    {
        return Err(denied(DenyReason::Stale));
    }
    let need = match &route.access {
        AccessPlan::Require { need, unknown } => {
            record.required(need.as_str(), resource.as_deref().unwrap_or("org"));
            Some(match resource.as_deref() {
                None | Some("org") => (need, Place::Root),
                Some(resource) => (need, Place::At(resource, *unknown)),
            })
        }
        AccessPlan::AuthenticatedOnly | AccessPlan::Public => None,
    };
    let permit = match need {
        Some((need, place)) => principal.authorize(need, place, method.as_str()),
        None => principal.authenticated(method.as_str()),
    };
    let permit = match &session {
        Some(session) => permit.and_then(|permit| session.narrow(permit, need)),
        None => permit,
    };
    let permit = permit.map_err(denied)?;
    record.passed(Outcome::Allowed);
    let scope = route.scope.as_ref().map(|permission| (permission.clone(), resource));
    Ok(Caller { permit, published, scope, by })
}

/// Step 8: who presents the credential, and what a session token says besides.
fn verify<'d>(
    directory: &'d Directory,
    presented: &Presented,
    (client, now): (IpAddr, WallMs),
    (peppers, proof): (&PepperRing, Option<&Proof>),
) -> Result<(Principal<'d>, Option<Box<Session<'d>>>), Unproven> {
    match presented {
        Presented::Native(native) => directory
            .verify(native, client, now, peppers)
            .map(|principal| (principal, None))
            .map_err(|refusal| Unproven::Refused(refusal, Some(native.id()))),
        Presented::Foreign(foreign) => directory
            .verify_foreign(foreign, (client, now), peppers, proof)
            .map(|principal| (principal, None)),
        Presented::Session(token) => directory
            .verify_session(token, client, now)
            .map(|(principal, session)| (principal, Some(Box::new(session))))
            .map_err(|TokenRefusal { refusal, key }| Unproven::Refused(refusal, key)),
    }
}

/// A credential that only a slow hash can judge: it is hashed off the workers, once.
fn hash<'w>(
    asking: &Asking<'_, 'w>,
    wanted: &Wanted<'w>,
    (check, presented): (SlowCheck, Presented),
    earlier: &mut Earlier,
) -> Ending<'w> {
    let overloaded = || Ending::Denied(Denial::on(wanted.route, DenyReason::Overloaded));
    let Presented::Foreign(foreign) = &presented else { return overloaded() };
    // Hashed already, and the key has changed meanwhile: its caller may try again.
    if earlier.proof.is_some() {
        return overloaded();
    }
    match asking.worker.shared.slow.submit(check, Arc::clone(foreign)) {
        Err(Busy) => overloaded(),
        Ok(answer) => {
            earlier.presented = Some(presented);
            Ending::Waits(Need::Hash(answer), wanted.route)
        }
    }
}

/// Step 7. A form can be looked at only when it has been read.
fn take<'w>(
    asking: &Asking<'_, 'w>,
    wanted: &Wanted<'w>,
    seeking: &mut Seeking<'_>,
) -> Result<Presented, Ending<'w>> {
    let route = wanted.route;
    let Seeking { headers, query, earlier } = seeking;
    if route.reads_form && earlier.form.is_none() {
        let follows = credential::is_form(headers);
        if follows.map_err(|reason| Ending::Denied(Denial::on(route, reason)))? {
            return Err(Ending::Waits(Need::Form, route));
        }
    }
    let mut places = Places {
        headers,
        query: *query,
        rewritten: &mut earlier.rewritten,
        form: earlier.form.as_mut(),
        keep: route.forward_credential,
    };
    credential::take(&route.sources, &asking.setup.plan.understood, &mut places)
        .map_err(|reason| Ending::Denied(failed(asking, wanted, reason)))
}

/// Whether a reason says that a credential was presented and is not valid.
fn is_failure(reason: DenyReason) -> bool {
    reason.challenge() == Challenge::InvalidToken
}

/// The denial of a request whose credential is not valid, or not yet; it counts against its source,
/// and one too many is answered with that instead.
fn failed<'w>(asking: &Asking<'_, 'w>, wanted: &Wanted<'w>, reason: DenyReason) -> Denial<'w> {
    let denial = Denial::on(wanted.route, reason);
    if !is_failure(reason) && reason != DenyReason::Behind {
        return denial;
    }
    match asking.setup.plan.failures.note(wanted.client, wanted.now.mono) {
        None => denial,
        Some(wait) => {
            let flood = Denial::on(wanted.route, DenyReason::AuthFlood);
            Denial { retry_after_s: Some(wait), ..flood }
        }
    }
}

/// Whether a directory this old may not decide this request.
///
/// | | within the limit | `fail_closed` | `safe_methods` | `serve_recorded` |
/// |---|---|---|---|---|
/// | GET, HEAD, OPTIONS | serves | refuses | serves | serves |
/// | others | serves | refuses | refuses | serves |
pub(crate) fn refuses_stale(
    max_ns: u64,
    on_stale: OnStale,
    stale_ns: Option<u64>,
    method: &Method,
) -> bool {
    if max_ns == 0 || stale_ns.is_none_or(|stale| stale <= max_ns) {
        return false;
    }
    match on_stale {
        OnStale::FailClosed => true,
        OnStale::SafeMethods => !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
        OnStale::ServeRecorded => false,
    }
}

/// Steps 12 to 14: sends, and turns what comes back into the downstream's response.
pub(crate) async fn relay(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    admission: Admission,
) -> Response<DownstreamBody> {
    let Admission { outgoing, mut record, route, manner } = admission;
    let setup = Rc::clone(record.setup());
    let plan = &*setup.plan;
    let Some(route) = plan.route(route) else {
        return respond::deny(record, &Denial::of(DenyReason::NoRoute), manner);
    };
    let sent = upstream::send(worker, connection, route.upstream, outgoing, &mut record).await;
    let (response, link) = match sent {
        Ok(answered) => answered,
        Err(reason) => return respond::deny(record, &Denial::on(route, reason), manner),
    };
    let (mut parts, incoming) = response.into_parts();
    record.answered(route.upstream, parts.status.as_u16(), worker.sample_mono());
    if parts.status.is_informational() {
        let reason = DenyReason::UpstreamProtocol;
        return respond::deny(record, &Denial::on(route, reason), manner);
    }
    if let Err(reason) = plan.headers.clean_response(&mut parts.headers) {
        return respond::deny(record, &Denial::on(route, reason), manner);
    }
    parts.version = Version::HTTP_11;
    if route.query_source {
        parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let worn = connection.served.get() >= plan.limits.requests_per_connection;
    if worn || worker.shared.is_draining() {
        respond::close_after(&mut parts.headers);
    }
    record.responded(parts.status.as_u16());
    Response::from_parts(parts, DownstreamBody::relay(incoming, link, record))
}

mod wait;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::Bench;
