//! The machine, the programs' versions and the commit: what a figure is worth nothing without.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::contenders::Contender;
use crate::site::Tools;

#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let kib = value_of(&memory, "MemTotal")
            .and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok())
            .unwrap_or_default();
        let family = ["cpu family", "model", "stepping"]
            .map(|field| value_of(&cpu, field).unwrap_or("?"))
            .join("/");
        Ok(Self {
            cpu: format!("{} ({family})", value_of(&cpu, "model name").unwrap_or("unknown CPU")),
            cores: cpu.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: kib / 1024.0 / 1024.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

fn value_of<'t>(text: &'t str, field: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == field).then(|| value.trim())
    })
}

/// Binds this process, and what it starts from now on, to one core.
pub(crate) fn pin_to(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("binding to core {core}"))
}

/// The checked-out commit of the product, marked if there are changes on top.
pub(crate) fn commit() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut git = Command::new("git");
    git.current_dir(source).args(["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]);
    first_line(git).unwrap_or_else(|| "unknown".to_owned())
}

/// The date and time in UTC.
pub(crate) fn now() -> String {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]);
    first_line(date).unwrap_or_else(|| "unknown".to_owned())
}

/// What a contender's program says of its version.
pub(crate) fn version(contender: Contender, tools: &Tools) -> String {
    let flag = match contender {
        Contender::Floor => return "src/bin/floor.rs".to_owned(),
        Contender::HyperRelay => return locked("hyper"),
        Contender::Pingora => return locked("pingora-proxy"),
        Contender::Nginx | Contender::NginxLog | Contender::Haproxy => "-v",
        Contender::Envoy | Contender::Portcullis | Contender::PortcullisRecords => "--version",
    };
    let mut command = Command::new(tools.program_of(contender));
    command.arg(flag);
    first_line(command).unwrap_or_else(|| "unknown".to_owned())
}

/// The version of a package in our own lock file.
fn locked(package: &str) -> String {
    let name = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    format!("{package} {}", version.unwrap_or("unknown").trim_matches('"'))
}

/// The first line with anything on it, from either stream: nginx answers on standard error.
fn first_line(mut command: Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    // Envoy puts its path before the word.
    Some(line.rsplit_once("version: ").map_or(line, |(_, version)| version).to_owned())
}
