//! `portcullis audit`: what was done, by whom; whole exports; and the proof that nothing was
//! changed, left out or cut off.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use portcullis_control::{ChainVerdict, ExportWalk};
use serde_json::{Value, json};

use super::api::{Api, Remote, encode};
use super::output::{Column, Output};
use super::progress::Progress;
use super::{Negative, Usage};
use crate::config;

const COLUMNS: &[Column] = &[
    ("SEQ", "/seq"),
    ("TIME", "/ts"),
    ("ACTOR", "/actor/username"),
    ("ACTION", "/action"),
    ("TARGET", "/target/name"),
    ("OUTCOME", "/outcome"),
    ("REASON", "/reason"),
    ("FROM", "/ip"),
];

/// The audit log.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List events, the newest first.
    List(List),
    /// Write events to a file or to standard output.
    Export(Export),
    /// Is the log whole and unchanged? Checks an export offline, or the server's log.
    Verify(Verify),
}

/// Which events.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Id of who did it.
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Id of what it was done to.
    #[arg(long, value_name = "ID")]
    target: Option<String>,
    /// What was done, such as api_key.rotate.
    #[arg(long)]
    action: Option<String>,
    /// How it ended.
    #[arg(long, value_parser = ["ok", "denied", "error"])]
    outcome: Option<String>,
    /// The address it came from.
    #[arg(long)]
    ip: Option<String>,
    /// Not before this time, such as 2026-11-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// After this event.
    #[arg(long, value_name = "SEQ")]
    after_seq: Option<u64>,
}

/// List events.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    remote: Remote,
}

/// A form of the export.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One JSON object per line; whole exports contain what `audit verify` needs.
    Ndjson,
    /// For spreadsheets.
    Csv,
    /// One CloudEvent per line.
    Cloudevents,
}

/// Write events to a file.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    filter: Filter,
    /// In which form.
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Form,
    /// Leave out the signed checkpoints of a whole export; `audit verify` needs them.
    #[arg(long)]
    no_checkpoints: bool,
    /// The file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Is the log whole and unchanged?
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A whole export of `audit export`; `-` is standard input [default: the server's log]
    #[arg(value_name = "FILE")]
    export: Option<PathBuf>,
    /// The file of the installation's public key, feed-signing.pub, from a place you trust
    /// [offline: required; else the key that the server names]
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// An earlier export whose checkpoints must still hold: shows an end that was cut off with its
    /// checkpoints.
    #[arg(long, value_name = "FILE")]
    earlier: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Audit {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Export(export) => export.run(),
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Filter {
    /// The filters as parameters of a query.
    fn pairs(&self) -> Vec<String> {
        let Self { actor, target, action, outcome, ip, since, until, after_seq } = self;
        let after_seq = after_seq.map(|seq| seq.to_string());
        let given = [
            ("actor_id", actor),
            ("target_id", target),
            ("action", action),
            ("outcome", outcome),
            ("ip", ip),
            ("since", since),
            ("until", until),
            ("after_seq", &after_seq),
        ];
        let given = given.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        given.map(|(name, text)| format!("{name}={}", encode(text))).collect()
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        self.remote.with_api(async |api| {
            let mut pairs = self.filter.pairs();
            pairs.push("order_by=-created_at".to_owned());
            pairs.push(format!("page_size={}", self.limit.clamp(1, 200)));
            let path = format!("{}/audit-events?{}", api.org_path().await?, pairs.join("&"));
            let events = api.list_some(&path, self.limit).await?;
            self.remote.output().list(COLUMNS, &events)
        })
    }
}

impl Export {
    fn run(self) -> anyhow::Result<()> {
        let mut pairs = self.filter.pairs();
        let accept = match self.format {
            Form::Csv => "text/csv",
            Form::Cloudevents | Form::Ndjson => "application/x-ndjson",
        };
        match self.format {
            Form::Cloudevents => pairs.push("cloudevents=true".to_owned()),
            Form::Ndjson if pairs.is_empty() && !self.no_checkpoints => {
                pairs.push("checkpoints=true".to_owned());
            }
            Form::Csv | Form::Ndjson => {}
        }
        self.remote.with_api(async |api| {
            let path = format!("{}/audit-events?{}", api.org_path().await?, pairs.join("&"));
            let mut out: Box<dyn Write> = match &self.output {
                None => Box::new(io::stdout().lock()),
                Some(path) => {
                    let file = File::create_new(path);
                    let file =
                        file.with_context(|| format!("{} cannot be made", path.display()))?;
                    Box::new(BufWriter::new(file))
                }
            };
            let mut progress = Progress::of("lines");
            let mut lines = 0;
            api.stream(&path, accept, |line| {
                lines += 1;
                progress.reached(lines);
                out.write_all(line).and_then(|()| out.write_all(b"\n"))?;
                Ok(())
            })
            .await?;
            out.flush().context("the export cannot be written")
        })
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<()> {
        let trusted = self.public_key.as_deref().map(read_public_key).transpose()?;
        let verdict = match (&self.export, trusted) {
            (Some(export), Some(key)) => self.walk_file(export, key)?,
            (Some(_), None) => {
                let message = "--public-key: required to check an export: the file \
                               feed-signing.pub of the control plane's data directory";
                return Err(Usage(message.to_owned()).into());
            }
            (None, key) => self.remote.with_api(async |api| self.walk_server(api, key).await)?,
        };
        self.tell(&verdict)
    }

    fn begin(&self, key: String) -> anyhow::Result<ExportWalk> {
        let mut walk = ExportWalk::new(vec![key]);
        if let Some(path) = &self.earlier {
            let mut kept = 0;
            for line in open(path)?.split(b'\n') {
                let line = line.with_context(|| format!("{} cannot be read", path.display()))?;
                kept += u64::from(walk.expect(&line));
            }
            if kept == 0 {
                bail!("{} has no checkpoint", path.display());
            }
        }
        Ok(walk)
    }

    fn walk_file(&self, path: &Path, key: String) -> anyhow::Result<ChainVerdict> {
        let mut walk = self.begin(key)?;
        let mut progress = Progress::of("events");
        for line in open(path)?.split(b'\n') {
            let line = line.with_context(|| format!("{} cannot be read", path.display()))?;
            if !line.is_empty() {
                walk.line(&line);
                progress.reached(walk.events());
            }
        }
        if walk.events() == 0 {
            bail!(
                "{} has no event; `portcullis audit export` makes what is checked here",
                path.display()
            );
        }
        Ok(walk.finish())
    }

    /// Fetches everything and walks it here: the server's own verdict counts only if it is worse.
    async fn walk_server(&self, api: &Api, key: Option<String>) -> anyhow::Result<ChainVerdict> {
        let org = api.org_path().await?;
        let theirs = api.read(&format!("{org}/audit-events:verify")).await?;
        let named = theirs.get("public_key").and_then(Value::as_str).unwrap_or_default();
        let key = match key {
            Some(key) => key,
            None => {
                Output::note(&format!(
                    "Checked with the key that the server itself names, {named}; --public-key \
                     names one that you keep."
                ));
                named.to_owned()
            }
        };
        let mut walk = self.begin(key)?;
        let mut progress = Progress::of("events");
        let path = format!("{org}/audit-events?checkpoints=true");
        api.stream(&path, "application/x-ndjson", |line| {
            walk.line(line);
            progress.reached(walk.events());
            Ok(())
        })
        .await?;
        let verdict = walk.finish();
        if verdict.ok && theirs.get("ok").and_then(Value::as_bool) != Some(true) {
            bail!("the export is sound, but the server finds fault with its log: {theirs}");
        }
        Ok(verdict)
    }

    fn tell(&self, verdict: &ChainVerdict) -> anyhow::Result<()> {
        let output = self.remote.output();
        if output.is_json() {
            output.json(&json!(verdict))?;
        } else if let (Some(seq), Some(fault)) = (verdict.first_bad_seq, verdict.fault) {
            output.line(&format!("event {seq}: {}", fault.explanation()))?;
        } else {
            let number = |seq: Option<i64>| seq.unwrap_or(0);
            output.line(&format!(
                "whole and unchanged: {} events, signed up to event {}",
                number(verdict.last_seq),
                number(verdict.sealed_seq)
            ))?;
        }
        if verdict.ok { Ok(()) } else { Err(Negative.into()) }
    }
}

/// The first line of the file.
fn read_public_key(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("--public-key: {} cannot be read", path.display()))?;
    let key = text.trim().to_owned();
    config::decode_public_key(&key).with_context(|| {
        format!("--public-key: {} holds no key; it is as feed-signing.pub", path.display())
    })?;
    Ok(key)
}

fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}
