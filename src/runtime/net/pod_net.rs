//! One pod's network namespace.
//!
//! It holds the two port tables, the pod's limits, and the delivery of connections to whoever
//! listens: a guest's listener, or a service of the host ([`ConnService`], an HTTP handler) that
//! occupies a port like one. It never blocks and never runs guest code.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::conn::{Conn, End};
use super::descriptors::Descriptors;
use super::error::Error;
use super::fabric::Fabric;
use super::far::Streams;
use super::guard::Guard;
use super::listen::{DEFAULT_BACKLOG, ListenQueue, TcpListener, clamp_backlog};
use super::mailbox::Mailbox;
use super::options::{Family, Options};
use super::owner::{Endpoint, Owner};
use super::ports::{PortLease, PortTable};
use crate::runtime::budget::Budget;
use crate::runtime::spec::Protocol;

/// What a pod's network is made of.
pub struct PodNetConfig {
    pub namespace: String,
    pub hostname: String,
    pub ip: IpAddr,
    /// Whether guests may leave the cluster.
    pub egress: bool,
    /// Open sockets of all containers together.
    pub max_sockets: u32,
    /// The pod's memory, charged for socket buffers.
    pub budget: Arc<Budget>,
}

/// Host code that answers on a port of the pod as if it were a listening guest.
pub trait ConnService: Send + Sync + 'static {
    /// Takes a connection. Called on the connecting guest's thread: hand it to a task.
    fn accept(&self, conn: Conn);
}

#[derive(Clone)]
pub(super) enum TcpHolder {
    Listener(Arc<ListenQueue>),
    Service {
        owner: Owner,
        service: Arc<dyn ConnService>,
    },
}

/// What a client brings to a delivery.
pub(super) struct Client {
    pub(super) local: SocketAddr,
    /// The address it asked for, a service address perhaps.
    pub(super) shown: SocketAddr,
    /// Pays for what it writes; the server's pod does when this is `None`.
    pub(super) budget: Option<Arc<Budget>>,
    pub(super) options: Options,
}

/// See the module.
pub struct PodNet {
    pub(super) config: PodNetConfig,
    pub(super) fabric: Arc<Fabric>,
    tcp: Mutex<PortTable<TcpHolder>>,
    udp: Mutex<PortTable<Arc<Mailbox>>>,
    sockets: Arc<Budget>,
    refuses_outside: AtomicBool,
    pub(super) descriptors: Descriptors,
    pub(super) far: Streams,
    pub(super) guard: Guard,
    pub(super) myself: Weak<Self>,
}

impl PodNet {
    pub(super) fn new(fabric: Arc<Fabric>, config: PodNetConfig) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            sockets: Budget::new(config.max_sockets.into()),
            config,
            descriptors: fabric.descriptors.share(),
            fabric,
            tcp: Mutex::default(),
            udp: Mutex::default(),
            refuses_outside: AtomicBool::new(false),
            far: Streams::default(),
            guard: Guard::default(),
            myself: Weak::clone(myself),
        })
    }

    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.config.ip
    }

    /// Open sockets, waiting connections included.
    pub fn sockets(&self) -> u64 {
        self.sockets.used()
    }

    /// The count of open sockets, with what was refused.
    pub(in crate::runtime) fn socket_budget(&self) -> &Budget {
        &self.sockets
    }

    /// Where something listens, for status and error texts.
    pub fn listening(&self) -> Vec<(SocketAddr, Protocol)> {
        let tcp = self.tcp().held();
        let udp = self.udp().held();
        let tcp = tcp.into_iter().map(|addr| (addr, Protocol::Tcp));
        tcp.chain(udp.into_iter().map(|addr| (addr, Protocol::Udp)))
            .collect()
    }

    /// Whether connections from outside the pod are refused.
    pub fn is_refusing(&self) -> bool {
        self.refuses_outside.load(Ordering::Relaxed)
    }

    /// While set, connections from outside the pod are refused; those that exist go on. For pods
    /// that are being stopped.
    pub fn refuse_outside(&self, refuse: bool) {
        self.refuses_outside.store(refuse, Ordering::Relaxed);
    }

    /// Gives the pod's address back, whoever still holds the network; nobody outside reaches it
    /// any more.
    pub fn close(&self) {
        self.refuse_outside(true);
        self.fabric.remove(self.config.ip, self);
    }

    /// A listener made by the host for a program that can only accept (WASI 0.1), on all addresses
    /// of the pod.
    pub fn preopen(&self, port: u16, owner: &Owner) -> Result<TcpListener, Error> {
        let [lease, also] = self.bind_everywhere(port, owner)?;
        let options = Options::default();
        let mut listener = self.listen(lease, owner, DEFAULT_BACKLOG as u64, options)?;
        self.hold_tcp(&also, TcpHolder::Listener(listener.queue()))?;
        listener.hold(also);
        Ok(listener)
    }

    /// Lets host code answer on all addresses of the pod for as long as the binding and the owner
    /// live.
    pub fn bind_service(
        &self,
        port: u16,
        owner: &Owner,
        service: Arc<dyn ConnService>,
    ) -> Result<ServiceBinding, Error> {
        let leases = self.bind_everywhere(port, owner)?;
        let holder = TcpHolder::Service {
            owner: owner.clone(),
            service,
        };
        self.hold_tcp(&leases[0], holder.clone())?;
        self.hold_tcp(&leases[1], holder)?;
        Ok(ServiceBinding(leases))
    }

    /// Takes a port on all addresses of both families, as Linux does for a socket at `[::]`; guests'
    /// own are of one family each.
    fn bind_everywhere(&self, port: u16, owner: &Owner) -> Result<[PortLease; 2], Error> {
        let bind = |family: Family| {
            let wildcard = SocketAddr::new(family.unspecified(), port);
            self.bind(Protocol::Tcp, wildcard, owner)
        };
        Ok([bind(Family::V4)?, bind(Family::V6)?])
    }

    /// Takes an address for `owner`.
    pub(super) fn bind(
        &self,
        protocol: Protocol,
        addr: SocketAddr,
        owner: &Owner,
    ) -> Result<PortLease, Error> {
        if !self.is_own(addr.ip()) && !addr.ip().is_unspecified() {
            return Err(Error::AddressNotBindable);
        }
        let (addr, id) = match protocol {
            Protocol::Tcp => self.tcp().bind(addr)?,
            Protocol::Udp => self.udp().bind(addr)?,
        };
        let mut lease = PortLease {
            net: Weak::clone(&self.myself),
            protocol,
            addr,
            id,
            registration: None,
        };
        lease.registration = Some(owner.register(Endpoint::Port {
            net: Weak::clone(&self.myself),
            protocol,
            addr,
            id,
        })?);
        Ok(lease)
    }

    /// Turns a taken address into a listener.
    pub(super) fn listen(
        &self,
        lease: PortLease,
        owner: &Owner,
        backlog: u64,
        options: Options,
    ) -> Result<TcpListener, Error> {
        let queue = Arc::new(ListenQueue::new(clamp_backlog(backlog), options));
        self.hold_tcp(&lease, TcpHolder::Listener(Arc::clone(&queue)))?;
        Ok(TcpListener::new(queue, lease, owner.clone()))
    }

    fn hold_tcp(&self, lease: &PortLease, holder: TcpHolder) -> Result<(), Error> {
        if self.tcp().set_holder(lease.addr.port(), lease.id, holder) {
            return Ok(());
        }
        Err(Error::ConnectionAborted)
    }

    /// Lets a mailbox receive at a taken address.
    pub(super) fn hold_udp(&self, lease: &PortLease, mailbox: Arc<Mailbox>) -> Result<(), Error> {
        if self.udp().set_holder(lease.addr.port(), lease.id, mailbox) {
            return Ok(());
        }
        Err(Error::ConnectionAborted)
    }

    /// Frees an address and closes what stood behind it; harmless when it is free already.
    pub(super) fn release(&self, protocol: Protocol, addr: SocketAddr, id: u64) {
        match protocol {
            Protocol::Tcp => {
                let holder = self.tcp().release(addr.port(), id);
                if let Some(TcpHolder::Listener(queue)) = holder {
                    queue.close();
                }
            }
            Protocol::Udp => {
                let mailbox = self.udp().release(addr.port(), id);
                if let Some(mailbox) = mailbox {
                    mailbox.close();
                }
            }
        }
    }

    /// Loopback or the pod's address.
    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip == self.config.ip
    }

    /// The address that a packet to `to` comes from.
    pub(super) fn source_for(&self, to: IpAddr) -> IpAddr {
        let family = Family::of(to);
        if to.is_loopback() {
            family.loopback()
        } else if Family::of(self.config.ip) == family {
            self.config.ip
        } else {
            family.unspecified()
        }
    }

    /// Counts one more socket.
    pub(super) fn socket_slot(&self) -> Result<SocketSlot, Error> {
        self.sockets.charge(1).map_err(|_| Error::NewSocketLimit)?;
        Ok(SocketSlot(Arc::clone(&self.sockets)))
    }

    /// Connects another pod, or whoever came in by the router.
    pub(super) fn deliver_from_peer(&self, client: Client, to: SocketAddr) -> Result<Conn, Error> {
        if !self.lets_in(client.local.ip(), to.port()) {
            return Err(Error::ConnectionRefused);
        }
        self.deliver_from_outside(client, to)
    }

    pub(super) fn deliver_from_outside(
        &self,
        client: Client,
        to: SocketAddr,
    ) -> Result<Conn, Error> {
        if self.is_refusing() {
            return Err(Error::ConnectionRefused);
        }
        self.deliver(client, to)
    }

    /// Connects a client to whoever listens at `to`.
    pub(super) fn deliver(&self, client: Client, to: SocketAddr) -> Result<Conn, Error> {
        let holder = self.tcp().find(to).cloned();
        let slot = self.socket_slot().map_err(|_| Error::ConnectionRefused)?;
        let connect = |options: &Options| {
            let limits = [
                client.options.ring_limit(options),
                options.ring_limit(&client.options),
            ];
            let budget = &self.config.budget;
            let from = End {
                local: client.local,
                budget: client.budget.unwrap_or_else(|| Arc::clone(budget)),
            };
            let server = End {
                local: to,
                budget: Arc::clone(budget),
            };
            let (near, mut far) = Conn::pair(from, server, client.shown, limits);
            far.occupy(slot);
            (near, far)
        };
        match holder {
            None => Err(Error::ConnectionRefused),
            Some(TcpHolder::Listener(queue)) => queue.push(connect),
            Some(TcpHolder::Service { owner, service }) => {
                let (near, mut far) = connect(&Options::default());
                far.own(&owner).map_err(|_| Error::ConnectionRefused)?;
                service.accept(far);
                Ok(near)
            }
        }
    }

    /// Hands a datagram to whoever receives at `to`.
    pub(super) fn post(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: Vec<u8>,
    ) -> Result<(), Error> {
        let mailbox = self.udp().find(to).map(Arc::clone);
        mailbox.ok_or(Error::ConnectionRefused)?.deliver(from, data);
        Ok(())
    }

    /// The same for a datagram from another pod.
    pub(super) fn post_from_outside(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: Vec<u8>,
    ) -> Result<(), Error> {
        if self.refuses_outside.load(Ordering::Relaxed) {
            return Err(Error::ConnectionRefused);
        }
        self.check_datagram_in(from, to.port())?;
        self.post(from, to, data)
    }

    /// Nobody received at `to` what was sent from `from`: a socket connected there is told.
    pub(super) fn refused_far(&self, from: SocketAddr, to: SocketAddr) {
        let mailbox = self.udp().find(from).map(Arc::clone);
        if let Some(mailbox) = mailbox {
            mailbox.refused_by(to);
        }
    }

    fn tcp(&self) -> MutexGuard<'_, PortTable<TcpHolder>> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn udp(&self) -> MutexGuard<'_, PortTable<Arc<Mailbox>>> {
        self.udp.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PodNet {
    fn drop(&mut self) {
        self.fabric.forget(self.config.ip);
    }
}

/// A port on which host code answers; freed on drop.
pub struct ServiceBinding(
    #[expect(dead_code, reason = "holding them is what it is for")] [PortLease; 2],
);

/// One counted socket.
pub(super) struct SocketSlot(Arc<Budget>);

impl Drop for SocketSlot {
    fn drop(&mut self) {
        self.0.release(1);
    }
}
