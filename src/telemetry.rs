//! The process's own log: to standard error, never with a secret in it. Access records are not
//! part of it; the gateway writes those.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::choices::{ControlLevel, Level};
use crate::config::sections::Log;

/// Sets the level of the running log.
pub struct LogLevel(Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>);

impl LogLevel {
    /// Logs at these levels from now on.
    ///
    /// # Errors
    ///
    /// When the filter built from the levels does not parse.
    pub fn set(&self, log: &Log, control: ControlLevel) -> anyhow::Result<()> {
        (self.0)(filter(log, control)?)
    }
}

/// Starts the log. A second call keeps the first one's log, so that tests can start several
/// applications in one process.
///
/// # Errors
///
/// When the filter built from the levels does not parse.
pub fn start(log: &Log, control: ControlLevel) -> anyhow::Result<LogLevel> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter(log, control)?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter_reloading();
    let level = subscriber.reload_handle();
    if subscriber.try_init().is_err() {
        tracing::debug!("the log was started before; it keeps its first level");
        return Ok(LogLevel(Box::new(|_| Ok(()))));
    }
    Ok(LogLevel(Box::new(move |filter| {
        level.reload(filter).context("the log's level cannot be changed")
    })))
}

fn filter(log: &Log, control: ControlLevel) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder()
        .parse(directives(log.level, control))
        .context("the log filter is well-formed")
}

/// Libraries stay at `warn`: below it they describe their own insides, headers among them.
fn directives(level: Level, control: ControlLevel) -> String {
    let process = match level {
        Level::Debug => "debug",
        Level::Error => "error",
        Level::Info => "info",
        Level::Trace => "trace",
        Level::Warn => "warn",
    };
    let control = match control {
        ControlLevel::AsProcess => process,
        ControlLevel::Debug => "debug",
        ControlLevel::Error => "error",
        ControlLevel::Info => "info",
        ControlLevel::Trace => "trace",
        ControlLevel::Warn => "warn",
    };
    let libraries = if matches!(level, Level::Error) { "error" } else { "warn" };
    format!(
        "{libraries},portcullis={process},portcullis_gateway={process},portcullis_control={control}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_plane_may_log_at_a_level_of_its_own() {
        assert_eq!(
            directives(Level::Info, ControlLevel::Debug),
            "warn,portcullis=info,portcullis_gateway=info,portcullis_control=debug"
        );
        assert!(directives(Level::Error, ControlLevel::AsProcess).starts_with("error,"));
    }
}
