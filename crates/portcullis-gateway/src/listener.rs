//! Listening sockets: one per worker and address, so that the kernel spreads connections and no
//! worker waits for another (`SO_REUSEPORT`). Accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Opens `count` sockets on one address. With port 0 all get the same free port.
///
/// # Errors
///
/// What the operating system says, also when anybody else listens there already.
pub(crate) fn listen(
    address: SocketAddr,
    count: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    if address.port() != 0 {
        // A socket that does not share its port: fails if another process has it, even one that
        // would share. Closed again before ours are opened.
        drop(open(address, false)?);
    }
    let first = open(address, true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(bound, true)?);
    }
    Ok((bound, sockets))
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger in TIME_WAIT are no reason to fail.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_a_port_and_nobody_else_does() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (bound, sockets) = listen(any, 3).unwrap();
        assert_ne!(bound.port(), 0);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == bound));
        assert_eq!(listen(bound, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
