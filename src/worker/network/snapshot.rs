//! The worker's view of services, endpoints and nodes as one immutable, pure table.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use crate::api::annotations;
use crate::runtime::net::Route;
use crate::runtime::spec::Protocol;
use crate::worker::env::ServiceLink;

/// What is known of the cluster.
pub struct World<'a> {
    /// The worker's own node.
    pub node: &'a str,
    pub services: Vec<&'a Service>,
    pub slices: Vec<&'a EndpointSlice>,
    pub nodes: Vec<&'a Node>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Ready endpoints of a service's address and port.
    backends: HashMap<(IpAddr, u16, Protocol), Backends>,
    /// Cluster addresses in use, whatever the port.
    cluster_ips: HashMap<IpAddr, ()>,
    /// Addresses by namespace and service.
    names: HashMap<(String, String), Vec<IpAddr>>,
    /// Addresses by namespace, service and the pod's host name.
    hosts: HashMap<(String, String, String), IpAddr>,
    links: BTreeMap<String, Vec<ServiceLink>>,
    /// Pod networks of the nodes, and where their workers take connections.
    networks: Vec<(Network, Option<SocketAddr>)>,
}

#[derive(Debug, Default)]
struct Backends {
    endpoints: Vec<SocketAddr>,
    /// Each client stays with one endpoint.
    is_sticky: bool,
}

#[derive(Clone, Copy, Debug)]
struct Network {
    base: u32,
    mask: u32,
}

impl Network {
    fn parse(cidr: &str) -> Option<Self> {
        let (base, length) = cidr.split_once('/')?;
        let base: Ipv4Addr = base.parse().ok()?;
        let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        Some(Self {
            base: u32::from(base) & mask,
            mask,
        })
    }

    fn contains(self, ip: IpAddr) -> bool {
        matches!(ip, IpAddr::V4(ip) if u32::from(ip) & self.mask == self.base)
    }
}

/// The address ranges of services and pods (`10.43.0.0/16`, `10.64.0.0/10`): an address in them
/// that nobody has is refused, never sent out of the cluster.
const CLUSTER_RANGES: [Network; 2] = [
    Network {
        base: 0x0a2b_0000,
        mask: 0xffff_0000,
    },
    Network {
        base: 0x0a40_0000,
        mask: 0xffc0_0000,
    },
];

const CLUSTER_DOMAIN: &str = "cluster.local";

impl Snapshot {
    /// Computes the table.
    pub fn of(world: &World<'_>) -> Self {
        let mut snapshot = Self::default();
        let mut slices: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
        for slice in &world.slices {
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get(annotations::SERVICE_NAME));
            if let (Some(namespace), Some(service)) = (&slice.metadata.namespace, service) {
                slices.entry((namespace, service)).or_default().push(slice);
            }
        }
        for service in &world.services {
            let meta = &service.metadata;
            if let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) {
                let slices = slices.get(&(namespace.as_str(), name.as_str()));
                let slices = slices.map_or(&[][..], Vec::as_slice);
                snapshot.add_service((namespace, name), service, slices, world.node);
            }
        }
        for node in &world.nodes {
            let cidr = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref());
            let annotations = node.metadata.annotations.as_ref();
            let wire = annotations.and_then(|map| map.get(annotations::WIRE_ADDRESS));
            if let Some(network) = cidr.and_then(Network::parse) {
                let wire = wire.and_then(|wire| wire.parse().ok());
                snapshot.networks.push((network, wire));
            }
        }
        snapshot
    }

    fn add_service(
        &mut self,
        (namespace, name): (&String, &String),
        service: &Service,
        slices: &[&EndpointSlice],
        node: &str,
    ) {
        let Some(spec) = &service.spec else { return };
        let key = (namespace.clone(), name.clone());
        for slice in slices {
            for endpoint in slice.endpoints.iter().filter(|it| is_ready(it)) {
                let address = endpoint.addresses.first().and_then(|it| it.parse().ok());
                if let (Some(hostname), Some(address)) = (&endpoint.hostname, address) {
                    let host = (namespace.clone(), name.clone(), hostname.clone());
                    self.hosts.insert(host, address);
                }
            }
        }
        let cluster_ip: Option<IpAddr> = spec
            .cluster_ip
            .as_deref()
            .and_then(|text| text.parse().ok());
        let Some(cluster_ip) = cluster_ip else {
            // Headless: the name is its ready endpoints. An ExternalName is not known by address.
            if spec.type_.as_deref() != Some("ExternalName") {
                let ready = slices.iter().flat_map(|slice| ready(slice, None));
                let mut addresses: Vec<IpAddr> = ready.collect();
                addresses.sort_unstable();
                addresses.dedup();
                self.names.insert(key, addresses);
            }
            return;
        };
        self.cluster_ips.insert(cluster_ip, ());
        self.names.insert(key, vec![cluster_ip]);
        let local_only = spec.internal_traffic_policy.as_deref() == Some("Local");
        let mut link_ports = Vec::new();
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else {
                continue;
            };
            let port_name = port.name.as_deref().unwrap_or_default();
            let protocol = protocol(port.protocol.as_deref());
            let mut endpoints = Vec::new();
            for slice in slices {
                let target = slice.ports.iter().flatten().find(|it| {
                    it.name.as_deref().unwrap_or_default() == port_name
                        && self::protocol(it.protocol.as_deref()) == protocol
                });
                let target = target.and_then(target_port);
                let on_node = local_only.then_some(node);
                let addresses = ready(slice, on_node);
                endpoints.extend(
                    addresses.filter_map(|ip| target.map(|port| SocketAddr::new(ip, port))),
                );
            }
            endpoints.sort_unstable();
            endpoints.dedup();
            let is_sticky = spec.session_affinity.as_deref() == Some("ClientIP");
            let backends = Backends {
                endpoints,
                is_sticky,
            };
            self.backends
                .insert((cluster_ip, number, protocol), backends);
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            link_ports.push((port_name.to_owned(), number, protocol));
        }
        self.links
            .entry(namespace.clone())
            .or_default()
            .push(ServiceLink {
                name: name.clone(),
                cluster_ip,
                ports: link_ports,
            });
    }

    /// The services of a namespace, and the API server's.
    pub fn service_links(&self, namespace: &str) -> Vec<ServiceLink> {
        let own = self.links.get(namespace).into_iter().flatten();
        let default = self.links.get("default").into_iter().flatten();
        let kubernetes = default.filter(|link| link.name == "kubernetes" && namespace != "default");
        own.chain(kubernetes).cloned().collect()
    }

    /// The addresses of a name that a pod of `namespace` asks for.
    pub fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let name = name
            .strip_suffix(CLUSTER_DOMAIN)
            .map_or(name.as_str(), |rest| rest.strip_suffix('.').unwrap_or(rest));
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            [service] => self.service(namespace, service),
            [first, second] => self
                .service(second, first)
                .or_else(|| self.host(namespace, second, first)),
            [service, other, "svc"] => self.service(other, service),
            [address, _, "pod"] => Some(vec![address.replace('-', ".").parse().ok()?]),
            [host, service, other] | [host, service, other, "svc"] => {
                self.host(other, service, host)
            }
            _ => None,
        }
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.names.get(&key).cloned()
    }

    fn host(&self, namespace: &str, service: &str, host: &str) -> Option<Vec<IpAddr>> {
        let key = (namespace.to_owned(), service.to_owned(), host.to_owned());
        self.hosts.get(&key).map(|ip| vec![*ip])
    }

    /// Where a connection goes; `turn` rises with each call.
    pub fn route(&self, from: IpAddr, to: SocketAddr, protocol: Protocol, turn: usize) -> Route {
        if let Some(backends) = self.backends.get(&(to.ip(), to.port(), protocol)) {
            let turn = if backends.is_sticky {
                affinity(from)
            } else {
                turn
            };
            let count = backends.endpoints.len().max(1);
            return match backends.endpoints.get(turn % count) {
                Some(endpoint) => Route::Pod(*endpoint),
                None => Route::Refused,
            };
        }
        if self.cluster_ips.contains_key(&to.ip()) {
            return Route::Refused;
        }
        let is_pod = self
            .networks
            .iter()
            .any(|(network, _)| network.contains(to.ip()));
        if is_pod {
            Route::Pod(to)
        } else if CLUSTER_RANGES.iter().any(|range| range.contains(to.ip())) {
            Route::Refused
        } else {
            Route::External(to)
        }
    }

    /// Where the worker that has the pod takes connections.
    pub fn wire_of(&self, pod: IpAddr) -> Option<SocketAddr> {
        let mut networks = self.networks.iter();
        networks
            .find(|(network, _)| network.contains(pod))
            .and_then(|(_, wire)| *wire)
    }
}

fn is_ready(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> bool {
    endpoint
        .conditions
        .as_ref()
        .is_none_or(|conditions| conditions.ready != Some(false))
}

fn ready<'a>(
    slice: &'a EndpointSlice,
    on_node: Option<&'a str>,
) -> impl Iterator<Item = IpAddr> + 'a {
    let endpoints = slice.endpoints.iter();
    endpoints
        .filter(|endpoint| is_ready(endpoint))
        .filter(move |it| on_node.is_none_or(|node| it.node_name.as_deref() == Some(node)))
        .filter_map(|endpoint| endpoint.addresses.first()?.parse().ok())
}

fn target_port(port: &EndpointPort) -> Option<u16> {
    u16::try_from(port.port?).ok()
}

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        None | Some(_) => Protocol::Tcp,
    }
}

fn affinity(from: IpAddr) -> usize {
    match from {
        IpAddr::V4(ip) => u32::from(ip).wrapping_mul(0x9e37_79b1) as usize >> 8,
        IpAddr::V6(ip) => (u128::from(ip) % 0xffff_fffb) as usize,
    }
}

#[cfg(test)]
mod tests;
