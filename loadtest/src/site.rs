//! The place of one run: the programs found, a folder that goes away afterwards, the addresses on
//! the loopback interface, and the core each process is bound to.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::contenders::Contender;

/// Programs of this run. `compare` beside the sources installs and builds them.
pub(crate) struct Tools {
    pub(crate) envoy: PathBuf,
    pub(crate) floor: PathBuf,
    pub(crate) haproxy: PathBuf,
    pub(crate) hyper_relay: PathBuf,
    pub(crate) nginx: PathBuf,
    pub(crate) pingora: PathBuf,
    pub(crate) portcullis: PathBuf,
}

impl Tools {
    /// Finds what the contenders need; says all that is missing at once.
    pub(crate) fn find(contenders: &[Contender]) -> Result<Self> {
        let program = std::env::current_exe()?;
        let bin = program.parent().context("no folder of programs")?;
        let target = bin.parent().context("no target folder")?;
        let tools = Self {
            envoy: envoy_in(target).unwrap_or_default(),
            floor: bin.join("floor"),
            haproxy: on_path("haproxy").unwrap_or_default(),
            hyper_relay: bin.join("hyper-relay"),
            nginx: on_path("nginx").unwrap_or_default(),
            pingora: bin.join("bare-pingora"),
            portcullis: bin.join("portcullis"),
        };
        let mut missing = Vec::new();
        for contender in contenders {
            let program = tools.program_of(*contender);
            if !program.is_file() {
                missing.push(contender.name());
            }
        }
        if !missing.is_empty() {
            bail!(
                "no program for {}: run loadtest/compare, which installs and builds what is \
                 missing, or choose others with --only",
                missing.join(", ")
            );
        }
        Ok(tools)
    }

    pub(crate) fn program_of(&self, contender: Contender) -> &Path {
        match contender {
            Contender::Envoy => &self.envoy,
            Contender::Floor => &self.floor,
            Contender::Haproxy => &self.haproxy,
            Contender::HyperRelay => &self.hyper_relay,
            Contender::Nginx | Contender::NginxLog => &self.nginx,
            Contender::Pingora => &self.pingora,
            Contender::Portcullis | Contender::PortcullisRecords => &self.portcullis,
        }
    }
}

/// The binary inside the Python package; the package's own launcher would be a second process.
fn envoy_in(target: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(target.join("envoy/lib")).ok()?;
    versions
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|path| path.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(name)).find(|p| p.is_file())
}

/// One run's programs, folder and core, and where its upstream is.
pub(crate) struct Site {
    pub(crate) tools: Tools,
    pub(crate) upstream: SocketAddr,
    folder: PathBuf,
    proxy_core: usize,
}

impl Site {
    pub(crate) fn open(tools: Tools, upstream: SocketAddr, proxy_core: usize) -> Result<Self> {
        let folder =
            std::env::temp_dir().join(format!("portcullis-compare-{}", std::process::id()));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        Ok(Self { tools, upstream, folder, proxy_core })
    }

    /// An empty folder and a free address for one process.
    pub(crate) fn place(&self, name: &str) -> Result<Place> {
        let folder = self.folder.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Place { folder, listen: free_address()? })
    }

    /// A command bound to the proxy's core that ends when this process does, however it ends.
    pub(crate) fn on_proxy_core(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "--cpu-list"]);
        command.arg(self.proxy_core.to_string()).arg(program);
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Left-over files are a nuisance, not a failure.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One process's folder and address.
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
}

impl Place {
    pub(crate) fn write(&self, name: &str, content: Vec<u8>) -> Result<PathBuf> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Free at this moment; whoever takes it before the contender does makes the start fail loudly.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free loopback port")?;
    Ok(listener.local_addr()?)
}
