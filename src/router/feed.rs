//! From the API to the table: watches, and what they said last when the server is away.
//!
//! Four watches (Services, EndpointSlices, Nodes, Ingresses) and the one Secret with the wire's
//! secret feed one task, which applies whatever has arrived and publishes once. Losing the server
//! changes nothing: the table stays as it was. What was learnt is also kept on disk, so that a
//! router that starts while the server is away serves what the last one knew.

mod copy;
mod disk;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

use self::copy::Copy;
use self::disk::{Disk, Kept};
use super::front::Front;
use super::table::{Index, Key};
use crate::client;
use crate::errors::chain;

const WIRE_NAMESPACE: &str = "kube-system";
const WIRE_SECRET: &str = "wasmorch-wire";
const WIRE_KEY: &str = "secret";
/// Changes on disk are at most this late.
const KEEP_AFTER: Duration = Duration::from_secs(1);
/// Changes applied before the table is published in between.
const MOST_AT_ONCE: usize = 4096;

/// How the router stands, for `/readyz` and metrics.
#[derive(Debug, Default)]
pub struct Health {
    has_table: AtomicBool,
    connected: AtomicBool,
}

impl Health {
    /// Whether there is something to route by.
    pub fn has_table(&self) -> bool {
        self.has_table.load(Ordering::Relaxed)
    }

    /// Whether the last word of the server was no error.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "changes are moved once and never stored"
)]
enum Change {
    Service(Event<Service>),
    Slice(Event<EndpointSlice>),
    Node(Event<Node>),
    Ingress(Event<Ingress>),
    Secret(Event<Secret>),
    Lost(watcher::Error),
}

type Changes = Pin<Box<dyn Stream<Item = Change> + Send>>;

/// See the module.
pub(super) struct Feed {
    front: Arc<Front>,
    health: Arc<Health>,
    index: Index,
    services: Copy<Service>,
    slices: Copy<EndpointSlice>,
    nodes: Copy<Node>,
    ingresses: Copy<Ingress>,
    secret: Option<Vec<u8>>,
    disk: Option<Disk>,
}

impl Feed {
    /// Begins with what the last router kept in `directory`, if it did.
    pub(super) async fn new(
        front: Arc<Front>,
        health: Arc<Health>,
        directory: Option<PathBuf>,
    ) -> Self {
        let mut feed = Self {
            front,
            health,
            index: Index::default(),
            services: Copy::default(),
            slices: Copy::default(),
            nodes: Copy::default(),
            ingresses: Copy::default(),
            secret: None,
            disk: directory.map(Disk::new),
        };
        if let Some(disk) = &feed.disk
            && let Some(kept) = disk.load().await
        {
            feed.restore(kept);
        }
        feed
    }

    fn restore(&mut self, kept: Kept) {
        self.services.restore(kept.services);
        self.slices.restore(kept.slices);
        self.nodes.restore(kept.nodes);
        self.ingresses.restore(kept.ingresses);
        for (key, service) in self.services.iter() {
            self.index.set_service(key, Some(service));
        }
        for (key, slice) in self.slices.iter() {
            self.index.set_endpoint_slice(key, Some(slice));
        }
        for (key, node) in self.nodes.iter() {
            self.index.set_node(key.name(), Some(node));
        }
        for (key, ingress) in self.ingresses.iter() {
            self.index.set_ingress(key, Some(ingress));
        }
        if let Some(secret) = kept.secret {
            self.set_secret(secret);
        }
        self.publish();
        tracing::info!("serve by the last known routing table until the server answers");
    }

    /// Follows the API for ever.
    pub(super) async fn run(mut self, client: Client) {
        let mut changes = watches(&client);
        let mut keep_at = None;
        loop {
            let keep = async {
                match keep_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.next() => {
                    let Some(change) = change else { return };
                    self.apply(change);
                    self.apply_ready(&mut changes);
                    self.publish();
                    keep_at.get_or_insert_with(|| tokio::time::Instant::now() + KEEP_AFTER);
                }
                () = keep => {
                    keep_at = None;
                    self.keep().await;
                }
            }
        }
    }

    /// Applies what has arrived meanwhile, so that a burst is published once.
    fn apply_ready(&mut self, changes: &mut Changes) {
        for _ in 0..MOST_AT_ONCE {
            match changes.next().now_or_never() {
                Some(Some(change)) => self.apply(change),
                Some(None) | None => return,
            }
        }
    }

    fn apply(&mut self, change: Change) {
        if let Change::Lost(error) = &change {
            if self.health.connected.swap(false, Ordering::Relaxed) {
                tracing::warn!(error = %chain(error), "lost the server; the routing table stays as it is");
            }
            return;
        }
        if !self.health.connected.swap(true, Ordering::Relaxed) {
            tracing::info!("the server answers");
        }
        match change {
            Change::Service(event) => {
                for (key, service) in self.services.apply(event) {
                    self.index.set_service(&key, service.as_deref());
                }
            }
            Change::Slice(event) => {
                for (key, slice) in self.slices.apply(event) {
                    self.index.set_endpoint_slice(&key, slice.as_deref());
                }
            }
            Change::Node(event) => {
                for (key, node) in self.nodes.apply(event) {
                    self.index.set_node(key.name(), node.as_deref());
                }
            }
            Change::Ingress(event) => {
                for (key, ingress) in self.ingresses.apply(event) {
                    self.index.set_ingress(&key, ingress.as_deref());
                }
            }
            // A secret that is deleted stays in force until there is another.
            Change::Secret(Event::Apply(secret) | Event::InitApply(secret)) => {
                let data = secret.data.and_then(|mut data| data.remove(WIRE_KEY));
                if let Some(secret) = data {
                    self.set_secret(secret.0);
                }
            }
            Change::Secret(Event::Init | Event::InitDone | Event::Delete(_)) | Change::Lost(_) => {}
        }
    }

    fn set_secret(&mut self, secret: Vec<u8>) {
        if self.secret.as_ref() != Some(&secret) {
            self.front.dialer.set_secret(secret.clone());
            self.secret = Some(secret);
        }
    }

    fn publish(&mut self) {
        self.front.publish(self.index.table());
        if self.services.is_synced() && self.slices.is_synced() {
            self.health.has_table.store(true, Ordering::Relaxed);
        }
    }

    async fn keep(&self) {
        let Some(disk) = &self.disk else { return };
        // A half-learnt world must not replace a whole one.
        if !self.services.is_synced() || !self.slices.is_synced() || !self.nodes.is_synced() {
            return;
        }
        let kept = Kept {
            services: self.services.objects(),
            slices: self.slices.objects(),
            nodes: self.nodes.objects(),
            ingresses: self.ingresses.objects(),
            secret: self.secret.clone(),
        };
        if let Err(error) = disk.store(kept).await {
            tracing::warn!(error = %chain(&error), "keep the routing table on disk");
        }
    }
}

fn watches(client: &Client) -> Changes {
    let config = watcher::Config::default();
    let secret = config
        .clone()
        .fields(&format!("metadata.name={WIRE_SECRET}"));
    let secrets = Api::namespaced(client.clone(), WIRE_NAMESPACE);
    let all: [Changes; 5] = [
        follow(Api::all(client.clone()), config.clone(), Change::Service),
        follow(Api::all(client.clone()), config.clone(), Change::Slice),
        follow(Api::all(client.clone()), config.clone(), Change::Node),
        follow(Api::all(client.clone()), config, Change::Ingress),
        follow(secrets, secret, Change::Secret),
    ];
    Box::pin(stream::select_all(all))
}

fn follow<K>(api: Api<K>, config: watcher::Config, change: fn(Event<K>) -> Change) -> Changes
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let events = client::watch(api, config);
    Box::pin(events.map(move |event| event.map_or_else(Change::Lost, change)))
}

/// The key of an object.
fn key_of<K: kube::Resource>(object: &K) -> Key {
    let meta = object.meta();
    Key::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}
