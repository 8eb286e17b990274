//! The control plane's half: its data directory, its secrets, its database and its listener. It
//! never reads a request.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_control::{FeedSigner, FirstTokens, Imported, Sealer, SessionSigner, Started};
use portcullis_core::entropy::Entropy;
use portcullis_core::feed::SignerAlg;
use portcullis_core::key::{Pepper, PepperRing};
use portcullis_core::time::Clock;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{ADMIN_TOKEN, OPERATOR_TOKEN};
use crate::config::choices::SessionAlg;
use crate::config::{self, Config};
use crate::files::{
    DataDirectory, SecretKey, read_secret_bytes, read_secret_key, write_token, write_whole,
};

/// What gateways show at the feed, in the data directory.
pub(super) const GATEWAY_TOKEN: &str = "gateway-token";
/// The pepper made on the first start, in the data directory.
pub(super) const PEPPER: &str = "pepper.1";
/// The seed of the feed's signatures, in the data directory.
const FEED_SIGNING_KEY: &str = "feed-signing.key";
/// The seed of session tokens' signatures, in the data directory.
const SESSION_SIGNING_KEY: &str = "session-signing.1";
/// The same for ES256: no seed is ever used with two algorithms.
const SESSION_SIGNING_ES256: &str = "session-signing.es256";
/// Its public half, for `feed.verify_key`.
const FEED_SIGNING_PUBLIC: &str = "feed-signing.pub";
/// What seals the secrets of idempotent calls, in the data directory.
const SEALING_KEY: &str = "sealing.key";
/// The database, in the data directory.
const DATABASE: &str = "portcullis.db";

/// The control plane with its data directory, not yet serving.
pub(super) struct ControlHalf {
    pub(super) directory: DataDirectory,
    runtime: Runtime,
    pub(super) bound: portcullis_control::Bound,
    pub(super) started: Started,
    /// What the gateway half of the same process needs to know.
    pub(super) feed_public_key: String,
    drain: Duration,
}

impl ControlHalf {
    /// Opens the directory, the database and the listener.
    pub(super) fn build(
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
        // Made anew if it is missing: what it sealed is gone after a quarter of an hour anyway.
        let sealer = Sealer::new(&*directory.secret_bytes(SEALING_KEY, true, entropy.as_ref())?);
        let feed_public_key = signer.public_key();
        let public_path = directory.join(FEED_SIGNING_PUBLIC);
        if first_start || !public_path.exists() {
            write_whole(&public_path, format!("{feed_public_key}\n").as_bytes(), 0o644)?;
        }
        let peppers = read_peppers(config, Some(&directory.join(PEPPER)))?;
        let session_signers = read_session_signers(config, &directory, entropy.as_ref())?;
        let secrets = config::ControlSecrets { peppers, signer, sealer, session_signers };
        let settings = config::control_settings(config, database, secrets)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .context("the control plane's threads cannot be started")?;
        let listen = config.control.listen;
        let (bound, started) = runtime.block_on(async {
            let control =
                portcullis_control::open(settings, Arc::clone(clock), Arc::clone(entropy));
            let control = control.await.map_err(once)?;
            let started = control.bootstrap(|tokens| deliver(&directory, tokens));
            let started = started.await.map_err(once)?;
            let bound = control.bind().await.with_context(|| {
                format!("control.listen: cannot listen on {listen}; choose another with --control")
            })?;
            anyhow::Ok((bound, started))
        })?;
        let drain = config.timeouts.drain.0;
        Ok(Self { directory, runtime, bound, started, feed_public_key, drain })
    }

    /// Starts to serve; `ended` is cancelled when it stops by itself.
    pub(super) fn run(self, ended: CancellationToken) -> RunningControl {
        let shutdown = CancellationToken::new();
        let Self { directory, runtime, bound, started: _, feed_public_key: _, drain } = self;
        let served = bound.run(shutdown.clone());
        let task = runtime.spawn(async move {
            // Also a panic in the serving must be noticed, hence the guard.
            let _ended = ended.drop_guard();
            served.await;
        });
        RunningControl { directory, runtime, shutdown, task, drain }
    }
}

/// Fills the data directory of an installation that was never started from an export. Blocks, as
/// [`super::build`] does. New tokens are written where there are none.
///
/// # Errors
///
/// What is wrong with the export, or in the way; nothing was imported then.
pub fn import(
    config: &Config,
    input: impl BufRead + Send,
    progress: impl FnMut(u64) + Send,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> anyhow::Result<Imported> {
    let directory = DataDirectory::open(&config.control.data_dir)?;
    let database = config.control.database.0.clone().unwrap_or_else(|| directory.join(DATABASE));
    let peppers = read_peppers(config, Some(&directory.join(PEPPER))).with_context(|| {
        "an import needs the peppers of the installation that the export comes from: copy their \
         files first"
    })?;
    let seed = directory.secret_bytes(FEED_SIGNING_KEY, true, entropy.as_ref())?;
    let signer = FeedSigner::from_seed(&seed);
    let sealer = Sealer::new(&*directory.secret_bytes(SEALING_KEY, true, entropy.as_ref())?);
    let session_signers = read_session_signers(config, &directory, entropy.as_ref())?;
    let secrets = config::ControlSecrets { peppers, signer, sealer, session_signers };
    let settings = config::control_settings(config, database, secrets)?;
    let missing: Vec<&str> = [OPERATOR_TOKEN, GATEWAY_TOKEN]
        .into_iter()
        .filter(|name| directory.join(name).symlink_metadata().is_err())
        .collect();
    block_on_control(async {
        let control = portcullis_control::open(settings, Arc::clone(clock), Arc::clone(entropy));
        let control = control.await.map_err(once)?;
        let imported = control.import(input, !missing.is_empty(), progress, |tokens| {
            for (name, token) in
                [(OPERATOR_TOKEN, &tokens.operator), (GATEWAY_TOKEN, &tokens.gateway)]
            {
                if missing.contains(&name) {
                    write_token(&directory.join(name), token.expose())
                        .map_err(std::io::Error::other)?;
                }
            }
            Ok(())
        });
        let imported = imported.await;
        control.close().await;
        imported.map_err(once)
    })
}

fn block_on_control<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?
        .block_on(future)
}

/// The planes' errors hold their cause in their text; as a chain it would be said twice.
pub(super) fn once(error: impl std::error::Error) -> anyhow::Error {
    anyhow::anyhow!(error.to_string())
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

/// The control plane while it serves.
pub(super) struct RunningControl {
    // Its lock ends after the last write to the database, hence it outlives the runtime.
    directory: DataDirectory,
    runtime: Runtime,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    drain: Duration,
}

impl RunningControl {
    /// Answers the calls in flight and closes the database.
    pub(super) fn drain(self) -> anyhow::Result<()> {
        let Self { directory, runtime, shutdown, task, drain } = self;
        shutdown.cancel();
        let served = runtime.block_on(async { tokio::time::timeout(drain, task).await });
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(directory);
        match served {
            Ok(served) => served.context("the control plane panicked"),
            Err(_) => {
                tracing::warn!("calls of the admin API were cut: timeouts.drain is over");
                Ok(())
            }
        }
    }
}

/// The configured keys of session tokens, or the one of the data directory. That one is made
/// whenever it is missing: losing it ends tokens that live an hour, and no key.
fn read_session_signers(
    config: &Config,
    directory: &DataDirectory,
    entropy: &dyn Entropy,
) -> anyhow::Result<Vec<SessionSigner>> {
    if config.control.session_keys.is_empty() {
        return own_session_signers(config.control.session_alg, directory, entropy);
    }
    let mut signers: Vec<SessionSigner> = Vec::new();
    for file in &config.control.session_keys {
        let signer = read_session_signer(file)?;
        anyhow::ensure!(
            signers.iter().all(|other| other.kid() != signer.kid()),
            "control.session_keys: {} holds a key that is listed twice",
            file.display()
        );
        signers.push(signer);
    }
    let chosen = match config.control.session_alg {
        SessionAlg::EdDsa => SignerAlg::EdDsa,
        SessionAlg::Es256 => SignerAlg::Es256,
        SessionAlg::Rs256 => SignerAlg::Rs256,
    };
    anyhow::ensure!(
        signers.first().is_some_and(|first| first.alg() == chosen),
        "control.session_keys: the first one signs, and it is no key for {}, which \
         control.session_alg says",
        chosen.as_str()
    );
    Ok(signers)
}

/// A key for EdDSA or for RS256: its file says which.
fn read_session_signer(file: &Path) -> anyhow::Result<SessionSigner> {
    match read_secret_key(file).context("control.session_keys")? {
        SecretKey::Pem(pem) => SessionSigner::from_pkcs8(&pem).with_context(|| {
            format!(
                "control.session_keys: {} holds no key for RS256; allowed: an RSA key of 2048 to \
                 4096 bits with the exponent 65537 in PKCS#8 PEM",
                file.display()
            )
        }),
        SecretKey::Seed(seed) => signer_of(SignerAlg::EdDsa, &seed, file),
    }
}

/// The data directory's key for the algorithm, and after it the other one's, if there is one: what
/// it signed before the setting changed lives on.
fn own_session_signers(
    chosen: SessionAlg,
    directory: &DataDirectory,
    entropy: &dyn Entropy,
) -> anyhow::Result<Vec<SessionSigner>> {
    let eddsa = (SignerAlg::EdDsa, SESSION_SIGNING_KEY);
    let es256 = (SignerAlg::Es256, SESSION_SIGNING_ES256);
    let ((alg, name), (other_alg, other_name)) = match chosen {
        SessionAlg::EdDsa => (eddsa, es256),
        SessionAlg::Es256 => (es256, eddsa),
        SessionAlg::Rs256 => {
            bail!("control.session_alg: RS256 has its key in control.session_keys")
        }
    };
    let seed = directory.secret_bytes(name, true, entropy)?;
    let mut signers = vec![signer_of(alg, &seed, &directory.join(name))?];
    let other = directory.join(other_name);
    if other.try_exists().with_context(|| format!("{} cannot be examined", other.display()))? {
        signers.push(signer_of(other_alg, &*read_secret_bytes(&other)?, &other)?);
    }
    Ok(signers)
}

fn signer_of(alg: SignerAlg, seed: &[u8; 32], file: &Path) -> anyhow::Result<SessionSigner> {
    SessionSigner::from_seed(alg, seed).with_context(|| {
        format!("{} is no key for {}; remove it, and another is made", file.display(), alg.as_str())
    })
}

/// The configured peppers, or the one that the data directory has.
pub(super) fn read_peppers(config: &Config, own: Option<&Path>) -> anyhow::Result<PepperRing> {
    let mut files: Vec<(u32, PathBuf)> = Vec::new();
    for pepper in &config.keys.peppers {
        files.push((u32::try_from(pepper.id.0)?, pepper.file.clone()));
    }
    if let (true, Some(own)) = (files.is_empty(), own) {
        files.push((1, own.to_path_buf()));
    }
    let mut peppers = Vec::with_capacity(files.len());
    for (version, path) in files {
        let bytes = read_secret_bytes(&path).context("keys.peppers")?;
        peppers.push(Pepper::new(version, *bytes));
    }
    PepperRing::new(peppers).context("keys.peppers")
}
