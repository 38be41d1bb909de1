//! Watches, one per kind, shared by all controllers of the process.
//!
//! Every subscriber hears of the object before and after each change, so that it can wake both the
//! owner an object has left and the one it has joined. The version before is kept here: an `Arc`
//! that the store has anyway as long as it is current.
//!
//! A watch that ends early (too slow, compacted) is opened again; the store then sends every
//! object as added. What disappeared in between is announced as removed first, since nobody else
//! will say so.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;

use super::Key;
use crate::controllers::Context;
use crate::errors;
use crate::registry::{Api, ApiKind, TypedEvent};

type Handler<K> = Box<dyn Fn(Option<&K>, Option<&K>) + Send + Sync>;

/// The changes of one kind and those who want to hear of them.
pub(crate) struct Source<K> {
    handlers: Vec<Handler<K>>,
}

impl<K> Default for Source<K> {
    fn default() -> Self {
        Self {
            handlers: Vec::new(),
        }
    }
}

impl<K: ApiKind> Source<K> {
    /// `handler` gets the object before and after each change; it must not block.
    pub(crate) fn subscribe(
        &mut self,
        handler: impl Fn(Option<&K>, Option<&K>) + Send + Sync + 'static,
    ) {
        self.handlers.push(Box::new(handler));
    }

    fn start(self, ctx: &Context) {
        if self.handlers.is_empty() {
            return;
        }
        let follower = Follower {
            api: ctx.api::<K>("controller-manager"),
            handlers: self.handlers,
            known: HashMap::new(),
        };
        let cancelled = ctx.tasks.cancelled();
        ctx.tasks.spawn(K::KIND, async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = follower.run() => {}
            }
        });
    }
}

struct Follower<K> {
    api: Api<K>,
    handlers: Vec<Handler<K>>,
    known: HashMap<Key, Arc<K>>,
}

impl<K: ApiKind> Follower<K> {
    async fn run(mut self) {
        loop {
            match self.follow().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(kind = K::KIND, error = %errors::chain(&error), "watch again");
                }
            }
            for object in std::mem::take(&mut self.known).into_values() {
                self.tell(Some(&object), None);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends well when the store closes.
    async fn follow(&mut self) -> Result<(), crate::registry::Error> {
        let mut stream = self.api.watch(None).await?;
        while let Some(event) = stream.next().await {
            let event = match event {
                // One unreadable object must not hide the others; it stays known as it was.
                Err(error @ crate::registry::Error::Corrupt { .. }) => {
                    tracing::error!(kind = K::KIND, error = %errors::chain(&error), "skipped");
                    continue;
                }
                event => event?,
            };
            match event {
                TypedEvent::Added(object) | TypedEvent::Modified(object) => {
                    let key = Key::of(object.metadata());
                    let before = self.known.insert(key, Arc::clone(&object));
                    self.tell(before.as_deref(), Some(&object));
                }
                TypedEvent::Deleted(object) => {
                    self.known.remove(&Key::of(object.metadata()));
                    self.tell(Some(&object), None);
                }
                TypedEvent::Bookmark(_) => {}
            }
        }
        Ok(())
    }

    fn tell(&self, before: Option<&K>, after: Option<&K>) {
        for handler in &self.handlers {
            handler(before, after);
        }
    }
}

/// All kinds that some controller watches.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) pods: Source<Pod>,
    pub(crate) nodes: Source<Node>,
    pub(crate) leases: Source<Lease>,
    pub(crate) services: Source<Service>,
    pub(crate) endpoint_slices: Source<EndpointSlice>,
    pub(crate) endpoints: Source<Endpoints>,
    pub(crate) deployments: Source<Deployment>,
    pub(crate) replica_sets: Source<ReplicaSet>,
    pub(crate) replication_controllers: Source<ReplicationController>,
    pub(crate) stateful_sets: Source<StatefulSet>,
    pub(crate) daemon_sets: Source<DaemonSet>,
    pub(crate) controller_revisions: Source<ControllerRevision>,
    pub(crate) jobs: Source<Job>,
    pub(crate) cron_jobs: Source<CronJob>,
    pub(crate) pod_disruption_budgets: Source<PodDisruptionBudget>,
    pub(crate) autoscalers: Source<HorizontalPodAutoscaler>,
    pub(crate) namespaces: Source<Namespace>,
    pub(crate) service_accounts: Source<ServiceAccount>,
    pub(crate) secrets: Source<Secret>,
    pub(crate) persistent_volume_claims: Source<PersistentVolumeClaim>,
    pub(crate) persistent_volumes: Source<PersistentVolume>,
    pub(crate) storage_classes: Source<StorageClass>,
    pub(crate) cluster_roles: Source<ClusterRole>,
    pub(crate) resource_quotas: Source<ResourceQuota>,
}

impl Sources {
    /// Opens the watches; to be called once every controller has subscribed.
    pub(crate) fn start(self, ctx: &Context) {
        self.pods.start(ctx);
        self.nodes.start(ctx);
        self.leases.start(ctx);
        self.services.start(ctx);
        self.endpoint_slices.start(ctx);
        self.endpoints.start(ctx);
        self.deployments.start(ctx);
        self.replica_sets.start(ctx);
        self.replication_controllers.start(ctx);
        self.stateful_sets.start(ctx);
        self.daemon_sets.start(ctx);
        self.controller_revisions.start(ctx);
        self.jobs.start(ctx);
        self.cron_jobs.start(ctx);
        self.pod_disruption_budgets.start(ctx);
        self.autoscalers.start(ctx);
        self.namespaces.start(ctx);
        self.service_accounts.start(ctx);
        self.secrets.start(ctx);
        self.persistent_volume_claims.start(ctx);
        self.persistent_volumes.start(ctx);
        self.storage_classes.start(ctx);
        self.cluster_roles.start(ctx);
        self.resource_quotas.start(ctx);
    }
}
