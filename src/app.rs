//! The application: from a configuration to bound sockets, from there to running planes, and from
//! there to the end of the last accepted request. It decides nothing about requests or keys.
//!
//! ```text
//! build(&config, halves, clock, entropy)? → Bound     every address is real, nothing is served yet
//! bound.run()?                            → Running   both planes serve
//! running.drain()?                                    accepted requests finish, threads end
//! ```
//!
//! `portcullis up` builds both halves in one process and `portcullis control` and `portcullis
//! gateway` one each. There is one code path: also in one process the gateway follows the control
//! plane through the feed on loopback and shares no memory with it.

mod control_half;
mod gateway_half;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_control::Started;
use portcullis_core::entropy::Entropy;
use portcullis_core::time::Clock;
use portcullis_gateway::GatewayHandle;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use control_half::import;
use control_half::{ControlHalf, RunningControl};
use gateway_half::{GatewayHalf, RunningGateway};
pub use reload::{FileWatch, Reloader, Source};

use crate::config::{AdminAddress, Config};
use crate::telemetry::LogLevel;

/// The owner's key of the organization `default`, in the data directory.
pub const ADMIN_TOKEN: &str = "admin-token";
/// The installation operator's key, in the data directory.
pub const OPERATOR_TOKEN: &str = "operator-token";

/// Which halves of the product this process runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Halves {
    /// `portcullis up`
    Both,
    /// `portcullis control`
    Control,
    /// `portcullis gateway`
    Gateway,
}

/// Every address the process really listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The gateway's listeners, name and address, in configured order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<(String, SocketAddr)>,
    /// The admin API and the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<SocketAddr>,
    /// The operator's listener of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<AdminAddress>,
}

/// Opens everything the process needs and binds every socket; serves nothing yet. Blocks, so it
/// must not be called inside an asynchronous runtime.
///
/// # Errors
///
/// [`crate::config::Faults`] for a configuration that cannot be used, any other error for a start
/// that failed.
pub fn build(
    config: &Config,
    halves: Halves,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> anyhow::Result<Bound> {
    let control = match halves {
        Halves::Both | Halves::Control => Some(ControlHalf::build(config, clock, entropy)?),
        Halves::Gateway => None,
    };
    let gateway = match (halves, &control) {
        (Halves::Control, _) => None,
        (Halves::Both | Halves::Gateway, control) => {
            Some(GatewayHalf::build(config, control.as_ref(), clock, entropy)?)
        }
    };
    Ok(Bound { control, gateway })
}

/// An application whose sockets are open.
pub struct Bound {
    control: Option<ControlHalf>,
    gateway: Option<GatewayHalf>,
}

impl Bound {
    /// The real addresses.
    pub fn addresses(&self) -> Addresses {
        let gateway = self.gateway.as_ref();
        Addresses {
            listeners: gateway.map(|half| half.bound.addresses().to_vec()).unwrap_or_default(),
            control: self.control.as_ref().map(|half| half.bound.address()),
            admin: gateway.map(|half| half.admin.address()),
        }
    }

    /// Whether this start made the database.
    pub fn first_start(&self) -> bool {
        self.control.as_ref().is_some_and(|half| half.started == Started::New)
    }

    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// When the operating system gives no thread.
    pub fn run(self) -> anyhow::Result<Running> {
        let addresses = self.addresses();
        let drain_asked = CancellationToken::new();
        let control_ended = CancellationToken::new();
        let control = self.control.map(|half| half.run(control_ended.clone()));
        let gateway = self.gateway.map(|half| half.run(drain_asked.clone())).transpose()?;
        Ok(Running { addresses, control, gateway, drain_asked, control_ended })
    }
}

/// An application that serves.
pub struct Running {
    addresses: Addresses,
    control: Option<RunningControl>,
    gateway: Option<RunningGateway>,
    drain_asked: CancellationToken,
    control_ended: CancellationToken,
}

impl Running {
    /// The real addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The gateway half, if there is one.
    pub fn gateway(&self) -> Option<GatewayHandle> {
        self.gateway.as_ref().map(RunningGateway::handle)
    }

    /// What reloads the configuration from `source`, of which `started` is in force and `seen` the
    /// file as it was before it was read. There is one; a second would reload nothing.
    pub fn reloader(
        &mut self,
        source: Source,
        seen: FileWatch,
        started: &Config,
        level: LogLevel,
    ) -> Reloader {
        let target = self.gateway.as_mut().and_then(RunningGateway::reload_target);
        Reloader::new(source, seen, started.clone(), target, level)
    }

    /// Cancelled when somebody asked for the drain through the admin listener.
    pub fn drain_asked(&self) -> CancellationToken {
        self.drain_asked.clone()
    }

    /// Cancelled when the control half has ended by itself, which it never should.
    pub fn control_ended(&self) -> CancellationToken {
        self.control_ended.clone()
    }

    /// Accepts nothing more, waits until every accepted request was answered (at most
    /// `timeouts.drain`), and ends every thread. The gateway goes first, so that it follows the
    /// control plane to the end. Blocks.
    ///
    /// # Errors
    ///
    /// When a half had failed.
    pub fn drain(self) -> anyhow::Result<()> {
        let result = self.gateway.map_or(Ok(()), RunningGateway::drain);
        result.and(self.control.map_or(Ok(()), RunningControl::drain))
    }
}
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use portcullis_core::time::{MonoNs, Now, WallMs};

    use std::path::Path;

    use super::*;
    use crate::config::{self, Faults};
    use crate::system::{SystemClock, SystemEntropy};

    /// Real durations, and a wall clock that the test sets.
    struct SetClock {
        system: SystemClock,
        wall_ms: AtomicU64,
    }

    impl Clock for SetClock {
        fn now(&self) -> Now {
            let MonoNs(mono) = self.system.now().mono;
            Now { wall: WallMs(self.wall_ms.load(Ordering::SeqCst)), mono: MonoNs(mono) }
        }
    }

    fn config(data: &Path) -> Config {
        let text = "[control]\nlisten = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
                    [gateway]\nworkers = 1\n[log]\nrecords = \"off\"\n\
                    [[listeners]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n";
        config::parse(text, data, &BTreeMap::new()).expect("the configuration is valid")
    }

    fn system() -> (Arc<dyn Clock>, Arc<dyn Entropy>) {
        let clock =
            SetClock { system: SystemClock::new(), wall_ms: AtomicU64::new(1_800_000_000_000) };
        (Arc::new(clock), Arc::new(SystemEntropy))
    }

    #[test]
    fn both_halves_start_in_process_with_an_injected_clock_and_drain() {
        let scratch = tempfile::tempdir().expect("the machine has a temporary directory");
        let config = config(scratch.path());
        let (clock, entropy) = system();

        let bound = build(&config, Halves::Both, &clock, &entropy).expect("it starts");
        assert!(bound.first_start());
        let running = bound.run().expect("it runs");
        let Addresses { listeners, control, admin } = running.addresses().clone();
        assert!(listeners.iter().all(|(_, address)| address.port() != 0));
        assert!(control.is_some_and(|address| address.port() != 0));
        assert!(matches!(admin, Some(AdminAddress::Tcp(address)) if address.port() != 0));
        running.drain().expect("it ends");

        let again = build(&config, Halves::Both, &clock, &entropy).expect("it starts again");
        assert!(!again.first_start());
    }

    #[test]
    fn a_gateway_alone_names_everything_it_lacks() {
        let (clock, entropy) = system();
        let config = config(Path::new("/nowhere"));
        let refusal = build(&config, Halves::Gateway, &clock, &entropy).err().expect("refused");
        let faults = refusal.downcast::<Faults>().expect("a configuration error");
        let keys: Vec<&str> = faults.faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["gateway.id", "feed.url", "feed.token_file", "keys.peppers"]);
    }
}
