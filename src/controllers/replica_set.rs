//! ReplicaSet: so many pods of one template, no more and no fewer.
//!
//! Pods are listed live, adopted and released by selector, and counted; `plan` says how many to
//! make or which to remove, `status` what to report. A failure to make or remove pods is reported
//! as a condition *and* returned, so that the runtime retries with backoff.
//!
//! Pods that are being deleted no longer count: their replacement is made at once, which is what
//! lets a workload come back elsewhere while its node cannot answer.

mod plan;
pub(super) mod rank;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::claim;
use super::events::{Notice, Recorder};
use super::pod_control::{self, Series};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::{owner, pod};
use crate::errors;
use crate::registry::Api;

use plan::{Action, Plan};

const COMPONENT: &str = "replicaset-controller";

struct ReplicaSets {
    ctx: Context,
    api: Api<ReplicaSet>,
    pods: Api<Pod>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(ReplicaSets {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("replicaset", ctx);
    controller.root(&mut sources.replica_sets, this.api.clone());
    let replica_sets = this.api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        claim::owners(&replica_sets, pod, |it| Some(&it.spec.as_ref()?.selector))
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl ReplicaSets {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(replica_set) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let object = || path(&replica_set.metadata);
        let spec = replica_set.spec.as_ref();
        let spec = spec.ok_or_else(|| Error::NoSpec { object: object() })?;
        let (owner, selector) = (replica_set.as_ref(), &spec.selector);
        let pods = claim::observe(&self.ctx, COMPONENT, owner, selector, |_| true).await?;
        let siblings = self.siblings(&replica_set, &pods)?;
        let now = self.ctx.clock.now();
        let plan = plan::plan(&replica_set, &pods, &siblings, now)?;
        let failure = self.apply(&replica_set, &plan).await;
        let message = failure
            .as_ref()
            .map(|error| errors::chain(error).to_string());
        let status = status::status(&replica_set, &plan, message.as_deref(), now);
        if replica_set.status.as_ref() != Some(&status) {
            let mut updated = replica_set.as_ref().clone();
            updated.status = Some(status);
            self.api
                .update_status(&key.namespace, &updated)
                .await
                .map_err(doing("write the status of", key.to_string()))?;
        }
        match failure {
            Some(source) => Err(doing("manage the pods of", key.to_string())(source)),
            None => Ok(Outcome::after(plan.look_again)),
        }
    }

    /// Active pods of the same Deployment by node: a node that has two of them loses one first.
    /// Asked for only when pods must go.
    fn siblings(
        &self,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
    ) -> Result<BTreeMap<String, usize>, Error> {
        if !plan::is_scaling_down(replica_set, pods) {
            return Ok(BTreeMap::new());
        }
        let meta = &replica_set.metadata;
        let namespace = meta.namespace.as_deref();
        let family: Vec<String> = match owner::controller_of(meta) {
            None => meta.uid.iter().cloned().collect(),
            Some(deployment) => self
                .api
                .list(namespace)
                .map_err(doing("list the siblings of", path(meta)))?
                .iter()
                .filter(|other| owner::is_controlled_by(&other.metadata, &deployment.uid))
                .filter_map(|other| other.metadata.uid.clone())
                .collect(),
        };
        let candidates = self
            .pods
            .list(namespace)
            .map_err(doing("list the pods of", path(meta)))?;
        let related = candidates.iter().filter(|pod| {
            pod::is_active(pod)
                && owner::controller_of(&pod.metadata)
                    .is_some_and(|controller| family.contains(&controller.uid))
        });
        let mut by_node = BTreeMap::new();
        for node in related.filter_map(|pod| pod::node_name(pod)) {
            *by_node.entry(node.to_owned()).or_default() += 1;
        }
        Ok(by_node)
    }

    /// Makes or removes pods; the first failure is returned, what was done before it stays done.
    async fn apply(&self, replica_set: &ReplicaSet, plan: &Plan) -> Option<crate::registry::Error> {
        match &plan.action {
            Action::Nothing => None,
            Action::Create(count) => self.create(replica_set, *count).await,
            Action::Delete(pods) => self.delete(replica_set, pods).await,
        }
    }

    async fn create(
        &self,
        replica_set: &ReplicaSet,
        count: usize,
    ) -> Option<crate::registry::Error> {
        let template = replica_set.spec.as_ref()?.template.as_ref()?;
        let namespace = replica_set
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default();
        let wanted = pod_control::from_template::<ReplicaSet>(template, &replica_set.metadata);
        let Series { done, failed } =
            pod_control::slow_start(count, || self.pods.create(namespace, &wanted)).await;
        for pod in done {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.recorder.event(
                replica_set,
                Notice::normal("SuccessfulCreate", format!("Created pod: {name}")),
            );
        }
        if let Some(error) = &failed {
            let message = format!("Error creating: {}", errors::chain(error));
            self.recorder
                .event(replica_set, Notice::warning("FailedCreate", message));
        }
        failed
    }

    async fn delete(
        &self,
        replica_set: &ReplicaSet,
        pods: &[Arc<Pod>],
    ) -> Option<crate::registry::Error> {
        let namespace = replica_set
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default();
        let victims: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
        let Series { done, failed } =
            pod_control::delete_all(&self.pods, namespace, &victims).await;
        for index in done {
            let name = victims[index].metadata.name.as_deref().unwrap_or_default();
            self.recorder.event(
                replica_set,
                Notice::normal("SuccessfulDelete", format!("Deleted pod: {name}")),
            );
        }
        if let Some(error) = &failed {
            let message = format!("Error deleting: {}", errors::chain(error));
            self.recorder
                .event(replica_set, Notice::warning("FailedDelete", message));
        }
        failed
    }
}
