//! `portcullis up`: what the first start makes, what the second one finds, what a second process is
//! told, and how it ends.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::http::{Connection, Request};
use crate::support::portcullis::{Home, command};
use crate::support::stage::Stage;
use crate::support::upstream::Upstream;
use crate::support::wait;

const UP: [&str; 9] = [
    "up",
    "--data",
    "DATA",
    "--listen",
    "127.0.0.1:0",
    "--control",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
];

/// The files that must be nobody else's.
const SECRETS: [&str; 5] =
    ["admin-token", "operator-token", "gateway-token", "pepper.1", "feed-signing.key"];

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn the_first_start_makes_everything_and_keeps_every_secret_to_its_owner() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    let program = home.up(&upstream.url()).ready();
    for secret in SECRETS.iter().chain(&["portcullis.db", "portcullis.db-wal", "lock"]) {
        assert_eq!(mode(&home.data().join(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&home.data()), 0o700);
    assert_eq!(std::fs::read(home.data().join("pepper.1")).unwrap().len(), 32);
    assert!(home.data().join("portcullis.db").exists());

    let admin = home.token("admin-token");
    assert_eq!(admin.len(), 65, "a key of 65 characters");
    let whoami =
        Request::get("/v1/whoami").bearer(&admin).send(program.control()).expect_status(200).json();
    assert_eq!(whoami["principal"]["kind"], "user");
    let organizations =
        Request::get("/v1/organizations").bearer(&admin).send(program.control()).json();
    assert_eq!(organizations["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(organizations["items"][0]["name"], "default");

    // With an upstream and no routes, every path needs a valid key and nothing else.
    let key = {
        let owner = program.owner(&home);
        let account = owner.account("ci");
        owner.key(&account, "key")
    };
    let answer = Request::get("/any/path?with=query")
        .bearer(&key.value)
        .send(program.gateway())
        .expect_status(200);
    assert!(answer.text().contains("uri=/any/path?with=query\n"), "{}", answer.text());
    Request::get("/any/path").send(program.gateway()).expect_status(401);

    // No secret is in the log or on standard output.
    let said = program.log() + &program.output().join("\n");
    for secret in [&admin, &home.token("operator-token"), &home.token("gateway-token"), &key.value]
    {
        assert!(!said.contains(&secret[16..]), "a secret was logged");
    }
}

#[test]
fn only_the_operator_creates_organizations() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    let program = home.up(&upstream.url()).ready();
    let body = serde_json::json!({
        "name": "second", "profile": "castai", "owner": {"username": "eve", "email": "eve@example.com"},
        "owner_key": {"name": "first"},
    });
    let create = |token: &str| {
        Request::new("POST", "/v1/organizations").bearer(token).json(&body).send(program.control())
    };
    assert_eq!(create(&home.token("admin-token")).expect_status(403).code(), "permission_denied");
    let created = create(&home.token("operator-token")).expect_status(201).json();
    let owner_key = created["value"].as_str().expect("the owner's key, once");
    let seen = Request::get("/v1/organizations").bearer(owner_key).send(program.control()).json();
    assert_eq!(seen["items"][0]["name"], "second");
    assert_eq!(seen["items"].as_array().map(Vec::len), Some(1), "and only its own");
}

#[test]
fn a_second_start_finds_everything_as_it_was() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    let program = home.up(&upstream.url()).ready();
    let owner = program.owner(&home);
    let account = owner.account("ci");
    let (kept, revoked) = (owner.key(&account, "kept"), owner.key(&account, "revoked"));
    owner.act(&revoked.path, "revoke");
    let contents = || SECRETS.map(|file| std::fs::read(home.data().join(file)).unwrap());
    let before = contents();
    assert_eq!(program.interrupt().code(), Some(0));

    let program = home.up(&upstream.url()).ready();
    assert_eq!(contents(), before);
    Request::get("/").bearer(&kept.value).send(program.gateway()).expect_status(200);
    Request::get("/").bearer(&revoked.value).send(program.gateway()).expect_status(401);
    program.owner(&home).key(&account, "another");
}

#[test]
fn a_first_start_that_was_cut_short_is_finished_by_the_next_one() {
    let upstream = Upstream::nginx();
    for cut_at in
        ["lock", "pepper.1", "feed-signing.key", "portcullis.db", "admin-token", "gateway-token"]
    {
        let home = Home::new();
        let data = home.data();
        let mut first = command(&[
            "up",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ])
        .arg("--data")
        .arg(&data)
        .args(["--upstream", &upstream.url()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
        wait::until(cut_at, || data.join(cut_at).exists().then_some(()));
        first.kill().unwrap();
        first.wait().unwrap();
        let program = home.up(&upstream.url()).ready();
        let owner = program.owner(&home);
        let account = owner.account("ci");
        let key = owner.key(&account, "key");
        Request::get("/").bearer(&key.value).send(program.gateway()).expect_status(200);
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused_with_the_pid_of_the_first() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    let first = home.up(&upstream.url());
    let (status, log) = home.try_start(&UP).err().expect("two processes on one directory");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&first.pid().to_string()), "{log}");
    assert!(log.contains("in use"), "{log}");
}

#[test]
fn a_secret_file_that_others_can_read_is_refused_by_name() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    drop(home.up(&upstream.url()));
    for secret in ["pepper.1", "feed-signing.key"] {
        let path = home.data().join(secret);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (status, log) = home.try_start(&UP).err().expect("a secret that others can read");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(secret), "{log}");
        assert!(log.contains("0600") || log.contains("600"), "{log}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_pepper_that_is_short_or_lost_is_refused_by_name_and_never_replaced() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    drop(home.up(&upstream.url()));
    let path = home.data().join("pepper.1");
    let pepper = std::fs::read(&path).unwrap();
    std::fs::write(&path, &pepper[..31]).unwrap();
    let (status, log) = home.try_start(&UP).err().expect("a short pepper");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("pepper.1") && log.contains("32"), "{log}");
    std::fs::remove_file(&path).unwrap();
    let (status, log) = home.try_start(&UP).err().expect("no pepper");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("pepper.1"), "{log}");
    assert!(!path.exists(), "a new pepper would end every key");
    std::fs::write(&path, &pepper).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    home.start(&UP);
}

#[test]
fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    assert_eq!(home.up(&upstream.url()).interrupt().code(), Some(0));
    for side_file in ["portcullis.db-wal", "portcullis.db-shm"] {
        let _ = std::fs::remove_file(home.data().join(side_file));
    }
    let path = home.data().join("portcullis.db");
    std::fs::write(&path, "not a database, but somebody's notes\n".repeat(200)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let (status, log) = home.try_start(&UP).err().expect("notes are no database");
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("portcullis.db"), "{log}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn ctrl_c_finishes_accepted_requests_refuses_new_connections_and_exits_0() {
    let mut stage = Stage::with(Upstream::uvicorn(), crate::support::stage::OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let gateway = stage.program.gateway();
    let mut slow = Connection::open(gateway);
    let head = format!(
        "POST /sink HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 10\r\n\r\n12345",
        key.value
    );
    slow.write(head.as_bytes());
    wait::until("the request to be open", || {
        let open = stage.program.metrics();
        open.lines()
            .any(|line| line.starts_with("portcullis_open_streams") && !line.ends_with(" 0"))
            .then_some(())
            .or_else(|| {
                (stage
                    .program
                    .metric("portcullis_upstream_connections{state=\"active\",upstream=\"app\"}")
                    > 0.0)
                    .then_some(())
            })
    });
    stage.program.signal(Signal::INT);
    wait::until("the listener to be closed", || {
        Connection::try_open(gateway).is_none().then_some(())
    });
    slow.stream.write_all(b"67890").unwrap();
    let answer = slow.read_answer("POST").expect_status(200).json();
    assert_eq!(answer["body_length"], 10);
    assert_eq!(stage.program.wait().code(), Some(0), "{}", stage.program.log());
}

#[test]
fn the_bundled_sqlite_is_newer_than_the_corruption_of_its_write_ahead_log() {
    let upstream = Upstream::nginx();
    let home = Home::new();
    assert_eq!(home.up(&upstream.url()).ready().interrupt().code(), Some(0));
    // https://www.sqlite.org/fileformat.html: offset 96 holds the version of the library that wrote
    // last.
    let database = std::fs::read(home.data().join("portcullis.db")).unwrap();
    let version = u32::from_be_bytes(database[96..100].try_into().unwrap());
    assert!(version >= 3_051_003, "SQLite {version}");
}

#[test]
fn a_hangup_without_a_configuration_file_changes_nothing() {
    let stage = Stage::new();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.program.signal(Signal::HUP);
    wait::until("the line in the log", || {
        stage.program.log().contains("the configuration is in force").then_some(())
    });
    stage.ask(&key.value).expect_status(200);
    let Stage { program, home: _home, owner: _, upstream: _upstream } = stage;
    assert_eq!(program.interrupt().code(), Some(0));
}
