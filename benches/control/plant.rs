//! The control plane under measurement, on its data. It ends exactly the process it started.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::client::Client;

pub(crate) struct Plant {
    pub(crate) address: String,
    pub(crate) gateway: String,
    pub(crate) organization: String,
    /// What `populate` says it made.
    pub(crate) populated: Value,
    pub(crate) opened_in: Duration,
    admin: String,
    child: Child,
}

/// One of the accounts that `populate` made, and one of its keys.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) account: String,
    pub(crate) key: String,
}

impl Plant {
    pub(crate) fn start(data: &Path) -> Plant {
        let populated = std::fs::read(data.join("populated.json")).expect("populated.json");
        let populated: Value = serde_json::from_slice(&populated).expect("JSON");
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["control", "--control", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it has an output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let said: Value = serde_json::from_str(&line).expect("it started");
        let opened_in = started.elapsed();
        let organization = populated["organization"].as_str().expect("its id");
        Plant {
            address: said["control"].as_str().expect("an address").to_owned(),
            admin: token(data, "admin-token"),
            gateway: token(data, "gateway-token"),
            organization: format!("/v1/organizations/{organization}"),
            opened_in,
            populated,
            child,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address, &self.admin).await
    }

    /// A path below the organization.
    pub(crate) fn o(&self, rest: &str) -> String {
        format!("{}{rest}", self.organization)
    }

    /// An id that `populate` wrote down.
    pub(crate) fn id(&self, name: &str) -> &str {
        self.populated[name].as_str().expect("populate wrote it down")
    }

    /// Active accounts with active keys, spread over all.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let samples = self.populated["samples"].as_array().expect("samples");
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let samples =
            samples.iter().map(|pair| Sample { account: text(&pair[0]), key: text(&pair[1]) });
        samples.collect()
    }

    /// Resident memory of the control plane.
    pub(crate) fn resident_mib(&self) -> f64 {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id()));
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }

    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it is there");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        // After a panic; ended before otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn token(data: &Path, name: &str) -> String {
    std::fs::read_to_string(data.join(name)).expect("a token file").trim().to_owned()
}
