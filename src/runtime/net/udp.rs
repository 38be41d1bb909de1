//! A UDP socket as a guest sees it.
//!
//! Datagrams move by ownership from the sender's call into the receiver's mailbox. A datagram to a
//! service address goes to one endpoint and its answers come back under the service address, the
//! same endpoint for as long as the socket remembers it: what a kernel's connection tracking does.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use super::dialer::Plane;
use super::error::Error;
use super::mailbox::Mailbox;
use super::options::{Family, Options, is_remote};
use super::outside::Outside;
use super::owner::Owner;
use super::pod_net::{PodNet, SocketSlot};
use super::ports::PortLease;
use crate::runtime::spec::Protocol;

/// The largest payload of a UDP datagram over IPv4.
pub(super) const MAX_DATAGRAM: usize = 65_507;
/// Service addresses whose endpoint a socket remembers.
const MAX_TRACKED: usize = 64;

struct Bound {
    lease: PortLease,
    mailbox: Arc<Mailbox>,
    outside: Option<Outside>,
}

/// A service address and the endpoint that answers for it.
struct Tracked {
    shown: SocketAddr,
    endpoint: SocketAddr,
}

/// See the module.
pub struct UdpSocket {
    net: Arc<PodNet>,
    owner: Owner,
    family: Family,
    options: Options,
    bound: Option<Bound>,
    peer: Option<SocketAddr>,
    tracked: VecDeque<Tracked>,
    _slot: SocketSlot,
}

impl UdpSocket {
    /// A new socket, counted against the pod's limit.
    pub fn new(net: &Arc<PodNet>, owner: &Owner, family: Family) -> Result<Self, Error> {
        let slot = net.socket_slot()?;
        Ok(Self {
            net: Arc::clone(net),
            owner: owner.clone(),
            family,
            options: Options::default(),
            bound: None,
            peer: None,
            tracked: VecDeque::new(),
            _slot: slot,
        })
    }

    /// Takes a local address and begins to receive there.
    pub fn bind(&mut self, addr: SocketAddr) -> Result<(), Error> {
        if self.is_bound() {
            return Err(Error::InvalidState);
        }
        if !self.family.takes(addr.ip()) {
            return Err(Error::InvalidArgument);
        }
        let lease = self.net.bind(Protocol::Udp, addr, &self.owner)?;
        let budget = Arc::clone(&self.net.config.budget);
        let mailbox = Arc::new(Mailbox::new(self.options.receive_buffer(), budget));
        self.net.hold_udp(&lease, Arc::clone(&mailbox))?;
        self.bound = Some(Bound {
            lease,
            mailbox,
            outside: None,
        });
        Ok(())
    }

    /// Sends to and receives from one peer only, from now on. Binds if need be.
    pub fn connect(&mut self, to: SocketAddr) -> Result<(), Error> {
        if !self.family.takes(to.ip()) || !is_remote(to) {
            return Err(Error::InvalidArgument);
        }
        self.ensure_bound()?;
        let endpoint = match self.net.plane(to, Protocol::Udp) {
            Ok(Plane::Lo(endpoint) | Plane::Mesh(_, endpoint) | Plane::Wire(endpoint)) => endpoint,
            // Connecting sends nothing, so a peer that cannot be reached is an error of `send`.
            Ok(Plane::Host(_)) | Err(_) => to,
        };
        self.track(to, endpoint);
        self.peer = Some(to);
        self.mailbox()?.set_peer(Some(endpoint));
        Ok(())
    }

    /// Undoes [`UdpSocket::connect`].
    pub fn disconnect(&mut self) -> Result<(), Error> {
        if self.peer.take().is_none() {
            return Err(Error::InvalidState);
        }
        self.mailbox()?.set_peer(None);
        Ok(())
    }

    /// Sends a datagram; `to` must be the peer, or `None`, if there is one. Binds if need be.
    pub fn send(&mut self, data: Vec<u8>, to: Option<SocketAddr>) -> Result<(), Error> {
        if data.len() > MAX_DATAGRAM {
            return Err(Error::DatagramTooLarge);
        }
        let to = match (to, self.peer) {
            (Some(to), None) => to,
            (Some(to), Some(peer)) if to == peer => to,
            (None, Some(peer)) => peer,
            (Some(_), Some(_)) | (None, None) => return Err(Error::InvalidArgument),
        };
        if !is_remote(to) || !self.family.takes(to.ip()) {
            return Err(Error::InvalidArgument);
        }
        self.ensure_bound()?;
        if let Some(error) = self.mailbox()?.take_error() {
            return Err(error);
        }
        let posted = self.post(to, data);
        if posted != Err(Error::ConnectionRefused) {
            return posted;
        }
        // Nobody is there. Only a connected socket is told, by its next operation.
        if self.peer.is_some() {
            self.mailbox()?.set_error(Error::ConnectionRefused);
        }
        Ok(())
    }

    fn post(&mut self, to: SocketAddr, data: Vec<u8>) -> Result<(), Error> {
        let from = SocketAddr::new(self.source_for(to.ip()), self.port()?);
        if from.ip().is_loopback() && !self.net.is_own(to.ip()) {
            return Err(Error::InvalidArgument);
        }
        let tracked = self.tracked.iter().find(|tracked| tracked.shown == to);
        let target = tracked.map_or(to, |tracked| tracked.endpoint);
        let plane = self.net.plane(target, Protocol::Udp)?;
        self.net.check_datagram_out(from.port(), &plane)?;
        match plane {
            Plane::Lo(endpoint) => {
                self.track(to, endpoint);
                self.net.post(from, endpoint, data)
            }
            Plane::Mesh(pod, endpoint) => {
                self.track(to, endpoint);
                pod.post_from_outside(from, endpoint, data)
            }
            Plane::Wire(endpoint) => {
                self.track(to, endpoint);
                self.net.post_far(from, endpoint, data)
            }
            Plane::Host(outside) => self.post_outside(outside, data),
        }
    }

    fn post_outside(&mut self, to: SocketAddr, data: Vec<u8>) -> Result<(), Error> {
        let bound = self.bound.as_mut().ok_or(Error::InvalidState)?;
        let outside = match bound.outside.take().filter(Outside::is_open) {
            Some(outside) => outside,
            None => Outside::open(&self.net, (self.family, self.options), &bound.mailbox)?,
        };
        outside.send(to, data);
        bound.outside = Some(outside);
        Ok(())
    }

    fn track(&mut self, shown: SocketAddr, endpoint: SocketAddr) {
        if shown == endpoint || self.tracked.iter().any(|tracked| tracked.shown == shown) {
            return;
        }
        if self.tracked.len() == MAX_TRACKED {
            self.tracked.pop_front();
        }
        self.tracked.push_back(Tracked { shown, endpoint });
    }

    /// The next datagram and who sent it, or [`Error::WouldBlock`].
    pub fn receive(&self) -> Result<(Vec<u8>, SocketAddr), Error> {
        let (from, data) = self.mailbox()?.receive()?;
        let tracked = self.tracked.iter().find(|tracked| tracked.endpoint == from);
        Ok((data, tracked.map_or(from, |tracked| tracked.shown)))
    }

    /// Ready when [`UdpSocket::receive`] would not block.
    pub fn poll_receivable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.bound {
            Some(bound) => bound.mailbox.poll_receivable(cx),
            None => Poll::Ready(()),
        }
    }

    /// Whether a local address is taken.
    pub fn is_bound(&self) -> bool {
        self.bound.is_some()
    }

    /// This socket's address; a connected socket names the one it sends from.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        let bound = self.bound.as_ref().ok_or(Error::InvalidState)?;
        Ok(match self.peer {
            Some(peer) => SocketAddr::new(self.source_for(peer.ip()), bound.lease.addr.port()),
            None => bound.lease.addr,
        })
    }

    /// The peer, if connected.
    pub fn remote_addr(&self) -> Result<SocketAddr, Error> {
        self.peer.ok_or(Error::InvalidState)
    }

    /// The family it was made for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Changes the options.
    pub fn change_options(
        &mut self,
        change: impl FnOnce(&mut Options) -> Result<(), Error>,
    ) -> Result<(), Error> {
        change(&mut self.options)?;
        if let Some(bound) = &self.bound {
            bound.mailbox.set_limit(self.options.receive_buffer());
        }
        Ok(())
    }

    fn ensure_bound(&mut self) -> Result<(), Error> {
        if self.is_bound() {
            return Ok(());
        }
        self.bind(self.family.wildcard())
    }

    fn mailbox(&self) -> Result<&Mailbox, Error> {
        let bound = self.bound.as_ref().ok_or(Error::InvalidState)?;
        Ok(&bound.mailbox)
    }

    fn port(&self) -> Result<u16, Error> {
        Ok(self
            .bound
            .as_ref()
            .ok_or(Error::InvalidState)?
            .lease
            .addr
            .port())
    }

    fn source_for(&self, to: IpAddr) -> IpAddr {
        match &self.bound {
            Some(bound) if !bound.lease.addr.ip().is_unspecified() => bound.lease.addr.ip(),
            _ => self.net.source_for(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{World, addr};
    use super::*;

    fn bound(world: &World, at: &str) -> UdpSocket {
        let mut socket = world.udp();
        socket.bind(addr(at)).unwrap();
        socket
    }

    #[test]
    fn datagrams_arrive_whole_with_their_sender() {
        let world = World::new();
        let server = bound(&world, "0.0.0.0:53");
        let mut client = bound(&world, "0.0.0.0:0");
        let port = client.local_addr().unwrap().port();
        for (to, from) in [("127.0.0.1:53", "127.0.0.1"), ("10.64.0.1:53", "10.64.0.1")] {
            client.send(b"ask".to_vec(), Some(addr(to))).unwrap();
            let from = SocketAddr::new(from.parse().unwrap(), port);
            assert_eq!(server.receive(), Ok((b"ask".to_vec(), from)));
        }
        client.send(Vec::new(), Some(addr("127.0.0.1:53"))).unwrap();
        assert_eq!(server.receive().unwrap().0, b"");
        assert_eq!(server.receive(), Err(Error::WouldBlock));
        assert_eq!(world.budget.used(), 0);
    }

    #[test]
    fn send_checks_its_arguments() {
        let world = World::new();
        let mut socket = world.udp();
        let cases = [
            (Some("127.0.0.1:53"), 65_508, Error::DatagramTooLarge),
            (None, 1, Error::InvalidArgument),
            (Some("127.0.0.1:0"), 1, Error::InvalidArgument),
            (Some("0.0.0.0:53"), 1, Error::InvalidArgument),
            (Some("[::1]:53"), 1, Error::InvalidArgument),
            (Some("198.51.100.1:53"), 1, Error::AccessDenied),
        ];
        for (to, length, expected) in cases {
            let sent = socket.send(vec![0; length], to.map(addr));
            assert_eq!(sent, Err(expected), "{to:?}");
        }
        assert_eq!(socket.disconnect(), Err(Error::InvalidState));
        assert!(world.udp().local_addr().is_err());
    }

    #[test]
    fn a_connected_socket_hears_its_peer_only_and_learns_of_refusal() {
        let world = World::new();
        let mut server = bound(&world, "127.0.0.1:53");
        let mut other = bound(&world, "127.0.0.1:54");
        let mut client = world.udp();
        client.connect(addr("127.0.0.1:53")).unwrap();
        let at = client.local_addr().unwrap();
        assert!(at.ip().is_loopback());
        other.send(b"spam".to_vec(), Some(at)).unwrap();
        server.send(b"ham".to_vec(), Some(at)).unwrap();
        assert_eq!(client.receive().unwrap().0, b"ham");
        assert_eq!(client.receive(), Err(Error::WouldBlock));
        assert_eq!(
            client.send(b"x".to_vec(), Some(addr("127.0.0.1:54"))),
            Err(Error::InvalidArgument)
        );
        drop(server);
        client.send(b"lost".to_vec(), None).unwrap();
        assert_eq!(client.receive(), Err(Error::ConnectionRefused));
        assert_eq!(client.receive(), Err(Error::WouldBlock));
        client.disconnect().unwrap();
        client
            .send(b"lost".to_vec(), Some(addr("127.0.0.1:53")))
            .unwrap();
        assert_eq!(client.receive(), Err(Error::WouldBlock));
    }

    #[test]
    fn a_service_answers_under_its_own_address() {
        let world = World::new();
        let owner = world.container.owner();
        let mut server = UdpSocket::new(&world.second, owner, Family::V4).unwrap();
        server.bind(addr("0.0.0.0:8080")).unwrap();
        let mut client = world.udp();
        let service = addr("10.43.0.1:80");
        client.send(b"ask".to_vec(), Some(service)).unwrap();
        let (_, from) = server.receive().unwrap();
        server.send(b"answer".to_vec(), Some(from)).unwrap();
        assert_eq!(client.receive(), Ok((b"answer".to_vec(), service)));
        client.connect(service).unwrap();
        client.send(b"again".to_vec(), None).unwrap();
        server.receive().unwrap();
        server.send(b"answer".to_vec(), Some(from)).unwrap();
        assert_eq!(client.receive(), Ok((b"answer".to_vec(), service)));
    }

    #[test]
    fn what_does_not_fit_is_lost() {
        let world = World::with_limits(100_000, 10);
        let server = bound(&world, "127.0.0.1:53");
        let mut client = world.udp();
        for _ in 0..10 {
            client
                .send(vec![0; 30_000], Some(addr("127.0.0.1:53")))
                .unwrap();
        }
        let received = std::iter::from_fn(|| server.receive().ok()).count();
        assert_eq!(received, 3);
        assert_eq!(world.budget.used(), 0);
    }
}
