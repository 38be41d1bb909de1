//! From objects to the table, one change at a time.
//!
//! Each `set_*` takes an object's latest form, or `None` for its absence, and touches only what
//! follows from it: a changed EndpointSlice rebuilds its one service. Setting the same again
//! changes nothing. [`Index::table`] is the snapshot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;

use super::endpoints::{Slice, endpoints_of};
use super::ingress::{IngressRules, Ingresses};
use super::service::{PortRef, Service};
use super::{Node, Protocol, RoutingTable, parse_cidr};
use crate::api::annotations::WIRE_ADDRESS;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Arc<(String, String)>);

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(Arc::new((namespace.to_owned(), name.to_owned())))
    }

    pub fn namespace(&self) -> &str {
        &self.0.0
    }

    pub fn name(&self) -> &str {
        &self.0.1
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Index {
    services: HashMap<Key, core::Service>,
    slices: HashMap<Key, Slice>,
    /// The slices of a service.
    slices_of: HashMap<Key, BTreeSet<Key>>,
    ingresses: Ingresses,
    /// Services that want something another one has.
    losers: BTreeSet<Key>,
    table: RoutingTable,
}

impl Index {
    /// A snapshot; cheap.
    pub fn table(&mut self) -> RoutingTable {
        self.ingresses.settle(&mut self.table.ingresses);
        self.table.clone()
    }

    pub fn set_service(&mut self, key: &Key, service: Option<&core::Service>) {
        match service {
            Some(service) => {
                self.services.insert(key.clone(), service.clone());
            }
            None => {
                self.services.remove(key);
            }
        }
        self.rebuild(key);
    }

    pub fn set_endpoint_slice(&mut self, key: &Key, slice: Option<&EndpointSlice>) {
        let slice = slice.and_then(Slice::parse);
        if self.slices.get(key) == slice.as_ref() {
            return;
        }
        let mut changed = BTreeSet::new();
        if let Some(old) = self.slices.remove(key) {
            let service = Key::new(key.namespace(), &old.service);
            if let Some(slices) = self.slices_of.get_mut(&service) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
            changed.insert(service);
        }
        if let Some(new) = slice {
            let service = Key::new(key.namespace(), &new.service);
            let slices = self.slices_of.entry(service.clone()).or_default();
            slices.insert(key.clone());
            self.slices.insert(key.clone(), new);
            changed.insert(service);
        }
        for service in &changed {
            self.rebuild(service);
        }
    }

    pub fn set_node(&mut self, name: &str, node: Option<&core::Node>) {
        let node = node.map(|node| {
            let annotations = node.metadata.annotations.as_ref();
            let wire = annotations.and_then(|it| it.get(WIRE_ADDRESS));
            let spec = node.spec.as_ref();
            let cidr = spec.and_then(|spec| spec.pod_cidr.as_deref());
            Node {
                wire: wire.map(|wire| Arc::from(wire.as_str())),
                pod_cidr: cidr.and_then(parse_cidr),
            }
        });
        if self.table.nodes.get(name) == node.as_ref() {
            return;
        }
        let nodes = Arc::make_mut(&mut self.table.nodes);
        let name: Arc<str> = Arc::from(name);
        let range = |node: &Node| node.pod_cidr.map(|(first, _)| first);
        let new = node.as_ref().and_then(range);
        let old = match node {
            Some(node) => nodes.insert(Arc::clone(&name), node),
            None => nodes.remove(&name),
        };
        let old = old.as_ref().and_then(range);
        if old == new {
            return;
        }
        let ranges = Arc::make_mut(&mut self.table.ranges);
        if let Some(old) = old
            && ranges.get(&old) == Some(&name)
        {
            ranges.remove(&old);
        }
        if let Some(new) = new {
            ranges.insert(new, name);
        }
    }

    pub fn set_ingress(&mut self, key: &Key, ingress: Option<&Ingress>) {
        let rules = ingress.and_then(|it| IngressRules::parse(key.namespace(), key.name(), it));
        self.ingresses.set(key, rules);
    }

    /// Makes what the table says about one service follow from its object and slices.
    fn rebuild(&mut self, key: &Key) {
        let old = self.table.services.remove(key);
        let new = self.services.get(key).map(|object| {
            let mut service = Service::parse(key.namespace(), key.name(), object);
            self.fill(key, &mut service, old.as_deref());
            Arc::new(service)
        });
        if let Some(new) = &new {
            self.table.services.insert(key.clone(), Arc::clone(new));
        }
        let before = old.as_deref().map(Wanted::of).unwrap_or_default();
        if before == new.as_deref().map(Wanted::of).unwrap_or_default() {
            return;
        }
        self.give_up(key, &before);
        self.claim(key);
        for loser in self.losers.clone() {
            self.claim(&loser);
        }
    }

    fn fill(&self, key: &Key, service: &mut Service, old: Option<&Service>) {
        let names = self.slices_of.get(key).into_iter().flatten();
        let slices: Vec<&Slice> = names.filter_map(|name| self.slices.get(name)).collect();
        for port in &mut service.ports {
            port.ready = endpoints_of(slices.iter().copied(), &port.name, port.protocol);
            if let Some(before) = old.and_then(|old| old.port(port.number, port.protocol)) {
                port.turn = Arc::clone(&before.turn);
            }
        }
        if let Some(old) = old {
            service.traffic = Arc::clone(&old.traffic);
        }
        let ready = slices.iter().flat_map(|slice| &slice.ready);
        service.ready = ready.cloned().collect();
    }

    fn give_up(&mut self, key: &Key, wanted: &Wanted) {
        self.losers.remove(key);
        for ip in &wanted.addresses {
            if self.table.addresses.get(ip) == Some(key) {
                self.table.addresses.remove(ip);
            }
        }
        if !wanted.node_ports.is_empty() {
            Arc::make_mut(&mut self.table.node_ports).retain(|_, (owner, _)| owner != key);
        }
        if !wanted.balancers.is_empty() {
            Arc::make_mut(&mut self.table.balancers).retain(|_, (owner, _)| owner != key);
        }
    }

    /// Takes what the service wants and nobody has.
    fn claim(&mut self, key: &Key) {
        let service = self.table.services.get(key);
        let wanted = service.map(|it| Wanted::of(it)).unwrap_or_default();
        let mut all = true;
        for ip in wanted.addresses {
            match self.table.addresses.get(&ip) {
                Some(owner) => all &= owner == key,
                None => self.table.addresses.insert(ip, key.clone()),
            }
        }
        if !wanted.node_ports.is_empty() {
            let taken = Arc::make_mut(&mut self.table.node_ports);
            for (at, port) in wanted.node_ports {
                let claim = || (key.clone(), PortRef::Number(port));
                all &= taken.entry(at).or_insert_with(claim).0 == *key;
            }
        }
        if !wanted.balancers.is_empty() {
            let taken = Arc::make_mut(&mut self.table.balancers);
            for (at, port) in wanted.balancers {
                let claim = || (key.clone(), PortRef::Number(port));
                all &= taken.entry(at).or_insert_with(claim).0 == *key;
            }
        }
        if all {
            self.losers.remove(key);
        } else {
            self.losers.insert(key.clone());
        }
    }
}

/// What only one service can have: addresses, and what is listened for with the service port
/// behind each.
#[derive(Default, PartialEq, Eq)]
struct Wanted {
    addresses: Vec<IpAddr>,
    node_ports: BTreeMap<(u16, Protocol), u16>,
    balancers: BTreeMap<(SocketAddr, Protocol), u16>,
}

impl Wanted {
    fn of(service: &Service) -> Self {
        let mut wanted = Self {
            addresses: service.cluster_ips.clone(),
            ..Self::default()
        };
        for port in &service.ports {
            if let Some(node_port) = port.node_port {
                let at = (node_port, port.protocol);
                wanted.node_ports.insert(at, port.number);
            }
            for ip in &service.balancer_ips {
                let at = (SocketAddr::new(*ip, port.number), port.protocol);
                wanted.balancers.insert(at, port.number);
            }
        }
        wanted
    }
}
