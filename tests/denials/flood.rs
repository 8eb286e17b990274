//! Floods of invalid credentials: told apart from mistakes by their source, never by a key.

use super::{assert_denied, body_of};
use crate::support::http::{Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{OPEN_ROUTE, file_home, records};
use crate::support::upstream::Upstream;
use crate::support::wait;

#[test]
fn one_invalid_credential_too_many_is_answered_429_and_a_valid_one_always_passes() {
    let mut snapshot = Snapshot::new();
    snapshot.account("reader");
    let key = snapshot.key("reader");
    let config = format!(
        "{OPEN_ROUTE}[failures]\nrate = 3\nperiod = \"1h\"\n[[listeners]]\nname = \"proxied\"\n\
         address = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n"
    );
    let upstream = Upstream::nginx();
    let home = file_home(&upstream, &config);
    snapshot.write_to(&home);
    let program = home.start(&["gateway", "--config", "CONFIG", "--admin", "127.0.0.1:0"]).ready();
    let send = |request: &Request| request.send(program.gateway());
    let from =
        |source: &str, key: &str| Request::get("/").bearer(key).header("X-Forwarded-For", source);
    let foreign = "ptc_063UfDVRKBz_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3h0BAr";
    for credential in ["nonsense", foreign, "nonsense"] {
        assert_denied(&send(&from("192.0.2.1", credential)), 401, "invalid_token");
    }
    for credential in [foreign, "nonsense"] {
        let mut connection = Connection::open(program.gateway());
        let answer = connection.exchange(&from("192.0.2.1", credential));
        assert_eq!((answer.status, answer.header("www-authenticate")), (429, None));
        let wait: u64 = answer.header("retry-after").expect("a wait").parse().unwrap();
        assert!((1..=7200).contains(&wait), "{wait}");
        let start = body_of("too_many_failures").strip_suffix('}').unwrap();
        assert_eq!(answer.text(), format!("{start},\"retry_after\":{wait}}}"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(connection.is_closed_by_peer());
    }
    // A valid credential, no credential, or another source: all as before.
    send(&from("192.0.2.1", key.expose())).expect_status(200);
    let none = Request::get("/").header("X-Forwarded-For", "192.0.2.1");
    assert_denied(&send(&none), 401, "unauthenticated");
    assert_denied(&send(&from("192.0.2.2", foreign)), 401, "invalid_token");
    // One subscriber's IPv6 network is one source.
    for host in 1..=3 {
        let answer = send(&from(&format!("2001:db8::{host}"), foreign));
        assert_denied(&answer, 401, "invalid_token");
    }
    send(&from("2001:db8::ffff:1", foreign)).expect_status(429);
    send(&from("2001:db8:0:1::1", foreign)).expect_status(401);

    let records = records(&home, 13);
    let reason = |at: usize| records[at]["reason"].as_str().unwrap_or_default();
    let mut floods: Vec<_> = (0..records.len()).filter(|at| reason(*at) == "auth_flood").collect();
    assert_eq!(floods.len(), 3);
    let claimed = floods.remove(0);
    assert!(records[claimed]["key"].is_null(), "no id that is not verified");
    let counted = wait::until("the counter", || {
        let line = "portcullis_requests_total{outcome=\"auth_flood\",route=\"all\"}";
        Some(program.metric(line)).filter(|count| *count >= 3.0)
    });
    assert!((counted - 3.0).abs() < f64::EPSILON);
}
