//! The socket of the operator's listener: TCP, or a file that only its owner can connect to. It
//! keeps descriptors in reserve, so that an operator gets in when connections have used up all
//! others. Reads no byte of what comes in.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::AdminAddress;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Descriptors in reserve.
const RESERVE: usize = 16;

/// An open socket.
pub(super) enum Socket {
    File(UnixListener, SocketFile),
    Tcp(TcpListener, SocketAddr),
}

impl Socket {
    /// Opens the socket at `address`.
    ///
    /// # Errors
    ///
    /// When it cannot be listened on, also because somebody else does.
    pub(super) fn open(address: &AdminAddress) -> anyhow::Result<Self> {
        let opened = match address {
            AdminAddress::Socket(path) => open_file(path),
            AdminAddress::Tcp(address) => open_tcp(*address),
        };
        opened.with_context(|| {
            format!("admin.address: cannot listen on {address}; choose another with --admin")
        })
    }

    /// Where it really is.
    pub(super) fn address(&self) -> AdminAddress {
        match self {
            Self::File(_, file) => AdminAddress::Socket(file.path.clone()),
            Self::Tcp(_, address) => AdminAddress::Tcp(*address),
        }
    }
}

fn open_tcp(address: SocketAddr) -> anyhow::Result<Socket> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Socket::Tcp(listener, address))
}

/// The file appears at its path with its mode and with somebody listening: what is there already
/// goes away in the same moment.
fn open_file(path: &Path) -> anyhow::Result<Socket> {
    refuse_used(path)?;
    let name = path.file_name().context("the path names no file")?;
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let fresh = path.with_file_name(format!(".{}.{}", name.display(), std::process::id()));
    // Left by a process with our pid that died between the next lines.
    let _ = std::fs::remove_file(&fresh);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(&fresh).context("a socket's path has at most 107 bytes")?;
    rustix::net::bind(&socket, &address)?;
    // Nobody can connect before this: the socket does not listen yet.
    std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&fresh, path)?;
    let file = SocketFile { path: path.to_path_buf(), inode: path.symlink_metadata()?.ino() };
    Ok(Socket::File(UnixListener::from(socket), file))
}

/// The socket file of a process that is gone may be replaced, and nothing else.
fn refuse_used(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(found) if !found.file_type().is_socket() => bail!("there is a file that is no socket"),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("another process listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The file of a listening socket; removed when dropped, unless another one has its place by then.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}

/// Descriptors that are given up when there are no others, and taken again when there are.
pub(super) struct Reserve(Vec<OwnedFd>);

impl Reserve {
    pub(super) fn new() -> Self {
        let mut reserve = Self(Vec::with_capacity(RESERVE));
        reserve.refill();
        reserve
    }

    /// Takes as many as are missing and to be had.
    pub(super) fn refill(&mut self) {
        while self.0.len() < RESERVE {
            let Ok(file) = File::open("/dev/null") else { return };
            self.0.push(file.into());
        }
    }

    /// Whether `error` says that there are no descriptors and one was free for it: try again.
    pub(super) fn relieves(&mut self, error: &io::Error) -> bool {
        let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
        let exhausted = matches!(code, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
        exhausted && self.0.pop().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_a_dead_process_is_replaced_and_the_own_one_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("admin.sock");
        let address = AdminAddress::Socket(path.clone());
        let refusal = || match Socket::open(&address) {
            Ok(_) => panic!("opened"),
            Err(error) => format!("{error:#}"),
        };
        let first = Socket::open(&address).unwrap();
        assert_eq!(path.symlink_metadata().unwrap().mode() & 0o777, 0o600);
        assert!(refusal().contains("another process listens there"), "{}", refusal());
        let Socket::File(listener, file) = first else { panic!("a file") };
        // As after kill -9: nobody listens, the file stays.
        drop(listener);
        let second = Socket::open(&address).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert!(refusal().contains("no socket"), "{}", refusal());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let long = AdminAddress::Socket(folder.path().join("a".repeat(120)));
        let refusal = Socket::open(&long).err().unwrap();
        assert!(format!("{refusal:#}").contains("at most 107 bytes"), "{refusal:#}");
    }
}
