//! DaemonSet: one pod on each node that fits.
//!
//! The pods are placed by the scheduler and stay on nodes that are cordoned or silent. An update
//! takes away a node's old pod before its new one comes, as far as `maxUnavailable` lets it, or
//! after its new one is available, as far as `maxSurge` lets new ones stand beside old ones.

mod failures;
mod placement;
mod plan;
mod surge;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::claim;
use super::events::Recorder;
use super::revision::{self, History};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path, pod_control};
use crate::api::selector::Labels;
use crate::registry::Api;

use failures::Failures;
use plan::Plan;

const COMPONENT: &str = "daemonset-controller";

struct DaemonSets {
    ctx: Context,
    api: Api<DaemonSet>,
    pods: Api<Pod>,
    nodes: Api<Node>,
    recorder: Recorder,
    failures: Mutex<Failures>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(DaemonSets::new(ctx));
    let controller = Controller::new("daemonset", ctx);
    controller.root(&mut sources.daemon_sets, this.api.clone());
    let api = this.api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        claim::owners(&api, pod, |set| {
            Labels::from_selector(&set.spec.as_ref()?.selector).ok()
        })
    });
    let (queue, api) = (Arc::clone(&controller.queue), this.api.clone());
    sources.nodes.subscribe(move |before, after| {
        if !concerns_placement(before, after) {
            return;
        }
        // A failed list loses a wake-up; the periodic resync will see the node.
        for set in api.list(None).unwrap_or_default() {
            queue.add(Key::of(&set.metadata));
        }
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// Nodes report every few seconds; only labels and taints decide who goes there.
fn concerns_placement(before: Option<&Node>, after: Option<&Node>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return true;
    };
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    before.metadata.labels != after.metadata.labels || taints(before) != taints(after)
}

impl DaemonSets {
    fn new(ctx: &Context) -> Self {
        Self {
            ctx: ctx.clone(),
            api: ctx.api(COMPONENT),
            pods: ctx.api(COMPONENT),
            nodes: ctx.api(COMPONENT),
            recorder: ctx.recorder(COMPONENT),
            failures: Mutex::default(),
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(set) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let meta = &set.metadata;
        let spec = set
            .spec
            .as_ref()
            .ok_or_else(|| Error::NoSpec { object: path(meta) })?;
        let wanted = (&spec.selector, &spec.template);
        let history = revision::settle(&self.ctx, COMPONENT, set.as_ref(), wanted).await?;
        let hash = revision::hash(&history.update);
        let pods = claim::observe(&self.ctx, COMPONENT, set.as_ref(), &spec.selector, |_| true);
        let pods: Vec<Arc<Pod>> = pods.await?;
        let nodes = self
            .nodes
            .list(None)
            .map_err(doing("list nodes for", path(meta)))?;
        let now = self.ctx.clock.now();
        let mut plan = plan::plan(&set, spec, (&nodes, &pods), hash, now);
        let uid = meta.uid.as_deref().unwrap_or_default();
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .hold_back(&mut plan, uid, hash, now);
        self.apply(&set, spec, &plan, hash).await?;
        self.forget(spec, &history, &pods).await?;
        Ok(Outcome::after(plan.look_again))
    }

    async fn apply(
        &self,
        set: &DaemonSet,
        spec: &DaemonSetSpec,
        plan: &Plan,
        hash: &str,
    ) -> Result<(), Error> {
        let meta = &set.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for notice in &plan.notices {
            self.recorder.event(set, notice.clone());
        }
        if set.status.as_ref() != Some(&plan.status) {
            let mut updated = set.clone();
            updated.status = Some(plan.status.clone());
            self.api
                .update_status(namespace, &updated)
                .await
                .map_err(doing("write the status of", path(meta)))?;
        }
        let victims: Vec<&Pod> = plan.delete.iter().map(AsRef::as_ref).collect();
        let series = pod_control::delete_all(&self.pods, namespace, &victims).await;
        if let Some(error) = series.tell_deleted(&self.recorder, set, &victims) {
            return Err(doing("delete the pods of", path(meta))(error));
        }
        self.create(set, spec, &plan.create, hash).await
    }

    async fn create(
        &self,
        set: &DaemonSet,
        spec: &DaemonSetSpec,
        nodes: &[String],
        hash: &str,
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let next = AtomicUsize::new(0);
        let series = pod_control::slow_start(nodes.len(), || {
            let node = nodes.get(next.fetch_add(1, Ordering::Relaxed));
            let pod = node.map(|node| placement::pod(set, &spec.template, hash, node));
            async move { self.pods.create(namespace, &pod.unwrap_or_default()).await }
        })
        .await;
        match series.tell_created(&self.recorder, set) {
            Some(error) => Err(doing("create the pods of", path(&set.metadata))(error)),
            None => Ok(()),
        }
    }

    async fn forget(
        &self,
        spec: &DaemonSetSpec,
        history: &History,
        pods: &[Arc<Pod>],
    ) -> Result<(), Error> {
        let hash = |pod: &Arc<Pod>| {
            let labels = pod.metadata.labels.as_ref()?;
            labels.get(revision::POD_LABEL).cloned()
        };
        let hashes: Vec<String> = pods.iter().filter_map(hash).collect();
        let mut live: Vec<&str> = hashes.iter().map(String::as_str).collect();
        live.push(revision::hash(&history.update));
        let limit = spec.revision_history_limit.unwrap_or(10);
        revision::truncate(&self.ctx, COMPONENT, history, (limit, &live)).await
    }
}
