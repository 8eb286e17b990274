//! Slow hashes of imported keys: two threads that do nothing else, a bounded queue before each,
//! and whoever comes too many is told so at once (threats.md A17). No worker ever runs one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use portcullis_core::directory::{Proof, SlowCheck};
use portcullis_core::key::ForeignKey;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Threads that hash.
const THREADS: usize = 2;
/// Checks that may wait before each of them.
const QUEUE: usize = 32;

struct Job {
    check: SlowCheck,
    presented: Arc<ForeignKey>,
    answer: oneshot::Sender<Proof>,
}

/// Where checks are handed in.
pub(crate) struct SlowHashes {
    queues: Vec<mpsc::Sender<Job>>,
    next: AtomicUsize,
}

/// The other ends of the queues, until threads are given to them.
pub(crate) struct SlowThreads(Vec<mpsc::Receiver<Job>>);

/// Every queue is full, or the threads have ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// Both ends; nothing runs yet.
pub(crate) fn queues() -> (SlowHashes, SlowThreads) {
    let (queues, ends) = (0..THREADS).map(|_| mpsc::channel(QUEUE)).unzip();
    (SlowHashes { queues, next: AtomicUsize::new(0) }, SlowThreads(ends))
}

impl SlowHashes {
    /// Hands a check in. The answer comes when it comes; it never does if the gateway ends.
    pub(crate) fn submit(
        &self,
        check: SlowCheck,
        presented: Arc<ForeignKey>,
    ) -> Result<oneshot::Receiver<Proof>, Busy> {
        let (answer, receiver) = oneshot::channel();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let mut job = Job { check, presented, answer };
        for step in 0..self.queues.len() {
            let place = first.wrapping_add(step) % self.queues.len();
            let Some(queue) = self.queues.get(place) else { break };
            job = match queue.try_send(job) {
                Ok(()) => return Ok(receiver),
                Err(refused) => refused.into_inner(),
            };
        }
        Err(Busy)
    }
}

impl SlowThreads {
    /// Starts the threads; they end when `stopped` is cancelled.
    pub(crate) fn start(self, stopped: &CancellationToken) -> io::Result<Vec<JoinHandle<()>>> {
        let ends = self.0.into_iter().enumerate();
        ends.map(|(number, queue)| {
            let stopped = stopped.clone();
            Builder::new().name(format!("hash-{number}")).spawn(move || work(queue, &stopped))
        })
        .collect()
    }
}

fn work(mut queue: mpsc::Receiver<Job>, stopped: &CancellationToken) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else {
        tracing::error!("a thread for slow hashes has no runtime; imported bcrypt keys answer 503");
        return;
    };
    while let Some(job) = runtime.block_on(async {
        tokio::select! {
            job = queue.recv() => job,
            () = stopped.cancelled() => None,
        }
    }) {
        let Job { check, presented, answer } = job;
        // Whoever went away meanwhile needs no answer, and no work.
        if !answer.is_closed() {
            let _ = answer.send(check.run(&presented));
        }
    }
}
