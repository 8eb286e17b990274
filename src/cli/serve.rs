//! The commands that serve: `up`, `control` and `gateway`. They read the configuration, put the
//! flags over it, start the application and end it on a signal. Nothing here serves a request.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use portcullis_core::entropy::Entropy;
use portcullis_core::time::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Usage;
use super::announce::{screen, tell};
use super::api::block_on;
use super::demo::{self, DemoUpstream};
use super::output::Output;
use crate::app::{self, FileWatch, Halves, Running, Source};
use crate::config::choices::FeedMode;
use crate::config::sections::Config;
use crate::config::{self, AdminAddress, Faults, Name, OptionalFile, OptionalName};
use crate::system::{SystemClock, SystemEntropy};
use crate::telemetry;

const SERVE_HELP: &str = "\
On a terminal the addresses are shown for people. Otherwise, and with --json, standard output
begins with one line of JSON: {\"event\":\"started\",\"gateway\":\"127.0.0.1:8080\",\"control\":…,
\"admin\":…,\"listeners\":[[\"public\",\"127.0.0.1:8080\"]]}; access records follow it.

SIGINT and SIGTERM end the process after accepted requests have been answered; a second one ends
it at once. SIGHUP reloads the configuration, as a change of its file does by itself; what needs a
restart is said in the log.

Exit codes: 0 ended after a signal, 1 failed to start, 2 wrong usage, 78 wrong configuration.";

/// Flags of all commands that serve.
#[derive(Debug, Args)]
struct Common {
    /// The configuration file; flags win over it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say the addresses as JSON also on a terminal.
    #[arg(long)]
    json: bool,
}

/// Flags about what the gateway listens on and protects.
#[derive(Debug, Args)]
struct GatewayFlags {
    /// Where requests are taken [default: 127.0.0.1:8080]; port 0 picks a free port.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where /livez, /readyz, /metrics and /admin/v1 are served: an address, or unix:PATH for a
    /// socket file [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR")]
    admin: Option<AdminAddress>,
    /// The protected service, http://HOST:PORT. Without routes in the configuration every path
    /// goes to it and needs a valid key.
    #[arg(long, value_name = "URL", value_parser = upstream_authority)]
    upstream: Option<String>,
}

/// Run control plane and gateway in one process.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(super) struct Up {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    gateway: GatewayFlags,
    /// The data directory [default: ./portcullis-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the admin API and the feed are served [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR")]
    control: Option<SocketAddr>,
    /// Also start a small upstream, and make an organization, a service account and a key.
    #[arg(long, conflicts_with = "upstream")]
    demo: bool,
}

/// Run the control plane alone.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(super) struct Control {
    #[command(flatten)]
    common: Common,
    /// The data directory [default: ./portcullis-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the admin API and the feed are served [default: 127.0.0.1:7080]
    #[arg(long, value_name = "ADDR", alias = "listen")]
    control: Option<SocketAddr>,
}

/// Run the gateway alone.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(super) struct Gateway {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    gateway: GatewayFlags,
    /// The name of this gateway; no two may share one.
    #[arg(long, value_name = "NAME", value_parser = name)]
    id: Option<Name>,
    /// http://HOST:PORT of a control plane, or file:PATH of a snapshot.
    #[arg(long, value_name = "SOURCE", value_parser = feed_source)]
    feed: Option<FeedSource>,
    /// The file of the gateway token, mode 0600.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The file of the pepper with id 1, mode 0600.
    #[arg(long, value_name = "FILE")]
    pepper_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum FeedSource {
    Control(String),
    File(PathBuf),
}

impl Up {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let demo = if self.demo {
            Some(DemoUpstream::start().context("the demo upstream cannot be started")?)
        } else {
            None
        };
        let (file, screen) = (self.common.config.clone(), screen(self.common.json));
        let demo_address = demo.as_ref().map(DemoUpstream::address);
        let source = Source { file, load: Arc::new(move || self.config(demo_address)) };
        serve(source, Halves::Both, screen, demo.as_ref())
    }

    fn config(&self, demo_upstream: Option<SocketAddr>) -> anyhow::Result<Config> {
        let mut config = self.common.load()?;
        if let Some(data) = &self.data {
            config.control.data_dir.clone_from(data);
        }
        if let Some(address) = self.control {
            config.control.listen = address;
        }
        self.gateway.put_over(&mut config)?;
        if let Some(upstream) = demo_upstream {
            demo::put_over(&mut config, upstream)?;
        }
        Ok(config::finish(config)?)
    }
}

impl Control {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (file, screen) = (self.common.config.clone(), screen(self.common.json));
        let source = Source { file, load: Arc::new(move || self.config()) };
        serve(source, Halves::Control, screen, None)
    }

    fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.common.load()?;
        if let Some(data) = &self.data {
            config.control.data_dir.clone_from(data);
        }
        if let Some(address) = self.control {
            config.control.listen = address;
        }
        Ok(config::finish(config)?)
    }
}

impl Gateway {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (file, screen) = (self.common.config.clone(), screen(self.common.json));
        let source = Source { file, load: Arc::new(move || self.config()) };
        serve(source, Halves::Gateway, screen, None)
    }

    fn config(&self) -> anyhow::Result<Config> {
        let mut config = self.common.load()?;
        self.gateway.put_over(&mut config)?;
        if let Some(id) = &self.id {
            config.gateway.id = OptionalName(Some(id.clone()));
        }
        match &self.feed {
            Some(FeedSource::Control(url)) => {
                config.feed.mode = FeedMode::Pull;
                config.feed.file = OptionalFile(None);
                config.feed.url.0.clone_from(url);
            }
            Some(FeedSource::File(path)) => {
                config.feed.mode = FeedMode::File;
                config.feed.url.0.clear();
                config.feed.file = OptionalFile(Some(path.clone()));
            }
            None => {}
        }
        if let Some(path) = &self.token_file {
            config.feed.token_file = OptionalFile(Some(path.clone()));
        }
        if let Some(path) = &self.pepper_file {
            config.keys.peppers = vec![config::pepper_file(path)?];
        }
        Ok(config::finish(config)?)
    }
}

impl Common {
    fn load(&self) -> Result<Config, Faults> {
        config::load(self.config.as_deref(), &config::environment()?)
    }
}

impl GatewayFlags {
    /// Flags win over the file. A flag that cannot know which of several it means is refused.
    fn put_over(&self, config: &mut Config) -> anyhow::Result<()> {
        if let Some(address) = self.listen {
            match config.listeners.as_mut_slice() {
                [only] => only.address = address,
                several => return Err(ambiguous("--listen", "listeners", several.len())),
            }
        }
        if let Some(address) = &self.admin {
            config.admin.address.clone_from(address);
        }
        if let Some(host) = &self.upstream {
            match config.upstreams.as_mut_slice() {
                [] => config.upstreams.push(config::upstream("upstream", host)?),
                [only] => only.addresses = vec![config::upstream_address(host)?],
                several => return Err(ambiguous("--upstream", "upstreams", several.len())),
            }
            if let (true, Some(upstream)) = (config.routes.is_empty(), config.upstreams.first()) {
                config.routes = vec![config::route_everything(&upstream.name)?];
            }
        }
        Ok(())
    }
}

fn ambiguous(flag: &str, section: &str, count: usize) -> anyhow::Error {
    Usage(format!("{flag}: the configuration has {count} [[{section}]]; change them there")).into()
}

/// Starts the application, says where it is, reloads its configuration when asked to, and waits for
/// its end.
fn serve(
    source: Source,
    halves: Halves,
    screen: Output,
    demo_upstream: Option<&DemoUpstream>,
) -> anyhow::Result<()> {
    let seen = FileWatch::new(source.file.as_deref());
    let config = (source.load)()?;
    let level = telemetry::start(&config.log, config.control.log)?;
    for warning in config::warnings(&config) {
        tracing::warn!("{warning}");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let bound = app::build(&config, halves, &clock, &entropy)?;
    let first_start = bound.first_start();
    let mut running = bound.run()?;
    let reloader = running.reloader(source, seen, &config, level);
    block_on(async move {
        let mut signals = Signals::new()?;
        let (drain_asked, control_ended) = (running.drain_asked(), running.control_ended());
        let told_for_ever = async {
            tell(&config, &running, first_start, demo_upstream, screen).await?;
            std::future::pending::<anyhow::Result<()>>().await
        };
        let result = tokio::select! {
            failed = told_for_ever => failed,
            failed = reloader.run() => failed,
            () = drain_asked.cancelled() => Ok(()),
            () = signals.next_end() => {
                tracing::info!("a signal asks for the end: draining");
                Ok(())
            }
            () = control_ended.cancelled() => {
                tracing::error!("the control plane ended by itself: draining");
                Ok(())
            }
        };
        result.and(drain(running, signals).await)
    })
}

/// Ends the application; a further signal ends the process before that.
async fn drain(running: Running, mut signals: Signals) -> anyhow::Result<()> {
    let (sender, finished) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("drain".to_owned())
        // The receiver is gone when a second signal has ended the waiting.
        .spawn(move || sender.send(running.drain()).unwrap_or_default())
        .context("the drain cannot be started")?;
    tokio::select! {
        result = finished => result.context("the drain panicked")?,
        () = signals.next_end() => anyhow::bail!("ended by a second signal, before the drain was over"),
    }
}

/// SIGINT and SIGTERM ask for the end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for a signal that asks for the end.
    async fn next_end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// `http://HOST:PORT`, the port 80 by default, or `HOST:PORT`.
fn upstream_authority(text: &str) -> Result<String, String> {
    let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let with_port = format!("{authority}:80");
    if config::is_authority(authority) {
        Ok(authority.to_owned())
    } else if text.starts_with("http://") && config::is_authority(&with_port) {
        Ok(with_port)
    } else {
        Err("allowed: http://HOST:PORT without a path".to_owned())
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::parse(text).ok_or_else(|| {
        "allowed: 1 to 63 letters, digits, `.`, `_` and `-`, first a letter or digit".to_owned()
    })
}

fn feed_source(text: &str) -> Result<FeedSource, String> {
    if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
        return Ok(FeedSource::File(PathBuf::from(path)));
    }
    let url = text.trim_end_matches('/');
    if url.strip_prefix("http://").is_some_and(config::is_authority) {
        return Ok(FeedSource::Control(url.to_owned()));
    }
    Err("allowed: http://HOST:PORT of a control plane, or file:PATH of a snapshot".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_authority_with_a_port() {
        assert_eq!(upstream_authority("http://127.0.0.1:3000/").as_deref(), Ok("127.0.0.1:3000"));
        assert_eq!(upstream_authority("api.internal:80").as_deref(), Ok("api.internal:80"));
        assert_eq!(upstream_authority("http://api.internal").as_deref(), Ok("api.internal:80"));
        for wrong in ["https://h:1", "http://h:1/path", "h", "http://", "h:0", "h:65536"] {
            assert!(upstream_authority(wrong).is_err(), "{wrong}");
        }
    }
}
