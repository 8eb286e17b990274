//! A gateway from its settings to its end: bind, run, drain, join. Holds the threads; decides
//! nothing about requests.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::entropy::Entropy;
use portcullis_core::time::Clock;

use crate::settings::{Fault, Settings};
use crate::status::{Explanation, Question, Status};

/// Checks `settings` as a whole and opens every listening socket; starts nothing.
///
/// # Errors
///
/// [`BindError`]; every [`Fault`] of the settings is reported at once, before the first socket.
pub fn bind(
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    registry: &prometheus::Registry,
) -> Result<Bound, BindError> {
    let _ = (settings, clock, entropy, registry);
    Err(BindError::Settings(Vec::new()))
}

/// Why a gateway could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listening socket could not be opened.
    #[error("listeners.{listener}.address: cannot listen on {address}: {source}")]
    Address {
        /// Name of the listener.
        listener: String,
        /// The address it asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The random generator gave no seed.
    #[error(transparent)]
    Entropy(#[from] portcullis_core::entropy::EntropyFailure),
    /// A metric is registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The file for access records could not be opened.
    #[error("log.records: cannot open {path}: {source}")]
    Records {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The settings contradict themselves.
    #[error("the configuration has {} faults", .0.len())]
    Settings(Vec<Fault>),
}

/// A gateway whose sockets are open and whose threads are not started.
#[derive(Debug)]
pub struct Bound {}

impl Bound {
    /// Every listener's name and true address, in configured order.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &[]
    }

    /// What may be done with the gateway from outside, also before it runs.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle {}
    }

    /// Starts the steward and the workers.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread.
    pub fn run(self) -> io::Result<Running> {
        Ok(Running {})
    }
}

/// A gateway that runs. Dropping it neither stops nor waits for it; [`Running::join`] does.
#[derive(Debug)]
pub struct Running {}

impl Running {
    /// What may be done with the gateway from outside.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle {}
    }

    /// Waits until every thread has ended, which they do after a drain. Blocks: call it from a
    /// thread that may.
    pub fn join(self) {}
}

/// What the rest of the process may do with a gateway. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct GatewayHandle {}

impl GatewayHandle {
    /// The gateway's state now.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Would this request pass with this key, and why (not)?
    pub fn explain(&self, question: &Question) -> Explanation {
        let _ = question;
        unimplemented!()
    }

    /// Begins the drain: no new connections, accepted requests finish, at most `deadline` long
    /// (`timeouts.drain` by default).
    pub fn drain(&self, deadline: Option<Duration>) {
        let _ = deadline;
    }
}
