//! Another configuration while requests are served.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use super::{OK, Script, Stage, usual_settings};
use crate::{Records, ReloadError, Route, Settings, UpstreamAddress};

impl Stage {
    /// Settings like those of the start, changed by `arrange`, put in force.
    fn reload(
        &self,
        upstream: SocketAddr,
        arrange: impl FnOnce(&mut Settings),
    ) -> Result<(), ReloadError> {
        let mut settings = usual_settings(upstream, Path::new("/nonexistent"));
        settings.log.records = Records::File(self.records.clone());
        arrange(&mut settings);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.running.handle().reload(settings))
    }
}

#[test]
fn a_request_ends_with_the_configuration_it_began_with() {
    let go = Arc::new(Barrier::new(2));
    let waits = Arc::clone(&go);
    let old = Script::run(move |_, socket| {
        waits.wait();
        socket.write_all(OK.as_bytes()).is_ok()
    });
    let new = Script::fixed("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnew");
    let stage = Stage::set(old.address, |settings| {
        settings.routes = vec![Route::new("first", "/{*rest}", "main")];
    });
    let mut caller = stage.connect();
    caller.send(stage.request("GET", "/a", "").as_bytes());
    old.head();
    stage
        .reload(new.address, |settings| {
            settings.routes = vec![
                Route::new("other", "/other", "main"),
                Route::new("second", "/{*rest}", "main"),
            ];
        })
        .unwrap();
    // The connection stays, and so does the request that was under way.
    go.wait();
    assert_eq!(caller.read(false).body, b"hi");
    assert_eq!(caller.ask(&stage.request("GET", "/b", "")).body, b"new");
    let records = stage.records(2);
    assert_eq!((&records[0]["route"], &records[1]["route"]), (&"first".into(), &"second".into()));
    let requests = "portcullis_requests_total";
    assert_eq!(stage.counter(requests, &[("route", "first"), ("outcome", "allowed")]), 1);
    assert_eq!(stage.counter(requests, &[("route", "second"), ("outcome", "allowed")]), 1);
}

#[test]
fn the_pool_of_an_unchanged_upstream_lives_on_and_that_of_a_changed_one_is_closed() {
    let (port, ports) = channel();
    let upstream = Script::run(move |_, socket| {
        port.send(socket.socket.peer_addr().unwrap().port()).unwrap();
        socket.write_all(OK.as_bytes()).is_ok()
    });
    let stage = Stage::set(upstream.address, |_| {});
    assert_eq!(stage.get("/a").status(), 200);
    stage.reload(upstream.address, |settings| settings.limits.header_count = 50).unwrap();
    assert_eq!(stage.get("/b").status(), 200);
    let first = ports.recv().unwrap();
    assert_eq!(ports.recv().unwrap(), first, "one connection for both");
    stage.reload(upstream.address, |settings| settings.upstreams[0].retries = 0).unwrap();
    assert_eq!(stage.get("/c").status(), 200);
    assert_ne!(ports.recv().unwrap(), first, "a new one for another upstream");
    stage.wait("one idle connection", || stage.gauge("upstream_connections", "idle") == 1);
}

#[test]
fn faulty_settings_change_nothing_and_all_faults_are_told() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    let refused = stage.reload(upstream.address, |settings| {
        settings.routes.push(Route::new("more", "/more", "nowhere"));
        settings.limits.header_count = 0;
    });
    let Err(ReloadError::Settings(faults)) = refused else { panic!("{refused:?}") };
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["limits.header_count", "routes.more.upstream"]);
    let refused = stage.reload(upstream.address, |settings| {
        settings.log.records = Records::File("/nonexistent/records".into());
    });
    let Err(ReloadError::Settings(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults[0].key, "log.records");
    assert_eq!(stage.get("/more").status(), 200);
    assert_eq!(stage.records(1)[0]["route"], "all");
}

#[test]
fn a_permission_that_no_route_had_before_is_checked() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    let requiring = |permission: &str| {
        stage
            .reload(upstream.address, |settings| {
                settings.routes[0].access =
                    crate::Access::Require { permission: permission.to_owned(), resource: None };
            })
            .unwrap();
        stage.get("/a").status()
    };
    assert_eq!(requiring("cluster:read"), 200, "the account has it");
    assert_eq!(requiring("cluster:dance"), 403, "nobody ever heard of it");
}

#[test]
fn a_name_is_resolved_before_requests_go_there() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    stage
        .reload(upstream.address, |settings| {
            let host = format!("localhost:{}", upstream.address.port());
            settings.upstreams[0].addresses = vec![UpstreamAddress { host, weight: 1 }];
            settings.upstreams[0].retries = 0;
        })
        .unwrap();
    assert_eq!(stage.get("/a").status(), 200);
}

#[test]
fn records_go_where_the_newest_settings_say() {
    let upstream = Script::fixed(OK);
    let stage = Stage::set(upstream.address, |_| {});
    assert_eq!(stage.get("/first").status(), 200);
    stage.records(1);
    let moved = stage.records.with_extension("moved");
    std::fs::rename(&stage.records, &moved).unwrap();
    // The same settings once more: what a rotation of the file needs.
    stage.reload(upstream.address, |_| {}).unwrap();
    assert_eq!(stage.get("/second").status(), 200);
    assert_eq!(stage.records(1)[0]["path"], "/second");
    stage.reload(upstream.address, |settings| settings.log.records = Records::Off).unwrap();
    assert_eq!(stage.get("/third").status(), 200);
    stage.reload(upstream.address, |_| {}).unwrap();
    assert_eq!(stage.get("/fourth").status(), 200);
    assert_eq!(stage.records(2)[1]["path"], "/fourth");
}
