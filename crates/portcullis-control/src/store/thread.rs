//! The thread on which changes run: a runtime of its own, on one core together with the thread on
//! which SQLite writes.
//!
//! A change hands some twenty statements to SQLite's thread, one after the other, and waits for each.
//! The two never work at the same time, so one core is all that they can use. On two cores each
//! handing over wakes a core that has gone to sleep meanwhile (docs/adr/0017).
//!
//! A thread inherits the cores of the thread that starts it. So the writing connection is opened from
//! here, connections that read are opened elsewhere when the store is, and threads for work that
//! blocks get all cores back.

use std::io;
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// Ends, with all that runs on it, when it is dropped.
pub(super) struct ChangeThread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl ChangeThread {
    /// Starts it on the core that it happens to start on.
    pub(super) fn start() -> io::Result<ChangeThread> {
        let all_cores = sched_getaffinity(None)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("changes-blocking")
            .on_thread_start(move || stay_on(&all_cores))
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("changes".to_owned()).spawn(move || {
            let mut here = CpuSet::new();
            here.set(sched_getcpu());
            stay_on(&here);
            let _ = runtime.block_on(ended);
        })?;
        Ok(ChangeThread { handle, _end: end })
    }

    /// Starts the work there.
    pub(super) fn spawn<W>(&self, work: W) -> JoinHandle<W::Output>
    where
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        self.handle.spawn(work)
    }

    /// Runs the work there. Whoever stops waiting stops the work, too.
    ///
    /// # Errors
    ///
    /// The thread has ended.
    pub(super) async fn run<W>(&self, work: W) -> Result<W::Output, sqlx::Error>
    where
        W: Future<Output: Send + 'static> + Send + 'static,
    {
        match AbortOnDropHandle::new(self.spawn(work)).await {
            Ok(output) => Ok(output),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_ended) => Err(sqlx::Error::PoolClosed),
            },
        }
    }
}

/// It is a matter of speed alone, so a system that does not allow it is fine.
fn stay_on(cores: &CpuSet) {
    if let Err(error) = sched_setaffinity(None, cores) {
        tracing::debug!(%error, "a thread of the store has no core of its own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores() -> u32 {
        sched_getaffinity(None).expect("the cores of this thread").count()
    }

    #[tokio::test]
    async fn what_runs_there_shares_one_core_and_what_blocks_has_them_all() {
        let thread = ChangeThread::start().expect("a thread");
        let there = thread.run(async { (cores(), thread::spawn(cores).join().expect("a thread")) });
        assert_eq!(there.await.expect("it runs"), (1, 1));
        let beside = async { tokio::task::spawn_blocking(cores).await.expect("a thread") };
        assert_eq!(thread.run(beside).await.expect("it runs"), cores());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let thread = ChangeThread::start().expect("a thread");
        let (alive, mut dropped) = oneshot::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let work = thread.run(async move {
            let _ = begin.send(());
            std::future::pending::<()>().await;
            drop(alive);
        });
        tokio::select! {
            _ = work => unreachable!("it never ends"),
            begun = begun => begun.expect("it began"),
        }
        (&mut dropped).await.expect_err("the other end was dropped with the work");
    }

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_is_the_callers() {
        let thread = ChangeThread::start().expect("a thread");
        let _ = thread.run(async { panic!("as it was") }).await;
    }
}
