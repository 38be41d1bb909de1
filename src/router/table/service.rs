//! Services as the table needs them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1 as core;

use super::endpoints::{Endpoint, Ready};
use crate::router::traffic::Traffic;

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Absent means TCP; what is neither TCP nor UDP is `None`.
    pub(super) fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some(_) => None,
        }
    }
}

/// A port of a service, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    Name(String),
    Number(u16),
}

/// How a service is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By its address.
    ClusterIp,
    /// By the addresses of its pods.
    Headless,
    /// By another name.
    ExternalName(String),
}

/// A service with its ready endpoints.
#[derive(Debug)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    pub kind: Kind,
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses that the cloud provider gave a service of type LoadBalancer.
    pub balancer_ips: Vec<IpAddr>,
    pub ports: Vec<Port>,
    /// What has passed through; lives on when the service is rebuilt.
    pub traffic: Arc<Traffic>,
    pub(super) ready: Vec<Ready>,
}

impl PartialEq for Service {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Service {}

/// A port of a service.
#[derive(Debug)]
pub struct Port {
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
    pub node_port: Option<u16>,
    /// Whether requests are told apart on it: `appProtocol` or the port's name says HTTP.
    pub is_http: bool,
    pub ready: Arc<[Endpoint]>,
    pub(super) sticky: bool,
    /// Where round robin stands; lives on when the service is rebuilt.
    pub(super) turn: Arc<AtomicUsize>,
}

impl Port {
    /// An endpoint for a connection: each in turn, or always the same for a client where the
    /// service wants that.
    pub fn pick(&self, client: IpAddr) -> Option<&Endpoint> {
        self.pick_where(client, |_| true)
    }

    /// The same, among those that are well if any is.
    pub fn pick_where(
        &self,
        client: IpAddr,
        is_well: impl Fn(&Endpoint) -> bool,
    ) -> Option<&Endpoint> {
        if self.sticky {
            let rank = |it: &&Endpoint| (is_well(it), affinity(client, it));
            return self.ready.iter().max_by_key(rank);
        }
        let count = self.ready.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
        let mut in_turn = (turn..count).chain(0..turn).map(|index| &self.ready[index]);
        in_turn
            .find(|endpoint| is_well(endpoint))
            .or_else(|| self.ready.get(turn))
    }

    /// Whether a client always gets the same endpoint.
    pub fn is_sticky(&self) -> bool {
        self.sticky
    }
}

/// Rendezvous hashing: a client keeps its endpoint as long as that is ready, and nobody has to
/// remember anything.
fn affinity(client: IpAddr, endpoint: &Endpoint) -> u64 {
    let mut hasher = DefaultHasher::new();
    (client, endpoint.addr).hash(&mut hasher);
    hasher.finish()
}

impl Service {
    /// A port by number.
    pub fn port(&self, number: u16, protocol: Protocol) -> Option<&Port> {
        let mut ports = self.ports.iter();
        ports.find(|port| port.number == number && port.protocol == protocol)
    }

    /// A TCP port as an Ingress names it.
    pub fn tcp_port(&self, wanted: &PortRef) -> Option<&Port> {
        let mut ports = self.tcp_ports();
        match wanted {
            PortRef::Name(name) => ports.find(|port| port.name == *name),
            PortRef::Number(number) => ports.find(|port| port.number == *number),
        }
    }

    /// The port that a browser means when it names the service only: the first that speaks HTTP,
    /// else the first.
    pub fn http_port(&self) -> Option<&Port> {
        let http = self.tcp_ports().find(|port| port.is_http);
        http.or_else(|| self.tcp_ports().next())
    }

    fn tcp_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|it| it.protocol == Protocol::Tcp)
    }

    /// Reads a Service; its endpoints come later.
    pub(super) fn parse(namespace: &str, name: &str, service: &core::Service) -> Self {
        let spec = service.spec.clone().unwrap_or_default();
        let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => {
                Kind::ExternalName(spec.external_name.clone().unwrap_or_default())
            }
            (_, Some("None")) => Kind::Headless,
            _ => Kind::ClusterIp,
        };
        let is_external = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let mut cluster_ips: Vec<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        cluster_ips.sort_unstable();
        cluster_ips.dedup();
        let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
        let ports = spec.ports.iter().flatten();
        let ports = ports.filter_map(|port| parse_port(port, is_external, sticky));
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind,
            cluster_ips,
            balancer_ips: balancer_ips(service, spec.type_.as_deref()),
            ports: ports.collect(),
            traffic: Arc::default(),
            ready: Vec::new(),
        }
    }
}

fn balancer_ips(service: &core::Service, kind: Option<&str>) -> Vec<IpAddr> {
    if kind != Some("LoadBalancer") {
        return Vec::new();
    }
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingresses = balancer.and_then(|it| it.ingress.as_ref()).into_iter();
    let ips = ingresses.flatten().filter_map(|it| it.ip.as_ref());
    ips.filter_map(|ip| ip.parse().ok()).collect()
}

fn parse_port(port: &core::ServicePort, is_external: bool, sticky: bool) -> Option<Port> {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
    let name = port.name.clone().unwrap_or_default();
    let is_http = match port.app_protocol.as_deref() {
        Some(app) => is_http_word(app.rsplit('/').next().unwrap_or(app)),
        None => is_http_word(name.split('-').next().unwrap_or(&name)),
    };
    Some(Port {
        number: number(port.port)?,
        protocol: Protocol::parse(port.protocol.as_deref())?,
        node_port: port.node_port.filter(|_| is_external).and_then(number),
        is_http,
        ready: Arc::from([]),
        sticky,
        turn: Arc::default(),
        name,
    })
}

fn is_http_word(word: &str) -> bool {
    ["http", "h2c", "ws", "wss", "grpc"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}
