//! Another configuration while the program runs: on SIGHUP, on the operator's word, and when its
//! file changes.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::portcullis::{Home, Portcullis};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{CONTROL_ARGS, FileStage, OPEN_ROUTE, Stage, complete};
use crate::support::upstream::Upstream;
use crate::support::wait;

const APPLIED: &str = "portcullis_config_reloads_total{result=\"applied\"}";
const REFUSED: &str = "portcullis_config_reloads_total{result=\"refused\"}";

/// A second route, for one path, before the open one.
const TEAPOT: &str = r#"
[[routes]]
name = "teapot"
path = "/teapot"
upstream = "app"
auth = "none"
"#;

impl Portcullis {
    fn hang_up(&self, counter: &str) {
        let before = self.metric(counter);
        self.signal(Signal::HUP);
        wait::until(counter, || (self.metric(counter) > before).then_some(()));
    }

    fn status(&self, home: &Home) -> Value {
        let token = home.token("operator-token");
        let request = Request::get("/admin/v1/status").bearer(&token);
        request.send(self.admin_listener()).expect_status(200).json()
    }
}

#[test]
fn a_hangup_puts_another_configuration_in_force_and_no_request_fails() {
    let stage = Stage::new();
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    stage.send(&Request::get("/teapot")).expect_status(401);
    let before = stage.program.status(&stage.home);

    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (done, gateway, key) =
                (Arc::clone(&done), stage.program.gateway(), key.value.clone());
            std::thread::spawn(move || {
                let mut connection = Connection::open(gateway);
                let mut count = 0;
                while !done.load(Ordering::SeqCst) {
                    connection.exchange(&Request::get("/").bearer(&key)).expect_status(200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for round in 0..6 {
        let routes = if round % 2 == 0 { TEAPOT } else { "" };
        let config = complete(&format!("{routes}{OPEN_ROUTE}"), &stage.upstream);
        stage.home.write("portcullis.toml", &config);
        stage.program.hang_up(APPLIED);
        let expected = if round % 2 == 0 { 418 } else { 401 };
        stage.send(&Request::get("/teapot")).expect_status(expected);
    }
    done.store(true, Ordering::SeqCst);
    let counts: Vec<u32> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert!(counts.iter().all(|count| *count > 6), "{counts:?}");

    // The same text again is the same configuration.
    let after = stage.program.status(&stage.home);
    assert_eq!(after["configuration"], before["configuration"]);
    assert_eq!(after["last_reload"]["result"], "applied");
}

#[test]
fn a_changed_file_is_read_by_itself_once_it_has_settled() {
    let stage = Stage::new();
    stage.send(&Request::get("/teapot")).expect_status(401);
    let config = complete(&format!("{TEAPOT}{OPEN_ROUTE}"), &stage.upstream);
    // As an editor does it: another file takes the place.
    let fresh = stage.home.write("fresh.toml", &config);
    std::fs::rename(fresh, stage.home.path("portcullis.toml")).unwrap();
    wait::until("the new route", || {
        (stage.send(&Request::get("/teapot")).status == 418).then_some(())
    });
    wait::until("its count", || (stage.program.metric(APPLIED) > 0.0).then_some(()));
    assert_eq!(stage.program.metric(APPLIED), 1.0);
}

#[test]
fn an_operator_may_ask_for_a_reload() {
    let stage = Stage::new();
    let admin = stage.program.admin_listener();
    let ask = Request::new("POST", "/admin/v1/reload");
    ask.send(admin).expect_status(401);
    Request::get("/admin/v1/reload")
        .bearer(&stage.home.token("operator-token"))
        .send(admin)
        .expect_status(405);
    let config = complete(&format!("{TEAPOT}{OPEN_ROUTE}"), &stage.upstream);
    stage.home.write("portcullis.toml", &config);
    ask.bearer(&stage.home.token("operator-token")).send(admin).expect_status(202);
    wait::until("the reload", || (stage.program.metric(APPLIED) > 0.0).then_some(()));
    stage.send(&Request::get("/teapot")).expect_status(418);
}

#[test]
fn a_bad_file_changes_nothing_and_every_error_is_told() {
    let stage = Stage::new();
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    let before = stage.program.status(&stage.home)["configuration"].clone();
    let bad = format!("{TEAPOT}{OPEN_ROUTE}[limits]\nheader_count = 0\nheader_size = 1\n");
    stage.home.write("portcullis.toml", &complete(&bad, &stage.upstream));
    stage.program.hang_up(REFUSED);
    stage.send(&Request::get("/teapot")).expect_status(401);
    stage.ask(&key.value).expect_status(200);
    assert_eq!(stage.program.metric(APPLIED), 0.0);
    let log = stage.program.log();
    assert!(log.contains("limits.header_count") && log.contains("limits.header_size"), "{log}");
    let status = stage.program.status(&stage.home);
    assert_eq!(status["configuration"], before);
    assert_eq!(status["last_reload"]["result"], "refused");
    assert_eq!(status["last_reload"]["errors"].as_array().map(Vec::len), Some(2), "{status}");

    // Neither does one that is gone, and a good one is taken again.
    std::fs::remove_file(stage.home.path("portcullis.toml")).unwrap();
    stage.program.hang_up(REFUSED);
    stage.ask(&key.value).expect_status(200);
    let good = complete(&format!("{TEAPOT}{OPEN_ROUTE}"), &stage.upstream);
    stage.home.write("portcullis.toml", &good);
    stage.program.hang_up(APPLIED);
    stage.send(&Request::get("/teapot")).expect_status(418);
}

#[test]
fn what_needs_a_restart_is_reported_and_the_rest_applies() {
    let stage = Stage::new();
    let config = format!(
        "{TEAPOT}{OPEN_ROUTE}[gateway]\nworkers = 7\n[control]\nkey_prefix = \"other\"\n\
         [keys]\npeppers = [{{ id = 2, file = \"nowhere\" }}]\n\
         [[listeners]]\nname = \"extra\"\naddress = \"127.0.0.1:0\"\n"
    );
    stage.home.write("portcullis.toml", &complete(&config, &stage.upstream));
    stage.program.hang_up(APPLIED);
    stage.send(&Request::get("/teapot")).expect_status(418);
    let status = stage.program.status(&stage.home);
    assert_eq!(
        status["last_reload"]["needs_restart"],
        json!([
            "control.key_prefix",
            "gateway.workers",
            "listeners.public",
            "listeners.extra",
            "keys.peppers"
        ])
    );
    assert!(stage.program.log().contains("listeners.extra"), "{}", stage.program.log());
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    assert!(key.value.starts_with("ptc_"));
    stage.ask(&key.value).expect_status(200);
}

#[test]
fn an_open_stream_lives_on_through_a_reload_that_changes_its_upstream() {
    let (old, new) = (Upstream::uvicorn(), Upstream::nginx());
    let stage = Stage::with(old, OPEN_ROUTE);
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    let mut connection = Connection::open(stage.program.gateway());
    let head = format!(
        "POST /mirror HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n",
        key.value
    );
    connection.write(head.as_bytes());
    assert_eq!(connection.read_head().unwrap().expect("a head").status, 200);
    assert_eq!(connection.read_chunk().unwrap(), "one");
    stage.home.write("portcullis.toml", &complete(OPEN_ROUTE, &new));
    stage.program.hang_up(APPLIED);
    assert!(stage.ask(&key.value).expect_status(200).text().contains("method=GET"), "nginx's");
    for piece in ["two", "six"] {
        connection.write(format!("3\r\n{piece}\r\n").as_bytes());
        assert_eq!(connection.read_chunk().unwrap(), piece);
    }
    connection.write(b"0\r\n\r\n");
    assert_eq!(connection.read_chunk().unwrap(), "", "the end");
}

#[test]
fn header_path_and_key_settings_and_the_log_are_live() {
    let stage = Stage::new();
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    let odd = Request::get("//twice").bearer(&key.value);
    stage.send(&odd).expect_status(400);
    let settings = "[paths]\nambiguous = \"canonicalise\"\n[identity]\nprefix = \"x-who-\"\n\
                    [limits]\nheader_count = 3\n[log]\nlevel = \"error\"\nrecords = \"off\"\n";
    let config = complete(&format!("{OPEN_ROUTE}{settings}"), &stage.upstream);
    stage.home.write("portcullis.toml", &config);
    stage.program.hang_up(APPLIED);
    let answer = stage.send(&odd).expect_status(200);
    assert!(answer.text().contains("uri=/twice\n"), "{}", answer.text());
    assert!(answer.text().contains("subject=\n"), "{}", answer.text());
    let wide = odd.header("a", "1").header("b", "2");
    stage.send(&wide).expect_status(431);
    // Quiet now: the next reload leaves no line.
    let lines = stage.program.log().lines().count();
    let keys = "[keys]\nprefixes = [\"other\"]\n[log]\nlevel = \"error\"\n";
    stage.home.write("portcullis.toml", &complete(&format!("{OPEN_ROUTE}{keys}"), &stage.upstream));
    stage.program.hang_up(APPLIED);
    assert_eq!(stage.program.log().lines().count(), lines, "{}", stage.program.log());
    stage.ask(&key.value).expect_status(401);
}

#[test]
fn a_gateway_alone_takes_other_peppers() {
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    let key = snapshot.key("ci");
    let stage = FileStage::with(Upstream::nginx(), OPEN_ROUTE, &snapshot);
    stage.ask(key.expose()).expect_status(200);
    let original = std::fs::read_to_string(stage.home.path("portcullis.toml")).unwrap();
    let other = stage.home.write("pepper.2", &"8".repeat(32));
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    let pair = "{ id = 2, file = \"pepper.2\" }, { id = 1, file = \"pepper.1\" }";
    let both = original.replace("{ id = 1, file = \"pepper.1\" }", pair);
    stage.home.write("portcullis.toml", &both);
    stage.program.hang_up(APPLIED);
    stage.ask(key.expose()).expect_status(200);
    stage.home.write("portcullis.toml", &both.replace(", { id = 1, file = \"pepper.1\" }", ""));
    stage.program.hang_up(APPLIED);
    stage.ask(key.expose()).expect_status(401);
    // A pepper that others can read is refused, and the old ones stay.
    std::fs::set_permissions(stage.home.path("pepper.1"), std::fs::Permissions::from_mode(0o644))
        .unwrap();
    stage.home.write("portcullis.toml", &original);
    stage.program.hang_up(REFUSED);
    stage.ask(key.expose()).expect_status(401);
    assert!(stage.program.log().contains("pepper.1"), "{}", stage.program.log());
}

#[test]
fn a_control_plane_alone_survives_a_hangup_and_says_what_needs_a_restart() {
    let home = Home::new();
    home.write("portcullis.toml", "");
    let args = [&CONTROL_ARGS[..], &["--config", "CONFIG"]].concat();
    let mut control = home.start(&args);
    home.write("portcullis.toml", "[control]\nkey_prefix = \"other\"\n");
    control.signal(Signal::HUP);
    wait::until("the line in the log", || {
        control.log().contains("control.key_prefix").then_some(())
    });
    control.owner(&home).account("ci");
    control.signal(Signal::TERM);
    assert_eq!(control.wait().code(), Some(0));
}
