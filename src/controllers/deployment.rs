//! Deployment: rolls pods from one template to the next by resizing ReplicaSets.
//!
//! ```text
//!  Deployment ──┬── web-<hash of template 1>  (old, kept at 0 for undo)
//!               ├── web-<hash of template 2>  (old, shrinking)
//!               └── web-<hash of template 3>  (new, growing)
//! ```
//!
//! One pass does one step: it makes the new ReplicaSet, or grows it, or shrinks the old ones, and
//! then waits for the ReplicaSets' status to tell how the pods fared. The rules are those of
//! `kubernetes/pkg/controller/deployment`; `plan.rs` holds them without any I/O.
//!
//! Deliberately absent: `spec.rollbackTo` (gone from apps/v1); `rollout undo` patches the template
//! and finds its old ReplicaSet again by the template's equality.

mod plan;
mod proportional;
mod rolling;
mod scale;
mod status;
mod template;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::claim;
use super::events::{Notice, Recorder};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path};
use crate::api::selector::Labels;
use crate::api::{owner, pod};
use crate::registry;
use crate::registry::{Api, DeleteOptions};

use plan::{Observed, Plan, Write};

const COMPONENT: &str = "deployment-controller";

struct Deployments {
    ctx: Context,
    api: Api<Deployment>,
    replica_sets: Api<ReplicaSet>,
    pods: Api<Pod>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Deployments {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        replica_sets: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("deployment", ctx);
    controller.root(&mut sources.deployments, this.api.clone());
    let api = this.api.clone();
    controller.on(
        &mut sources.replica_sets,
        move |replica_set: &ReplicaSet| {
            claim::owners(&api, replica_set, |it| {
                Labels::from_selector(&it.spec.as_ref()?.selector).ok()
            })
        },
    );
    // Recreate waits for the last old pod to be gone, which no ReplicaSet's status tells: its
    // counts leave out pods that are being deleted.
    let queue = Arc::clone(&controller.queue);
    let replica_sets = this.replica_sets.clone();
    sources.pods.subscribe(move |before, after| {
        if let (Some(pod), None) = (before, after)
            && let Some(key) = Key::of_controller(&pod.metadata, "ReplicaSet")
            && let Ok(Some(replica_set)) = replica_sets.try_get(&key.namespace, &key.name)
            && let Some(deployment) = Key::of_controller(&replica_set.metadata, "Deployment")
        {
            queue.add(deployment);
        }
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

impl Deployments {
    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        let found = self.api.try_get(&key.namespace, &key.name);
        let Some(deployment) = found.map_err(doing("get", key.to_string()))? else {
            return Ok(Outcome::Done);
        };
        let observed = self.observe(&deployment).await?;
        let plan = plan::plan(&deployment, &observed, self.ctx.clock.now())?;
        self.apply(&deployment, plan).await
    }

    async fn observe(&self, deployment: &Deployment) -> Result<Observed, Error> {
        let meta = &deployment.metadata;
        let spec = deployment
            .spec
            .as_ref()
            .ok_or_else(|| Error::NoSpec { object: path(meta) })?;
        let selector = &spec.selector;
        let replica_sets =
            claim::observe(&self.ctx, COMPONENT, deployment, selector, |_| true).await?;
        let pods = if rolling::is_recreate(spec) {
            self.living_pods(deployment, &replica_sets)?
        } else {
            Vec::new()
        };
        Ok(Observed {
            replica_sets,
            living_pods_of: pods,
        })
    }

    /// The uids of ReplicaSets that still have a pod that may run, also one that is being deleted.
    fn living_pods(
        &self,
        deployment: &Deployment,
        replica_sets: &[Arc<ReplicaSet>],
    ) -> Result<Vec<String>, Error> {
        let meta = &deployment.metadata;
        let pods = self
            .pods
            .list(meta.namespace.as_deref())
            .map_err(doing("list the pods of", path(meta)))?;
        let uids = replica_sets
            .iter()
            .filter_map(|replica_set| replica_set.metadata.uid.clone());
        let has_living = |uid: &String| {
            pods.iter().any(|pod| {
                owner::is_controlled_by(&pod.metadata, uid) && !pod::phase(pod).is_terminal()
            })
        };
        Ok(uids.filter(has_living).collect())
    }

    async fn apply(&self, deployment: &Deployment, plan: Plan) -> Result<Outcome, Error> {
        let meta = &deployment.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for write in &plan.writes {
            self.write(deployment, namespace, write).await?;
        }
        for notice in plan.notices {
            self.recorder.event(deployment, notice);
        }
        let mut updated = deployment.clone();
        if let Some(revision) = plan.revision {
            let annotations = updated.metadata.annotations.get_or_insert_default();
            annotations.insert(crate::api::annotations::REVISION.to_owned(), revision);
            updated = self
                .api
                .update(namespace, &updated)
                .await
                .map_err(doing("write the revision of", path(meta)))?
                .as_ref()
                .clone();
        }
        if deployment.status.as_ref() != Some(&plan.status) {
            updated.status = Some(plan.status);
            self.api
                .update_status(namespace, &updated)
                .await
                .map_err(doing("write the status of", path(meta)))?;
        }
        Ok(Outcome::after(plan.look_again))
    }

    async fn write(
        &self,
        deployment: &Deployment,
        namespace: &str,
        write: &Write,
    ) -> Result<(), Error> {
        match write {
            Write::Create(replica_set) => {
                let created = self.replica_sets.create(namespace, replica_set).await;
                match created {
                    Ok(_) => Ok(()),
                    Err(error) => Err(self.not_created(deployment, replica_set, error).await),
                }
            }
            Write::Update(replica_set) => self
                .replica_sets
                .update(namespace, replica_set)
                .await
                .map(|_| ())
                .map_err(doing("update", path(&replica_set.metadata))),
            Write::Delete(replica_set) => {
                let options = DeleteOptions {
                    uid: replica_set.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                let name = replica_set.metadata.name.as_deref().unwrap_or_default();
                self.replica_sets
                    .delete(namespace, name, &options)
                    .await
                    .map_err(doing("delete", path(&replica_set.metadata)))
            }
        }
    }

    /// A taken name means that another template has the same hash: the collision count changes the
    /// next one. Everything else is written into the status, since only the user can mend it.
    async fn not_created(
        &self,
        deployment: &Deployment,
        replica_set: &ReplicaSet,
        error: registry::Error,
    ) -> Error {
        let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
        let mut updated = deployment.clone();
        let mut status = updated.status.take().unwrap_or_default();
        if matches!(error, registry::Error::AlreadyExists { .. }) {
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        } else {
            let text = crate::errors::chain(&error).to_string();
            let message = format!("Failed to create new replica set: {text}");
            self.recorder.event(
                deployment,
                Notice::warning("ReplicaSetCreateError", message),
            );
            status::creation_failed(&mut status, &text, self.ctx.clock.now());
        }
        updated.status = Some(status);
        if updated.status != deployment.status
            && let Err(error) = self.api.update_status(namespace, &updated).await
        {
            return doing("write the status of", path(&deployment.metadata))(error);
        }
        doing("create", path(&replica_set.metadata))(error)
    }
}
