//! The routing table: who answers for an address, a host name or a service name.
//!
//! [`Index`] takes objects one by one and keeps what follows from them; [`RoutingTable`] is an
//! immutable snapshot of that, cheap to take because its maps share what did not change. Nothing
//! in here waits, reads a clock or knows a client. What can be asked:
//!
//! - an address and port of the cluster ([`RoutingTable::route`]): the endpoint to connect to;
//! - a name as a pod asks for it ([`RoutingTable::resolve`]);
//! - a host and path as a browser asks for it ([`RoutingTable::http`]);
//! - what to listen on ([`RoutingTable::listeners`]), and where a node's wire is.
//!
//! Invariants: an endpoint that is not ready, or is terminating, is never an answer; two services
//! never answer for one address, host or node port (who had it first keeps it).

mod endpoints;
mod index;
mod ingress;
mod names;
mod service;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub use endpoints::Endpoint;
pub use index::{Index, Key};
pub use ingress::{Backend, PortIndex};
pub use names::Answer;
pub use service::{Kind, Port, PortRef, Protocol, Service};

use self::ingress::IngressTable;
use self::shards::ShardMap;

/// The range that service addresses come from.
pub const SERVICE_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 43, 0, 0), 16);
/// The range that pod addresses come from.
pub const POD_CIDR: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 64, 0, 0), 10);

/// What an address of the cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A service address: one of its ready endpoints.
    Endpoint(Endpoint),
    /// A pod's own address.
    Pod(SocketAddr),
    /// A service without ready endpoints, or an address of the cluster that nobody has.
    Nobody,
    /// Not an address of the cluster.
    Outside,
}

/// Something the front door listens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub service: Arc<Service>,
    pub port: PortRef,
}

/// Where the pods of a node are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `host:port` of the worker's wire listener, once it has said so.
    pub wire: Option<Arc<str>>,
    pub pod_cidr: Option<(Ipv4Addr, u8)>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct RoutingTable {
    services: ShardMap<Key, Arc<Service>>,
    addresses: ShardMap<IpAddr, Key>,
    nodes: Arc<HashMap<Arc<str>, Node>>,
    /// The first address of each node's range.
    ranges: Arc<BTreeMap<Ipv4Addr, Arc<str>>>,
    node_ports: Arc<BTreeMap<(u16, Protocol), (Key, PortRef)>>,
    balancers: Arc<BTreeMap<(SocketAddr, Protocol), (Key, PortRef)>>,
    ingresses: Arc<IngressTable>,
}

impl RoutingTable {
    /// A service by namespace and name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&Key::new(namespace, name))
    }

    /// Every service.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Where a connection to `to` goes. `client` is who connects, for client affinity.
    pub fn route(&self, client: IpAddr, to: SocketAddr, protocol: Protocol) -> Decision {
        self.route_where(client, to, protocol, |_| true)
    }

    /// The same, to an endpoint that `is_well` if there is one.
    pub fn route_where(
        &self,
        client: IpAddr,
        to: SocketAddr,
        protocol: Protocol,
        is_well: impl Fn(&Endpoint) -> bool,
    ) -> Decision {
        let Some(key) = self.addresses.get(&to.ip()) else {
            return match to.ip() {
                IpAddr::V4(ip) if contains(SERVICE_CIDR, ip) => Decision::Nobody,
                IpAddr::V4(ip) if contains(POD_CIDR, ip) => Decision::Pod(to),
                IpAddr::V4(_) | IpAddr::V6(_) => Decision::Outside,
            };
        };
        let service = self.services.get(key);
        let port = service.and_then(|service| service.port(to.port(), protocol));
        match port.and_then(|port| port.pick_where(client, is_well)) {
            Some(endpoint) => Decision::Endpoint(endpoint.clone()),
            None => Decision::Nobody,
        }
    }

    /// The wire address of a node.
    pub fn wire(&self, node: &str) -> Option<&Arc<str>> {
        self.nodes.get(node)?.wire.as_ref()
    }

    /// The wire address of the node that a pod's address belongs to.
    pub fn wire_of_pod(&self, pod: IpAddr) -> Option<&Arc<str>> {
        let IpAddr::V4(pod) = pod else {
            return None;
        };
        let (_, name) = self.ranges.range(..=pod).next_back()?;
        let node = self.nodes.get(name)?;
        let wire = node.wire.as_ref();
        wire.filter(|_| node.pod_cidr.is_some_and(|cidr| contains(cidr, pod)))
    }

    /// The wire address that reaches an endpoint: of its node if it names one, of the node that
    /// its address belongs to otherwise.
    pub fn wire_of(&self, endpoint: &Endpoint) -> Option<&Arc<str>> {
        match &endpoint.node {
            Some(node) => self.wire(node),
            None => self.wire_of_pod(endpoint.addr.ip()),
        }
    }

    /// Everything besides the front address that the front door should listen on: node ports by
    /// number, load-balancer addresses whole.
    pub fn listeners(&self) -> Listeners<'_> {
        Listeners(self)
    }

    fn listener(&self, key: &Key, port: &PortRef) -> Option<Listener> {
        Some(Listener {
            service: Arc::clone(self.services.get(key)?),
            port: port.clone(),
        })
    }
}

/// See [`RoutingTable::listeners`].
pub struct Listeners<'a>(&'a RoutingTable);

impl<'a> Listeners<'a> {
    /// Every node port in use.
    pub fn node_ports(&self) -> impl Iterator<Item = (u16, Protocol)> + use<'a> {
        self.0.node_ports.keys().copied()
    }

    /// Every load-balancer address in use.
    pub fn balancers(&self) -> impl Iterator<Item = (SocketAddr, Protocol)> + use<'a> {
        self.0.balancers.keys().copied()
    }

    /// Who answers on a node port.
    pub fn node_port(&self, port: u16, protocol: Protocol) -> Option<Listener> {
        let (key, port) = self.0.node_ports.get(&(port, protocol))?;
        self.0.listener(key, port)
    }

    /// Who answers on a load-balancer address.
    pub fn balancer(&self, addr: SocketAddr, protocol: Protocol) -> Option<Listener> {
        let (key, port) = self.0.balancers.get(&(addr, protocol))?;
        self.0.listener(key, port)
    }
}

/// Whether an address is in a range.
pub fn contains((net, prefix): (Ipv4Addr, u8), ip: Ipv4Addr) -> bool {
    let shift = 32_u32.saturating_sub(prefix.into());
    u64::from(net.to_bits()) >> shift == u64::from(ip.to_bits()) >> shift
}

/// Reads `10.64.0.0/19`; the address becomes the first of the range.
fn parse_cidr(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (net, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let net: Ipv4Addr = net.parse().ok()?;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    Some((Ipv4Addr::from_bits(net.to_bits() & mask), prefix))
}
