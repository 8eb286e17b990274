//! The control plane: organizations, service accounts, keys, roles and bindings; their store, the
//! admin API and the feed that gateways follow.
//!
//! It never proxies a request, never sees the data plane's crate, and never keeps a secret in the
//! clear. A change, its audit event and its feed line commit together; there is no other write
//! path (see [`store::Unit`]).
//!
//! ```text
//! let control = portcullis_control::open(settings, clock, entropy).await?;   // database, migrations
//! control.bootstrap(|tokens| write_token_files(tokens)).await?;             // a new database only
//! let bound = control.bind().await?;                                       // the address is real now
//! bound.run(shutdown).await;                                               // until drained
//! ```

mod api;
mod bootstrap;
mod caller;
mod chain;
mod connections;
mod cursor;
mod domain;
mod housekeeping;
mod instant;
mod policy;
mod publisher;
mod resolve;
mod sealer;
mod sessions;
mod settings;
mod slow;
mod store;
mod transfer;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_core::entropy::Entropy;
use portcullis_core::feed::Position;
use portcullis_core::time::Clock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use bootstrap::{BootstrapError, FirstTokens, FreshTokens, Started};
pub use chain::{ChainFault, ChainVerdict, ExportWalk};
pub use sealer::Sealer;
pub use settings::{FeedSigner, SessionSigner, Settings};
pub use store::OpenError;
pub use transfer::import::{ImportError, Imported};
pub use transfer::{Seal, is_end};

use api::App;

/// Opens (or creates) the database, brings its schema up to date and checks that it is ours.
///
/// # Errors
///
/// [`OpenError`] names the file and what is wrong with it.
pub async fn open(
    settings: Settings,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Control, OpenError> {
    let listen = settings.listen;
    let app = App::open(settings, clock, entropy).await?;
    Ok(Control { app, listen })
}

/// The OpenAPI document of the admin API.
pub fn openapi() -> serde_json::Value {
    api::openapi::document()
}

/// The same as text, as `docs/openapi.json` has it.
pub fn openapi_text() -> String {
    format!("{:#}\n", openapi())
}

/// An opened control plane which does not listen yet.
pub struct Control {
    app: App,
    listen: SocketAddr,
}

impl Control {
    /// Fills a new database: cluster id, the organization `default`, its owner with a key, the
    /// operator's key and the gateways' token. A database which has them is left as it is.
    ///
    /// `deliver` stores the tokens and runs *before* the commit, so a crash in between leaves a new
    /// database and no token that works, never a database whose tokens nobody has.
    ///
    /// # Errors
    ///
    /// [`BootstrapError`] if the tokens could not be minted or delivered, or the database written.
    pub async fn bootstrap(
        &self,
        deliver: impl FnOnce(&FirstTokens) -> std::io::Result<()> + Send,
    ) -> Result<Started, BootstrapError> {
        bootstrap::run(&self.app, deliver).await
    }

    /// Closes the database of a control plane that never listened.
    pub async fn close(self) {
        self.app.close().await;
    }

    /// Fills an empty database with an export: all of it, or nothing. `progress` is told the number
    /// of lines read so far; `deliver` stores the installation's new tokens before the commit, if
    /// `fresh_tokens` are wanted.
    ///
    /// # Errors
    ///
    /// [`ImportError`] names the line that is damaged, or what else is in the way.
    pub async fn import(
        &self,
        input: impl std::io::BufRead + Send,
        fresh_tokens: bool,
        progress: impl FnMut(u64) + Send,
        deliver: impl FnOnce(&FreshTokens) -> std::io::Result<()> + Send,
    ) -> Result<Imported, ImportError> {
        transfer::import::run(&self.app, input, fresh_tokens, progress, deliver).await
    }

    /// The position of the newest committed change.
    pub fn position(&self) -> Position {
        self.app.publisher.position()
    }

    /// Binds the admin API and the feed; port 0 picks a free one. Only then is it known what
    /// session tokens name as their issuer, so gateways are told here what to verify them with.
    ///
    /// # Errors
    ///
    /// The operating system's error for the address, or what the database refused.
    pub async fn bind(self) -> std::io::Result<Bound> {
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        self.app.sessions.settle(format!("http://{address}"));
        domain::sessions::publish(&self.app).await.map_err(std::io::Error::other)?;
        Ok(Bound { app: self.app, listener, address })
    }
}

/// A control plane with a listening socket.
pub struct Bound {
    app: App,
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// The real address of the admin API and the feed.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled and the calls in flight have been answered. Feed
    /// streams end at once: gateways reconnect by themselves.
    pub async fn run(self, shutdown: CancellationToken) {
        self.app.publisher.end_streams_at(shutdown.clone());
        let app = self.app.clone();
        let keeping = tokio::spawn(housekeeping::run(app.clone(), shutdown.clone()));
        connections::serve(self.listener, api::router(self.app), shutdown).await;
        if keeping.await.is_err() {
            tracing::error!("the control plane's housekeeping had panicked");
        }
        app.close().await;
    }
}

/// The body of the fuzz target `admin_fields`; only in builds for fuzzing.
#[cfg(fuzzing)]
pub fn fuzz_admin_fields(data: &[u8]) {
    api::fuzz::body(data);
}
