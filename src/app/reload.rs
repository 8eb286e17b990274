//! Reloads: on SIGHUP, on `POST /admin/v1/reload` and when the configuration file has changed. The
//! configuration is read and checked here and handed to the gateway half, which puts it in force
//! whole. A bad one changes nothing but a counter, the status and the log. Touches no request.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use portcullis_gateway::{GatewayHandle, ReloadError};
use prometheus::{IntCounterVec, Opts, Registry};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::gateway_half::as_configuration_error;
use crate::admin::{InForce, LastReload};
use crate::config::{self, Config, Faults, Reloaded};
use crate::telemetry::LogLevel;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// For so many looks a changed file must have stayed the same: whoever writes it has finished.
const SETTLED: u32 = 4;

/// Where a configuration comes from: a file, if any, with the environment and the flags of one
/// command over it.
pub struct Source {
    /// The file.
    pub file: Option<PathBuf>,
    /// Reads it anew, with the same flags over it.
    pub load: Arc<dyn Fn() -> anyhow::Result<Config> + Send + Sync>,
}

/// What a reload needs of the gateway half.
pub(super) struct Target {
    pub(super) gateway: GatewayHandle,
    /// The pepper that is used when the configuration names none; with it, a control plane in this
    /// process issues keys.
    pub(super) own_pepper: Option<PathBuf>,
    pub(super) counter: IntCounterVec,
    pub(super) in_force: watch::Sender<InForce>,
    pub(super) asked: Arc<Notify>,
}

/// The counter of reloads; registered before the first one, so that an alarm can be set on it.
pub(super) fn counter(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let options = Opts::new(
        "portcullis_config_reloads_total",
        "Reloads of the configuration by what became of them.",
    );
    let counter = IntCounterVec::new(options, &["result"])?;
    registry.register(Box::new(counter.clone()))?;
    for result in [APPLIED, REFUSED] {
        counter.with_label_values(&[result]);
    }
    Ok(counter)
}

const APPLIED: &str = "applied";
const REFUSED: &str = "refused";

/// Reloads until it is dropped.
pub struct Reloader {
    source: Source,
    /// What was opened at the start, which no reload changes.
    started: Config,
    seen: FileWatch,
    target: Option<Target>,
    level: LogLevel,
}

impl Reloader {
    pub(super) fn new(
        source: Source,
        seen: FileWatch,
        started: Config,
        target: Option<Target>,
        level: LogLevel,
    ) -> Self {
        Self { source, started, seen, target, level }
    }

    /// Waits for reasons to reload and does so, for ever.
    ///
    /// # Errors
    ///
    /// When SIGHUP cannot be caught.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut hang_up = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
        let asked =
            self.target.as_ref().map_or_else(Arc::default, |target| Arc::clone(&target.asked));
        let mut looks = tokio::time::interval(LOOK);
        loop {
            let why = tokio::select! {
                _ = hang_up.recv() => "SIGHUP",
                () = asked.notified() => "POST /admin/v1/reload",
                _ = looks.tick() => match self.seen.look() {
                    true => "the file has changed",
                    false => continue,
                },
            };
            // What the file says from here on is what counts.
            self.seen.mark();
            tracing::info!(why, "the configuration is reloaded");
            let result = self.reload().await;
            self.report(result);
        }
    }

    async fn reload(&self) -> anyhow::Result<Reloaded> {
        let load = Arc::clone(&self.source.load);
        let wanted = tokio::task::spawn_blocking(move || load());
        let wanted = wanted.await.context("the reading of the configuration panicked")??;
        let mut reloaded = config::reloaded(&self.started, wanted)?;
        if let Some(target) = &self.target {
            if target.own_pepper.is_some() {
                reloaded = reloaded.with_peppers_of(&self.started);
            }
            let own_pepper = target.own_pepper.as_deref();
            let peppers = super::control_half::read_peppers(&reloaded.config, own_pepper)?;
            let settings = config::reload_settings(&reloaded.config, peppers)?;
            match target.gateway.reload(settings).await {
                Ok(()) => {}
                Err(ReloadError::Settings(faults)) => return Err(as_configuration_error(faults)),
                Err(other) => return Err(other.into()),
            }
        }
        self.level.set(&reloaded.config.log, reloaded.config.control.log)?;
        Ok(reloaded)
    }

    fn report(&self, result: anyhow::Result<Reloaded>) {
        let (label, last, configuration) = match result {
            Ok(Reloaded { config, needs_restart }) => {
                for warning in config::warnings(&config) {
                    tracing::warn!("{warning}");
                }
                if needs_restart.is_empty() {
                    tracing::info!("the configuration is in force");
                } else {
                    tracing::warn!(
                        needs_restart = needs_restart.join(", "),
                        "the configuration is in force, except for what needs a restart"
                    );
                }
                let last = LastReload { result: APPLIED, needs_restart, errors: Vec::new() };
                (APPLIED, last, Some(config::effective(&config)))
            }
            Err(error) => {
                tracing::error!("the configuration was not reloaded, nothing changes: {error:#}");
                let errors = match error.downcast_ref::<Faults>() {
                    Some(faults) => faults.faults.iter().map(ToString::to_string).collect(),
                    None => vec![format!("{error:#}")],
                };
                let last = LastReload { result: REFUSED, needs_restart: Vec::new(), errors };
                (REFUSED, last, None)
            }
        };
        let Some(target) = &self.target else { return };
        target.in_force.send_modify(|in_force| {
            if let Some(configuration) = &configuration {
                in_force.configuration = crate::admin::hash(configuration);
            }
            in_force.last_reload = Some(last);
        });
        // Last, so that whoever waits for it finds the rest.
        target.counter.with_label_values(&[label]).inc();
    }
}

/// A file as it was when it was last read, and whether it has changed since.
pub struct FileWatch {
    path: Option<PathBuf>,
    read: Option<Stamp>,
    last: Option<Stamp>,
    unchanged: u32,
}

/// What differs after a file was written or replaced; `None` while there is no file.
type Stamp = Option<(SystemTime, u64, u64)>;

impl FileWatch {
    /// The file as it is now. Call it before the file is read.
    pub fn new(path: Option<&Path>) -> Self {
        let mut watch =
            Self { path: path.map(Path::to_path_buf), read: None, last: None, unchanged: 0 };
        watch.mark();
        watch
    }

    fn stamp(&self) -> Stamp {
        let found = std::fs::metadata(self.path.as_ref()?).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    }

    /// The file is about to be read.
    fn mark(&mut self) {
        let stamp = self.stamp();
        (self.read, self.last, self.unchanged) = (Some(stamp), Some(stamp), 0);
    }

    /// Whether the file differs from what was read and has settled.
    fn look(&mut self) -> bool {
        if self.path.is_none() {
            return false;
        }
        let stamp = self.stamp();
        if Some(stamp) != self.last {
            (self.last, self.unchanged) = (Some(stamp), 0);
            return false;
        }
        self.unchanged = self.unchanged.saturating_add(1);
        self.last != self.read && self.unchanged >= SETTLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_when_it_differs_and_nobody_writes_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.toml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(Some(&path));
        assert!((0..10).all(|_| !watch.look()));
        std::fs::write(&path, "more").unwrap();
        assert!((0..3).all(|_| !watch.look()));
        std::fs::write(&path, "and more").unwrap();
        assert!((0..4).all(|_| !watch.look()), "written again: the second begins anew");
        assert!(watch.look());
        watch.mark();
        assert!((0..10).all(|_| !watch.look()), "each change counts once");
        std::fs::remove_file(&path).unwrap();
        let seen = (0..5).filter(|_| watch.look()).count();
        assert_eq!(seen, 1, "a file that is gone is a change too");
    }
}
