//! A worker that runs nothing: registers a node, renews its lease, and says of every pod on it
//! that it runs and is ready, or that it has ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Value, json};
use wasmorch::api::condition::{self, Status};
use wasmorch::api::pod;
use wasmorch::registry::{Api, Caller, DeleteOptions, Error, Registry, TypedEvent};
use wasmorch::tasks::TaskGroup;

use super::decoded;

const HEARTBEAT: Duration = Duration::from_millis(200);

/// The nodes' agents.
pub(crate) struct Kubelets {
    registry: Registry,
    tasks: TaskGroup,
    running: Mutex<HashMap<String, TaskGroup>>,
    addresses: Arc<AtomicU32>,
}

impl Kubelets {
    pub(crate) fn new(registry: Registry, tasks: TaskGroup) -> Self {
        Self {
            registry,
            tasks,
            running: Mutex::default(),
            addresses: Arc::default(),
        }
    }

    /// Registers the node, or takes it up again, and serves its pods.
    pub(crate) async fn start(&self, name: &str, change: Value) {
        let kubelet = Kubelet {
            name: name.to_owned(),
            nodes: self.registry.api(Caller::system("kubelet")),
            leases: self.registry.api(Caller::system("kubelet")),
            pods: self.registry.api(Caller::system("kubelet")),
            registry: self.registry.clone(),
            addresses: Arc::clone(&self.addresses),
        };
        kubelet.register(change).await;
        let group = self.tasks.child();
        let (heart, hands) = (kubelet.clone(), kubelet);
        let cancelled = group.cancelled();
        group.spawn_contained("heart", async move {
            tokio::select! { () = cancelled.cancelled() => {}, () = heart.beat() => {} }
        });
        let cancelled = group.cancelled();
        group.spawn_contained("hands", async move {
            tokio::select! { () = cancelled.cancelled() => {}, () = hands.serve() => {} }
        });
        self.running.lock().unwrap().insert(name.to_owned(), group);
    }

    /// Like `kill -9`: the node says nothing any more.
    pub(crate) async fn kill(&self, name: &str) {
        let group = self.running.lock().unwrap().remove(name).unwrap();
        assert!(group.shutdown(Duration::from_secs(10)).await);
    }
}

#[derive(Clone)]
struct Kubelet {
    name: String,
    nodes: Api<Node>,
    leases: Api<Lease>,
    pods: Api<Pod>,
    registry: Registry,
    addresses: Arc<AtomicU32>,
}

impl Kubelet {
    async fn register(&self, change: Value) {
        let mut node = json!({
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "2000"},
                "capacity": {"cpu": "4", "memory": "8Gi", "pods": "2000"},
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            },
        });
        json_patch::merge(&mut node, &change);
        let node: Node = decoded(node);
        match self.nodes.create("", &node).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        // As a worker does: who says Ready before he has shown that he lives is not believed.
        self.renew().await;
        loop {
            let mut current = self.nodes.get("", &self.name).unwrap().as_ref().clone();
            current.status.clone_from(&node.status);
            match self.nodes.update_status("", &current).await {
                Ok(_) => return,
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn beat(self) {
        let mut ticks = tokio::time::interval(HEARTBEAT);
        loop {
            ticks.tick().await;
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let mut lease: Lease = decoded(json!({
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": self.name, "leaseDurationSeconds": 40},
        }));
        let renewed = Some(MicroTime(self.registry.clock().now()));
        lease.spec.as_mut().unwrap().renew_time = renewed;
        let ns = "kube-node-lease";
        // An update without a revision writes whatever is there.
        let written = match self.leases.update(ns, &lease).await {
            Err(Error::NotFound { .. }) => self.leases.create(ns, &lease).await,
            written => written,
        };
        written.unwrap();
    }

    async fn serve(self) {
        let mut changes = self.pods.watch(None).await.unwrap();
        while let Some(change) = changes.next().await {
            match change.unwrap() {
                TypedEvent::Added(pod) | TypedEvent::Modified(pod) => {
                    if pod::node_name(&pod) == Some(&self.name) {
                        self.tend(&pod).await;
                    }
                }
                TypedEvent::Deleted(_) | TypedEvent::Bookmark(_) => {}
            }
        }
    }

    async fn tend(&self, pod: &Pod) {
        let (ns, name) = (
            pod.metadata.namespace.as_deref().unwrap(),
            pod.metadata.name.as_deref().unwrap(),
        );
        let result = if pod::is_terminating(pod) {
            let options = DeleteOptions {
                grace_period_seconds: Some(0),
                uid: pod.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            self.pods.delete(ns, name, &options).await
        } else if pod::is_ready(pod) {
            Ok(())
        } else {
            self.pods
                .update_status(ns, &self.running(pod))
                .await
                .map(drop)
        };
        match result {
            // Somebody wrote in between; the watch brings the newer version.
            Ok(()) | Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn running(&self, pod: &Pod) -> Pod {
        let mut running = pod.clone();
        let status = running.status.get_or_insert_default();
        status.phase = Some("Running".to_owned());
        if status.pod_ip.is_none() {
            let address = self.addresses.fetch_add(1, Ordering::Relaxed) + 1;
            status.pod_ip = Some(format!("10.64.{}.{}", address >> 8, address & 255));
        }
        let conditions = status.conditions.get_or_insert_default();
        for kind in ["Ready", "ContainersReady"] {
            condition::set(
                conditions,
                kind,
                Status::True,
                ("", ""),
                self.registry.clock().now(),
            );
        }
        running
    }
}
