//! The life of a request, in the order in which it happens (gateway.md 1.2). Steps 3 to 11 are one
//! synchronous function that decides from one clock sample and one directory; on success it neither
//! waits nor locks nor logs, and allocates for nothing but the outgoing head.

use std::rc::Rc;

use http::{Method, Request, Response, Uri, Version, header::CONTENT_TYPE, request::Parts};
use hyper::body::Incoming;
use portcullis_core::directory::{Place, Principal};
use portcullis_core::route::{self, Lookup, RawTarget, Scheme, Target, TargetFault};
use portcullis_core::verdict::DenyReason;

use crate::body::{DownstreamBody, UpstreamBody};
use crate::credential::{self, Places};
use crate::forward::{self, Identity, Writing};
use crate::outcome::Outcome;
use crate::phase::Connection;
use crate::plan::{AccessPlan, RoutePlan};
use crate::record::Record;
use crate::respond::{self, Denial, Manner};
use crate::upstream;
use crate::worker::Worker;

/// What becomes of a request once its head is known.
pub(crate) enum Step {
    /// The gateway answers.
    Answer(Response<DownstreamBody>),
    /// It goes to its upstream.
    Send(Admission),
}

/// A request that may go to its upstream. Only this module makes one.
pub(crate) struct Admission {
    pub(crate) request: Request<UpstreamBody>,
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
    let (mut parts, incoming) = request.into_parts();
    let manner = manner(&parts, &incoming);
    let decided = admit(worker, connection, &mut parts, &incoming, &mut record);
    record.decided(worker.sample());
    match decided {
        Ok(route) => {
            connection.limit(route.exchange);
            let body = UpstreamBody::new(incoming, connection, route.body_bytes);
            let request = Request::from_parts(parts, body);
            Step::Send(Admission { request, record, route: route.index, manner })
        }
        Err(Ending::Denied(denial)) => Step::Answer(respond::deny(record, &denial, manner)),
        Err(Ending::Options) => Step::Answer(respond::options(record)),
        Err(Ending::Redirect(to)) => Step::Answer(respond::redirect(record, &to, manner)),
    }
}

fn manner(parts: &Parts, incoming: &Incoming) -> Manner {
    let grpc = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    Manner {
        head: parts.method == Method::HEAD,
        grpc,
        unread: !http_body::Body::is_end_stream(incoming),
    }
}

/// Steps 3 to 11. On success the head has become the upstream's.
fn admit<'w>(
    worker: &'w Rc<Worker>,
    connection: &Connection,
    parts: &mut Parts,
    incoming: &Incoming,
    record: &mut Record,
) -> Result<&'w RoutePlan, Ending<'w>> {
    let plan = &*worker.plan;
    let listener = plan.listeners.get(connection.listener).ok_or(DenyReason::BadRequest)?;

    // 3: the target, in the one spelling that is matched and forwarded.
    let uri = parts.uri.clone();
    let host = forward::only_host(&parts.headers)?;
    let method = parts.method.clone();
    let whole;
    let raw = match uri.path_and_query() {
        Some(origin) if uri.scheme().is_none() && uri.authority().is_none() => origin.as_str(),
        Some(_) | None => {
            whole = uri.to_string();
            &whole
        }
    };
    if raw.len() > plan.limits.target_bytes {
        return Err(DenyReason::TargetTooLong.into());
    }
    let asked = route::Incoming {
        method: method.as_str(),
        target: RawTarget::parse(raw),
        host: host.as_ref().map(http::HeaderValue::as_bytes),
        scheme: Scheme::Http,
    };
    let target = match Target::canonical(&asked, plan.paths) {
        Ok(target) => target,
        Err(fault) => {
            record.asked(method.as_str(), "", "");
            return Err(match fault {
                TargetFault::Asterisk => Ending::Options,
                TargetFault::Redirect(to) => Ending::Redirect(to),
                fault => fault.deny_reason().unwrap_or(DenyReason::BadRequest).into(),
            });
        }
    };
    record.asked(method.as_str(), target.host().authority(), target.path());

    // 4: the route.
    let found = match plan.table.find(&target, method.as_str()) {
        Lookup::Found(found) => found,
        Lookup::EncodedSlash => return Err(DenyReason::BadRequest.into()),
        Lookup::NoRoute => return Err(DenyReason::NoRoute.into()),
        Lookup::MethodNotAllowed { allow } => {
            let allow = Some(allow);
            return Err(Ending::Denied(Denial {
                allow,
                ..Denial::of(DenyReason::MethodNotAllowed)
            }));
        }
    };
    let route = plan.route(*found.value()).ok_or(DenyReason::NoRoute)?;
    record.routed(route.index);
    let denied = |reason| Ending::Denied(Denial::on(route, reason));

    // 5: what can be refused without knowing who asks.
    if listener.require_tls {
        return Err(denied(DenyReason::Plaintext));
    }
    if parts.headers.len() > plan.limits.header_count {
        return Err(denied(DenyReason::HeadTooLarge));
    }
    let removal = plan.headers.examine(&parts.headers).map_err(denied)?;
    let announced = http_body::Body::size_hint(incoming).lower();
    if route.body_bytes > 0 && announced > route.body_bytes {
        return Err(denied(DenyReason::BodyTooLarge));
    }
    let client = forward::client_address(&parts.headers, listener, connection.peer.ip());
    record.came_from(client);

    // 6 to 9: who asks, and may they?
    let mut places = Places {
        headers: &mut parts.headers,
        query: target.query(),
        rewritten: None,
        keep: route.forward_credential,
    };
    let resource = found.resource();
    let guard;
    let principal;
    let (identity, decided_by) = match &route.access {
        AccessPlan::Public => {
            record.passed(Outcome::Public);
            (Identity::Anonymous, None)
        }
        AccessPlan::AuthenticatedOnly | AccessPlan::Require { .. } => {
            guard = worker.shared.directory.load();
            let published = guard.as_deref().ok_or_else(|| denied(DenyReason::NoState))?;
            let stale = worker.shared.staleness_ns(record.opened().mono);
            record.decided_by(published.position(), stale.map(|ns| ns / 1_000_000));
            if refuses_stale(route.max_staleness_ns, route.on_stale, stale, &method) {
                return Err(denied(DenyReason::Stale));
            }
            let presented =
                credential::take(&route.sources, &plan.prefixes, &mut places).map_err(denied)?;
            principal = published
                .directory()
                .verify(presented.key(), client, record.opened().wall, &plan.peppers)
                .map_err(|refusal| {
                    record.claimed(presented.id());
                    let reveal = refusal.reveal;
                    Ending::Denied(Denial { reveal, ..Denial::on(route, refusal.reason) })
                })?;
            record.verified(&principal);
            let asked = Asked { route, resource: resource.as_deref(), method: &method, stale };
            let scope = authorize(&principal, &asked, record).map_err(denied)?;
            record.passed(Outcome::Allowed);
            let decided_by = Some((published.serial(), published.position_text()));
            (Identity::Verified { principal: &principal, scope }, decided_by)
        }
    };
    let rewritten = places.rewritten.take();

    // 10: the gateway's own limits.
    if worker.in_flight.get() > plan.limits.in_flight_per_worker {
        return Err(denied(DenyReason::Overloaded));
    }

    // 11: the upstream's head.
    let upstream_path = found.upstream_path().map_err(|_| denied(DenyReason::BadRequest))?;
    let query = match &rewritten {
        Some(rest) => rest.as_deref(),
        None => target.query(),
    };
    let same = target.is_verbatim()
        && rewritten.is_none()
        && upstream_path.len() == target.path().len()
        && uri.authority().is_none();
    let other_uri = if same {
        None
    } else {
        Some(upstream_uri(upstream_path, query).ok_or_else(|| denied(DenyReason::BadRequest))?)
    };
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let unsized_body = http_body::Body::size_hint(incoming).exact().is_none();
    let writing = Writing {
        names: &worker.identity_names,
        listener,
        connection,
        authority: target.host().authority(),
        request_id: record.id().bytes(),
        decided_by,
        chunked: unsized_body && matches!(method, Method::GET | Method::HEAD),
    };
    writing.write(&mut parts.headers, &removal, &identity);
    if let Some(other) = other_uri {
        parts.uri = other;
    }
    Ok(route)
}

/// What a verified caller asks for.
struct Asked<'r> {
    route: &'r RoutePlan,
    resource: Option<&'r str>,
    method: &'r Method,
    stale: Option<u64>,
}

/// Step 9: may this principal do what the route requires? The result is what it required.
fn authorize<'r>(
    principal: &Principal<'_>,
    asked: &Asked<'r>,
    record: &mut Record,
) -> Result<Option<(&'r str, &'r str)>, DenyReason> {
    let route = asked.route;
    if !route.orgs.is_empty() && !route.orgs.contains(principal.org_id()) {
        return Err(DenyReason::WrongOrg);
    }
    if let Some((max_ms, on_stale)) = principal.staleness()
        && refuses_stale(max_ms.saturating_mul(1_000_000), on_stale, asked.stale, asked.method)
    {
        return Err(DenyReason::Stale);
    }
    let AccessPlan::Require { need, unknown } = &route.access else {
        principal.authenticated(asked.method.as_str())?;
        return Ok(None);
    };
    let (place, resource) = match asked.resource {
        None | Some("org") => (Place::Root, "org"),
        Some(resource) => (Place::At(resource, *unknown), resource),
    };
    record.required(need.as_str(), resource);
    principal.authorize(need, place, asked.method.as_str())?;
    Ok(Some((need.as_str(), resource)))
}

/// Whether a directory this old may not decide this request.
///
/// | | within the limit | `fail_closed` | `safe_methods` | `serve_recorded` |
/// |---|---|---|---|---|
/// | GET, HEAD, OPTIONS | serves | refuses | serves | serves |
/// | others | serves | refuses | refuses | serves |
fn refuses_stale(
    max_ns: u64,
    on_stale: crate::settings::OnStale,
    stale_ns: Option<u64>,
    method: &Method,
) -> bool {
    use crate::settings::OnStale;
    if max_ns == 0 || stale_ns.is_none_or(|stale| stale <= max_ns) {
        return false;
    }
    match on_stale {
        OnStale::FailClosed => true,
        OnStale::SafeMethods => !crate::plan::is_safe(method),
        OnStale::ServeRecorded => false,
    }
}

fn upstream_uri(path: &str, query: Option<&str>) -> Option<Uri> {
    let text = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let origin = http::uri::PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).ok()?;
    Some(Uri::from(origin))
}

/// Steps 12 to 14: sends, and turns what comes back into the downstream's response.
pub(crate) async fn relay(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    admission: Admission,
) -> Response<DownstreamBody> {
    let Admission { request, mut record, route, manner } = admission;
    let plan = &*worker.plan;
    let Some(route) = plan.route(route) else {
        return respond::deny(record, &Denial::of(DenyReason::NoRoute), manner);
    };
    let sent = upstream::send(worker, connection, route.upstream, request, &mut record).await;
    let (response, link) = match sent {
        Ok(answered) => answered,
        Err(reason) => return respond::deny(record, &Denial::on(route, reason), manner),
    };
    let (mut parts, incoming) = response.into_parts();
    record.answered(route.upstream, parts.status.as_u16(), worker.sample());
    if parts.status.is_informational() {
        let reason = DenyReason::UpstreamProtocol;
        return respond::deny(record, &Denial::on(route, reason), manner);
    }
    if let Err(reason) = plan.headers.clean_response(&mut parts.headers) {
        return respond::deny(record, &Denial::on(route, reason), manner);
    }
    parts.version = Version::HTTP_11;
    if route.query_source {
        parts
            .headers
            .insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    }
    let worn = connection.served.get() >= plan.limits.requests_per_connection;
    if worn || worker.shared.is_draining() {
        respond::close_after(&mut parts.headers);
    }
    record.responded(parts.status.as_u16());
    Response::from_parts(parts, DownstreamBody::relay(incoming, link, record))
}
