//! The operator's listener: as a socket file, without any descriptor left, and what its status says.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::http::{Connection, Request};
use crate::support::portcullis::{Home, Portcullis, run};
use crate::support::snapshot::Snapshot;
use crate::support::stage::{FILE_ARGS, OPEN_ROUTE, Stage, complete, file_home};
use crate::support::upstream::Upstream;
use crate::support::wait;

/// One exchange over a socket file: the status and the body.
fn ask(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.get(9..12)?.parse().ok()?, body.to_owned()))
}

const SOCKET: &str = "[admin]\naddress = \"unix:run/admin.sock\"\n";
const GATEWAY_ARGS: [&str; 5] = ["gateway", "--config", "CONFIG", "--listen", "127.0.0.1:0"];

fn socket_home(upstream: &Upstream) -> Home {
    let home = file_home(upstream, &format!("{OPEN_ROUTE}{SOCKET}"));
    let mut snapshot = Snapshot::new();
    snapshot.account("ci");
    snapshot.key("ci");
    snapshot.write_to(&home);
    home
}

fn ready(program: &Portcullis) {
    let socket = program.admin_socket();
    wait::until("readiness", || {
        ask(&socket, "GET", "/readyz", "").filter(|(status, _)| *status == 200)
    });
}

#[test]
fn a_socket_file_is_for_its_owner_and_asks_for_no_token() {
    let upstream = Upstream::nginx();
    let home = socket_home(&upstream);
    let program = home.start(&GATEWAY_ARGS);
    ready(&program);
    let socket = program.admin_socket();
    assert_eq!(socket, home.path("run/admin.sock").canonicalize().unwrap_or_default());
    let mode = std::fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for path in ["/livez", "/readyz", "/metrics", "/admin/v1/status"] {
        let (status, body) = ask(&socket, "GET", path, "").unwrap();
        assert_eq!(status, 200, "{path}: {body}");
    }
    let question = json!({"key_id": "00000000000", "method": "GET", "path": "/"}).to_string();
    let (status, body) = ask(&socket, "POST", "/admin/v1/explain", &question).unwrap();
    assert_eq!((status, body.contains("unknown_key")), (200, true), "{body}");
    assert_eq!(ask(&socket, "GET", "/admin/v1/nothing", "").unwrap().0, 404);
    let (status, _) = ask(&socket, "POST", "/admin/v1/drain", "").unwrap();
    assert_eq!(status, 202);
    let mut program = program;
    assert_eq!(program.wait().code(), Some(0));
    assert!(!socket.exists(), "it takes its file along");
}

#[test]
fn the_socket_file_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
    let upstream = Upstream::nginx();
    let home = socket_home(&upstream);
    let first = home.start(&GATEWAY_ARGS);
    ready(&first);
    let (status, log) = home.try_start(&GATEWAY_ARGS).err().expect("refused");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("admin.address") && log.contains("another process"), "{log}");
    ready(&first);
    let socket = first.admin_socket();
    first.kill();
    assert!(socket.exists());
    let second = home.start(&GATEWAY_ARGS);
    ready(&second);
}

#[test]
fn the_command_line_asks_a_gateway_at_its_socket_file() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    home.write("portcullis.toml", &complete(OPEN_ROUTE, &upstream));
    let program = home.start(&[
        "up",
        "--config",
        "CONFIG",
        "--data",
        "DATA",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
        "--admin",
        "unix:admin.sock",
    ]);
    let owner = program.owner(&home);
    let key = owner.key(&owner.account("ci"), "key");
    let socket = home.path("admin.sock");
    wait::until("readiness", || {
        ask(&socket, "GET", "/readyz", "").filter(|(status, _)| *status == 200)
    });
    let explain = |gateway: &str| {
        run(&[
            "explain",
            &key.id,
            "--path",
            "/",
            "--json",
            "--gateway",
            gateway,
            "--server",
            &format!("http://{}", program.control()),
            "--token-file",
            home.data().join("admin-token").to_str().unwrap(),
        ])
    };
    let output = explain(&format!("unix:{}", socket.display()));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(answer["gateway"]["outcome"], "allowed", "{output:?}");
    let output = explain("unix:/nonexistent/admin.sock");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("--gateway"), "{error}");
}

#[test]
fn an_operator_gets_in_when_connections_have_used_up_every_descriptor() {
    let upstream = Upstream::nginx();
    let config = format!("{OPEN_ROUTE}[limits]\nconnections = 10000\n");
    let home = file_home(&upstream, &config);
    Snapshot::new().write_to(&home);
    let program = home.start_with_descriptors(120, &FILE_ARGS).ready();
    let gateway = program.gateway();
    let connections: Vec<_> = (0..150).map(|_| Connection::open(gateway)).collect();
    let descriptors = format!("/proc/{}/fd", program.pid());
    wait::until("the last descriptor to be taken", || {
        (std::fs::read_dir(&descriptors).unwrap().count() >= 119).then_some(())
    });
    for _ in 0..30 {
        Request::get("/livez").send(program.admin_listener()).expect_status(200);
        assert!(program.metrics().contains("portcullis_connections"));
    }
    drop(connections);
}

#[test]
fn the_status_tells_of_connections_on_both_sides_and_of_the_directory() {
    let stage = Stage::new();
    let key = stage.owner.key(&stage.owner.account("ci"), "key");
    let mut connection = Connection::open(stage.program.gateway());
    connection.exchange(&Request::get("/").bearer(&key.value)).expect_status(200);
    let token = stage.home.token("operator-token");
    let request = Request::get("/admin/v1/status").bearer(&token);
    let status = wait::until("the idle connection", || {
        let status = request.send(stage.program.admin_listener()).expect_status(200).json();
        (status["gateway"]["upstreams"][0]["idle"] == 1).then_some(status)
    });
    let gateway = &status["gateway"];
    let address = stage.upstream.address().to_string();
    assert_eq!(
        gateway["upstreams"],
        json!([{
            "name": "app", "idle": 1, "active": 0,
            "addresses": [{"host": address, "resolved": [address]}],
        }])
    );
    assert_eq!(gateway["connections"], 1);
    assert_eq!(status["configuration"].as_str().map(str::len), Some(64));
    assert_eq!(status["last_reload"], Value::Null);
    assert_eq!(gateway["feed"]["connected"], true);
    let keys = gateway["counts"].as_array().unwrap().iter().find(|count| count["kind"] == "key");
    assert!(keys.is_some_and(|keys| keys["count"].as_u64() >= Some(1)), "{gateway}");
}
