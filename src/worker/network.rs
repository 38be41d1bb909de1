//! What this worker knows of the cluster's network: the router's own table, kept by watches.
//!
//! Services, EndpointSlices and Nodes come in; an immutable [`RoutingTable`] goes out, published
//! whole. A burst of changes makes one snapshot. When the API is away the last snapshot stays: pods
//! go on finding each other. Guests ask on their own threads, so every answer is a look into the
//! snapshot.

mod resting;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

use self::resting::Resting;
use super::env::ServiceLink;
use crate::client::{self, Change, Mirror};
use crate::errors::chain;
use crate::router::dial::{self, Dialer};
use crate::router::table::{self, Answer, Decision, Endpoint, Index, Key, RoutingTable};
use crate::router::tunnel::{self, Source};
use crate::runtime::net::{ClusterNetwork, Duplex, Route};
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

/// Changes that come this close together make one snapshot.
const COALESCE: Duration = Duration::from_millis(2);

/// The network as guests and pods of this worker see it.
pub struct Network {
    node: String,
    table: ArcSwap<RoutingTable>,
    dialer: Arc<Dialer>,
    resting: Arc<Resting>,
    own_node: watch::Sender<OwnNode>,
    synced: watch::Sender<bool>,
    /// Where service `kubernetes` leads, which no pod stands behind.
    api_server: Option<SocketAddr>,
}

/// This worker's own Node object.
#[derive(Clone, Debug)]
pub enum OwnNode {
    /// Not known yet.
    Unknown,
    Absent,
    Present(Arc<Node>),
}

impl Network {
    pub fn new(node: String, api_server: Option<SocketAddr>) -> Arc<Self> {
        Arc::new(Self {
            node,
            table: ArcSwap::default(),
            dialer: Arc::new(Dialer::new(None)),
            resting: Arc::default(),
            own_node: watch::Sender::new(OwnNode::Unknown),
            synced: watch::Sender::new(false),
            api_server,
        })
    }

    /// Starts the watches.
    pub fn start(self: &Arc<Self>, client: Client, secret: Vec<u8>, tasks: &TaskGroup) {
        self.dialer.set_secret(secret);
        let network = Arc::clone(self);
        let cancelled = tasks.cancelled();
        tasks.spawn("network", async move {
            tokio::select! {
                () = network.run(client) => {}
                () = cancelled.cancelled() => {}
            }
        });
    }

    /// The services that pods of a namespace are told of: its own, and the API server's.
    pub fn service_links(&self, namespace: &str) -> Vec<ServiceLink> {
        let table = self.table.load();
        let is_told = |service: &&Arc<table::Service>| {
            service.namespace == namespace
                || (service.namespace == "default" && service.name == "kubernetes")
        };
        let mut links: Vec<ServiceLink> =
            table.services().filter(is_told).filter_map(link).collect();
        links.sort_by(|one, other| one.name.cmp(&other.name));
        links
    }

    /// Resolves when services and endpoints have been listed once.
    pub async fn synced(&self) {
        // The sender is this value's own: it cannot be gone.
        let _ = self
            .synced
            .subscribe()
            .wait_for(|is_synced| *is_synced)
            .await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Follows the own Node object.
    pub fn own_node(&self) -> watch::Receiver<OwnNode> {
        self.own_node.subscribe()
    }

    async fn run(&self, client: Client) {
        let everything = watcher::Config::default;
        let services: Api<Service> = Api::all(client.clone());
        let slices: Api<EndpointSlice> = Api::all(client.clone());
        let nodes: Api<Node> = Api::all(client);
        let mut services = client::watch(services, everything()).boxed();
        let mut slices = client::watch(slices, everything()).boxed();
        let mut nodes = client::watch(nodes, everything()).boxed();
        let mut world = World::default();
        // Set by the first change after a publication: later ones must not put it off.
        let mut publish_at = None;
        loop {
            let due = async {
                match publish_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    publish_at = None;
                    world.is_dirty = false;
                    self.publish(&mut world);
                }
                Some(event) = services.next() => world.services(event),
                Some(event) = slices.next() => world.slices(event),
                Some(event) = nodes.next() => {
                    world.nodes(event);
                    self.publish_own_node(&world.nodes);
                }
            }
            if world.is_dirty {
                publish_at.get_or_insert_with(|| tokio::time::Instant::now() + COALESCE);
            }
        }
    }

    fn publish_own_node(&self, nodes: &Mirror<Node>) {
        let own = match nodes.get("", &self.node) {
            Some(node) => OwnNode::Present(Arc::clone(node)),
            None if nodes.is_synced() => OwnNode::Absent,
            None => OwnNode::Unknown,
        };
        self.own_node.send_if_modified(|known| {
            let is_same = match (&*known, &own) {
                (OwnNode::Present(known), OwnNode::Present(own)) => Arc::ptr_eq(known, own),
                (OwnNode::Absent, OwnNode::Absent) | (OwnNode::Unknown, OwnNode::Unknown) => true,
                (OwnNode::Present(_) | OwnNode::Absent | OwnNode::Unknown, _) => false,
            };
            *known = own;
            !is_same
        });
    }

    fn publish(&self, world: &mut World) {
        self.table.store(Arc::new(world.index.table()));
        let is_synced = world.services.is_synced() && world.slices.is_synced();
        self.synced.send_if_modified(|known| {
            let changed = *known != is_synced;
            *known = is_synced;
            changed
        });
    }
}

fn link(service: &Arc<table::Service>) -> Option<ServiceLink> {
    let ports = service.ports.iter().map(|port| {
        let protocol = match port.protocol {
            table::Protocol::Tcp => "TCP",
            table::Protocol::Udp => "UDP",
        };
        (port.name.clone(), port.number, protocol.to_owned())
    });
    Some(ServiceLink {
        name: service.name.clone(),
        cluster_ip: *service.cluster_ips.first()?,
        ports: ports.collect(),
    })
}

/// The watched objects, and the index that follows from them.
#[derive(Default)]
struct World {
    services: Mirror<Service>,
    slices: Mirror<EndpointSlice>,
    nodes: Mirror<Node>,
    index: Index,
    is_dirty: bool,
}

type Watched<K> = Result<watcher::Event<K>, watcher::Error>;

impl World {
    fn services(&mut self, event: Watched<Service>) {
        let changes = changes(&mut self.services, event, &mut self.is_dirty);
        for ((namespace, name), service) in changes {
            let key = Key::new(&namespace, &name);
            self.index.set_service(&key, service.as_deref());
        }
    }

    fn slices(&mut self, event: Watched<EndpointSlice>) {
        let changes = changes(&mut self.slices, event, &mut self.is_dirty);
        for ((namespace, name), slice) in changes {
            let key = Key::new(&namespace, &name);
            self.index.set_endpoint_slice(&key, slice.as_deref());
        }
    }

    fn nodes(&mut self, event: Watched<Node>) {
        for ((_, name), node) in changes(&mut self.nodes, event, &mut self.is_dirty) {
            self.index.set_node(&name, node.as_deref());
        }
    }
}

/// What an event changed; an error changes nothing.
fn changes<K: kube::Resource>(
    mirror: &mut Mirror<K>,
    event: Watched<K>,
    is_dirty: &mut bool,
) -> Vec<Change<K>> {
    match event {
        Ok(event) => {
            let was_synced = mirror.is_synced();
            let changes = mirror.apply(event);
            *is_dirty |= !changes.is_empty() || mirror.is_synced() != was_synced;
            changes
        }
        Err(error) => {
            tracing::debug!(error = %chain(&error), "watch the network");
            Vec::new()
        }
    }
}

impl ClusterNetwork for Network {
    fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        match self.table.load().resolve(namespace, name)? {
            Answer::Addresses(addresses) => Some(addresses),
            Answer::Alias(_) => None,
        }
    }

    fn alias(&self, namespace: &str, name: &str) -> Option<String> {
        match self.table.load().resolve(namespace, name)? {
            Answer::Alias(outside) => Some(outside),
            Answer::Addresses(_) => None,
        }
    }

    fn route(&self, from: IpAddr, to: SocketAddr, protocol: Protocol) -> Route {
        let protocol = match protocol {
            Protocol::Tcp => table::Protocol::Tcp,
            Protocol::Udp => table::Protocol::Udp,
        };
        let (table, now) = (self.table.load(), Instant::now());
        // The way that this worker has itself; the published endpoint is one that others have.
        if protocol == table::Protocol::Tcp && self.is_api_server(&table, to) {
            return Route::Pod(to);
        }
        let everybody_is_well = self.resting.is_nobody();
        let is_well = |endpoint: &Endpoint| {
            let rests = |wire: &Arc<str>| self.resting.contains(wire, now);
            everybody_is_well || !table.wire_of(endpoint).is_some_and(rests)
        };
        match table.route_where(from, to, protocol, is_well) {
            Decision::Endpoint(endpoint) => Route::Pod(endpoint.addr),
            Decision::Pod(address) => Route::Pod(address),
            Decision::Nobody => Route::Refused,
            Decision::Outside => Route::External(to),
        }
    }

    fn dial_pod(
        &self,
        from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        match self.api_server {
            Some(server) if self.is_api_server(&self.table.load(), to) => async move {
                let stream = tokio::net::TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream) as Box<dyn Duplex>)
            }
            .boxed(),
            Some(_) | None => self.dial(to.ip(), move |dialer, wire| {
                dialer.open(wire, Source::Peer(from), to).boxed()
            }),
        }
    }

    fn dial_datagrams(
        &self,
        from: IpAddr,
        to: IpAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        self.dial(to, move |dialer, wire| {
            dialer.open_datagrams(wire, from, to).boxed()
        })
    }
}

impl Network {
    /// Whether it is the address of service `kubernetes`, and a port of it.
    fn is_api_server(&self, table: &RoutingTable, to: SocketAddr) -> bool {
        self.api_server.is_some()
            && table.service("default", "kubernetes").is_some_and(|it| {
                it.cluster_ips.contains(&to.ip())
                    && it.ports.iter().any(|port| port.number == to.port())
            })
    }

    /// Opens a stream to the worker of a pod, and remembers whether that worker is well.
    fn dial<O>(&self, pod: IpAddr, open: O) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>>
    where
        O: for<'a> FnOnce(&'a Dialer, &'a str) -> BoxFuture<'a, Result<dial::Stream, dial::Error>>
            + Send
            + 'static,
    {
        let wire = self.table.load().wire_of_pod(pod).cloned();
        let (dialer, resting) = (Arc::clone(&self.dialer), Arc::clone(&self.resting));
        async move {
            let wire = wire.ok_or_else(|| {
                let text = format!("no node of the cluster has pods at {pod}");
                std::io::Error::new(std::io::ErrorKind::HostUnreachable, text)
            })?;
            let opened = open(&dialer, &wire).await;
            match &opened {
                Ok(_) | Err(dial::Error::Answered { .. }) => resting.succeeded(&wire),
                Err(dial::Error::Connect { .. } | dial::Error::Timeout(_)) => {
                    resting.failed(&wire, Instant::now());
                }
                Err(
                    dial::Error::NoSecret | dial::Error::NoWorker(_) | dial::Error::NeedsTls(_),
                ) => {}
            }
            let stream = opened.map_err(into_io)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}

/// What a guest's socket is told.
fn into_io(error: dial::Error) -> std::io::Error {
    use std::io::ErrorKind;
    let kind = match &error {
        dial::Error::Connect { source, .. } => source.kind(),
        dial::Error::Timeout(_) => ErrorKind::TimedOut,
        dial::Error::NoWorker(_)
        | dial::Error::Answered {
            answer: tunnel::Answer::NoSuchPod,
            ..
        } => ErrorKind::HostUnreachable,
        dial::Error::Answered { .. } => ErrorKind::ConnectionRefused,
        dial::Error::NoSecret | dial::Error::NeedsTls(_) => ErrorKind::NotConnected,
    };
    std::io::Error::new(kind, error)
}
