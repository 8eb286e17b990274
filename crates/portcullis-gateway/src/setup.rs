//! One configuration at work in one worker: the plan, the pools of its upstreams, the counters of
//! its routes. A request holds the one it began with to its end, so that a reload in between
//! changes nothing for it. Never changes; a reload makes another one.

use std::rc::Rc;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;

use crate::metrics::{Meters, NO_ROUTE, RouteMeter, UpstreamMeter};
use crate::plan::{Plan, UpstreamPlan};
use crate::pool::Pool;

/// What a request is served with.
pub(crate) struct Setup {
    pub(crate) plan: Arc<Plan>,
    /// One for each of the plan's upstreams.
    upstreams: Vec<Rc<Pool>>,
    /// One for each of the plan's routes.
    routes: Vec<Rc<RouteMeter>>,
    no_route: Rc<RouteMeter>,
    pub(crate) http: http1::Builder,
}

impl Setup {
    /// The setup of `plan`. Pools of upstreams that `before` has as well are taken over from it.
    pub(crate) fn new(plan: Arc<Plan>, meters: &Meters, before: Option<&Self>) -> Self {
        let pool = |upstream: &Arc<UpstreamPlan>| {
            let known = before.into_iter().flat_map(Self::pools);
            match known.into_iter().find(|pool| pool.serves(upstream)) {
                Some(pool) => Rc::clone(pool),
                None => Rc::new(Pool::new(Arc::clone(upstream), meters.upstream(&upstream.name))),
            }
        };
        Self {
            upstreams: plan.upstreams.iter().map(pool).collect(),
            routes: plan.routes().iter().map(|route| meters.route(&route.name)).collect(),
            no_route: meters.route(NO_ROUTE),
            http: http_builder(&plan),
            plan,
        }
    }

    /// The pool of the upstream at this place of the plan.
    pub(crate) fn pool(&self, upstream: usize) -> Option<&Rc<Pool>> {
        self.upstreams.get(upstream)
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.upstreams.iter()
    }

    /// The counters of the route at this place of the plan, or of requests that met none.
    pub(crate) fn route_meter(&self, route: Option<usize>) -> &Rc<RouteMeter> {
        route.and_then(|route| self.routes.get(route)).unwrap_or(&self.no_route)
    }

    /// The counters of the upstream at this place of the plan.
    pub(crate) fn upstream_meter(&self, upstream: usize) -> Option<&UpstreamMeter> {
        self.upstreams.get(upstream).map(|pool| pool.meter())
    }
}

/// hyper's own limits, as a second wall behind ours.
fn http_builder(plan: &Plan) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // The ticker holds the head's deadline; a timer per request would cost more than it.
        .header_read_timeout(None)
        .max_buf_size(64 * 1024)
        .max_header_size(plan.limits.head_bytes)
        .half_close(false)
        .pipeline_flush(false);
    http
}
