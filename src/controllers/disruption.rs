//! Disruption budgets: how many of the pods that a budget selects may be evicted now.
//!
//! This loop only counts; whoever evicts takes one of what is allowed (`registry/evict.rs`), and
//! this loop gives it back when the pod has gone or nothing came of it.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::events::{Notice, Recorder};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::owner;
use crate::api::selector::Labels;
use crate::registry::Api;

const COMPONENT: &str = "disruption-controller";

struct Budgets {
    ctx: Context,
    api: Api<PodDisruptionBudget>,
    pods: Api<Pod>,
    replica_sets: Api<ReplicaSet>,
    replication_controllers: Api<ReplicationController>,
    deployments: Api<Deployment>,
    stateful_sets: Api<StatefulSet>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Budgets {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        replica_sets: ctx.api(COMPONENT),
        replication_controllers: ctx.api(COMPONENT),
        deployments: ctx.api(COMPONENT),
        stateful_sets: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("disruption", ctx);
    controller.root(&mut sources.pod_disruption_budgets, this.api.clone());
    let api = this.api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        let meta = &pod.metadata;
        // A failed list loses a wake-up; the periodic resync will count again.
        let budgets = api.list(meta.namespace.as_deref()).unwrap_or_default();
        let selects = budgets.iter().filter(|budget| {
            selector(budget).is_some_and(|selector| selector.matches(meta.labels.as_ref()))
        });
        selects.map(|budget| Key::of(&budget.metadata)).collect()
    });
    // A resized workload changes how many pods there should be.
    let resized = {
        let api = this.api.clone();
        move |namespace: Option<&str>| -> Vec<Key> {
            let budgets = api.list(namespace).unwrap_or_default();
            budgets
                .iter()
                .map(|budget| Key::of(&budget.metadata))
                .collect()
        }
    };
    let of = resized.clone();
    controller.on(&mut sources.deployments, move |it: &Deployment| {
        of(it.metadata.namespace.as_deref())
    });
    controller.on(&mut sources.stateful_sets, move |it: &StatefulSet| {
        resized(it.metadata.namespace.as_deref())
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// An absent selector selects nothing, an empty one everything.
fn selector(budget: &PodDisruptionBudget) -> Option<Labels> {
    let selector = budget.spec.as_ref()?.selector.as_ref()?;
    Labels::from_selector(selector).ok()
}

impl Budgets {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(budget) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let meta = &budget.metadata;
        let pods = match selector(&budget) {
            None => Vec::new(),
            Some(selector) => self
                .pods
                .list_selected(meta.namespace.as_deref(), &selector)
                .map_err(doing("list the pods of", path(meta)))?,
        };
        let needs_scale = budget.spec.as_ref().is_some_and(plan::needs_scale);
        let scale = if needs_scale {
            Some(self.scale(&pods)?)
        } else {
            None
        };
        if let Some(Err(why)) = &scale {
            let notice = Notice::warning("CalculateExpectedPodCountFailed", why.clone());
            self.recorder.event(budget.as_ref(), notice);
        }
        let now = self.ctx.clock.now();
        let (status, look_again) = plan::status(&budget, &pods, scale, now);
        if budget.status.as_ref() != Some(&status) {
            let mut updated = budget.as_ref().clone();
            updated.status = Some(status);
            self.api
                .update_status(&key.namespace, &updated)
                .await
                .map_err(doing("write the status of", key.to_string()))?;
        }
        Ok(Outcome::after(look_again))
    }

    /// How many pods the controllers of these pods want; why that cannot be known, if it cannot.
    fn scale(&self, pods: &[Arc<Pod>]) -> Result<Result<i32, String>, Error> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = owner::controller_of(&pod.metadata) else {
                continue;
            };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            match self.scale_of(namespace, owner)? {
                Some((uid, replicas)) => scales.insert(uid, replicas),
                None => {
                    return Ok(Err(format!(
                        "{}/{} does not implement the scale subresource",
                        owner.kind, owner.name
                    )));
                }
            };
        }
        Ok(Ok(scales.values().sum()))
    }

    fn scale_of(
        &self,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, Error> {
        let what = || format!("{namespace}/{}", owner.name);
        match owner.kind.as_str() {
            "ReplicaSet" => {
                let found = self.replica_sets.try_get(namespace, &owner.name);
                let Some(found) = found.map_err(doing("get", what()))? else {
                    return Ok(Some((owner.uid.clone(), 0)));
                };
                if let Some(above) = owner::controller_of(&found.metadata) {
                    return self.scale_of(namespace, above);
                }
                let replicas = found.spec.as_ref().and_then(|spec| spec.replicas);
                Ok(Some((owner.uid.clone(), replicas.unwrap_or(1))))
            }
            "ReplicationController" => {
                let found = self.replication_controllers.try_get(namespace, &owner.name);
                let found = found.map_err(doing("get", what()))?;
                let replicas = found.and_then(|found| found.spec.as_ref()?.replicas);
                Ok(Some((owner.uid.clone(), replicas.unwrap_or(0))))
            }
            "Deployment" => {
                let found = self.deployments.try_get(namespace, &owner.name);
                let found = found.map_err(doing("get", what()))?;
                let replicas = found.and_then(|found| found.spec.as_ref()?.replicas);
                Ok(Some((owner.uid.clone(), replicas.unwrap_or(0))))
            }
            "StatefulSet" => {
                let found = self.stateful_sets.try_get(namespace, &owner.name);
                let found = found.map_err(doing("get", what()))?;
                let replicas = found.and_then(|found| found.spec.as_ref()?.replicas);
                Ok(Some((owner.uid.clone(), replicas.unwrap_or(0))))
            }
            _ => Ok(None),
        }
    }
}
