//! The next step for a claim or a volume, from what is there. Pure.

mod matching;

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

use matching::best_match;

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

/// What the next step for a volume depends on.
pub(super) struct VolumeView<'a> {
    pub(super) volume: &'a PersistentVolume,
    /// What has the name of the volume's claim now.
    pub(super) claim: Option<&'a PersistentVolumeClaim>,
    /// Whether there is a Node object for the directory's node.
    pub(super) has_node: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum VolumeStep {
    Rest,
    Update(Box<PersistentVolume>),
    Status(Box<PersistentVolume>, Option<Notice>),
    Delete,
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
        Owner::Nobody => take(volume, claim, false),
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

/// The claim needs one: what is meant for it, what is there, what can be made.
fn without_volume(view: &ClaimView<'_>) -> ClaimStep {
    let claim = view.claim;
    let ours = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        spec.is_some_and(|spec| spec.claim_ref.is_some())
            && owner_of(volume, claim) != Owner::Another
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

pub(super) fn plan_volume(view: &VolumeView<'_>) -> VolumeStep {
    let volume = view.volume;
    let meta = &volume.metadata;
    let reference = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.claim_ref.as_ref());
    let uid = reference.and_then(|reference| reference.uid.as_ref());
    let claim_uid = view.claim.and_then(|claim| claim.metadata.uid.as_ref());
    let is_claimed = uid.is_some() && uid == claim_uid;
    if meta.deletion_timestamp.is_some() {
        return end_of(view, is_claimed);
    }
    if !has_finalizer(meta, storage::VOLUME_PROTECTION) {
        let mut updated = volume.clone();
        add_finalizer(&mut updated.metadata, storage::VOLUME_PROTECTION);
        return VolumeStep::Update(Box::new(updated));
    }
    if uid.is_none() {
        return volume_status(volume, "Available", None);
    }
    if is_claimed {
        return volume_status(volume, "Bound", None);
    }
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match (policy, storage::is_provisioned(volume)) {
        (Some("Delete"), true) => VolumeStep::Delete,
        (Some("Delete"), false) => {
            let message = "only volumes of wasmorch.dev/local can be deleted by the cluster";
            let notice = Notice::warning("VolumeFailedDelete", message);
            volume_status(volume, "Failed", Some(notice))
        }
        (Some(_) | None, _) => volume_status(volume, "Released", None),
    }
}

/// A deleted volume waits for its claim, then for the worker that has the directory.
fn end_of(view: &VolumeView<'_>, is_claimed: bool) -> VolumeStep {
    let mut updated = view.volume.clone();
    let is_free = !is_claimed && has_finalizer(&updated.metadata, storage::VOLUME_PROTECTION);
    if is_free {
        remove_finalizer(&mut updated.metadata, storage::VOLUME_PROTECTION);
    }
    // A node that was removed takes its disk with it.
    let is_lost = !view.has_node && has_finalizer(&updated.metadata, storage::DIRECTORY);
    if is_lost && !is_claimed {
        remove_finalizer(&mut updated.metadata, storage::DIRECTORY);
    }
    if updated == *view.volume {
        return VolumeStep::Rest;
    }
    VolumeStep::Update(Box::new(updated))
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

fn volume_status(volume: &PersistentVolume, phase: &str, notice: Option<Notice>) -> VolumeStep {
    let current = volume
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if current == Some(phase) {
        return VolumeStep::Rest;
    }
    let mut updated = volume.clone();
    let status = updated.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = notice.as_ref().map(|notice| notice.message.clone());
    status.reason = notice.as_ref().map(|notice| notice.reason.to_owned());
    VolumeStep::Status(Box::new(updated), notice)
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

fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|found| found == name)
}

fn add_finalizer(meta: &mut ObjectMeta, name: &str) {
    meta.finalizers
        .get_or_insert_default()
        .push(name.to_owned());
}

fn remove_finalizer(meta: &mut ObjectMeta, name: &str) {
    if let Some(finalizers) = &mut meta.finalizers {
        finalizers.retain(|found| found != name);
    }
}

#[cfg(test)]
mod tests;
