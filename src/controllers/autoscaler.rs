//! HorizontalPodAutoscaler: as many replicas as the use of cpu and memory calls for.
//!
//! Any kind with a scale can be the target. The figures are the workers' own
//! (`registry/usage.rs`). What was wished for lately is remembered here and nowhere else: after a
//! restart the windows begin anew, as they do in Kubernetes.

mod limit;
mod metric;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::events::Recorder;
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::object;
use crate::api::selector::Labels;
use crate::errors;
use crate::registry::{self, Api, Caller, ResourceInfo, WriteOptions};

use limit::Memory;
use metric::Seen;
use plan::{Plan, Target};

const COMPONENT: &str = "horizontal-pod-autoscaler";
/// Somebody else has written the target meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

struct Autoscalers {
    ctx: Context,
    api: Api<HorizontalPodAutoscaler>,
    pods: Api<Pod>,
    recorder: Recorder,
    /// By key; an autoscaler that has gone takes its memory with it.
    memories: Mutex<HashMap<Key, Memory>>,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Autoscalers::new(ctx));
    let controller = Controller::new("horizontalpodautoscaler", ctx);
    // Its own status must not wake it: each look is a period after the one before.
    let queue = Arc::clone(&controller.queue);
    sources.autoscalers.subscribe(move |before, after| {
        let generation = |it: Option<&HorizontalPodAutoscaler>| it.map(|it| it.metadata.generation);
        if generation(before) != generation(after)
            && let Some(changed) = after.or(before)
        {
            queue.add(Key::of(&changed.metadata));
        }
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// The target as it was found.
struct Found {
    res: &'static ResourceInfo,
    revision: Value,
    target: Target,
    selector: Labels,
}

impl Autoscalers {
    fn new(ctx: &Context) -> Self {
        Self {
            ctx: ctx.clone(),
            api: ctx.api(COMPONENT),
            pods: ctx.api(COMPONENT),
            recorder: ctx.recorder(COMPONENT),
            memories: Mutex::default(),
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(scaler) = found.map_err(doing("get", key.to_string()))? else {
            self.remember(key, None);
            return Ok(Outcome::Done);
        };
        let spec = scaler.spec.as_ref().ok_or_else(|| Error::NoSpec {
            object: path(&scaler.metadata),
        })?;
        let now = self.ctx.clock.now();
        match self.target(&key.namespace, spec) {
            Err(why) => {
                let plan = plan::unscalable(&scaler, &why, now);
                self.report(&scaler, plan).await?;
            }
            Ok(found) => {
                let proposals = self.proposals(key, spec, &found)?;
                let mut memory = self.remembered(key);
                let target = found.target;
                let plan = plan::plan(&scaler, spec, target, proposals, &mut memory, now);
                if let Some(replicas) = plan.scale {
                    let (res, revision) = (found.res, &found.revision);
                    if !self.scale(key, spec, (res, revision), replicas).await? {
                        return Ok(Outcome::RequeueAfter(LOOK_AGAIN));
                    }
                }
                self.remember(key, Some(memory));
                self.report(&scaler, plan).await?;
            }
        }
        Ok(Outcome::RequeueAfter(self.ctx.config.autoscaler_period))
    }

    /// The target's row, scale and selector; in words what is wrong with it, if something is.
    fn target(&self, namespace: &str, spec: &HorizontalPodAutoscalerSpec) -> Result<Found, String> {
        let reference = &spec.scale_target_ref;
        let version = reference.api_version.as_deref().unwrap_or("v1");
        let res = self
            .ctx
            .registry
            .find_kind(version, &reference.kind)
            .ok_or_else(|| {
                format!(
                    "no matches for kind \"{}\" in version \"{version}\"",
                    reference.kind
                )
            })?;
        if !res.namespaced {
            return Err(format!(
                "{} belong to no namespace: an autoscaler scales what is in its own",
                res.qualified
            ));
        }
        let scale = self
            .ctx
            .registry
            .scale(res, Some(namespace), &reference.name)
            .map_err(|error| errors::chain(&error).to_string())?;
        let number = |part: &str| {
            let found = object::at(&scale, &[part, "replicas"]).and_then(Value::as_i64);
            found
                .and_then(|found| i32::try_from(found).ok())
                .unwrap_or(0)
        };
        let selector = object::str_at(&scale, &["status", "selector"]).unwrap_or_default();
        if selector.is_empty() {
            return Err("selector is required".to_owned());
        }
        Ok(Found {
            res,
            revision: scale["metadata"]["resourceVersion"].clone(),
            target: Target {
                wanted: number("spec"),
                there: number("status"),
            },
            selector: Labels::parse(selector).map_err(|error| error.to_string())?,
        })
    }

    fn proposals(
        &self,
        key: &Key,
        spec: &HorizontalPodAutoscalerSpec,
        found: &Found,
    ) -> Result<Vec<Result<metric::Proposal, String>>, Error> {
        let pods = self
            .pods
            .list_selected(Some(&key.namespace), &found.selector)
            .map_err(doing("list the pods of", key.to_string()))?;
        let usage = self.ctx.registry.usage().pods(Some(&key.namespace));
        let usage: BTreeMap<_, _> = usage.into_iter().map(|it| (it.uid.clone(), it)).collect();
        let seen = Seen {
            pods: &pods,
            usage: &usage,
        };
        let metrics = spec.metrics.iter().flatten();
        Ok(metrics
            .map(|metric| metric::propose(metric, &seen, found.target.wanted))
            .collect())
    }

    /// `false` if the target is another by now than the one that was judged.
    async fn scale(
        &self,
        key: &Key,
        spec: &HorizontalPodAutoscalerSpec,
        (res, revision): (&'static ResourceInfo, &Value),
        replicas: i32,
    ) -> Result<bool, Error> {
        let name = &spec.scale_target_ref.name;
        let scale =
            json!({"metadata": {"resourceVersion": revision}, "spec": {"replicas": replicas}});
        let (options, caller) = (WriteOptions::default(), Caller::system(COMPONENT));
        let written: Result<_, registry::Error> = self
            .ctx
            .registry
            .update(
                res,
                Some(&key.namespace),
                name,
                Some("scale"),
                scale,
                &options,
                &caller,
            )
            .await;
        match written {
            Ok(_) => Ok(true),
            Err(registry::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(doing("scale", format!("{}/{name}", key.namespace))(error)),
        }
    }

    async fn report(&self, scaler: &HorizontalPodAutoscaler, plan: Plan) -> Result<(), Error> {
        let meta = &scaler.metadata;
        for notice in plan.notices {
            self.recorder.event(scaler, notice);
        }
        if scaler.status.as_ref() == Some(&plan.status) {
            return Ok(());
        }
        let mut updated = scaler.clone();
        updated.status = Some(plan.status);
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        self.api
            .update_status(namespace, &updated)
            .await
            .map(drop)
            .map_err(doing("write the status of", path(meta)))
    }

    fn remembered(&self, key: &Key) -> Memory {
        let memories = self.memories.lock();
        let memories = memories.unwrap_or_else(PoisonError::into_inner);
        memories.get(key).cloned().unwrap_or_default()
    }

    fn remember(&self, key: &Key, memory: Option<Memory>) {
        let memories = self.memories.lock();
        let mut memories = memories.unwrap_or_else(PoisonError::into_inner);
        match memory {
            Some(memory) => memories.insert(key.clone(), memory),
            None => memories.remove(key),
        };
    }
}
