//! Requests that cannot be decided yet: those whose body has to be read first, because a field of
//! it may be the credential, those that know of a position this gateway has not reached, and those
//! whose credential only a slow hash can judge. They wait here, only so many at once, and are then decided like any other. A request that needs
//! neither never comes here.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Response;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use portcullis_core::feed::Position;
use portcullis_core::verdict::DenyReason;
use zeroize::Zeroizing;

use super::{Admission, Asked, Earlier, Ending, Need, Size, admit, count, relay};
use crate::body::{DownstreamBody, UpstreamBody};
use crate::credential::{Form, Presented};
use crate::head::{Fields, Outgoing};
use crate::phase::Connection;
use crate::plan::RoutePlan;
use crate::record::Record;
use crate::respond::{self, Denial, Manner};
use crate::worker::Worker;

/// How long a position is waited for.
const PATIENCE: Duration = Duration::from_millis(200);
/// Requests of one worker that may wait at once.
const MOST_WAITING: usize = 1_000;

/// A request between two rounds of its decision.
pub(crate) struct Held {
    pub(super) parts: Parts,
    pub(super) incoming: Incoming,
    pub(super) record: Record,
    pub(super) manner: Manner,
    pub(super) earlier: Earlier,
    pub(super) need: Need,
    pub(super) route: usize,
}

/// Waits for what the request needs, decides, and answers or relays it.
pub(crate) async fn resume(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    mut held: Box<Held>,
) -> Response<DownstreamBody> {
    let Some(place) = Place::take(worker) else {
        let reason = match held.need {
            Need::Form | Need::Hash(_) => DenyReason::Overloaded,
            Need::Position(_) => DenyReason::Behind,
        };
        return held.deny(reason);
    };
    let setup = Rc::clone(held.record.setup());
    let admitted = loop {
        if let Err(reason) = held.wait(worker, connection).await {
            return held.deny(reason);
        }
        let size = held.size();
        let Held { parts, record, earlier, .. } = &mut *held;
        let asked = Asked { parts, size, now: worker.sample(), earlier };
        let decided = admit((worker, &setup), connection, asked, record);
        record.decided_late();
        count(&decided, record);
        match decided {
            Ok((route, head)) => break held.admitted(connection, route, head),
            Err(Ending::Waits(need, _)) => held.need = need,
            Err(Ending::Denied(denial)) => {
                return respond::deny(held.record, &denial, held.manner);
            }
            // What the target says was said in the first round already.
            Err(Ending::Options | Ending::Redirect(_)) => {
                return held.deny(DenyReason::BadRequest);
            }
        }
    };
    drop(place);
    relay(worker, connection, admitted).await
}

impl Held {
    async fn wait(&mut self, worker: &Worker, connection: &Connection) -> Result<(), DenyReason> {
        match &mut self.need {
            Need::Form => {
                self.earlier.form = Some(read_form(&mut self.incoming, connection).await?);
                self.manner.unread = false;
            }
            Need::Hash(answer) => {
                let proof = answer.await.map_err(|_| DenyReason::Overloaded)?;
                if let Some(Presented::Foreign(foreign)) = &self.earlier.presented {
                    let peppers = &self.record.setup().plan.peppers;
                    worker.shared.rehashed(proof.rehash(foreign, peppers));
                }
                self.earlier.proof = Some(proof);
            }
            Need::Position(wanted) => {
                // Whether it was reached is seen by deciding again.
                let _ = tokio::time::timeout(PATIENCE, reached(worker, *wanted)).await;
                self.earlier.waited = true;
            }
        }
        Ok(())
    }

    fn size(&self) -> Size {
        match &self.earlier.form {
            Some(form) => Size { least: form.len() as u64, exact: true },
            None => Size::of(&self.incoming),
        }
    }

    fn admitted(
        self: Box<Self>,
        connection: &Rc<Connection>,
        route: &RoutePlan,
        head: Fields,
    ) -> Admission {
        let Self { parts, incoming, record, manner, earlier, need: _, route: _ } = *self;
        let body = match earlier.form {
            Some(form) => UpstreamBody::whole(form.into_bytes()),
            None => UpstreamBody::new(incoming, connection, route.body_bytes),
        };
        let outgoing = Outgoing { request: http::Request::from_parts(parts, body), head };
        Admission { outgoing, record, route: route.index, manner }
    }

    fn deny(self: Box<Self>, reason: DenyReason) -> Response<DownstreamBody> {
        let setup = Rc::clone(self.record.setup());
        let denial = match setup.plan.route(self.route) {
            Some(route) => Denial::on(route, reason),
            None => Denial::of(reason),
        };
        respond::deny(self.record, &denial, self.manner)
    }
}

/// Reads a body that is a form. The ticker ends what comes too slowly.
async fn read_form(incoming: &mut Incoming, connection: &Connection) -> Result<Form, DenyReason> {
    let hint = incoming.size_hint();
    if hint.lower() > Form::MAX as u64 {
        return Err(DenyReason::BodyTooLarge);
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let room = hint.upper().and_then(|most| usize::try_from(most).ok()).unwrap_or(Form::MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(room.min(Form::MAX)));
    poll_fn(|cx| {
        loop {
            let polled = Pin::new(&mut *incoming).poll_frame(cx);
            connection.starved.set(polled.is_pending());
            let frame = match polled {
                Poll::Pending if connection.late().is_none() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(DenyReason::UpstreamTimeout)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(DenyReason::BadRequest)),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            connection.body_in.set(connection.body_in.get() + bytes.len() as u64);
            if text.len() + bytes.len() > Form::MAX {
                return Poll::Ready(Err(DenyReason::BodyTooLarge));
            }
            text.extend_from_slice(&bytes);
        }
    })
    .await?;
    Ok(Form::new(text))
}

/// Returns when the directory is at `wanted` or later.
async fn reached(worker: &Worker, wanted: Position) {
    let shared = &worker.shared;
    loop {
        // Registered before the look, so that no swap falls between them.
        let mut swapped = pin!(shared.swapped.notified());
        swapped.as_mut().enable();
        let there = shared.directory.load().as_ref().is_some_and(|now| now.position() >= wanted);
        if there {
            return;
        }
        swapped.await;
    }
}

/// One of the places for requests that wait.
struct Place<'w>(&'w Worker);

impl<'w> Place<'w> {
    fn take(worker: &'w Worker) -> Option<Self> {
        let taken = worker.waiting.get();
        (taken < MOST_WAITING).then(|| {
            worker.waiting.set(taken + 1);
            Self(worker)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Bench;

    #[test]
    fn there_are_a_thousand_places_and_they_are_given_back() {
        let bench = Bench::new(|_| {});
        let mut places: Vec<_> =
            std::iter::repeat_with(|| Place::take(&bench.worker)).take(1_000).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::take(&bench.worker).is_none());
        places.pop();
        assert!(Place::take(&bench.worker).is_some());
    }
}
