//! ReplicaSet and ReplicationController: so many pods of one template, no more and no fewer.
//!
//! Pods are listed live, adopted and released by selector, and counted; `plan` says how many to
//! make or which to remove, `status` what to report. A failure to make or remove pods is reported
//! as a condition *and* returned, so that the runtime retries with backoff.
//!
//! Pods that are being deleted no longer count: their replacement is made at once, which is what
//! lets a workload come back elsewhere while its node cannot answer.

mod kind;
mod plan;
pub(super) mod rank;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;

use super::claim;
use super::events::Recorder;
use super::pod_control;
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::{owner, pod};
use crate::errors;
use crate::registry::Api;

use kind::Replicas;
use plan::{Action, Plan};

struct ReplicaSets<K> {
    ctx: Context,
    api: Api<K>,
    pods: Api<Pod>,
    recorder: Recorder,
}

pub(super) fn start<K: Replicas>(
    ctx: &Context,
    sources: &mut Sources,
) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(ReplicaSets::<K> {
        ctx: ctx.clone(),
        api: ctx.api(K::COMPONENT),
        pods: ctx.api(K::COMPONENT),
        recorder: ctx.recorder(K::COMPONENT),
    });
    let controller = Controller::new(K::CONTROLLER, ctx);
    controller.root(K::source(sources), this.api.clone());
    let api = this.api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        claim::owners(&api, pod, K::selector)
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl<K: Replicas> ReplicaSets<K> {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(owner) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let replica_set = owner.view();
        let spec = replica_set.spec.as_ref();
        let spec = spec.ok_or_else(|| Error::NoSpec {
            object: path(&replica_set.metadata),
        })?;
        let (ctx, selector) = (&self.ctx, &spec.selector);
        let pods = claim::observe(ctx, K::COMPONENT, owner.as_ref(), selector, |_| true).await?;
        let siblings = self.siblings(&replica_set, &pods)?;
        let now = self.ctx.clock.now();
        let plan = plan::plan(&replica_set, &pods, &siblings, now)?;
        let failure = self.apply(&owner, &replica_set, &plan).await;
        let message = failure
            .as_ref()
            .map(|error| errors::chain(error).to_string());
        let status = status::status(&replica_set, &plan, message.as_deref(), now);
        if replica_set.status.as_ref() != Some(&status) {
            let mut updated = owner.as_ref().clone();
            updated.set_status(status);
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
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let family: Vec<String> = match owner::controller_of(meta) {
            None => meta.name.iter().cloned().collect(),
            Some(above) => self
                .api
                .list_controlled(namespace, &above.kind, &above.name)
                .map_err(doing("list the siblings of", path(meta)))?
                .iter()
                .filter_map(|sibling| sibling.metadata().name.clone())
                .collect(),
        };
        let mut by_node = BTreeMap::new();
        for name in family {
            let pods = self.pods.list_controlled(namespace, K::KIND, &name);
            let pods = pods.map_err(doing("list the pods of", path(meta)))?;
            let active = pods.iter().filter(|pod| pod::is_active(pod));
            for node in active.filter_map(|pod| pod::node_name(pod)) {
                *by_node.entry(node.to_owned()).or_default() += 1;
            }
        }
        Ok(by_node)
    }

    /// Makes or removes pods; the first failure is returned, what was done before it stays done.
    async fn apply(
        &self,
        owner: &K,
        replica_set: &ReplicaSet,
        plan: &Plan,
    ) -> Option<crate::registry::Error> {
        let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
        match &plan.action {
            Action::Nothing => None,
            Action::Create(count) => {
                let template = replica_set.spec.as_ref()?.template.as_ref()?;
                let wanted = pod_control::from_template::<K>(template, owner.metadata());
                let create = || self.pods.create(namespace, &wanted);
                let series = pod_control::slow_start(*count, create).await;
                series.tell_created(&self.recorder, owner)
            }
            Action::Delete(pods) => {
                let victims: Vec<&Pod> = pods.iter().map(AsRef::as_ref).collect();
                let series = pod_control::delete_all(&self.pods, namespace, &victims).await;
                series.tell_deleted(&self.recorder, owner, &victims)
            }
        }
    }
}
