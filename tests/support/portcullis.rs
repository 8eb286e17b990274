//! The true `portcullis` program: started on port 0 in a temporary directory, watched through its
//! standard output, its files and its sockets, ended by signals as an operator or a power failure
//! would end it.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::admin::Admin;
use super::http::Request;
use super::wait;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// A command of the program with an environment that holds nothing of the developer's.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .args(args)
        .stdin(Stdio::null());
    command
}

/// Runs a command of the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().expect("the program runs")
}

/// A temporary directory with a configuration file and a data directory.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    pub(crate) fn token(&self, name: &str) -> String {
        let path = self.data().join(name);
        let text = std::fs::read_to_string(&path);
        text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }

    /// Starts `portcullis up` in front of one upstream, every path needing a valid key.
    pub(crate) fn up(&self, upstream: &str) -> Portcullis {
        self.start(&[
            "up",
            "--data",
            "DATA",
            "--listen",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--upstream",
            upstream,
        ])
    }

    /// Starts `portcullis up` with this configuration; the addresses are added.
    pub(crate) fn up_with(&self, config: &str) -> Portcullis {
        self.write("portcullis.toml", config);
        self.start(&[
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
        ])
    }

    /// Starts the program and waits until it says that it is up. In `args`, `DATA` and `CONFIG`
    /// stand for the paths of the data directory and the configuration file.
    #[track_caller]
    pub(crate) fn start(&self, args: &[&str]) -> Portcullis {
        self.try_start(args)
            .unwrap_or_else(|(status, log)| panic!("it does not start: {status}\n{log}"))
    }

    /// Like [`Home::start`], for programs that must not come up: their exit status and standard
    /// error.
    pub(crate) fn try_start(&self, args: &[&str]) -> Result<Portcullis, (ExitStatus, String)> {
        self.launch(command(&[]), args)
    }

    /// Starts the program such that a file size limit makes its writes fail, as a full disk does,
    /// instead of ending it.
    #[track_caller]
    pub(crate) fn start_with_failing_writes(&self, args: &[&str]) -> Portcullis {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, PROGRAM]).stdin(Stdio::null());
        self.launch(shell, args)
            .unwrap_or_else(|(status, log)| panic!("it does not start: {status}\n{log}"))
    }

    /// Starts the program such that it may not write what is in this home: as another user if this
    /// one may write everything.
    #[track_caller]
    pub(crate) fn start_unable_to_write(&self, args: &[&str]) -> Portcullis {
        self.try_start_unable_to_write(args)
            .unwrap_or_else(|(status, log)| panic!("it does not start: {status}\n{log}"))
    }

    pub(crate) fn try_start_unable_to_write(
        &self,
        args: &[&str],
    ) -> Result<Portcullis, (ExitStatus, String)> {
        if !rustix::process::geteuid().is_root() {
            return self.launch(command(&[]), args);
        }
        // It must be able to get at the program, wherever that was built.
        let program = self.path("program");
        if !program.exists() {
            std::fs::copy(PROGRAM, &program).expect("a copy of the program");
        }
        let mut other = Command::new(program);
        other.env_clear().stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        self.launch(other, args)
    }

    /// Takes or gives the right to write the data directory and everything in it.
    pub(crate) fn forbid_writing(&self, forbid: bool) {
        let owner = match (rustix::process::geteuid().is_root(), forbid) {
            (true, true) => Some(NOBODY),
            (true, false) => Some(0),
            (false, _) => None,
        };
        let own = |path: &Path, mode: u32| {
            if owner.is_some() {
                chown(path, owner, owner).expect("the owner is changed");
            }
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
        };
        std::fs::set_permissions(self.directory.path(), Permissions::from_mode(0o755))
            .expect("a mode");
        for entry in std::fs::read_dir(self.data()).expect("the data directory") {
            own(&entry.expect("an entry").path(), if forbid { 0o400 } else { 0o600 });
        }
        own(&self.data(), if forbid { 0o500 } else { 0o700 });
    }

    /// Starts the program with at most so many open descriptors.
    #[track_caller]
    pub(crate) fn start_with_descriptors(&self, count: u32, args: &[&str]) -> Portcullis {
        let mut shell = Command::new("/bin/sh");
        let script = format!(r#"ulimit -n {count}; exec "$0" "$@""#);
        shell.args(["-c", &script, PROGRAM]).stdin(Stdio::null());
        self.launch(shell, args)
            .unwrap_or_else(|(status, log)| panic!("it does not start: {status}\n{log}"))
    }

    fn launch(
        &self,
        mut command: Command,
        args: &[&str],
    ) -> Result<Portcullis, (ExitStatus, String)> {
        let (data, config) = (self.data(), self.path("portcullis.toml"));
        command.args(args.iter().map(|arg| match *arg {
            "DATA" => data.as_os_str(),
            "CONFIG" => config.as_os_str(),
            other => OsStr::new(other),
        }));
        let log = self.directory.path().join(format!("log-{}", args[0]));
        let errors = File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child = command
            .current_dir(self.directory.path())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        let lines = read_lines(child.stdout.take().expect("standard output is a pipe"));
        let mut seen = Vec::new();
        let start = loop {
            match lines.recv_timeout(wait::PATIENCE) {
                Ok(line) => {
                    let start = Start::parse(&line);
                    seen.push(line);
                    if let Some(start) = start {
                        break start;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    panic!(
                        "no start line in {:?}; it said {seen:?}\n{}",
                        wait::PATIENCE,
                        read(&log)
                    );
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = child.wait().expect("the program ended");
                    return Err((status, read(&log)));
                }
            }
        };
        Ok(Portcullis { child, start, log, lines, seen: RefCell::new(seen) })
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What the machine-readable start line says: the addresses that port 0 became.
struct Start {
    gateway: Option<SocketAddr>,
    control: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    /// The admin listener as it was said.
    admin_text: String,
}

impl Start {
    fn parse(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        if line["event"] != "started" {
            return None;
        }
        let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok());
        Some(Self {
            gateway: address(&line["gateway"]),
            control: address(&line["control"]),
            admin: address(&line["admin"]),
            admin_text: line["admin"].as_str().unwrap_or_default().to_owned(),
        })
    }
}

/// The running program; killed when dropped.
pub(crate) struct Portcullis {
    child: Child,
    start: Start,
    log: PathBuf,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Portcullis {
    /// Where requests go.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.start.gateway.expect("it runs a gateway")
    }

    /// Where the admin API and the feed are.
    pub(crate) fn control(&self) -> SocketAddr {
        self.start.control.expect("it runs a control plane")
    }

    /// Where liveness, readiness and metrics are.
    pub(crate) fn admin_listener(&self) -> SocketAddr {
        self.start.admin.expect("it has an admin listener")
    }

    /// The path of the admin listener's socket file.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        PathBuf::from(self.start.admin_text.strip_prefix("unix:").expect("a socket file"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The owner of the organization `default`, at the admin API.
    pub(crate) fn owner(&self, home: &Home) -> Admin {
        Admin::new(self.control(), home.token("admin-token"))
    }

    /// Everything on standard error so far.
    pub(crate) fn log(&self) -> String {
        read(&self.log)
    }

    /// Every line on standard output so far.
    pub(crate) fn output(&self) -> Vec<String> {
        self.seen.borrow_mut().extend(self.lines.try_iter());
        self.seen.borrow().clone()
    }

    /// Waits until the gateway is ready to decide.
    pub(crate) fn ready(self) -> Self {
        let admin = self.admin_listener();
        wait::until("readiness", || {
            Request::get("/readyz").try_send(admin).filter(|answer| answer.status == 200)
        });
        self
    }

    /// The value of one metric line, named with its labels as in the text format; 0 if absent.
    pub(crate) fn metric(&self, line_start: &str) -> f64 {
        let text = self.metrics();
        let value =
            text.lines().find_map(|line| line.strip_prefix(line_start)?.trim().parse().ok());
        value.unwrap_or(0.0)
    }

    /// The whole text of the metrics page.
    pub(crate) fn metrics(&self) -> String {
        let answer = Request::get("/metrics").send(self.admin_listener()).expect_status(200);
        answer.text().to_owned()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = read(Path::new(&format!("/proc/{}/status", self.pid())));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let digits = line.and_then(|line| line.split_whitespace().next()).expect("a resident size");
        digits.parse().expect("a number")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("the program is there to be told");
    }

    /// Waits for the end and returns the exit status.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait::until("the program's end", || self.child.try_wait().expect("our own child"))
    }

    /// Ctrl-C, then the exit status.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.wait()
    }

    /// A power failure, as far as a process can tell.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the program is there to be killed");
        self.wait();
    }
}

impl Drop for Portcullis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the end of the program's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}
