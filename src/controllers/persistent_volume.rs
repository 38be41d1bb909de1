//! Binds claims to volumes, makes directories on workers for claims of `wasmorch.dev/local`, and
//! ends both in the right order.
//!
//! The scheduler says where (`volume.kubernetes.io/selected-node`, for the first consumer); this
//! controller says which volume; the worker makes and removes the directory. A binding is written
//! volume first, so whatever is interrupted is completed by the next look. One step is planned at a
//! time (`plan.rs`) from what is there, one claim or volume at a time, so no volume is given twice.
//! Deliberately absent: other provisioners, growing, snapshots.

mod plan;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use self::plan::{ClaimStep, ClaimView, VolumeStep, VolumeView, plan_claim, plan_volume};
use super::events::Recorder;
use super::runtime::{Controller, Counters, Key, Outcome, Sources};
use super::{Context, Error, doing};
use crate::api::storage;
use crate::registry::{Api, DeleteOptions};

const COMPONENT: &str = "persistentvolume-controller";
const VOLUME: &str = "PersistentVolume";
/// More steps than any object needs at once; what is left is done at the next look.
const STEPS: usize = 8;

struct Binder {
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
    classes: Api<StorageClass>,
    nodes: Api<Node>,
    pods: Api<Pod>,
    recorder: Recorder,
}

pub(super) fn start(ctx: &Context, sources: &mut Sources) -> (&'static str, Arc<Counters>) {
    let this = Arc::new(Binder {
        claims: ctx.api(COMPONENT),
        volumes: ctx.api(COMPONENT),
        classes: ctx.api(COMPONENT),
        nodes: ctx.api(COMPONENT),
        pods: ctx.api(COMPONENT),
        recorder: ctx.recorder(COMPONENT),
    });
    // Single: a volume must not be given to two claims at once.
    let controller = Controller::new("persistentvolume", ctx).single();
    controller.root(&mut sources.persistent_volume_claims, this.claims.clone());
    subscribe(&controller, sources, &this);
    let volumes = this.volumes.clone();
    controller.every(ctx.config.resync, move || {
        let all = volumes.list(None).map_err(doing("list", VOLUME))?;
        Ok(all.iter().map(|volume| volume_key(volume)).collect())
    });
    controller.start(move |key| {
        let this = Arc::clone(&this);
        async move {
            if key.kind == VOLUME {
                this.reconcile_volume(&key).await
            } else {
                this.reconcile_claim(&key).await
            }
        }
    })
}

/// Who wakes whom, besides a claim itself.
fn subscribe(controller: &Controller, sources: &mut Sources, this: &Arc<Binder>) {
    // The claim of a volume sits beside it, and a deleted claim releases its volume.
    controller.on(
        &mut sources.persistent_volume_claims,
        |claim: &PersistentVolumeClaim| {
            let volume = storage::volume_name(claim);
            volume.map(|name| named(VOLUME, name)).into_iter().collect()
        },
    );
    let binder = Arc::clone(this);
    controller.on(
        &mut sources.persistent_volumes,
        move |volume: &PersistentVolume| {
            let spec = volume.spec.as_ref();
            let claim = spec.and_then(|spec| spec.claim_ref.as_ref());
            let mut keys = vec![volume_key(volume)];
            match claim {
                Some(claim) => keys.push(Key::new(
                    claim.namespace.as_deref().unwrap_or_default(),
                    claim.name.as_deref().unwrap_or_default(),
                )),
                // Whoever waits may want it.
                None => keys.extend(binder.unbound(|_| true)),
            }
            keys
        },
    );
    let binder = Arc::clone(this);
    controller.on(&mut sources.storage_classes, move |class: &StorageClass| {
        let name = class.metadata.name.clone().unwrap_or_default();
        binder.unbound(|claim| storage::class_of(claim) == name)
    });
    controller.on(&mut sources.pods, |pod: &Pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let claims = storage::claims_of(pod);
        claims.map(|name| Key::new(namespace, name)).collect()
    });
    let binder = Arc::clone(this);
    controller.on(&mut sources.nodes, move |node: &Node| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        binder.of_node(name)
    });
}

impl Binder {
    /// The keys of claims without a volume; a failed listing is made up for by the resync.
    fn unbound(&self, wanted: impl Fn(&PersistentVolumeClaim) -> bool) -> Vec<Key> {
        let Ok(claims) = self.claims.list(None) else {
            return Vec::new();
        };
        let unbound = claims.iter().filter(|claim| !storage::is_bound(claim));
        unbound
            .filter(|claim| wanted(claim))
            .map(|claim| Key::of(&claim.metadata))
            .collect()
    }

    /// Deleted volumes that wait for a node to remove them.
    fn of_node(&self, node: &str) -> Vec<Key> {
        let Ok(volumes) = self.volumes.list(None) else {
            return Vec::new();
        };
        let waiting = volumes.iter().filter(|volume| {
            volume.metadata.deletion_timestamp.is_some() && storage::is_on(volume, node)
        });
        waiting.map(|volume| volume_key(volume)).collect()
    }

    async fn reconcile_claim(&self, key: &Key) -> Result<Outcome, Error> {
        for _ in 0..STEPS {
            let claim = self.claims.try_get(&key.namespace, &key.name);
            let Some(claim) = claim.map_err(doing("get claim", key.to_string()))? else {
                break;
            };
            let step = self.plan_claim(&claim)?;
            if !self.perform_claim(&claim, step).await? {
                break;
            }
        }
        Ok(Outcome::Done)
    }

    fn plan_claim(&self, claim: &Arc<PersistentVolumeClaim>) -> Result<ClaimStep, Error> {
        let volumes = self.volumes.list(None).map_err(doing("list", VOLUME))?;
        let class = match storage::class_of(claim) {
            "" => None,
            name => {
                let class = self.classes.try_get("", name);
                class.map_err(doing("get storage class", name))?
            }
        };
        let node = match storage::selected_node(claim) {
            None => None,
            Some(name) => {
                let node = self.nodes.try_get("", name);
                node.map_err(doing("get node", name))?
            }
        };
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let pods = self.pods.list(Some(namespace));
        let pods = pods.map_err(doing("list the pods of", namespace))?;
        Ok(plan_claim(&ClaimView {
            claim,
            class: class.as_deref(),
            volumes: &volumes,
            node: node.as_deref(),
            pods: &pods,
        }))
    }

    /// Tells whether there may be more to do at once.
    async fn perform_claim(
        &self,
        claim: &Arc<PersistentVolumeClaim>,
        step: ClaimStep,
    ) -> Result<bool, Error> {
        let what = super::path(&claim.metadata);
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        match step {
            ClaimStep::Rest => return Ok(false),
            ClaimStep::Tell(notice) => {
                self.recorder.event(claim.as_ref(), notice);
                return Ok(false);
            }
            ClaimStep::Update(updated) => {
                let written = self.claims.update(namespace, &updated).await;
                written.map_err(doing("update claim", what))?;
            }
            ClaimStep::Status(updated, notice) => {
                let written = self.claims.update_status(namespace, &updated).await;
                written.map_err(doing("update the status of claim", what))?;
                if let Some(notice) = notice {
                    self.recorder.event(claim.as_ref(), notice);
                }
            }
            ClaimStep::TakeVolume(volume) => {
                let written = self.volumes.update("", &volume).await;
                written.map_err(doing("bind a volume to", what))?;
            }
            ClaimStep::Provision(volume, notice) => match self.volumes.create("", &volume).await {
                Ok(_) => self.recorder.event(claim.as_ref(), notice),
                Err(crate::registry::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(doing("provision a volume for", what)(error)),
            },
        }
        Ok(true)
    }

    async fn reconcile_volume(&self, key: &Key) -> Result<Outcome, Error> {
        for _ in 0..STEPS {
            let volume = self.volumes.try_get("", &key.name);
            let Some(volume) = volume.map_err(doing("get volume", key.to_string()))? else {
                break;
            };
            let step = self.plan_volume(&volume)?;
            if !self.perform_volume(&volume, step).await? {
                break;
            }
        }
        Ok(Outcome::Done)
    }

    fn plan_volume(&self, volume: &PersistentVolume) -> Result<VolumeStep, Error> {
        let spec = volume.spec.as_ref();
        let claim = match spec.and_then(|spec| spec.claim_ref.as_ref()) {
            None => None,
            Some(reference) => {
                let namespace = reference.namespace.as_deref().unwrap_or_default();
                let name = reference.name.as_deref().unwrap_or_default();
                let claim = self.claims.try_get(namespace, name);
                claim.map_err(doing("get claim", format!("{namespace}/{name}")))?
            }
        };
        let has_node = match storage::node_of(volume) {
            None => true,
            Some(name) => {
                let node = self.nodes.try_get("", name);
                node.map_err(doing("get node", name))?.is_some()
            }
        };
        Ok(plan_volume(&VolumeView {
            volume,
            claim: claim.as_deref(),
            has_node,
        }))
    }

    async fn perform_volume(
        &self,
        volume: &Arc<PersistentVolume>,
        step: VolumeStep,
    ) -> Result<bool, Error> {
        let what = super::path(&volume.metadata);
        match step {
            VolumeStep::Rest => return Ok(false),
            VolumeStep::Update(updated) => {
                let written = self.volumes.update("", &updated).await;
                written.map_err(doing("update volume", what))?;
            }
            VolumeStep::Status(updated, notice) => {
                let written = self.volumes.update_status("", &updated).await;
                written.map_err(doing("update the status of volume", what))?;
                if let Some(notice) = notice {
                    self.recorder.event(volume.as_ref(), notice);
                }
            }
            VolumeStep::Delete => {
                let options = DeleteOptions {
                    uid: volume.metadata.uid.clone(),
                    ..DeleteOptions::default()
                };
                let deleted = self.volumes.delete("", &what, &options).await;
                deleted.map_err(doing("delete volume", what))?;
            }
        }
        Ok(true)
    }
}

fn volume_key(volume: &PersistentVolume) -> Key {
    named(VOLUME, volume.metadata.name.as_deref().unwrap_or_default())
}

fn named(kind: &'static str, name: &str) -> Key {
    Key {
        kind,
        ..Key::new("", name)
    }
}
