//! A whole installation for one test: an upstream, a home, the running program, and its
//! organization's owner.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::admin::Admin;
use super::http::{Answer, Request};
use super::portcullis::{Home, Portcullis};
use super::snapshot::{PEPPER, Snapshot};
use super::upstream::Upstream;
use super::wait;

/// A route that needs nothing but a valid key.
pub(crate) const OPEN_ROUTE: &str = r#"
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "app"
authenticated_only = true
"#;

/// `portcullis up` in front of an upstream.
pub(crate) struct Stage {
    pub(crate) program: Portcullis,
    pub(crate) owner: Admin,
    pub(crate) home: Home,
    pub(crate) upstream: Upstream,
}

impl Stage {
    /// nginx behind one route that needs a valid key.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::with(Upstream::nginx(), OPEN_ROUTE)
    }

    /// This upstream, named `app`, behind the routes and settings of `config`. Access records go to
    /// a file.
    #[track_caller]
    pub(crate) fn with(upstream: Upstream, config: &str) -> Self {
        let home = Home::new();
        let program = home.up_with(&complete(config, &upstream)).ready();
        let owner = program.owner(&home);
        Self { program, owner, home, upstream }
    }

    /// Like [`Stage::new`], for a program whose writes can be made to fail by a file size limit.
    #[track_caller]
    pub(crate) fn with_failing_writes() -> Self {
        let (home, upstream) = (Home::new(), Upstream::nginx());
        home.write("portcullis.toml", &complete(OPEN_ROUTE, &upstream));
        let program = home.start_with_failing_writes(&UP_ARGS).ready();
        let owner = program.owner(&home);
        Self { program, owner, home, upstream }
    }

    /// `GET /` at the gateway with this key.
    #[track_caller]
    pub(crate) fn ask(&self, key: &str) -> Answer {
        self.send(&Request::get("/").bearer(key))
    }

    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        request.send(self.program.gateway())
    }

    /// The access records so far, as soon as there are `count` of them.
    #[track_caller]
    pub(crate) fn records(&self, count: usize) -> Vec<Value> {
        records(&self.home, count)
    }
}

/// `portcullis gateway` alone, in front of an upstream, with its directory from a snapshot file.
pub(crate) struct FileStage {
    pub(crate) program: Portcullis,
    pub(crate) home: Home,
    pub(crate) upstream: Upstream,
}

impl FileStage {
    #[track_caller]
    pub(crate) fn with(upstream: Upstream, config: &str, snapshot: &Snapshot) -> Self {
        let home = file_home(&upstream, config);
        snapshot.write_to(&home);
        let program = home.start(&FILE_ARGS).ready();
        Self { program, home, upstream }
    }

    #[track_caller]
    pub(crate) fn ask(&self, key: &str) -> Answer {
        self.send(&Request::get("/").bearer(key))
    }

    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        request.send(self.program.gateway())
    }

    /// The access records so far, as soon as there are `count` of them.
    #[track_caller]
    pub(crate) fn records(&self, count: usize) -> Vec<Value> {
        records(&self.home, count)
    }
}

/// How `portcullis up` is started on free ports.
pub(crate) const UP_ARGS: [&str; 11] = [
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
    "127.0.0.1:0",
];

/// How a gateway in file mode is started in a [`file_home`].
pub(crate) const FILE_ARGS: [&str; 7] =
    ["gateway", "--config", "CONFIG", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

/// A home with the configuration of a gateway in file mode and its pepper, but no snapshot yet.
pub(crate) fn file_home(upstream: &Upstream, config: &str) -> Home {
    let home = Home::new();
    let pepper = home.path("pepper.1");
    std::fs::write(&pepper, PEPPER).expect("the pepper is written");
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    let sections = r#"
[gateway]
id = "gw-file"
[feed]
mode = "file"
file = "snapshot.ndjson"
[keys]
peppers = [{ id = 1, file = "pepper.1" }]
"#;
    let config = complete(&format!("{sections}{config}"), upstream);
    home.write("portcullis.toml", &config);
    home
}

/// The configuration with the upstream `app` and, unless it says otherwise, records in a file.
pub(crate) fn complete(config: &str, upstream: &Upstream) -> String {
    let log = if config.contains("[log]") { "" } else { "[log]\nrecords = \"file:records.log\"\n" };
    let address = upstream.address();
    format!(
        "{config}\n[[upstreams]]\nname = \"app\"\naddresses = [{{ host = \"{address}\" }}]\n{log}"
    )
}

/// The access records in the home's file, as soon as there are `count` of them.
#[track_caller]
pub(crate) fn records(home: &Home, count: usize) -> Vec<Value> {
    wait::until(&format!("{count} access records"), || {
        let text = std::fs::read_to_string(home.path("records.log")).unwrap_or_default();
        let whole = text.lines().count() >= count && text.ends_with('\n');
        whole.then(|| text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
    })
}

/// The two halves as two processes: `portcullis control` and `portcullis gateway`, each with a home
/// of its own.
pub(crate) struct SplitStage {
    pub(crate) gateway: Portcullis,
    pub(crate) control: Portcullis,
    pub(crate) owner: Admin,
    pub(crate) control_home: Home,
    pub(crate) gateway_home: Home,
    pub(crate) upstream: Upstream,
}

impl SplitStage {
    #[track_caller]
    pub(crate) fn with(upstream: Upstream, config: &str) -> Self {
        let control_home = Home::new();
        let control = control_home.start(&CONTROL_ARGS);
        let data = control_home.data();
        let verify_key =
            std::fs::read_to_string(data.join("feed-signing.pub")).expect("a public key");
        let sections = format!(
            "[gateway]\nid = \"gw-1\"\n[feed]\nmode = \"pull\"\nurl = \"http://{}\"\ntoken_file = \"{}\"\n\
             verify_key = \"{}\"\n[keys]\npeppers = [{{ id = 1, file = \"{}\" }}]\n",
            control.control(),
            data.join("gateway-token").display(),
            verify_key.trim(),
            data.join("pepper.1").display(),
        );
        let gateway_home = Home::new();
        gateway_home.write("portcullis.toml", &complete(&format!("{sections}{config}"), &upstream));
        let gateway = gateway_home.start(&FILE_ARGS).ready();
        let owner = control.owner(&control_home);
        Self { gateway, control, owner, control_home, gateway_home, upstream }
    }

    #[track_caller]
    pub(crate) fn ask(&self, key: &str) -> Answer {
        Request::get("/").bearer(key).send(self.gateway.gateway())
    }
}

/// How a control plane is started on a free port.
pub(crate) const CONTROL_ARGS: [&str; 5] =
    ["control", "--data", "DATA", "--control", "127.0.0.1:0"];

/// The reasons in the first `count` access records, in their order; `""` where the request passed.
#[track_caller]
pub(crate) fn reasons(home: &Home, count: usize) -> Vec<String> {
    let reason = |record: &Value| record["reason"].as_str().unwrap_or_default().to_owned();
    records(home, count).iter().map(reason).collect()
}
