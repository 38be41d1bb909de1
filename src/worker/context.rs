//! What all pods of a worker share: handles, each owned by the component that made it, and the
//! directory of the pods that are here, for those who serve them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Client;
use tokio::sync::watch;

use super::address_pool::AddressPool;
use super::checkpoint;
use super::claims::Places;
use super::events::Recorder;
use super::exec::Taps;
use super::images::Images;
use super::lifecycle::Timing;
use super::logs::Logs;
use super::network::Network;
use super::object_changes::ObjectChanges;
use super::objects::ObjectCache;
use super::policies::Policies;
use super::status_sender::StatusSender;
use super::tokens::TokenCache;
use crate::clock::Clock;
use crate::runtime::{PodSandbox, Runtime};

/// See the module.
pub struct Context {
    pub clock: Clock,
    pub client: Client,
    pub runtime: Runtime,
    pub images: Images,
    pub objects: ObjectCache,
    pub tokens: TokenCache,
    pub object_changes: ObjectChanges,
    pub network: Arc<Network>,
    pub policies: Arc<Policies>,
    pub addresses: AddressPool,
    pub logs: Logs,
    pub events: Recorder,
    pub statuses: StatusSender,
    pub checkpoints: checkpoint::Writer,
    pub directory: Directory,
    pub taps: Taps,
    pub host_ip: IpAddr,
    pub allocatable: BTreeMap<String, Quantity>,
    pub places: Places,
    pub timing: Timing,
    /// Ticks when volumes must be compared with their objects.
    pub refresh: watch::Receiver<u64>,
}

/// A pod as those who serve it see it.
#[derive(Clone)]
pub struct PodView {
    pub pod: Arc<Pod>,
    /// What this worker said of it last, if it did; the API may not know it yet.
    pub status: Option<Arc<PodStatus>>,
    pub sandbox: Option<Arc<PodSandbox>>,
}

/// The pods that are here, by uid.
#[derive(Default)]
pub struct Directory(Mutex<HashMap<String, PodView>>);

impl Directory {
    pub fn put(&self, uid: &str, view: PodView) {
        self.lock().insert(uid.to_owned(), view);
    }

    pub fn remove(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The pod of that name; the younger one, while the older one of the same name goes.
    pub fn find(&self, namespace: &str, name: &str) -> Option<PodView> {
        let pods = self.lock();
        let named = pods.values().filter(|view| {
            let meta = &view.pod.metadata;
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace)
        });
        let created = |view: &&PodView| {
            let meta = &view.pod.metadata;
            meta.creation_timestamp.as_ref().map(|time| time.0)
        };
        named.max_by_key(created).cloned()
    }

    pub fn all(&self) -> Vec<PodView> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, PodView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
