//! The gateway's half: its feed, its peppers, its listeners and the operator's listener. It never
//! opens a database.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use portcullis_core::entropy::Entropy;
use portcullis_core::time::Clock;
use portcullis_gateway::{BindError, Feed, FeedToken, GatewayHandle};
use prometheus::IntCounterVec;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::OPERATOR_TOKEN;
use super::control_half::{ControlHalf, GATEWAY_TOKEN, PEPPER, once, read_peppers};
use super::reload;
use crate::admin;
use crate::config::choices::FeedMode;
use crate::config::{self, Config, Fault, Faults, Place};
use crate::files::read_token;

/// The gateway and its operator's listener, not yet serving.
pub(super) struct GatewayHalf {
    pub(super) bound: portcullis_gateway::Bound,
    pub(super) admin: admin::Bound,
    own_pepper: Option<PathBuf>,
    reloads: IntCounterVec,
}

impl GatewayHalf {
    /// Checks its configuration as a whole and opens its listeners.
    pub(super) fn build(
        config: &Config,
        control: Option<&ControlHalf>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
    ) -> anyhow::Result<Self> {
        let own_pepper = control.map(|half| half.directory.join(PEPPER));
        let (id, feed, peppers, own_admin_token) = match control {
            Some(half) => {
                let id = config.gateway.id.0.as_ref().map_or("up", |name| name.0.as_str());
                let peppers = read_peppers(config, own_pepper.as_deref())?;
                let token = Some(half.directory.join(OPERATOR_TOKEN));
                (id.to_owned(), loopback_feed(config, half)?, peppers, token)
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
            address: config.admin.address.clone(),
            token: admin_token
                .map(|path| read_token(&path))
                .transpose()
                .context("admin.token_file")?,
            configuration: config::effective(config),
        };
        let settings = config::gateway_settings(config, id, feed, peppers)?;
        let bound =
            portcullis_gateway::bind(settings, Arc::clone(clock), Arc::clone(entropy), &registry)
                .map_err(as_start_error)?;
        let reloads = reload::counter(&registry).context("a metric cannot be registered")?;
        let admin = admin::bind(admin_settings, registry)?;
        Ok(Self { bound, admin, own_pepper, reloads })
    }

    /// Starts to serve; `drain_asked` is cancelled when an operator asks for the end.
    pub(super) fn run(self, drain_asked: CancellationToken) -> anyhow::Result<RunningGateway> {
        let Self { bound, admin, own_pepper, reloads } = self;
        let running = bound.run().context("the gateway's threads cannot be started")?;
        let reload_asked = Arc::new(Notify::new());
        let orders = admin::Orders { drain: drain_asked, reload: Arc::clone(&reload_asked) };
        let (admin, in_force) = admin.run(running.handle(), orders)?;
        let target = reload::Target {
            gateway: running.handle(),
            own_pepper,
            counter: reloads,
            in_force,
            asked: reload_asked,
        };
        Ok(RunningGateway { running, admin, target: Some(target) })
    }
}

/// The gateway while it serves.
pub(super) struct RunningGateway {
    running: portcullis_gateway::Running,
    admin: admin::Running,
    target: Option<reload::Target>,
}

impl RunningGateway {
    /// What may be done with it from outside.
    pub(super) fn handle(&self) -> GatewayHandle {
        self.running.handle()
    }

    /// What a reload acts on. There is one reloader, so it is given out once.
    pub(super) fn reload_target(&mut self) -> Option<reload::Target> {
        self.target.take()
    }

    /// Answers the requests in flight and ends every thread.
    pub(super) fn drain(self) -> anyhow::Result<()> {
        let Self { running, admin, target: _ } = self;
        running.handle().drain(None);
        let result = running.join().context("the gateway failed");
        admin.end();
        result
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
fn loopback_feed(config: &Config, control: &ControlHalf) -> anyhow::Result<Feed> {
    let verify_key = config::decode_public_key(&control.feed_public_key)
        .context("the control plane's public key has 32 bytes")?;
    Ok(Feed::Control {
        url: format!("http://{}", reachable(control.bound.address())),
        token: read_feed_token(&control.directory.join(GATEWAY_TOKEN))?,
        cluster: None,
        verify_key: Some(verify_key),
        usage_interval: config.feed.usage_interval.0,
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
            usage_interval: feed.usage_interval.0,
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

/// The address under which this process reaches its own listener.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        specific => specific,
    };
    SocketAddr::new(ip, address.port())
}

/// Why the gateway does not start.
fn as_start_error(error: BindError) -> anyhow::Error {
    match error {
        BindError::Settings(faults) => as_configuration_error(faults),
        other => once(other),
    }
}

/// Faults that the gateway finds are configuration errors like those found here.
pub(super) fn as_configuration_error(faults: Vec<portcullis_gateway::Fault>) -> anyhow::Error {
    let faults = faults
        .into_iter()
        .map(|fault| Fault { key: fault.key, what: fault.what, place: Place::BuiltIn })
        .collect();
    Faults { file: None, faults }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_over_loopback() {
        let reached = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(reached("0.0.0.0:7080"), "127.0.0.1:7080");
        assert_eq!(reached("[::]:7080"), "[::1]:7080");
        assert_eq!(reached("192.0.2.1:7080"), "192.0.2.1:7080");
    }
}
