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

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_control::{FeedSigner, FirstTokens, Started};
use portcullis_core::entropy::Entropy;
use portcullis_core::key::{Pepper, PepperRing};
use portcullis_core::time::Clock;
use portcullis_gateway::{BindError, Feed, FeedToken, GatewayHandle};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::config::sections::FeedMode;
use crate::config::{self, Config, Fault, Faults, Place};
use crate::files::{DataDirectory, read_secret_bytes, read_token, write_token, write_whole};

/// The owner's key of the organization `default`, in the data directory.
pub const ADMIN_TOKEN: &str = "admin-token";
/// The installation operator's key, in the data directory.
pub const OPERATOR_TOKEN: &str = "operator-token";
/// What gateways show at the feed, in the data directory.
const GATEWAY_TOKEN: &str = "gateway-token";
/// The pepper made on the first start, in the data directory.
const PEPPER: &str = "pepper.1";
/// The seed of the feed's signatures, in the data directory.
const FEED_SIGNING_KEY: &str = "feed-signing.key";
/// Its public half, for `feed.verify_key`.
const FEED_SIGNING_PUBLIC: &str = "feed-signing.pub";
/// The database, in the data directory.
const DATABASE: &str = "portcullis.db";

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
    pub admin: Option<SocketAddr>,
}

/// Opens everything the process needs and binds every socket; serves nothing yet. Blocks, so it
/// must not be called inside an asynchronous runtime.
///
/// # Errors
///
/// [`Faults`] for a configuration that cannot be used, any other error for a start that failed.
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
        let gateway = match self.gateway {
            Some(GatewayHalf { bound, admin, drain }) => {
                let running = bound.run().context("the gateway's threads cannot be started")?;
                let admin = admin.run(running.handle(), drain_asked.clone())?;
                Some(RunningGateway { running, admin, drain })
            }
            None => None,
        };
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

struct RunningGateway {
    running: portcullis_gateway::Running,
    admin: admin::Running,
    drain: Duration,
}

impl Running {
    /// The real addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The gateway half, if there is one.
    pub fn gateway(&self) -> Option<GatewayHandle> {
        self.gateway.as_ref().map(|gateway| gateway.running.handle())
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
        let mut result = Ok(());
        if let Some(RunningGateway { running, admin, drain }) = self.gateway {
            running.handle().drain(Some(drain));
            result = running.join().context("the gateway failed");
            admin.end();
        }
        result.and(self.control.map_or(Ok(()), RunningControl::drain))
    }
}

/// The control plane with its data directory, not yet serving.
struct ControlHalf {
    directory: DataDirectory,
    runtime: Runtime,
    bound: portcullis_control::Bound,
    started: Started,
    /// What the gateway half of the same process needs to know.
    feed_public_key: String,
    drain: Duration,
}

impl ControlHalf {
    fn build(
        config: &Config,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> anyhow::Result<Self> {
        let directory = DataDirectory::open(&config.control.data_dir)?;
        let database =
            config.control.database.0.clone().unwrap_or_else(|| directory.join(DATABASE));
        let database_exists = database
            .try_exists()
            .with_context(|| format!("{} cannot be examined", database.display()))?;
        let first_start = !database_exists;
        if config.keys.peppers.is_empty() {
            directory.secret_bytes(PEPPER, first_start, entropy.as_ref())?;
        }
        let seed = directory.secret_bytes(FEED_SIGNING_KEY, first_start, entropy.as_ref())?;
        let signer = FeedSigner::from_seed(&seed);
        let feed_public_key = signer.public_key();
        let public_path = directory.join(FEED_SIGNING_PUBLIC);
        if first_start || !public_path.exists() {
            write_whole(&public_path, format!("{feed_public_key}\n").as_bytes(), 0o644)?;
        }
        let peppers = read_peppers(config, Some(&directory))?;
        let settings = config::control_settings(config, database, peppers, signer)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .context("the control plane's threads cannot be started")?;
        let listen = config.control.listen;
        let (bound, started) = runtime.block_on(async {
            let control =
                portcullis_control::open(settings, Arc::clone(clock), Arc::clone(entropy)).await?;
            let started = control.bootstrap(|tokens| deliver(&directory, tokens)).await?;
            let bound = control.bind().await.with_context(|| {
                format!("control.listen: cannot listen on {listen}; choose another with --control")
            })?;
            anyhow::Ok((bound, started))
        })?;
        let drain = config.timeouts.drain.0;
        Ok(Self { directory, runtime, bound, started, feed_public_key, drain })
    }

    fn run(self, ended: CancellationToken) -> RunningControl {
        let shutdown = CancellationToken::new();
        let Self { directory, runtime, bound, started: _, feed_public_key: _, drain } = self;
        let served = bound.run(shutdown.clone());
        let task = runtime.spawn(async move {
            // Also a panic in the serving must be noticed, hence the guard.
            let _ended = ended.drop_guard();
            served.await
        });
        RunningControl { directory, runtime, shutdown, task, drain }
    }
}

/// The first tokens go to their files before the new database is committed.
fn deliver(directory: &DataDirectory, tokens: &FirstTokens) -> std::io::Result<()> {
    let files = [
        (ADMIN_TOKEN, &tokens.admin),
        (OPERATOR_TOKEN, &tokens.operator),
        (GATEWAY_TOKEN, &tokens.gateway),
    ];
    for (name, token) in files {
        write_token(&directory.join(name), token.expose()).map_err(std::io::Error::other)?;
    }
    Ok(())
}

struct RunningControl {
    // Its lock ends after the last write to the database, hence it outlives the runtime.
    directory: DataDirectory,
    runtime: Runtime,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
    drain: Duration,
}

impl RunningControl {
    fn drain(self) -> anyhow::Result<()> {
        let Self { directory, runtime, shutdown, task, drain } = self;
        shutdown.cancel();
        let served = runtime.block_on(async { tokio::time::timeout(drain, task).await });
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(directory);
        match served {
            Ok(served) => {
                served.context("the control plane panicked")?.context("the control plane failed")
            }
            Err(_) => {
                tracing::warn!("calls of the admin API were cut: timeouts.drain is over");
                Ok(())
            }
        }
    }
}

/// The gateway and its operator's listener, not yet serving.
struct GatewayHalf {
    bound: portcullis_gateway::Bound,
    admin: admin::Bound,
    drain: Duration,
}

impl GatewayHalf {
    fn build(
        config: &Config,
        control: Option<&ControlHalf>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> anyhow::Result<Self> {
        let (id, feed, peppers, own_admin_token) = match control {
            Some(half) => {
                let id = config.gateway.id.0.as_ref().map_or("up", |name| name.0.as_str());
                let peppers = read_peppers(config, Some(&half.directory))?;
                let token = Some(half.directory.join(OPERATOR_TOKEN));
                (id.to_owned(), loopback_feed(half)?, peppers, token)
            }
            None => {
                refuse_incomplete_gateway(config)?;
                let id = config.gateway.id.0.as_ref().map(|name| name.0.clone());
                let peppers = read_peppers(config, None)?;
                (id.unwrap_or_else(|| "file".to_owned()), configured_feed(config)?, peppers, None)
            }
        };
        let registry = prometheus::Registry::new();
        let admin_token = config.admin.token_file.0.clone().or(own_admin_token);
        let admin_settings = admin::Settings {
            address: config.admin.address,
            token: admin_token
                .map(|path| read_token(&path))
                .transpose()
                .context("admin.token_file")?,
            configuration: config::effective(config),
        };
        let settings = config::gateway_settings(config, id, feed, peppers)?;
        let bound =
            portcullis_gateway::bind(settings, Arc::clone(clock), Arc::clone(entropy), &registry)
                .map_err(as_configuration_error)?;
        let admin = admin::bind(admin_settings, registry)?;
        Ok(Self { bound, admin, drain: config.timeouts.drain.0 })
    }
}

/// What `portcullis gateway` needs and no default can give.
fn refuse_incomplete_gateway(config: &Config) -> Result<(), Faults> {
    let feed = &config.feed;
    let mut missing = Vec::new();
    match feed.mode {
        FeedMode::Pull => {
            if config.gateway.id.0.is_none() {
                missing.push(("gateway.id", "a name that no other gateway has (--id)"));
            }
            if feed.url.0.is_empty() {
                missing.push(("feed.url", "\"http://HOST:PORT\" of the control plane (--feed)"));
            }
            if feed.token_file.0.is_none() {
                missing.push(("feed.token_file", "the file of the gateway token (--token-file)"));
            }
        }
        FeedMode::File if feed.file.0.is_none() => {
            missing.push(("feed.file", "the path of a snapshot (--feed file:PATH)"));
        }
        FeedMode::File => {}
    }
    if config.keys.peppers.is_empty() {
        missing.push(("keys.peppers", "[{ id = 1, file = \"…/pepper.1\" }] of the control plane"));
    }
    let faults: Vec<Fault> = missing
        .into_iter()
        .map(|(key, allowed)| Fault {
            key: key.to_owned(),
            what: format!("required by `portcullis gateway`; allowed: {allowed}"),
            place: Place::BuiltIn,
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Faults { file: None, faults }) }
}

/// The feed of the control plane in the same process.
fn loopback_feed(control: &ControlHalf) -> anyhow::Result<Feed> {
    let verify_key = config::decode_public_key(&control.feed_public_key)
        .context("the control plane's public key has 32 bytes")?;
    Ok(Feed::Control {
        url: format!("http://{}", reachable(control.bound.address())),
        token: read_feed_token(&control.directory.join(GATEWAY_TOKEN))?,
        cluster: None,
        verify_key: Some(verify_key),
    })
}

fn configured_feed(config: &Config) -> anyhow::Result<Feed> {
    let feed = &config.feed;
    let verify_key = feed.verify_key.0;
    match (feed.mode, &feed.file.0, &feed.token_file.0) {
        (FeedMode::Pull, _, Some(token_file)) => Ok(Feed::Control {
            url: feed.url.0.clone(),
            token: read_feed_token(token_file).context("feed.token_file")?,
            cluster: feed.cluster.0.as_ref().map(|name| name.0.clone()),
            verify_key,
        }),
        (FeedMode::File, Some(path), _) => Ok(Feed::File { path: path.clone(), verify_key }),
        (FeedMode::File, None, _) | (FeedMode::Pull, _, None) => {
            bail!("the feed has no source")
        }
    }
}

fn read_feed_token(path: &Path) -> anyhow::Result<FeedToken> {
    Ok(FeedToken::new(read_token(path)?.to_string()))
}

/// The configured peppers, or the one of the data directory.
fn read_peppers(config: &Config, directory: Option<&DataDirectory>) -> anyhow::Result<PepperRing> {
    let mut files: Vec<(u32, PathBuf)> = Vec::new();
    for pepper in &config.keys.peppers {
        files.push((u32::try_from(pepper.id.0)?, pepper.file.clone()));
    }
    if let (true, Some(directory)) = (files.is_empty(), directory) {
        files.push((1, directory.join(PEPPER)));
    }
    let mut peppers = Vec::with_capacity(files.len());
    for (version, path) in files {
        let bytes = read_secret_bytes(&path).context("keys.peppers")?;
        peppers.push(Pepper::new(version, *bytes));
    }
    PepperRing::new(peppers).context("keys.peppers")
}

/// The address under which this process reaches its own listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        specific => specific,
    };
    SocketAddr::new(ip, address.port())
}

/// Faults that the gateway finds are configuration errors like those found here.
fn as_configuration_error(error: BindError) -> anyhow::Error {
    match error {
        BindError::Settings(faults) => {
            let faults = faults
                .into_iter()
                .map(|fault| Fault { key: fault.key, what: fault.what, place: Place::BuiltIn })
                .collect();
            Faults { file: None, faults }.into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use portcullis_core::time::{MonoNs, Now, WallMs};

    use super::*;
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
        assert!(admin.is_some_and(|address| address.port() != 0));
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

    #[test]
    fn an_unspecified_address_is_reached_over_loopback() {
        let reached = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(reached("0.0.0.0:7080"), "127.0.0.1:7080");
        assert_eq!(reached("[::]:7080"), "[::1]:7080");
        assert_eq!(reached("192.0.2.1:7080"), "192.0.2.1:7080");
    }
}
