//! Each product's story as its documentation tells it (create, use, rotate, disable, group,
//! revoke), from the outside, with nothing but the command line and the running gateway.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::claims::routes;
use crate::support::http::Request;
use crate::support::portcullis::command;
use crate::support::stage::Stage;
use crate::support::upstream::Upstream;

/// An organization under a product's profile, whose owner sits at the command line.
struct Story {
    stage: Stage,
}

impl Story {
    #[track_caller]
    fn begin(profile: &str) -> Self {
        let story = Self { stage: Stage::with(Upstream::uvicorn(), &routes()) };
        let operator = story.stage.home.data().join("operator-token");
        let args = [
            "org",
            "create",
            profile,
            "--profile",
            profile,
            "--owner",
            "olivia",
            "--email",
            "olivia@example.com",
            "--secret-file",
            "owner.key",
        ];
        let made = story.command(&args, &operator.display().to_string());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        story
    }

    fn command(&self, args: &[&str], token_file: &str) -> Output {
        command(args)
            .current_dir(self.stage.home.path(""))
            .env("PORTCULLIS_SERVER", format!("http://{}", self.stage.program.control()))
            .env("PORTCULLIS_TOKEN_FILE", token_file)
            .output()
            .expect("the program runs")
    }

    /// What the owner's command prints.
    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        let output = self.command(args, "owner.key");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// A command that must be refused; what it says.
    #[track_caller]
    fn refused(&self, args: &[&str]) -> String {
        let output = self.command(args, "owner.key");
        assert_eq!(output.status.code(), Some(1), "{args:?} must be refused");
        String::from_utf8(output.stderr).expect("text")
    }

    /// The key in a file that a command wrote.
    #[track_caller]
    fn key(&self, file: &str) -> String {
        fs::read_to_string(self.stage.home.path(file)).expect("a key").trim().to_owned()
    }

    /// The public id of the key in a file.
    #[track_caller]
    fn id(&self, account: &str, name: &str) -> String {
        let keys = self.json(&["key", "list", account]);
        let keys = keys.as_array().or_else(|| keys["items"].as_array()).expect("keys").clone();
        let key = keys.iter().find(|key| key["name"] == name).expect("a key of this name");
        key["id"].as_str().expect("an id").to_owned()
    }

    /// The status of a request at the gateway.
    #[track_caller]
    fn status(&self, method: &str, path: &str, key: &str) -> u16 {
        self.stage.send(&Request::new(method, path).bearer(key)).status
    }
}

#[test]
fn cast_ai() {
    let story = Story::begin("castai");
    for name in ["k1", "k2"] {
        story.run(&["resource", "create", name, "--kind", "cluster"]);
    }
    story.run(&["account", "create", "deployer", "--key", "first", "--secret-file", "first.key"]);
    let first = story.key("first.key");
    assert_eq!(story.status("GET", "/cluster/k1", &first), 403, "no access yet");

    // Give access to the organization, then to one cluster directly.
    story.run(&["binding", "create", "--account", "deployer", "--role", "viewer"]);
    assert_eq!(story.status("GET", "/cluster/k1", &first), 200);
    story.run(&[
        "binding",
        "create",
        "--account",
        "deployer",
        "--role",
        "member",
        "--on",
        "cluster/k1",
    ]);
    assert_eq!(story.status("POST", "/cluster/k1", &first), 200);
    assert_eq!(story.status("POST", "/cluster/k2", &first), 403);
    let access = story.run(&["account", "access", "deployer"]);
    assert!(access.contains("inherited") && access.contains("direct"), "{access}");

    // A further key, switched off and on, and deleted.
    story.run(&["key", "create", "deployer", "--name", "second", "--secret-file", "second.key"]);
    let (second, id) = (story.key("second.key"), story.id("deployer", "second"));
    story.run(&["key", "deactivate", &id, "--yes"]);
    assert_eq!(story.status("GET", "/any", &second), 401);
    story.run(&["key", "activate", &id]);
    assert_eq!(story.status("GET", "/any", &second), 200);
    let refused = story.refused(&["key", "rotate", &id, "--yes", "--secret-file", "x"]);
    assert!(refused.contains("operation_not_offered"), "{refused}");
    story.run(&["key", "delete", &id, "--yes"]);
    assert_eq!(story.status("GET", "/any", &second), 401);

    // Into a group and out again.
    story.run(&["group", "create", "operators"]);
    story.run(&[
        "binding",
        "create",
        "--group",
        "operators",
        "--role",
        "owner",
        "--on",
        "cluster/k2",
    ]);
    story.run(&["group", "add", "operators", "--account", "deployer"]);
    assert_eq!(story.status("DELETE", "/cluster/k2", &first), 200);
    story.run(&["group", "remove", "operators", "--account", "deployer", "--yes"]);
    assert_eq!(story.status("DELETE", "/cluster/k2", &first), 403);

    story.run(&["account", "delete", "deployer", "--yes"]);
    assert_eq!(story.status("GET", "/any", &first), 401);
    assert!(!story.run(&["account", "list"]).contains("deployer"));
}

#[test]
fn ai_hub() {
    let story = Story::begin("aihub");
    story.run(&["resource", "create", "invoices", "--kind", "workspace"]);
    story.run(&[
        "account",
        "create",
        "reader",
        "--role",
        "member",
        "--key",
        "token",
        "--secret-file",
        "a.key",
    ]);
    let first = story.key("a.key");
    assert_eq!(story.status("POST", "/workspace/invoices", &first), 200);

    // Refreshing replaces the value at once.
    let id = story.id("reader", "token");
    story.run(&["key", "rotate", &id, "--yes", "--secret-file", "b.key"]);
    let second = story.key("b.key");
    assert_eq!(story.status("GET", "/any", &first), 401);
    assert_eq!(story.status("GET", "/any", &second), 200);

    // Into a group; then disabled, which deletes the tokens and keeps the membership.
    story.run(&["group", "create", "analysts"]);
    story.run(&["binding", "create", "--group", "analysts", "--role", "executor"]);
    story.run(&["group", "add", "analysts", "--account", "reader"]);
    assert_eq!(story.status("PUT", "/organization", &second), 200);
    story.run(&["account", "deactivate", "reader", "--yes"]);
    assert_eq!(story.status("GET", "/any", &second), 401);
    story.run(&["account", "activate", "reader"]);
    assert_eq!(story.status("GET", "/any", &second), 401, "tokens stay gone");
    story.run(&["key", "create", "reader", "--name", "fresh", "--secret-file", "c.key"]);
    let third = story.key("c.key");
    assert_eq!(story.status("PUT", "/organization", &third), 200);

    story.run(&["key", "delete", "--all", "--account", "reader", "--yes"]);
    assert_eq!(story.status("GET", "/any", &third), 401);
    story.run(&["account", "delete", "reader", "--yes"]);
    assert!(!story.run(&["account", "list"]).contains("reader"));
}

#[test]
fn zenml_pro() {
    let story = Story::begin("zenml");
    story.run(&["resource", "create", "w1", "--kind", "workspace"]);
    story.run(&["account", "create", "pipelines", "--role", "org_member"]);
    story.run(&["key", "create", "pipelines", "--name", "default", "--secret-file", "a.key"]);
    let first = story.key("a.key");
    assert_eq!(story.status("GET", "/any", &first), 200);
    assert_eq!(story.status("POST", "/workspace/w1", &first), 403);
    story.run(&[
        "binding",
        "create",
        "--account",
        "pipelines",
        "--role",
        "manager",
        "--on",
        "workspace/w1",
    ]);
    assert_eq!(story.status("POST", "/workspace/w1", &first), 200);

    // Rotate with retention: both work; again: the oldest is dead.
    let id = story.id("pipelines", "default");
    story.run(&["key", "rotate", &id, "--retain-minutes", "60", "--secret-file", "b.key"]);
    let second = story.key("b.key");
    assert_eq!(
        (story.status("GET", "/any", &first), story.status("GET", "/any", &second)),
        (200, 200)
    );
    story.run(&["key", "rotate", &id, "--retain-minutes", "60", "--secret-file", "c.key"]);
    let third = story.key("c.key");
    assert_eq!(story.status("GET", "/any", &first), 401);
    assert_eq!(
        (story.status("GET", "/any", &second), story.status("GET", "/any", &third)),
        (200, 200)
    );

    // Deactivate account and key, activate again.
    story.run(&["account", "deactivate", "pipelines", "--yes"]);
    assert_eq!(story.status("GET", "/any", &third), 401);
    story.run(&["account", "activate", "pipelines"]);
    assert_eq!(story.status("GET", "/any", &third), 200);
    story.run(&["key", "deactivate", &id, "--yes"]);
    assert_eq!(story.status("GET", "/any", &third), 401);
    story.run(&["key", "activate", &id]);
    assert_eq!(story.status("GET", "/any", &third), 200);

    // A team gives what the account itself has not.
    story.run(&["group", "create", "team"]);
    story.run(&["binding", "create", "--group", "team", "--role", "viewer"]);
    story.run(&["group", "add", "team", "--account", "pipelines"]);
    assert_eq!(story.status("GET", "/organization", &third), 200);

    story.run(&["key", "delete", &id, "--yes"]);
    assert_eq!(story.status("GET", "/any", &third), 401);
    story.run(&["account", "delete", "pipelines", "--yes"]);
    assert!(!story.run(&["account", "list"]).contains("pipelines"));
}

#[test]
fn dezifi() {
    let story = Story::begin("dezifi");
    story.run(&[
        "role",
        "create",
        "runner",
        "--permission",
        "data:execute",
        "--permission",
        "data:read",
    ]);
    story.run(&[
        "account",
        "create",
        "nightly",
        "--description",
        "owned by Platform",
        "--role",
        "runner",
        "--key",
        "old",
        "--secret-file",
        "old.key",
    ]);
    let old = story.key("old.key");
    assert_eq!(story.status("PUT", "/organization", &old), 200);
    assert_eq!(story.status("POST", "/organization", &old), 403);

    // Rotation by a second key, without a gap.
    story.run(&["key", "create", "nightly", "--name", "new", "--secret-file", "new.key"]);
    let new = story.key("new.key");
    assert_eq!((story.status("GET", "/any", &old), story.status("GET", "/any", &new)), (200, 200));
    story.run(&["key", "revoke", &story.id("nightly", "old"), "--yes"]);
    assert_eq!((story.status("GET", "/any", &old), story.status("GET", "/any", &new)), (401, 200));

    // Revoking the account is final; the audit log still names it.
    story.run(&["account", "revoke", "nightly", "--yes"]);
    assert_eq!(story.status("GET", "/any", &new), 401);
    story.refused(&["account", "activate", "nightly"]);
    assert!(story.run(&["account", "list"]).contains("revoked"));
    let events = story.run(&["audit", "list"]);
    assert!(events.contains("service_account.revoke") && events.contains("nightly"), "{events}");
}

#[test]
fn precisely() {
    let story = Story::begin("precisely");
    story.run(&["group", "create", "analysts"]);
    story.run(&["policy", "create", "analysis"]);
    story.run(&[
        "binding", "create", "--group", "analysts", "--role", "viewer", "--policy", "analysis",
    ]);
    story.run(&["account", "create", "finance team", "--key", "ledger", "--secret-file", "a.key"]);
    let first = story.key("a.key");
    assert_eq!(story.status("GET", "/organization", &first), 403, "least privilege");
    story.run(&["group", "add", "analysts", "--account", "finance team"]);
    assert_eq!(story.status("GET", "/organization", &first), 200);
    story.run(&["policy", "disable", "analysis", "--yes"]);
    assert_eq!(story.status("GET", "/organization", &first), 403);
    story.run(&["policy", "enable", "analysis"]);
    assert_eq!(story.status("GET", "/organization", &first), 200);

    // Two keys and no third; regenerating keeps the id.
    story.run(&["key", "create", "finance team", "--name", "second", "--secret-file", "b.key"]);
    let third =
        story.refused(&["key", "create", "finance team", "--name", "third", "--secret-file", "x"]);
    assert!(third.contains("key_limit_reached") || third.contains("limit"), "{third}");
    let id = story.id("finance team", "ledger");
    story.run(&["key", "rotate", &id, "--yes", "--secret-file", "c.key"]);
    assert_eq!(story.id("finance team", "ledger"), id);
    assert_eq!(story.status("GET", "/any", &first), 401);
    let regenerated = story.key("c.key");
    assert_eq!(story.status("GET", "/organization", &regenerated), 200);

    story.run(&["key", "delete", &id, "--yes"]);
    assert_eq!(story.status("GET", "/any", &regenerated), 401);
    story.run(&["account", "delete", "finance team", "--yes"]);
    assert_eq!(story.status("GET", "/any", &story.key("b.key")), 401);
}
