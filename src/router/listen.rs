//! Listening sockets that several lanes share (`SO_REUSEPORT`).
//!
//! Each lane has a socket of its own on the same address and the kernel spreads connections over
//! them, so that a connection never changes its thread. Because such sockets would also share an
//! address with another process in silence, a group first proves that the address is free.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};

use super::http::Site;
use super::table::{Protocol, RoutingTable};

const BACKLOG: i32 = 4096;

/// Binds one socket for each lane to the same address; port zero takes any free one.
pub(crate) fn bind_group(addr: SocketAddr, lanes: usize) -> io::Result<Vec<TcpListener>> {
    if addr.port() != 0 {
        prove_free(addr)?;
    }
    let first = bind_shared(addr)?;
    let addr = first.local_addr()?;
    let others = (1..lanes.max(1)).map(|_| bind_shared(addr));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// Binds one socket that shares its address with those of the other lanes.
pub(super) fn bind_shared(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(addr)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails with `AddrInUse` if anybody listens there, even if they would share.
pub(super) fn prove_free(addr: SocketAddr) -> io::Result<()> {
    open(addr)?.bind(&addr.into())
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(SocketProtocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An address to listen on, and what for.
pub(super) type Place = (SocketAddr, Site);

/// Where the table wants the router to listen besides the front address. UDP is not passed
/// through: nobody listens for it.
pub(super) fn wanted(table: &RoutingTable, node_port_ip: IpAddr) -> BTreeSet<Place> {
    let listeners = table.listeners();
    let node_ports = listeners.node_ports();
    let node_ports = node_ports.filter(|(_, protocol)| *protocol == Protocol::Tcp);
    let node_ports =
        node_ports.map(|(port, _)| (SocketAddr::new(node_port_ip, port), Site::NodePort(port)));
    let balancers = listeners.balancers();
    let balancers = balancers.filter(|(_, protocol)| *protocol == Protocol::Tcp);
    let balancers = balancers.map(|(addr, _)| (addr, Site::Balancer(addr)));
    node_ports.chain(balancers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_share_an_address_and_strangers_do_not() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let addr = group[0].local_addr().unwrap();
        assert!(group.iter().all(|it| it.local_addr().unwrap() == addr));
        let stranger = bind_group(addr, 1).unwrap_err();
        assert_eq!(stranger.kind(), io::ErrorKind::AddrInUse);
        drop(group);
        bind_group(addr, 1).unwrap();
    }
}
