use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use portcullis_core::directory::Ledger;
use portcullis_core::feed::{Kind, Position};
use portcullis_core::key::{self, PlainKey, Prefix};
use portcullis_core::time::Clock;
use serde_json::json;

use super::*;
use crate::settings::{Access, Feed, FeedToken, Settings};
use crate::tests::{Counting, HandClock, pepper, usual_settings};

/// One worker without sockets' traffic, and a directory with one key.
pub(crate) struct Bench {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
    key: PlainKey,
}

impl Bench {
    pub(crate) fn new(arrange: impl FnOnce(&mut Settings)) -> Self {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut settings = usual_settings(upstream, Path::new("/nonexistent"));
        // Somebody wants to know about usage, so that it is counted.
        settings.feed = Feed::Control {
            url: format!("http://{upstream}"),
            token: FeedToken::new(String::new()),
            cluster: None,
            verify_key: None,
            usage_interval: Duration::from_secs(5),
        };
        arrange(&mut settings);
        let entropy = Arc::new(Counting::default());
        let key = key::mint(&Prefix::default(), &*entropy).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(HandClock::default());
        let registry = prometheus::Registry::new();
        let mut bound = crate::bind(settings, clock, entropy, &registry).unwrap();
        let digest = key::parse(key.expose().as_bytes()).unwrap().digest(&pepper()).to_hex();
        let mut ledger = Ledger::new(1);
        let records = [
            (Kind::Org, "o1".to_owned(), json!({"state": "active"})),
            (Kind::Account, "sa1".to_owned(), json!({"org": "o1", "state": "active"})),
            (
                Kind::Key,
                key.id().to_string(),
                json!({
                    "account": "sa1", "state": "active", "generation": 1,
                    "current": {"alg": "b3", "pepper": 1, "digest": digest},
                }),
            ),
        ];
        ledger.load(Position { epoch: 1, seq: 1 }, records).unwrap();
        let published = Published::new(ledger.view());
        bound.shared.directory.store(Some(Arc::new(published)));
        let (worker, _) = bound.seeds.pop().unwrap().grow();
        let peer = SocketAddr::from(([192, 0, 2, 1], 4711));
        let connection = Rc::new(Connection::new(0, peer, worker.sample().mono));
        Self { worker, connection, key }
    }

    /// A first round of deciding.
    fn admit<'s>(
        &self,
        setup: &'s Setup,
        parts: &mut Parts,
        record: &mut Record,
    ) -> Result<(&'s RoutePlan, Fields), Ending<'s>> {
        let now = self.worker.sample();
        let asked = Asked { parts, size: NO_BODY, now, earlier: &mut Earlier::default() };
        admit((&self.worker, setup), &self.connection, asked, record)
    }

    fn parts(&self) -> Parts {
        let request = Request::builder()
            .uri(Uri::from_static("/v1/things/7?full=1"))
            .header(HOST, HeaderValue::from_static("api.example.com"))
            .header(USER_AGENT, "test")
            .header(ACCEPT, "*/*")
            .header(AUTHORIZATION, format!("Bearer {}", self.key.expose()))
            .body(());
        request.unwrap().into_parts().0
    }
}

const NO_BODY: Size = Size { least: 0, exact: true };

#[test]
fn a_decision_allocates_nothing() {
    let bench = Bench::new(|_| {});
    let mut record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
    let mut parts = bench.parts();
    let (uri, method) = (parts.uri.clone(), parts.method.clone());
    let host = forward::only_host(&parts.headers).unwrap_or_default();
    let setup = bench.worker.setup();

    let mut allowed = false;
    let counted = allocation_counter::measure(|| {
        let raw = raw_target(&uri);
        let Ok(target) = read_target(&setup.plan, &method, &raw, host.as_ref()) else {
            return;
        };
        let directory = bench.worker.shared.directory.load();
        let asking = Asking {
            worker: &bench.worker,
            setup: &setup,
            connection: &bench.connection,
            directory: directory.as_deref(),
            method: &method,
        };
        let mut removal = Removal::default();
        let mut earlier = Earlier::default();
        let now = bench.worker.sample();
        let asked = Asked { parts: &mut parts, size: NO_BODY, now, earlier: &mut earlier };
        allowed = judge(&asking, &target, asked, &mut removal, &mut record).is_ok();
        record.counted(None);
        record.decided();
    });
    assert!(allowed);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn on_a_connection_that_is_kept_only_the_head_itself_is_allocated() {
    let bench = Bench::new(|_| {});
    let setup = bench.worker.setup();
    let admit_once = |parts: &mut Parts| {
        let mut record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
        let Ok((_, fields)) = bench.admit(&setup, parts, &mut record) else { panic!("refused") };
        fields
    };
    let (mut first, mut second) = (bench.parts(), bench.parts());
    drop(admit_once(&mut first));
    let mut fields = None;
    let counted = allocation_counter::measure(|| fields = Some(admit_once(&mut second)));
    assert_eq!(counted.count_total, 1, "{counted:?}");
    assert_eq!(fields.unwrap().all("x-auth-subject"), ["sa1"]);
    assert!(second.headers.is_empty());
}

#[test]
fn an_empty_configuration_denies_everything() {
    let bench = Bench::new(|settings| settings.routes.clear());
    let mut record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
    let (mut parts, setup) = (bench.parts(), bench.worker.setup());
    let refused = bench.admit(&setup, &mut parts, &mut record);
    let Err(Ending::Denied(denial)) = refused else { panic!("passed") };
    assert_eq!(denial.reason, DenyReason::NoRoute);
    assert!(parts.headers.contains_key(AUTHORIZATION), "no credential is looked at");
}

#[test]
fn the_own_limit_comes_after_the_decision() {
    let bench = Bench::new(|settings| settings.limits.in_flight_per_worker = 1);
    let _other = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
    let mut record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
    let (mut parts, setup) = (bench.parts(), bench.worker.setup());
    let refused = bench.admit(&setup, &mut parts, &mut record);
    let Err(Ending::Denied(denial)) = refused else { panic!("passed") };
    assert_eq!(denial.reason, DenyReason::Overloaded);
}

#[test]
fn a_public_route_looks_at_no_credential_and_passes_no_identity() {
    let bench = Bench::new(|settings| {
        for route in &mut settings.routes {
            route.access = Access::Public;
        }
    });
    let mut record = Record::open(&bench.worker, &bench.connection, bench.worker.sample());
    let mut parts = bench.parts();
    parts.headers.insert("x-auth-org", HeaderValue::from_static("evil"));
    let setup = bench.worker.setup();
    let admitted = bench.admit(&setup, &mut parts, &mut record);
    let Ok((_, fields)) = admitted else { panic!("refused") };
    assert_eq!(fields.all("x-auth-method"), ["none"]);
    assert!(fields.all("x-auth-org").is_empty());
    assert_eq!(fields.all("authorization").len(), 1);
}

#[test]
fn a_directory_too_old_is_refused_as_its_route_says() {
    let second = 1_000_000_000;
    let post = Method::POST;
    for (max, on_stale, stale, method, refused) in [
        (0, OnStale::FailClosed, Some(9 * second), &Method::GET, false),
        (second, OnStale::FailClosed, Some(second), &Method::GET, false),
        (second, OnStale::FailClosed, Some(second + 1), &Method::GET, true),
        (second, OnStale::FailClosed, None, &Method::GET, false),
        (second, OnStale::SafeMethods, Some(2 * second), &Method::HEAD, false),
        (second, OnStale::SafeMethods, Some(2 * second), &post, true),
        (second, OnStale::ServeRecorded, Some(2 * second), &post, false),
    ] {
        let shown = format!("{max} {on_stale:?} {stale:?} {method}");
        assert_eq!(refuses_stale(max, on_stale, stale, method), refused, "{shown}");
    }
}
