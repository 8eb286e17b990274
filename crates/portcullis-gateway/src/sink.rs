//! Where access records end: a thread that writes what workers send it. It never makes a worker
//! wait, and a sink that cannot be written to stops no traffic.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use crate::settings::Records;

/// Buffers of records that may wait for the sink.
const QUEUE: usize = 64;

/// What records are written to.
pub(crate) type Out = Box<dyn Write + Send>;

/// What `log.records` means.
///
/// # Errors
///
/// When the file cannot be opened.
pub(crate) fn open(records: &Records) -> io::Result<Out> {
    Ok(match records {
        Records::Off => Box::new(io::sink()),
        Records::Stdout => Box::new(io::stdout()),
        Records::File(path) => {
            Box::new(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
        }
    })
}

/// The thread's part.
pub(crate) struct Sink {
    lines: Receiver<String>,
    outs: Receiver<Out>,
    out: Out,
}

impl Sink {
    /// A sink that writes to `out`, its queue, and the way to give it another `out`.
    pub(crate) fn new(out: Out) -> (Self, SyncSender<String>, Sender<Out>) {
        let (line, lines) = sync_channel(QUEUE);
        let (next, outs) = channel();
        (Self { lines, outs, out }, line, next)
    }

    /// Writes until every worker has ended.
    pub(crate) fn run(mut self) {
        for text in self.lines {
            if let Some(newest) = self.outs.try_iter().last() {
                self.out = newest;
            }
            if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush())
            {
                tracing::error!(%error, "access records are lost: the sink cannot be written to");
            }
        }
    }
}
