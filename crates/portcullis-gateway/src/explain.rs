//! Why would a request pass or not: the same checks in the same order as a real one, each by name.
//! Takes a key's id, never its plaintext, and touches no worker.

use std::net::IpAddr;

use http::Method;
use portcullis_core::directory::{Directory, Finding, Place};
use portcullis_core::key::KeyId;
use portcullis_core::route::{self, Lookup, RawTarget, Scheme, Target};
use portcullis_core::verdict::DenyReason;

use crate::plan::{AccessPlan, RoutePlan};
use crate::request::refuses_stale;
use crate::shared::Shared;
use crate::status::{Check, Explanation, Question};

/// The checks so far; the first one that fails decides.
struct Chain {
    checks: Vec<Check>,
    denied: Option<DenyReason>,
}

impl Chain {
    fn passed(&mut self, step: &'static str, found: impl Into<String>) {
        self.checks.push(Check { step, passed: true, found: found.into() });
    }

    fn failed(&mut self, step: &'static str, reason: DenyReason, found: impl Into<String>) {
        self.checks.push(Check { step, passed: false, found: found.into() });
        self.denied.get_or_insert(reason);
    }

    fn finding(&mut self, step: &'static str, finding: &Finding) {
        match finding.denied {
            None => self.passed(step, finding.check),
            Some(reason) => {
                self.failed(step, reason, format!("{}: no, {}", finding.check, reason.label()));
            }
        }
    }
}

/// Answers a question.
pub(crate) fn explain(shared: &Shared, question: &Question) -> Explanation {
    let mut chain = Chain { checks: Vec::new(), denied: None };
    let published = shared.directory.load();
    let public =
        ask(shared, question, published.as_deref().map(|view| view.directory()), &mut chain);
    let Chain { checks, denied } = chain;
    Explanation {
        allowed: denied.is_none(),
        outcome: match denied {
            Some(reason) => reason.label(),
            None if public => "public",
            None => "allowed",
        },
        status: denied.map(|reason| reason.problem().status),
        position: published
            .as_deref()
            .map_or_else(|| "none".to_owned(), |view| view.position().to_string()),
        checks,
    }
}

/// Goes through the steps; the result is whether the route is public.
fn ask(
    shared: &Shared,
    question: &Question,
    directory: Option<&Directory>,
    chain: &mut Chain,
) -> bool {
    let plan = shared.plan.load();
    let host = if question.host.is_empty() { "localhost" } else { &question.host };
    let asked = route::Incoming {
        method: &question.method,
        target: RawTarget::parse(&question.path),
        host: Some(host.as_bytes()),
        scheme: Scheme::Http,
    };
    let target = match Target::canonical(&asked, plan.paths) {
        Ok(target) => target,
        Err(fault) => {
            let reason = fault.deny_reason().unwrap_or(DenyReason::AmbiguousPath);
            chain.failed("path", reason, fault.to_string());
            return false;
        }
    };
    chain.passed("path", target.path_and_query().into_owned());
    let found = match plan.table.find(&target, &question.method) {
        Lookup::Found(found) => found,
        Lookup::EncodedSlash => {
            chain.failed("route", DenyReason::BadRequest, "the route takes no encoded slash");
            return false;
        }
        Lookup::NoRoute => {
            chain.failed("route", DenyReason::NoRoute, "no route has this host and path");
            return false;
        }
        Lookup::MethodNotAllowed { allow } => {
            let found = format!("the path has {allow}");
            chain.failed("route", DenyReason::MethodNotAllowed, found);
            return false;
        }
    };
    let Some(route) = plan.route(*found.value()) else { return false };
    chain.passed("route", route.name.clone());
    if matches!(route.access, AccessPlan::Public) {
        chain.passed("credential", "none is asked for");
        return true;
    }
    let Some(directory) = directory else {
        chain.failed("state", DenyReason::NoState, "no snapshot has been loaded yet");
        return false;
    };
    let now = shared.clock.now();
    match shared.staleness_ns(now.mono) {
        Some(stale) if route.max_staleness_ns > 0 && stale > route.max_staleness_ns => {
            let found = format!("{} ms without contact, {:?}", stale / 1_000_000, route.on_stale);
            let method = Method::from_bytes(question.method.as_bytes()).unwrap_or_default();
            let stale = Some(stale);
            let refuses = refuses_stale(route.max_staleness_ns, route.on_stale, stale, &method);
            if refuses {
                chain.failed("state", DenyReason::Stale, found);
            } else {
                chain.passed("state", found);
            }
        }
        Some(_) | None => chain.passed("state", format!("position {}", directory.position())),
    }
    let resource = found.resource();
    let resource = resource.as_deref();
    ask_key(question, &Asked { directory, route, resource }, now.wall, chain);
    false
}

struct Asked<'a> {
    directory: &'a Directory,
    route: &'a RoutePlan,
    resource: Option<&'a str>,
}

fn ask_key(
    question: &Question,
    asked: &Asked<'_>,
    now: portcullis_core::time::WallMs,
    chain: &mut Chain,
) {
    let Ok(key) = question.key_id.parse::<KeyId>() else {
        chain.failed("credential", DenyReason::Malformed, "a key id has 11 characters");
        return;
    };
    let peer = question.source.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    for finding in asked.directory.explain(key, peer, now) {
        chain.finding("verify", &finding);
    }
    match &asked.route.access {
        AccessPlan::Require { need, unknown } => {
            let (place, shown) = match asked.resource {
                None | Some("org") => (Place::Root, "org"),
                Some(resource) => (Place::At(resource, *unknown), resource),
            };
            let finding = asked.directory.explain_permission(key, need, place, &question.method);
            let found = format!("{} on {shown}", need.as_str());
            match finding.denied {
                None => chain.passed("authorize", found),
                Some(reason) => {
                    chain.failed("authorize", reason, format!("{found}: no, {}", reason.label()));
                }
            }
        }
        AccessPlan::AuthenticatedOnly => {
            chain.passed("authorize", "any valid key may pass");
        }
        AccessPlan::Public => {}
    }
}
