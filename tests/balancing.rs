//! Several addresses of one upstream, and upstreams that stop in the middle.

use std::time::Duration;

use crate::support::http::{Connection, Request};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{FILE_ARGS, OPEN_ROUTE, file_home, reasons};
use crate::support::upstream::Upstream;
use crate::support::wait::Stopwatch;

/// A gateway in front of `main` with settings, and the addresses of `app` replaced by these.
fn config_with(home_config: &str, main: &Upstream, addresses: &str) -> String {
    let single = format!("[{{ host = \"{}\" }}]", main.address());
    assert!(home_config.contains(&single));
    home_config
        .replace(&single, addresses)
        .replace("id = \"gw-file\"", "id = \"gw-file\"\nworkers = 1")
}

#[test]
fn addresses_take_turns_by_weight() {
    let (light, heavy) = (Upstream::nginx(), Upstream::nginx());
    let home = file_home(&light, OPEN_ROUTE);
    let addresses = format!(
        "[{{ host = \"{}\", weight = 1 }}, {{ host = \"{}\", weight = 3 }}]",
        light.address(),
        heavy.address()
    );
    let config = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    home.write("portcullis.toml", &config_with(&config, &light, &addresses));
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut connection = Connection::open(program.gateway());
    for _ in 0..40 {
        connection.exchange(&Request::get("/").bearer(key.expose())).expect_status(200);
    }
    let requests = |upstream: &Upstream| upstream.access_log().lines().count();
    let (light, heavy) = (requests(&light), requests(&heavy));
    assert_eq!(light + heavy, 40);
    assert!((8..=12).contains(&light), "{light} of 40 at a weight of 1 in 4");
}

#[test]
fn an_address_that_refuses_connections_costs_no_request() {
    let alive = Upstream::nginx();
    let home = file_home(&alive, OPEN_ROUTE);
    let addresses = format!("[{{ host = \"127.0.0.1:1\" }}, {{ host = \"{}\" }}]", alive.address());
    let config = std::fs::read_to_string(home.path("portcullis.toml")).unwrap();
    home.write("portcullis.toml", &config_with(&config, &alive, &addresses));
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    for method in ["GET", "POST", "DELETE"].into_iter().cycle().take(12) {
        Request::new(method, "/").bearer(key.expose()).send(program.gateway()).expect_status(200);
    }
    assert_eq!(alive.access_log().lines().count(), 12);
}

#[test]
fn an_answer_that_stops_in_the_middle_is_cut_and_recorded() {
    let upstream = Upstream::uvicorn();
    let home =
        file_home(&upstream, &format!("[timeouts]\nupstream_read = \"500ms\"\n{OPEN_ROUTE}"));
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut connection = Connection::open(program.gateway());
    let watch = Stopwatch::start();
    connection.write(
        format!("GET /stall HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", key.expose())
            .as_bytes(),
    );
    connection.read_head().unwrap().expect("a head").expect_status(200);
    let rest = connection.read_to_end();
    assert_eq!(rest, b"half.", "what there was, and never more");
    assert!(watch.elapsed() < Duration::from_secs(3), "{:?}", watch.elapsed());
    assert_eq!(reasons(&home, 1), ["upstream_timeout"]);
}

#[test]
fn a_body_slower_than_allowed_is_given_up() {
    let upstream = Upstream::uvicorn();
    let settings = "[timeouts]\nmin_rate = 1000\nrate_grace = \"500ms\"\n";
    let home = file_home(&upstream, &format!("{settings}{OPEN_ROUTE}"));
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    snapshot.write_to(&home);
    let program = home.start(&FILE_ARGS).ready();
    let mut connection = Connection::open(program.gateway());
    let watch = Stopwatch::start();
    connection.write(
        format!(
            "POST /sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100000\r\n\r\nslow",
            key.expose()
        )
        .as_bytes(),
    );
    let answer = connection.try_read_answer("POST").ok().flatten();
    assert!(answer.as_ref().is_none_or(|answer| answer.status == 408), "{answer:?}");
    let elapsed = watch.elapsed();
    assert!(
        elapsed >= Duration::from_millis(250) && elapsed < Duration::from_secs(3),
        "{elapsed:?}"
    );
}
