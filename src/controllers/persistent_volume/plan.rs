//! The next step for a claim (here) or a volume (`volume.rs`), from what is there. Pure.

mod finalizer;
mod matching;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim,
    PersistentVolumeClaimStatus, PersistentVolumeSpec, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{pod, storage};
use crate::controllers::events::Notice;

use finalizer::{add_finalizer, has_finalizer, remove_finalizer};
use matching::{best_match, is_of_class, lacks};

pub(super) use volume::{VolumeStep, VolumeView, plan_volume};

/// What the next step for a claim depends on.
pub(super) struct ClaimView<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    /// The class that the claim names, if it exists.
    pub(super) class: Option<&'a StorageClass>,
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    /// The node that the scheduler selected, if it exists.
    pub(super) node: Option<&'a Node>,
    /// Of the claim's namespace.
    pub(super) pods: &'a [Arc<Pod>],
}

#[derive(Debug, PartialEq)]
pub(super) enum ClaimStep {
    /// All is as it shall be.
    Rest,
    /// Somebody else has to do something.
    Tell(Notice),
    Update(Box<PersistentVolumeClaim>),
    Status(Box<PersistentVolumeClaim>, Option<Notice>),
    /// The volume, with the claim in it.
    TakeVolume(Box<PersistentVolume>),
    Provision(Box<PersistentVolume>, Notice),
}

pub(super) fn plan_claim(view: &ClaimView<'_>) -> ClaimStep {
    let claim = view.claim;
    let is_protected = has_finalizer(&claim.metadata, storage::CLAIM_PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() {
        if is_protected && !is_used(view) {
            return update(claim, |claim| {
                remove_finalizer(&mut claim.metadata, storage::CLAIM_PROTECTION);
            });
        }
        return ClaimStep::Rest;
    }
    if !is_protected {
        return update(claim, |claim| {
            add_finalizer(&mut claim.metadata, storage::CLAIM_PROTECTION);
        });
    }
    match storage::volume_name(claim) {
        Some(name) => with_volume(view, name),
        None => without_volume(view),
    }
}

/// The claim names its volume: both must say so, and then be told.
fn with_volume(view: &ClaimView<'_>, name: &str) -> ClaimStep {
    let claim = view.claim;
    let named = |volume: &&Arc<PersistentVolume>| volume.metadata.name.as_deref() == Some(name);
    let Some(volume) = view.volumes.iter().find(named) else {
        if storage::is_bound(claim) {
            let message = format!(
                "Bound claim has lost its PersistentVolume {name:?}. Data on the volume is lost!"
            );
            return status(
                claim,
                "Lost",
                None,
                Some(Notice::warning("ClaimLost", message)),
            );
        }
        return ClaimStep::Rest;
    };
    match owner_of(volume, claim) {
        Owner::Us if storage::is_bound(claim) => status(claim, "Bound", Some(volume), None),
        Owner::Us => complete(claim, volume),
        Owner::Nobody => match mismatch(volume, claim) {
            None => take(volume, claim, false),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                ClaimStep::Tell(Notice::warning("VolumeMismatch", message))
            }
        },
        Owner::Another if storage::is_bound(claim) => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            let notice = Notice::warning("ClaimMisbound", message);
            status(claim, "Lost", None, Some(notice))
        }
        Owner::Another => {
            let message = format!("volume {name:?} already bound to a different claim.");
            ClaimStep::Tell(Notice::warning("FailedBinding", message))
        }
    }
}

/// Why a volume that the claim has chosen is not what it asks for. One that has chosen the claim, too,
/// is what both want.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let spec = volume.spec.as_ref();
    if spec.is_some_and(|spec| spec.claim_ref.is_some()) {
        return None;
    }
    let is_of_class = is_of_class(volume, claim);
    lacks(volume, claim).or((!is_of_class).then_some("storageClassName does not match"))
}

/// The claim needs one: what is meant for it, what is there, what can be made.
fn without_volume(view: &ClaimView<'_>) -> ClaimStep {
    let claim = view.claim;
    let ours = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        spec.is_some_and(|spec| spec.claim_ref.is_some())
            && match owner_of(volume, claim) {
                Owner::Us => true,
                // Whoever keeps it for the claim need not care for its class.
                Owner::Nobody => lacks(volume, claim).is_none(),
                Owner::Another => false,
            }
    };
    if let Some(volume) = view.volumes.iter().find(ours) {
        return match owner_of(volume, claim) {
            Owner::Us => complete(claim, volume),
            Owner::Nobody | Owner::Another => take(volume, claim, false),
        };
    }
    let waits = view
        .class
        .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let selected = storage::selected_node(claim);
    if waits && selected.is_none() {
        let message = "waiting for first consumer to be created before binding";
        return ClaimStep::Tell(Notice::normal("WaitForFirstConsumer", message));
    }
    if selected.is_some() && view.node.is_none() {
        // The scheduler chooses again.
        return update(claim, |claim| {
            if let Some(annotations) = &mut claim.metadata.annotations {
                annotations.remove(storage::SELECTED_NODE);
            }
        });
    }
    match best_match(claim, view.volumes, view.node) {
        Some(volume) => take(volume, claim, true),
        None => provision(view),
    }
}

fn provision(view: &ClaimView<'_>) -> ClaimStep {
    let claim = view.claim;
    let failed = |message: String| ClaimStep::Tell(Notice::warning("ProvisioningFailed", message));
    let name = storage::class_of(claim);
    if name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Tell(Notice::normal("FailedBinding", message));
    }
    let Some(class) = view.class else {
        return failed(format!("storageclass.storage.k8s.io {name:?} not found"));
    };
    if class.provisioner != storage::PROVISIONER {
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator.",
            class.provisioner
        );
        return ClaimStep::Tell(Notice::normal("ExternalProvisioning", message));
    }
    let spec = claim.spec.as_ref();
    let modes = spec
        .and_then(|spec| spec.access_modes.as_deref())
        .unwrap_or_default();
    if modes.iter().any(|mode| mode != "ReadWriteOnce") {
        return failed(format!(
            "{} makes directories of one node: only ReadWriteOnce is possible",
            storage::PROVISIONER
        ));
    }
    if spec.is_some_and(|spec| spec.selector.is_some()) {
        return failed("claim Selector is not supported".to_owned());
    }
    let Some(node) = view.node.and_then(|node| node.metadata.name.as_deref()) else {
        return ClaimStep::Rest;
    };
    let volume = directory(claim, class, node);
    let made = volume.metadata.name.clone().unwrap_or_default();
    let message = format!("Successfully provisioned volume {made} on {node}");
    let notice = Notice::normal("ProvisioningSucceeded", message);
    ClaimStep::Provision(Box::new(volume), notice)
}

/// A volume for a directory on `node`.
fn directory(claim: &PersistentVolumeClaim, class: &StorageClass, node: &str) -> PersistentVolume {
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    let name = format!("pvc-{uid}");
    let spec = claim.spec.as_ref();
    let resources = spec.and_then(|spec| spec.resources.as_ref());
    let annotations = BTreeMap::from([
        (
            storage::PROVISIONED_BY.to_owned(),
            storage::PROVISIONER.to_owned(),
        ),
        (storage::BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned()),
    ]);
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(annotations),
            finalizers: Some(vec![
                storage::VOLUME_PROTECTION.to_owned(),
                storage::DIRECTORY.to_owned(),
            ]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: resources.and_then(|resources| resources.requests.clone()),
            access_modes: spec.and_then(|spec| spec.access_modes.clone()),
            claim_ref: Some(reference(claim)),
            csi: Some(CSIPersistentVolumeSource {
                driver: storage::PROVISIONER.to_owned(),
                volume_handle: name,
                ..CSIPersistentVolumeSource::default()
            }),
            node_affinity: Some(storage::only_on(node)),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    /// Free, or kept for a claim of this name that had not come yet.
    Nobody,
    Another,
}

fn owner_of(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Owner {
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let Some(reference) = reference else {
        return Owner::Nobody;
    };
    let meta = &claim.metadata;
    if (&reference.namespace, &reference.name) != (&meta.namespace, &meta.name) {
        return Owner::Another;
    }
    match &reference.uid {
        None => Owner::Nobody,
        Some(uid) if Some(uid) == meta.uid.as_ref() => Owner::Us,
        Some(_) => Owner::Another,
    }
}

fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// The volume's half of the binding.
fn take(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    is_our_choice: bool,
) -> ClaimStep {
    let mut volume = volume.clone();
    volume.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    if is_our_choice {
        annotate(&mut volume.metadata, storage::BOUND_BY_CONTROLLER);
    }
    ClaimStep::TakeVolume(Box::new(volume))
}

/// The claim's half.
fn complete(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> ClaimStep {
    update(claim, |claim| {
        let spec = claim.spec.get_or_insert_default();
        if spec.volume_name.as_deref().is_none_or(str::is_empty) {
            spec.volume_name.clone_from(&volume.metadata.name);
            annotate(&mut claim.metadata, storage::BOUND_BY_CONTROLLER);
        }
        annotate(&mut claim.metadata, storage::BIND_COMPLETED);
    })
}

fn status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
    notice: Option<Notice>,
) -> ClaimStep {
    let spec = volume.and_then(|volume| volume.spec.as_ref());
    let wanted = PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        access_modes: spec.and_then(|spec| spec.access_modes.clone()),
        capacity: spec.and_then(|spec| spec.capacity.clone()),
        ..claim.status.clone().unwrap_or_default()
    };
    if claim.status.as_ref() == Some(&wanted) {
        return ClaimStep::Rest;
    }
    let mut updated = claim.clone();
    updated.status = Some(wanted);
    ClaimStep::Status(Box::new(updated), notice)
}

fn update(
    claim: &PersistentVolumeClaim,
    change: impl FnOnce(&mut PersistentVolumeClaim),
) -> ClaimStep {
    let mut updated = claim.clone();
    change(&mut updated);
    ClaimStep::Update(Box::new(updated))
}

/// A pod that has no node cannot use anything, and will not get one while the claim is going.
fn is_used(view: &ClaimView<'_>) -> bool {
    let name = view.claim.metadata.name.as_deref().unwrap_or_default();
    view.pods.iter().any(|pod| {
        let is_running = pod::node_name(pod).is_some() && !pod::phase(pod).is_terminal();
        is_running && storage::claims_of(pod).any(|claim| claim == name)
    })
}

fn annotate(meta: &mut ObjectMeta, key: &str) {
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), "yes".to_owned());
}

#[cfg(test)]
mod tests;
