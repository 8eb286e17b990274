//! What survives what: the gateway without its control plane, acknowledged changes without their
//! process, traffic without a database to write to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;

use portcullis_core::feed::{Line, parse_line};
use serde_json::json;

use crate::support::http::{Answer, Request};
use crate::support::portcullis::Home;
use crate::support::stage::{CONTROL_ARGS, OPEN_ROUTE, SplitStage, Stage};
use crate::support::upstream::Upstream;
use crate::support::wait;

#[test]
fn the_two_halves_run_as_two_processes_joined_by_the_feed() {
    let stage = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.ask(&key.value).expect_status(200);
    let revoked = stage.owner.act(&key.path, "revoke");
    assert_eq!(revoked["gateways"]["applied"], json!(["gw-1"]));
    stage.ask(&key.value).expect_status(401);
    assert!(stage.upstream.access_log().contains("GET / 200"));
}

#[test]
fn a_gateway_keeps_deciding_when_its_control_plane_is_gone_and_catches_up_when_it_is_back() {
    let SplitStage {
        gateway,
        control,
        owner,
        control_home,
        gateway_home: _gateway_home,
        upstream: _upstream,
    } = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = owner.account("ci");
    let (kept, doomed) = (owner.key(&account, "kept"), owner.key(&account, "doomed"));
    let address = control.control().to_string();
    control.kill();
    let ask = |key: &str| Request::get("/").bearer(key).send(gateway.gateway());
    wait::until("the gateway to notice", || {
        (gateway.metric("portcullis_feed_connected") == 0.0).then_some(())
    });
    for _ in 0..20 {
        ask(&kept.value).expect_status(200);
        ask(&doomed.value).expect_status(200);
        ask("nonsense").expect_status(401);
    }
    let ready = Request::get("/readyz").send(gateway.admin_listener());
    assert_eq!(ready.status, 200, "stale but usable: {}", ready.text());

    let control = control_home.start(&["control", "--data", "DATA", "--control", &address]);
    wait::until("the gateway to be back", || {
        (gateway.metric("portcullis_feed_connected") == 1.0).then_some(())
    });
    let owner = control.owner(&control_home);
    owner.act(&doomed.path, "revoke");
    ask(&doomed.value).expect_status(401);
    ask(&kept.value).expect_status(200);
}

#[test]
fn a_gateway_that_missed_more_than_the_log_keeps_takes_the_whole_state_and_forgets_no_revocation() {
    const LOG_LENGTH: usize = 100;
    const STATUS_TOKEN: &str = "reader-of-the-status";
    let operator = Home::new();
    let token_file = operator.write("status-token", STATUS_TOKEN);
    std::fs::set_permissions(&token_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!("[admin]\ntoken_file = {token_file:?}\n{OPEN_ROUTE}");
    let stage = SplitStage::with(Upstream::nginx(), &config);
    let account = stage.owner.account("ci");
    let [kept, revoked_before, revoked_meanwhile] =
        ["kept", "before", "meanwhile"].map(|name| stage.owner.key(&account, name));
    stage.owner.act(&revoked_before.path, "revoke");
    stage.ask(&revoked_meanwhile.value).expect_status(200);
    let SplitStage {
        gateway,
        control,
        owner: _,
        control_home,
        gateway_home: _gateway_home,
        upstream: _upstream,
    } = stage;
    let address = control.control().to_string();
    control.kill();

    // It changes where the gateway does not look, until its log no longer reaches back.
    control_home
        .write("portcullis.toml", &format!("[control]\nchange_log_length = {LOG_LENGTH}\n"));
    let start = |address: &str| {
        let args = ["control", "--config", "CONFIG", "--data", "DATA", "--control", address];
        control_home.start(&args)
    };
    let away = start("127.0.0.1:0");
    let owner = away.owner(&control_home);
    let path = format!("{}:revoke?wait_timeout_ms=0", revoked_meanwhile.path);
    owner.call("POST", &path, Some(&json!({}))).expect_status(202);
    for n in 0..=LOG_LENGTH {
        owner.account(&format!("bot-{n}"));
    }
    away.kill();
    let resyncs =
        |why: &str| gateway.metric(&format!("portcullis_feed_resyncs_total{{why=\"{why}\"}}"));
    assert_eq!((resyncs("start"), resyncs("gone")), (1.0, 0.0));

    let control = start(&address);
    let token = control_home.token("gateway-token");
    let snapshot = Request::get("/feed/v1/snapshot")
        .bearer(&token)
        .header("Portcullis-Gateway", "onlooker")
        .header("Portcullis-Feed", "1")
        .send(control.control())
        .expect_status(200);
    let end = snapshot.text().lines().last().map(|line| parse_line(line.as_bytes()));
    let Some(Ok(Line::End(end))) = end else { panic!("no end line: {end:?}") };
    let feed = wait::until("the gateway to have caught up", || {
        let request = Request::get("/admin/v1/status").bearer(STATUS_TOKEN);
        let status = request.send(gateway.admin_listener()).expect_status(200).json();
        let feed = status["gateway"]["feed"].clone();
        (feed["seq"] == end.position.seq && feed["connected"] == true).then_some(feed)
    });
    assert_eq!(feed["digest"], end.digest.to_string());
    assert_eq!((resyncs("gone"), resyncs("digest")), (1.0, 0.0));
    let ask = |key: &str| Request::get("/").bearer(key).send(gateway.gateway());
    ask(&kept.value).expect_status(200);
    ask(&revoked_before.value).expect_status(401);
    ask(&revoked_meanwhile.value).expect_status(401);
}

#[test]
fn a_route_with_a_staleness_limit_refuses_when_the_control_plane_is_gone_too_long() {
    let config = r#"
[[routes]]
name = "strict"
path = "/strict"
upstream = "app"
authenticated_only = true
max_staleness = "2s"
on_stale = "fail_closed"
[[routes]]
name = "reads"
path = "/reads"
upstream = "app"
authenticated_only = true
max_staleness = "2s"
on_stale = "safe_methods"
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
"#;
    let SplitStage {
        gateway,
        control,
        owner,
        control_home: _control_home,
        gateway_home: _gateway_home,
        upstream: _upstream,
    } = SplitStage::with(Upstream::nginx(), config);
    let account = owner.account("ci");
    let key = owner.key(&account, "key");
    let send = |method: &str, path: &str| {
        Request::new(method, path).bearer(&key.value).send(gateway.gateway())
    };
    send("GET", "/strict").expect_status(200);
    control.kill();
    let refused = wait::until("staleness", || {
        Some(send("GET", "/strict")).filter(|answer| answer.status != 200)
    });
    assert_eq!((refused.status, refused.code().as_str()), (503, "stale"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(send("GET", "/reads").status, 200);
    assert_eq!(send("POST", "/reads").status, 503);
    assert_eq!(send("POST", "/anything").status, 200);
}

#[test]
fn a_narrowing_change_that_no_gateway_confirms_is_202_and_names_the_laggard() {
    let stage = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    stage.gateway.signal(rustix::process::Signal::STOP);
    let path = format!("{}:revoke?wait_timeout_ms=300", key.path);
    let answer = stage.owner.call("POST", &path, Some(&json!({}))).expect_status(202).json();
    assert_eq!(answer["gateways"]["pending"], json!(["gw-1"]));
    stage.gateway.signal(rustix::process::Signal::CONT);
    wait::until("the gateway to apply it", || (stage.ask(&key.value).status == 401).then_some(()));
}

#[test]
fn kill_9_at_any_moment_loses_no_acknowledged_change() {
    const WRITERS: usize = 8;
    let upstream = Upstream::nginx();
    let home = Home::new();
    // What was acknowledged: key value → status it must have ever after.
    let mut acknowledged: BTreeMap<String, u16> = BTreeMap::new();
    for round in 0..4 {
        let program = home.up(&upstream.url()).ready();
        for (value, status) in &acknowledged {
            let answer = Request::get("/").bearer(value).send(program.gateway());
            assert_eq!(answer.status, *status, "after {round} kills");
        }
        let owner = program.owner(&home);
        let account = owner.account(&format!("round-{round}"));
        let doomed: Vec<_> = (0..5).map(|n| owner.key(&account, &format!("doomed {n}"))).collect();
        for n in 0..5 {
            acknowledged.insert(owner.key(&account, &format!("kept {n}")).value, 200);
        }
        for key in doomed {
            owner.act(&key.path, "revoke");
            acknowledged.insert(key.value, 401);
        }
        // The next changes are under way, unacknowledged, when the power goes; several of them share
        // one write to the disk.
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (control, organization) = (program.control(), owner.organization.clone());
                let token = home.token("admin-token");
                std::thread::spawn(move || {
                    let path = format!("{organization}/service-accounts");
                    let create = Request::new("POST", &path).bearer(&token);
                    let mut made = Vec::new();
                    loop {
                        let name = format!("r{round}-{writer}-{}", made.len());
                        let create = create.clone().json(&json!({"username": name}));
                        match create.try_send(control) {
                            Some(answer) if answer.status == 201 => made.push(name),
                            Some(answer) => panic!("{}: {}", answer.head, answer.text()),
                            None => return made,
                        }
                    }
                })
            })
            .collect();
        let seq = program.metric("portcullis_feed_seq");
        wait::until("some writes", || {
            (program.metric("portcullis_feed_seq") > seq + 50.0).then_some(())
        });
        program.kill();
        let made: Vec<String> =
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        let program = home.up(&upstream.url()).ready();
        let listed = listed_usernames(&program.owner(&home), &format!("r{round}-"));
        let lost: Vec<_> = made.iter().filter(|name| !listed.contains(*name)).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        program.kill();
    }
}

fn listed_usernames(owner: &crate::support::admin::Admin, prefix: &str) -> BTreeSet<String> {
    let (mut found, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = owner
            .get(&format!("/service-accounts?page_size=200{cursor}"))
            .expect_status(200)
            .json();
        let items = page["items"].as_array().expect("items");
        let names = items.iter().filter_map(|item| item["username"].as_str());
        found.extend(names.filter(|name| name.starts_with(prefix)).map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn a_database_that_cannot_grow_fails_admin_writes_with_a_problem_and_never_traffic() {
    let stage = Stage::with_failing_writes();
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    // A file size limit is what a full disk looks like to the process, and root is not exempt from
    // it.
    let limit = |bytes: u64| {
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: None };
        let pid = i32::try_from(stage.program.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::prlimit(pid, rustix::process::Resource::Fsize, limit)
            .expect("our own child");
    };
    limit(4096);
    let refused = wait::until("the database to be full", || {
        let answer = stage.owner.post("/service-accounts", &json!({"username": "never"}));
        (answer.status != 201).then_some(answer)
    });
    assert!(refused.status >= 500, "{} {}", refused.head, refused.text());
    assert!(["unavailable", "internal"].contains(&refused.code().as_str()), "{}", refused.text());
    for _ in 0..20 {
        stage.ask(&key.value).expect_status(200);
        stage.ask("nonsense").expect_status(401);
    }
    stage.owner.call("GET", &account.path, None).expect_status(200);

    limit(u64::MAX >> 1);
    let again = wait::until("writes to work again", || {
        let answer = stage.owner.post("/service-accounts", &json!({"username": "later"}));
        (answer.status == 201).then_some(answer)
    });
    assert!(again.json()["seq"].is_u64());
    stage.owner.act(&key.path, "revoke");
    stage.ask(&key.value).expect_status(401);
}

#[test]
fn a_database_that_may_not_be_written_fails_admin_writes_with_a_problem_and_nothing_else() {
    let stage = SplitStage::with(Upstream::nginx(), OPEN_ROUTE);
    let account = stage.owner.account("ci");
    let key = stage.owner.key(&account, "key");
    let SplitStage {
        gateway,
        control,
        owner,
        control_home,
        gateway_home: _gateway_home,
        upstream: _upstream,
    } = stage;
    let address = control.control().to_string();
    let args = ["control", "--data", "DATA", "--control", &address];
    assert_eq!(control.interrupt().code(), Some(0));
    control_home.forbid_writing(true);
    let control = control_home.start_unable_to_write(&args);
    assert!(control.log().contains("cannot be written"), "{}", control.log());
    wait::until("the gateway to be back", || {
        (gateway.metric("portcullis_feed_connected") == 1.0).then_some(())
    });

    let refused = |answer: Answer| {
        let answer = answer.expect_status(503);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.code(), "unavailable");
    };
    refused(owner.post("/service-accounts", &json!({"username": "never"})));
    refused(owner.call("POST", &format!("{}:revoke", key.path), Some(&json!({}))));
    refused(owner.call("PATCH", &account.path, Some(&json!({"description": "never"}))));
    refused(owner.call("DELETE", &account.path, None));
    let shown = owner.call("GET", &account.path, None).expect_status(200).json();
    assert_eq!(
        owner.get("/service-accounts").expect_status(200).json()["items"][0]["id"],
        account.id
    );
    for _ in 0..20 {
        Request::get("/").bearer(&key.value).send(gateway.gateway()).expect_status(200);
        Request::get("/").bearer("nonsense").send(gateway.gateway()).expect_status(401);
    }
    // A gateway that starts now gets its whole state.
    let snapshot = Request::get("/feed/v1/snapshot")
        .bearer(&control_home.token("gateway-token"))
        .header("Portcullis-Gateway", "newcomer")
        .header("Portcullis-Feed", "1")
        .send(control.control());
    assert!(snapshot.expect_status(200).text().contains(&key.id));
    let (status, log) = control_home.try_start_unable_to_write(&args).err().expect("refused");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("in use by"), "also this directory is for one process: {log}");

    assert_eq!(control.interrupt().code(), Some(0));
    control_home.forbid_writing(false);
    let control = control_home.start(&args);
    let owner = control.owner(&control_home);
    let again = owner.call("GET", &account.path, None).expect_status(200).json();
    assert_eq!(again["description"], shown["description"]);
    owner.account("later");
    owner.act(&key.path, "revoke");
    Request::get("/").bearer(&key.value).send(gateway.gateway()).expect_status(401);
}

#[test]
fn a_database_with_unread_commits_that_may_not_be_written_is_refused() {
    let home = Home::new();
    let control = home.start(&CONTROL_ARGS);
    control.owner(&home).account("ci");
    control.kill();
    home.forbid_writing(true);
    let (status, log) = home.try_start_unable_to_write(&CONTROL_ARGS).err().expect("refused");
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("portcullis.db-wal") && log.contains("writable"), "{log}");
    home.forbid_writing(false);
    let control = home.start(&CONTROL_ARGS);
    let listed = control.owner(&home).get("/service-accounts?username=ci").expect_status(200);
    assert_eq!(listed.json()["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_control_plane_without_gateways_answers_at_once() {
    let home = Home::new();
    let control = home.start(&CONTROL_ARGS);
    let owner = control.owner(&home);
    let account = owner.account("ci");
    let key = owner.key(&account, "key");
    let revoked = owner.act(&key.path, "revoke");
    assert_eq!(revoked["gateways"], json!({"applied": [], "pending": [], "fenced": []}));
    assert_eq!(std::fs::metadata(home.data()).unwrap().permissions().mode() & 0o777, 0o700);
}
