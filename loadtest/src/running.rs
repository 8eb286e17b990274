//! A started contender. Ending it ends exactly the processes it consists of, by their ids.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::contenders::{Contender, Launch};
use crate::cost;

const STOP_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct Running {
    pub(crate) contender: Contender,
    pub(crate) listen: SocketAddr,
    child: Child,
    output: PathBuf,
    log: Option<PathBuf>,
}

impl Running {
    pub(crate) fn start(mut launch: Launch) -> Result<Self> {
        let output = File::create(&launch.output).context("creating the output file")?;
        let child = launch
            .command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", launch.contender.label()))?;
        Ok(Self {
            contender: launch.contender,
            listen: launch.listen,
            child,
            output: launch.output,
            log: launch.log,
        })
    }

    /// Ids of all its processes: the one started and everything below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        cost::tree(self.child.id())
    }

    /// Fails with what it printed if it has ended.
    pub(crate) fn must_live(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}): {}", self.contender.label(), self.last_words());
        }
        Ok(())
    }

    /// The end of what it printed.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let start = text.len().saturating_sub(2000);
        String::from_utf8_lossy(text.get(start..).unwrap_or_default()).trim().to_owned()
    }

    /// Memory once it has stopped moving (allocators give back what parsing took), or after 3 s.
    pub(crate) fn settled_memory(&self) -> Result<u64> {
        let mut last = cost::memory_bytes(&self.processes())?;
        for _ in 0..6 {
            std::thread::sleep(Duration::from_millis(500));
            let now = cost::memory_bytes(&self.processes())?;
            if now.abs_diff(last) < 64 * 1024 {
                return Ok(now);
            }
            last = now;
        }
        Ok(last)
    }

    /// Empties the log it writes, so that rounds do not fill the disk.
    pub(crate) fn empty_log(&self) -> Result<()> {
        if let Some(log) = &self.log {
            let file = File::options().write(true).open(log)?;
            file.set_len(0)?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let processes = self.processes();
        send(&processes[..1], Signal::TERM);
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        send(&processes, Signal::KILL);
        let _ = self.child.wait();
    }
}

fn send(processes: &[u32], signal: Signal) {
    for id in processes {
        if let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            // It may have ended in between, which is what we want.
            let _ = kill_process(pid, signal);
        }
    }
}
