//! A person at the command line: the true program as a client of the admin API.

use std::process::{Command, Output};

use serde_json::Value;

use super::portcullis::command;
use super::stage::Stage;

/// Runs commands against a stage, in its home and with its owner's token.
pub(crate) struct Operator<'s>(pub(crate) &'s Stage);

impl Operator<'_> {
    /// The command's end, whatever it is.
    pub(crate) fn try_run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program runs")
    }

    /// The command, ready to run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let home = &self.0.home;
        let mut command = command(args);
        command
            .current_dir(home.path(""))
            .env("PORTCULLIS_SERVER", format!("http://{}", self.0.program.control()))
            .env("PORTCULLIS_TOKEN_FILE", home.data().join("admin-token"))
            .env("PORTCULLIS_GATEWAY", format!("http://{}", self.0.program.admin_listener()))
            .env("PORTCULLIS_GATEWAY_TOKEN_FILE", home.data().join("operator-token"));
        command
    }

    /// What a command that succeeds prints.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same for scripts.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}
