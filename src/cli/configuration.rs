//! `portcullis config`: check a configuration, show the effective one, print the reference.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::Output;
use crate::config;

/// The configuration file.
#[derive(Debug, Subcommand)]
pub(super) enum Configuration {
    /// Report every error and warning of a file; exit code 78 if there is an error.
    Check {
        /// The file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what is in force: defaults, file and environment together. Holds no secret.
    Show {
        /// The file [default: none, so the built-in defaults]
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the annotated reference with every key and its default.
    Reference,
}

impl Configuration {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check { file, json } => check(&file, json),
            Self::Show { config } => {
                let config = config::load(config.as_deref(), &config::environment()?)?;
                Output::text().raw(config::effective(&config).as_bytes())
            }
            Self::Reference => Output::text().raw(config::reference().as_bytes()),
        }
    }
}

fn check(file: &std::path::Path, as_json: bool) -> anyhow::Result<()> {
    let checked =
        config::environment().and_then(|environment| config::load(Some(file), &environment));
    let output = Output::new(as_json);
    match checked {
        Ok(config) => {
            let warnings = config::warnings(&config);
            if as_json {
                return output.json(&json!({ "ok": true, "errors": [], "warnings": warnings }));
            }
            for warning in &warnings {
                output.line(&format!("warning: {warning}"))?;
            }
            output.line(&format!("{}: ok", file.display()))
        }
        Err(faults) => {
            if as_json {
                let errors: Vec<String> = faults.faults.iter().map(ToString::to_string).collect();
                output.json(&json!({ "ok": false, "errors": errors, "warnings": [] }))?;
            }
            Err(faults.into())
        }
    }
}
