//! `portcullis export` and `portcullis import`: everything an installation or an organization
//! consists of, moved into another installation. No secret is in it; the pepper files go another way.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use portcullis_control::{Seal, is_end};
use portcullis_core::entropy::Entropy;
use portcullis_core::time::Clock;

use super::api::{Api, Remote};
use super::output::Output;
use super::progress::Progress;
use crate::app;
use crate::config;
use crate::system::{SystemClock, SystemEntropy};

/// Write everything of one organization, or of the installation, to a file.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file, which must not exist; mode 0600.
    file: PathBuf,
    /// The whole installation; needs the operator's token.
    #[arg(long, conflicts_with = "org")]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Fill an empty data directory from an export. Nothing may run on it.
///
/// Copy pepper.1 and feed-signing.key of the other installation into the directory first: without
/// its peppers no key would work, without its signing key its audit log is not proven. A new operator-token and gateway-token are written unless they are there.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The export.
    file: PathBuf,
    /// The data directory [default: ./portcullis-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file; flags win over it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Export {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        if self.file.symlink_metadata().is_ok() {
            bail!("{} exists; remove it, or name another file", self.file.display());
        }
        let partial = partial(&self.file);
        let written = self.remote.with_api(async |api| {
            let path = match self.all {
                true => "/v1/export".to_owned(),
                false => format!("{}/export", api.org_path().await?),
            };
            fetch(api, &path, &partial).await
        });
        let done = written.and_then(|rows| {
            std::fs::rename(&partial, &self.file)
                .with_context(|| format!("{} cannot be written", self.file.display()))?;
            Ok(rows)
        });
        let rows = done.inspect_err(|_| {
            // It was made here, and half an export is of no use.
            let _ = std::fs::remove_file(&partial);
        })?;
        let file = self.file.display();
        Output::note(&format!("{rows} rows are in {file}. It is worth as much as the database."));
        Ok(())
    }
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Writes the export while it comes, and checks every line; the number of rows.
async fn fetch(api: &Api, path: &str, file: &Path) -> anyhow::Result<u64> {
    let unwritten = || format!("{} cannot be written", file.display());
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let mut out = BufWriter::new(options.with_context(unwritten)?);
    let mut progress = Progress::of("rows");
    let (mut seal, mut lines, mut ended) = (Seal::default(), 0_u64, false);
    api.stream(path, "application/x-ndjson", |line| {
        lines += 1;
        let body = seal.open(line).map_err(|why| anyhow::anyhow!("line {lines}: {why}"))?;
        ended = is_end(body);
        progress.reached(lines);
        out.write_all(line).and_then(|()| out.write_all(b"\n")).with_context(unwritten)
    })
    .await?;
    if !ended {
        bail!("the export broke off after {lines} lines; try again");
    }
    let file = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all().with_context(unwritten)?;
    Ok(lines.saturating_sub(2))
}

impl Import {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let file = File::open(&self.file)
            .with_context(|| format!("{} cannot be opened", self.file.display()))?;
        let mut config = config::load(self.config.as_deref(), &config::environment()?)?;
        if let Some(data) = &self.data {
            config.control.data_dir.clone_from(data);
        }
        let config = config::finish(config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let mut progress = Progress::of("rows");
        let tell = |lines: u64| progress.reached(lines.saturating_sub(1));
        let imported = app::import(&config, BufReader::new(file), tell, &clock, &entropy);
        drop(progress);
        let imported = imported?;
        let data = config.control.data_dir.display();
        Output::note(&format!("{} rows are in {data}.", imported.rows));
        for org_id in &imported.broken_audit_logs {
            Output::note(&format!(
                "Warning: the audit log of organization {org_id} is not proven: it was changed \
                 before the export, or sealed with another feed-signing.key; `portcullis audit \
                 verify` says where."
            ));
        }
        Ok(())
    }
}
