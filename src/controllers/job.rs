//! Job: pods until so many of them have succeeded, or too many have failed.
//!
//! Every end is counted exactly once (`plan.rs` says how), so a pod that is deleted after its end
//! is not run again. `ttlSecondsAfterFinished` is kept here too: a finished job is deleted with its
//! pods when its time has come.

mod finish;
mod indexes;
mod per_index;
mod plan;
mod pods;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::claim;
use super::events::Recorder;
use super::pod_control;
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::owner;
use crate::registry::{self, Api, DeleteOptions, Propagation};

use plan::Plan;

const COMPONENT: &str = "job-controller";
/// The kind of a key that names a pod whose job has let it go.
const LEFT_BEHIND: &str = "Pod";

struct Jobs {
    ctx: Context,
    api: Api<Job>,
    pods: Api<Pod>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Jobs {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("job", ctx);
    controller.root(&mut sources.jobs, this.api.clone());
    controller.on(&mut sources.pods, |pod: &Pod| {
        let job = Key::of_controller(&pod.metadata, "Job");
        let orphan = || {
            let is_left = owner::controller_of(&pod.metadata).is_none() && pods::is_tracked(pod);
            is_left.then(|| Key {
                kind: LEFT_BEHIND,
                ..Key::of(&pod.metadata)
            })
        };
        job.or_else(orphan).into_iter().collect()
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl Jobs {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        if key.kind == LEFT_BEHIND {
            let pod = self.pods.try_get(&key.namespace, &key.name);
            let pod = pod.map_err(doing("get", key.to_string()))?;
            return self.release(&pod.into_iter().collect::<Vec<_>>()).await;
        }
        let found = self.api.try_get(&key.namespace, &key.name);
        let found = found.map_err(doing("get", key.to_string()))?;
        self.release_strangers(key, found.as_deref()).await?;
        let Some(job) = found else {
            return Ok(Outcome::Done);
        };
        let spec = job.spec.as_ref().ok_or_else(|| Error::NoSpec {
            object: path(&job.metadata),
        })?;
        let selector = spec.selector.clone().unwrap_or_default();
        let pods = claim::observe(&self.ctx, COMPONENT, job.as_ref(), &selector, |_| true).await?;
        let plan = plan::plan(&job, spec, &pods, self.ctx.clock.now());
        self.apply(&job, plan).await
    }

    /// Pods that still wait to be counted by a job of this name that is no more.
    async fn release_strangers(&self, key: &Key, job: Option<&Job>) -> Result<(), Error> {
        let uid = job.and_then(|job| job.metadata.uid.as_deref());
        let all = self.pods.list_controlled(&key.namespace, "Job", &key.name);
        let all = all.map_err(doing("list the pods of", key.to_string()))?;
        let is_left = |pod: &Arc<Pod>| {
            pods::is_tracked(pod)
                && uid.is_none_or(|uid| !owner::is_controlled_by(&pod.metadata, uid))
        };
        let left: Vec<Arc<Pod>> = all.into_iter().filter(is_left).collect();
        self.release(&left).await.map(drop)
    }

    async fn release(&self, held: &[Arc<Pod>]) -> Result<Outcome, Error> {
        let held = held.iter().filter(|pod| pods::is_tracked(pod));
        let writes = held.map(|pod| async move {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            match self.pods.update(namespace, &pods::released(pod)).await {
                Ok(_) | Err(registry::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(doing("release", path(&pod.metadata))(error)),
            }
        });
        let results: Result<Vec<()>, Error> = join_all(writes).await.into_iter().collect();
        results.map(|_| Outcome::Done)
    }

    async fn apply(&self, job: &Job, plan: Plan) -> Result<Outcome, Error> {
        let meta = &job.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if plan.is_expired {
            let options = DeleteOptions {
                uid: meta.uid.clone(),
                propagation_policy: Some(Propagation::Background),
                ..DeleteOptions::default()
            };
            let name = meta.name.as_deref().unwrap_or_default();
            let deleted = self.api.delete(namespace, name, &options).await;
            return deleted
                .map(|()| Outcome::Done)
                .map_err(doing("delete", path(meta)));
        }
        // The ends are written down before their pods may go.
        let mut updated = job.clone();
        updated.status = Some(plan.status.clone());
        if job.status != updated.status {
            self.api
                .update_status(namespace, &updated)
                .await
                .map_err(doing("write the status of", path(meta)))?;
        }
        for notice in &plan.notices {
            self.recorder.event(job, notice.clone());
        }
        self.release(&plan.release).await?;
        self.delete(job, namespace, &plan.delete).await?;
        self.create(job, namespace, &plan).await?;
        Ok(Outcome::after(plan.look_again))
    }

    async fn delete(
        &self,
        job: &Job,
        namespace: &str,
        victims: &[(Arc<Pod>, bool)],
    ) -> Result<(), Error> {
        let uncounted = victims.iter().filter(|(_, is_released)| *is_released);
        let uncounted: Vec<_> = uncounted.map(|(pod, _)| Arc::clone(pod)).collect();
        self.release(&uncounted).await?;
        let pods: Vec<&Pod> = victims.iter().map(|(pod, _)| pod.as_ref()).collect();
        let series = pod_control::delete_all(&self.pods, namespace, &pods).await;
        match series.tell_deleted(&self.recorder, job, &pods) {
            Some(error) => Err(doing("delete the pods of", path(&job.metadata))(error)),
            None => Ok(()),
        }
    }

    async fn create(&self, job: &Job, namespace: &str, plan: &Plan) -> Result<(), Error> {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let series = pod_control::slow_start(plan.create.len(), || {
            let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let pod = plan.create.get(place).and_then(|index| {
                let mut pod = pods::make(job, *index)?;
                let failures = index.and_then(|index| plan.failures.get(&index));
                if let Some(failures) = failures {
                    failures.note(&mut pod);
                }
                Some(pod)
            });
            async move { self.pods.create(namespace, &pod.unwrap_or_default()).await }
        })
        .await;
        match series.tell_created(&self.recorder, job) {
            Some(error) => Err(doing("create the pods of", path(&job.metadata))(error)),
            None => Ok(()),
        }
    }
}
