//! What this worker knows of the cluster's network, kept by watches and read as one snapshot.
//!
//! Services, EndpointSlices and Nodes come in; an immutable [`Snapshot`] goes out, published whole.
//! A burst of changes makes one snapshot. When the API is away the last snapshot stays: pods go on
//! finding each other. Guests ask on their own threads, so every answer is a look into the snapshot.

mod snapshot;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

pub use snapshot::{Snapshot, World};

use super::env::ServiceLink;
use crate::client::{self, Mirror};
use crate::errors::chain;
use crate::router::tunnel::{self, Preamble, WireProtocol};
use crate::runtime::net::{ClusterNetwork, Duplex, Route};
use crate::runtime::spec::Protocol;
use crate::tasks::TaskGroup;

/// Changes that come this close together make one snapshot.
const COALESCE: Duration = Duration::from_millis(2);

/// The network as guests and pods of this worker see it.
pub struct Network {
    node: String,
    snapshot: ArcSwap<Snapshot>,
    /// Set once the worker has been told the secret.
    secret: ArcSwap<Vec<u8>>,
    turn: AtomicUsize,
    own_node: watch::Sender<OwnNode>,
    synced: watch::Sender<bool>,
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
    pub fn new(node: String) -> Arc<Self> {
        Arc::new(Self {
            node,
            snapshot: ArcSwap::default(),
            secret: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            own_node: watch::Sender::new(OwnNode::Unknown),
            synced: watch::Sender::new(false),
        })
    }

    /// Starts the watches.
    pub fn start(self: &Arc<Self>, client: Client, secret: Vec<u8>, tasks: &TaskGroup) {
        self.secret.store(Arc::new(secret));
        let network = Arc::clone(self);
        let cancelled = tasks.cancelled();
        tasks.spawn("network", async move {
            tokio::select! {
                () = network.run(client) => {}
                () = cancelled.cancelled() => {}
            }
        });
    }

    /// The services that pods of a namespace are told of.
    pub fn service_links(&self, namespace: &str) -> Vec<ServiceLink> {
        self.snapshot.load().service_links(namespace)
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
        let mut mirrors = Mirrors::default();
        loop {
            let changed = tokio::select! {
                Some(event) = services.next() => apply(&mut mirrors.services, event, "services"),
                Some(event) = slices.next() => apply(&mut mirrors.slices, event, "endpointslices"),
                Some(event) = nodes.next() => {
                    let changed = apply(&mut mirrors.nodes, event, "nodes");
                    if changed {
                        self.publish_own_node(&mirrors.nodes);
                    }
                    changed
                }
                () = tokio::time::sleep(COALESCE), if mirrors.is_dirty => {
                    mirrors.is_dirty = false;
                    self.publish(&mirrors);
                    false
                }
            };
            mirrors.is_dirty |= changed;
        }
    }

    fn publish_own_node(&self, nodes: &Mirror<Node>) {
        let own = match nodes.get("", &self.node) {
            Some(node) => OwnNode::Present(Arc::clone(node)),
            None if nodes.is_synced() => OwnNode::Absent,
            None => OwnNode::Unknown,
        };
        self.own_node.send_replace(own);
    }

    fn publish(&self, mirrors: &Mirrors) {
        let world = World {
            node: &self.node,
            services: mirrors.services.iter().map(AsRef::as_ref).collect(),
            slices: mirrors.slices.iter().map(AsRef::as_ref).collect(),
            nodes: mirrors.nodes.iter().map(AsRef::as_ref).collect(),
        };
        self.snapshot.store(Arc::new(Snapshot::of(&world)));
        let is_synced = mirrors.services.is_synced() && mirrors.slices.is_synced();
        self.synced.send_if_modified(|known| {
            let changed = *known != is_synced;
            *known = is_synced;
            changed
        });
    }
}

#[derive(Default)]
struct Mirrors {
    services: Mirror<Service>,
    slices: Mirror<EndpointSlice>,
    nodes: Mirror<Node>,
    is_dirty: bool,
}

fn apply<K: kube::Resource>(
    mirror: &mut Mirror<K>,
    event: Result<watcher::Event<K>, watcher::Error>,
    what: &'static str,
) -> bool {
    match event {
        Ok(event) => mirror.apply(event),
        Err(error) => {
            tracing::debug!(what, error = %chain(&error), "watch");
            false
        }
    }
}

impl ClusterNetwork for Network {
    fn resolve(&self, namespace: &str, name: &str) -> Option<Vec<IpAddr>> {
        self.snapshot.load().resolve(namespace, name)
    }

    fn route(&self, from: IpAddr, to: SocketAddr, protocol: Protocol) -> Route {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.snapshot.load().route(from, to, protocol, turn)
    }

    fn dial_pod(
        &self,
        _from: SocketAddr,
        to: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn Duplex>>> {
        let wire = self.snapshot.load().wire_of(to.ip());
        let secret = self.secret.load_full();
        async move {
            let wire = wire.ok_or_else(|| {
                let text = format!("no node of the cluster has pods at {}", to.ip());
                std::io::Error::new(std::io::ErrorKind::HostUnreachable, text)
            })?;
            let preamble = Preamble {
                protocol: WireProtocol::Tcp,
                secret: secret.to_vec(),
                target: to,
            };
            let stream = tunnel::connect(wire, &preamble).await;
            let stream = stream.map_err(tunnel::Error::into_io)?;
            Ok(Box::new(stream) as Box<dyn Duplex>)
        }
        .boxed()
    }
}
