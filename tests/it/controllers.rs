//! Controllers and scheduler on a real registry and store, with fake kubelets: journeys of users'
//! objects. Everything is awaited as a state with a bound; nothing sleeps.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod collection;
mod kubelet;
mod nodes;
mod policies;
mod rollout;
mod services;
mod workloads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasmorch::api::pod;
use wasmorch::clock::Clock;
use wasmorch::registry::{Api, ApiKind, Caller, DeleteOptions, Patch, Propagation, Registry};
use wasmorch::store::{self, Store};
use wasmorch::tasks::TaskGroup;
use wasmorch::{cloud, controllers, registry, scheduler};

pub(crate) use kubelet::Kubelets;

const PATIENCE: Duration = Duration::from_mins(1);
pub(crate) const NS: &str = "default";

/// A control plane and its nodes.
pub(crate) struct Cluster {
    pub(crate) registry: Registry,
    pub(crate) kubelets: Kubelets,
    handle: controllers::Handle,
    tasks: TaskGroup,
    _directory: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Cluster {
    /// Three nodes, `dev-1` to `dev-3`, as `wasmorch dev` has them.
    pub(crate) async fn new() -> Self {
        let cluster = Self::empty().await;
        for name in ["dev-1", "dev-2", "dev-3"] {
            cluster.kubelets.start(name, json!({})).await;
        }
        cluster
    }

    /// Without nodes.
    pub(crate) async fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = TaskGroup::new();
        let config = store::Config {
            path: directory.path().join("wasmorch.db"),
            volatile: vec!["leases.coordination.k8s.io".to_owned()],
            history: 10_000,
        };
        let store = Store::open(config, &tasks).await.unwrap();
        let config = registry::Config {
            default_toleration_seconds: 0,
            ..registry::Config::default()
        };
        let registry = Registry::new(store, Clock::system(), config);
        registry.bootstrap().await.unwrap();
        let config = controllers::Config {
            root_ca: Some("certificate".to_owned()),
            ..controllers::Config::dev()
        };
        let handle = controllers::run(registry.clone(), config, &tasks).unwrap();
        scheduler::run(registry.clone(), scheduler::Config::default(), &tasks);
        let config = cloud::Config {
            load_balancer_address: Some([127, 0, 0, 1].into()),
        };
        cloud::run(registry.clone(), config, &tasks);
        Self {
            kubelets: Kubelets::new(registry.clone(), tasks.clone()),
            registry,
            handle,
            tasks,
            _directory: directory,
        }
    }

    pub(crate) fn api<K: ApiKind>(&self) -> Api<K> {
        self.registry.api(Caller::system("test"))
    }

    pub(crate) async fn create<K: ApiKind>(&self, ns: &str, object: Value) -> Arc<K> {
        let object: K = decoded(object);
        self.api::<K>().create(ns, &object).await.unwrap()
    }

    pub(crate) async fn merge<K: ApiKind>(&self, name: &str, patch: Value) -> Arc<K> {
        let api = self.api::<K>();
        api.patch(NS, name, None, Patch::Merge(patch))
            .await
            .unwrap()
    }

    pub(crate) async fn delete<K: ApiKind>(&self, ns: &str, name: &str, policy: Propagation) {
        let options = DeleteOptions {
            propagation_policy: Some(policy),
            ..DeleteOptions::default()
        };
        self.api::<K>().delete(ns, name, &options).await.unwrap();
    }

    /// Waits until the objects of a kind are as wanted, and returns them.
    pub(crate) async fn until<K: ApiKind>(
        &self,
        ns: Option<&str>,
        what: &str,
        is_so: impl Fn(&[Arc<K>]) -> bool,
    ) -> Vec<Arc<K>> {
        let api = self.api::<K>();
        let mut changes = api.watch(ns).await.unwrap();
        let wait = async {
            loop {
                let objects = api.list(ns).unwrap();
                if is_so(&objects) {
                    return objects;
                }
                changes.next().await.unwrap().unwrap();
            }
        };
        let Ok(objects) = tokio::time::timeout(PATIENCE, wait).await else {
            let there = summary(&api.list(ns).unwrap());
            panic!("{what} did not come; there is {there}");
        };
        objects
    }

    /// Waits until a Deployment has rolled out what it says now.
    pub(crate) async fn rolled_out(&self, name: &str) -> Arc<Deployment> {
        let what = format!("the rollout of {name}");
        let found = self.until::<Deployment>(Some(NS), &what, |all| {
            let found = all
                .iter()
                .find(|d| d.metadata.name.as_deref() == Some(name));
            found.is_some_and(|deployment| is_rolled_out(deployment))
        });
        let found = found.await;
        let mut found = found.into_iter();
        found
            .find(|d| d.metadata.name.as_deref() == Some(name))
            .unwrap()
    }

    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.api::<Pod>().list(Some(NS)).unwrap()
    }

    pub(crate) fn replica_sets(&self) -> Vec<Arc<ReplicaSet>> {
        self.api::<ReplicaSet>().list(Some(NS)).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Arc<Node> {
        self.api::<Node>().get("", name).unwrap()
    }
}

/// What `kubectl rollout status` waits for.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else {
        return false;
    };
    let desired = spec.replicas.unwrap_or(1);
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
}

/// What a failed test shows of objects.
fn summary<K: ApiKind>(objects: &[Arc<K>]) -> String {
    serde_json::to_string(objects).unwrap()
}

pub(crate) fn decoded<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A Deployment of `hello` that asks for little.
pub(crate) fn deployment(name: &str, replicas: i32) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "c", "image": "hello:v1",
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
                }]},
            },
        },
    })
}

/// The patch that rolls out another version of the same.
pub(crate) fn image(version: &str) -> Value {
    let mut container = deployment("web", 1)["spec"]["template"]["spec"]["containers"][0].take();
    container["image"] = format!("hello:{version}").into();
    json!({"spec": {"template": {"spec": {"containers": [container]}}}})
}

/// How many active pods each node has.
pub(crate) fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod::is_active(pod)) {
        let node = pod::node_name(pod).unwrap_or_default().to_owned();
        *counts.entry(node).or_default() += 1;
    }
    counts
}

pub(crate) fn ready(pods: &[Arc<Pod>]) -> usize {
    let is_up = |pod: &&Arc<Pod>| pod::is_ready(pod) && pod::is_active(pod);
    pods.iter().filter(is_up).count()
}
