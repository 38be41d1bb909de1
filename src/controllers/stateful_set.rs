//! StatefulSet: pods that keep their name and their storage, made and replaced in order.
//!
//! A pod that is being deleted keeps its place until it is gone: two pods of one name are never at
//! work. Claims are made before their pod, and outlive it unless the retention policy says
//! otherwise.

mod identity;
mod plan;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};

use super::claim;
use super::events::{Notice, Recorder};
use super::revision::{self, History};
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing, path, pod_control};
use crate::api::pod;
use crate::api::selector::Labels;
use crate::errors;
use crate::registry::{self, Api};

use plan::{Plan, Revisions, Step};

const COMPONENT: &str = "statefulset-controller";

struct StatefulSets {
    ctx: Context,
    api: Api<StatefulSet>,
    pods: Api<Pod>,
    claims: Api<PersistentVolumeClaim>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(StatefulSets {
        ctx: ctx.clone(),
        api: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        claims: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    let controller = Controller::new("statefulset", ctx);
    controller.root(&mut sources.stateful_sets, this.api.clone());
    let api = this.api.clone();
    controller.on(&mut sources.pods, move |pod: &Pod| {
        claim::owners(&api, pod, |set| {
            Labels::from_selector(&set.spec.as_ref()?.selector).ok()
        })
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    })
}

/// The templates of both revisions.
struct Templates {
    current: PodTemplateSpec,
    update: PodTemplateSpec,
}

impl StatefulSets {
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
        // A pod of another name is nobody's replica, whatever its labels say.
        let is_replica = |pod: &Pod| identity::ordinal(meta, pod).is_some();
        let (set, selector) = (set.as_ref(), &spec.selector);
        let pods = claim::observe(&self.ctx, COMPONENT, set, selector, is_replica).await?;
        let update = history.update.metadata.name.clone().unwrap_or_default();
        let status = set.status.as_ref();
        let named = status.and_then(|status| status.current_revision.as_deref());
        let current = named
            .and_then(|name| history.by_name(name))
            .unwrap_or(&history.update);
        let current_name = current.metadata.name.clone().unwrap_or_default();
        let templates = Templates {
            current: revision::template(current)?,
            update: revision::template(&history.update)?,
        };
        let revisions = Revisions {
            current: &current_name,
            update: &update,
        };
        let plan = plan::plan(set, spec, &pods, revisions, self.ctx.clock.now());
        self.keep_claims(set, spec, &pods, &plan).await?;
        self.apply(set, spec, &plan, (&templates, revisions))
            .await?;
        self.forget(spec, &history, &pods, revisions).await?;
        Ok(Outcome::after(plan.look_again))
    }

    /// Lets claims die with the set or with a pod that is scaled away, or keeps them.
    async fn keep_claims(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pods: &[Arc<Pod>],
        plan: &Plan,
    ) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        for pod in pods.iter().filter(|pod| !pod::is_terminating(pod)) {
            let Some(ordinal) = identity::ordinal(&set.metadata, pod) else {
                continue;
            };
            let is_condemned = plan.steps.contains(&Step::Delete(Arc::clone(pod), true));
            for wanted in identity::claims(set, spec, ordinal) {
                let name = wanted.metadata.name.as_deref().unwrap_or_default();
                let found = self.claims.try_get(namespace, name);
                let found = found.map_err(doing("get", format!("{namespace}/{name}")))?;
                let Some(found) = found else { continue };
                let before = found.metadata.owner_references.clone().unwrap_or_default();
                let after = identity::owners(set, spec, (Some(pod), is_condemned), &before);
                if before != after {
                    let mut updated = found.as_ref().clone();
                    updated.metadata.owner_references = Some(after);
                    let written = self.claims.update(namespace, &updated).await;
                    written.map_err(doing("update", path(&found.metadata)))?;
                }
            }
        }
        Ok(())
    }

    async fn apply(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        plan: &Plan,
        (templates, revisions): (&Templates, Revisions<'_>),
    ) -> Result<(), Error> {
        let meta = &set.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        for notice in &plan.notices {
            self.recorder.event(set, notice.clone());
        }
        let mut result = Ok(());
        for step in &plan.steps {
            result = match step {
                Step::Create(ordinal, true) => {
                    let template = (&templates.update, revisions.update);
                    self.create(set, spec, template, *ordinal).await
                }
                Step::Create(ordinal, false) => {
                    let template = (&templates.current, revisions.current);
                    self.create(set, spec, template, *ordinal).await
                }
                Step::Delete(pod, _) => self.delete(set, pod).await,
            };
            if result.is_err() {
                break;
            }
        }
        if set.status.as_ref() != Some(&plan.status) {
            let mut updated = set.clone();
            updated.status = Some(plan.status.clone());
            self.api
                .update_status(namespace, &updated)
                .await
                .map_err(doing("write the status of", path(meta)))?;
        }
        result
    }

    async fn create(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        template: (&PodTemplateSpec, &str),
        ordinal: i32,
    ) -> Result<(), Error> {
        let meta = &set.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let set_name = meta.name.as_deref().unwrap_or_default();
        let wanted = identity::pod(set, spec, template, ordinal);
        let name = wanted.metadata.name.clone().unwrap_or_default();
        for mut claim in identity::claims(set, spec, ordinal) {
            let claim_name = claim.metadata.name.clone().unwrap_or_default();
            let there = self.claims.try_get(namespace, &claim_name);
            if let Some(there) = there.map_err(doing("get", claim_name.clone()))? {
                if there.metadata.deletion_timestamp.is_some() {
                    let what = format!("claim {claim_name} is being deleted");
                    return Err(Error::Incomplete(what));
                }
                continue;
            }
            let owners = identity::owners(set, spec, (None, false), &[]);
            claim.metadata.owner_references = (!owners.is_empty()).then_some(owners);
            let made = self.claims.create(namespace, &claim).await;
            let what = format!("Claim {claim_name} Pod {name} in StatefulSet {set_name}");
            self.tell(set, "create", &what, made.as_ref().err());
            made.map_err(doing("create", claim_name))?;
        }
        let made = self.pods.create(namespace, &wanted).await;
        let what = format!("Pod {name} in StatefulSet {set_name}");
        self.tell(set, "create", &what, made.as_ref().err());
        made.map(drop)
            .map_err(doing("create", format!("{namespace}/{name}")))
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let series = pod_control::delete_all(&self.pods, namespace, &[pod]).await;
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let what = format!("Pod {name} in StatefulSet {set_name}");
        self.tell(set, "delete", &what, series.failed.as_ref());
        match series.failed {
            Some(error) => Err(doing("delete", path(&pod.metadata))(error)),
            None => Ok(()),
        }
    }

    /// In Kubernetes' words: `create Pod db-0 in StatefulSet db successful`.
    fn tell(&self, set: &StatefulSet, verb: &str, what: &str, error: Option<&registry::Error>) {
        let notice = match (error, verb) {
            (None, "create") => {
                Notice::normal("SuccessfulCreate", format!("create {what} successful"))
            }
            (None, _) => Notice::normal("SuccessfulDelete", format!("delete {what} successful")),
            (Some(error), verb) => {
                let reason = if verb == "create" {
                    "FailedCreate"
                } else {
                    "FailedDelete"
                };
                let message = format!("{verb} {what} failed error: {}", errors::chain(error));
                Notice::warning(reason, message)
            }
        };
        self.recorder.event(set, notice);
    }

    async fn forget(
        &self,
        spec: &StatefulSetSpec,
        history: &History,
        pods: &[Arc<Pod>],
        revisions: Revisions<'_>,
    ) -> Result<(), Error> {
        let mut live: Vec<&str> = pods.iter().map(|pod| identity::revision_of(pod)).collect();
        live.extend([revisions.current, revisions.update]);
        let limit = spec.revision_history_limit.unwrap_or(10);
        revision::truncate(&self.ctx, COMPONENT, history, (limit, &live)).await
    }
}
