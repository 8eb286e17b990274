//! The contenders: what each is called, and how it is started with a set of keys.
//!
//! Every contender runs with its defaults, except for one worker, no log, and keep-alive on both
//! sides without a limit of requests where that has to be asked for. All look the key up; only
//! Portcullis also strips it, names the caller to the upstream and checks a permission: the
//! comparison leans towards the others.

mod envoy;
mod haproxy;
mod nginx;
mod portcullis;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::keys::KeySet;
use crate::site::{Place, Site};

/// In the order of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// A relay without any key check.
    Floor,
    /// A relay on bare hyper, without any key check.
    HyperRelay,
    /// The product, records off.
    Portcullis,
    /// nginx with a key map.
    Nginx,
    /// HAProxy with a key map.
    Haproxy,
    /// A bare pingora-proxy with a hash set of keys.
    Pingora,
    /// Envoy with its `api_key_auth` filter.
    Envoy,
    /// The product, one access record per request to a file.
    PortcullisRecords,
    /// nginx with an access log, buffered.
    NginxLog,
}

impl Contender {
    pub(crate) const ALL: [Self; 9] = [
        Self::Floor,
        Self::HyperRelay,
        Self::Portcullis,
        Self::Nginx,
        Self::Haproxy,
        Self::Pingora,
        Self::Envoy,
        Self::PortcullisRecords,
        Self::NginxLog,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Envoy => "Envoy, api_key_auth",
            Self::Floor => "floor: bare relay",
            Self::Haproxy => "HAProxy, key map",
            Self::HyperRelay => "hyper relay, no keys",
            Self::Nginx => "nginx, key map",
            Self::NginxLog => "nginx + access log",
            Self::Pingora => "pingora-proxy, key set",
            Self::Portcullis => "Portcullis",
            Self::PortcullisRecords => "Portcullis + records",
        }
    }

    /// Name of its folder and on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(crate) fn checks_keys(self) -> bool {
        !matches!(self, Self::Floor | Self::HyperRelay)
    }

    /// Writes the configuration and says how to start it.
    pub(crate) fn launch(self, site: &Site, keys: &KeySet) -> Result<Launch> {
        let place = site.place(&self.name())?;
        match self {
            Self::Envoy => envoy::launch(site, &place, keys),
            Self::Floor | Self::HyperRelay => {
                let mut command = site.on_proxy_core(site.tools.program_of(self));
                command.arg(place.listen.to_string()).arg(site.upstream.to_string());
                Ok(Launch::new(self, command, &place))
            }
            Self::Haproxy => haproxy::launch(site, &place, keys),
            Self::Nginx | Self::NginxLog => nginx::launch(self, site, &place, keys),
            Self::Pingora => {
                let list = place.write("keys", keys.lines(|key| format!("{key}\n")))?;
                let mut command = site.on_proxy_core(&site.tools.pingora);
                command.arg(place.listen.to_string()).arg(site.upstream.to_string()).arg(list);
                Ok(Launch::new(self, command, &place))
            }
            Self::Portcullis | Self::PortcullisRecords => {
                portcullis::launch(self, site, &place, keys)
            }
        }
    }
}

/// A contender ready to be started.
pub(crate) struct Launch {
    pub(crate) contender: Contender,
    pub(crate) command: Command,
    pub(crate) listen: SocketAddr,
    /// Receives what it prints; shown when it fails.
    pub(crate) output: PathBuf,
    /// A log of its own that grows by the request and is emptied between rounds.
    pub(crate) log: Option<PathBuf>,
}

impl Launch {
    fn new(contender: Contender, command: Command, place: &Place) -> Self {
        Self {
            contender,
            command,
            listen: place.listen,
            output: place.folder.join("output"),
            log: None,
        }
    }
}
