//! The next step for a volume: available, bound, released, and its end. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::finalizer::{add_finalizer, has_finalizer, remove_finalizer};
use crate::api::storage;
use crate::controllers::events::Notice;

/// What the next step for a volume depends on.
pub(in crate::controllers::persistent_volume) struct VolumeView<'a> {
    pub(in crate::controllers::persistent_volume) volume: &'a PersistentVolume,
    /// What has the name of the volume's claim now.
    pub(in crate::controllers::persistent_volume) claim: Option<&'a PersistentVolumeClaim>,
    /// Whether there is a Node object for the directory's node.
    pub(in crate::controllers::persistent_volume) has_node: bool,
}

#[derive(Debug, PartialEq)]
pub(in crate::controllers::persistent_volume) enum VolumeStep {
    Rest,
    Update(Box<PersistentVolume>),
    Status(Box<PersistentVolume>, Option<Notice>),
    Delete,
}

pub(in crate::controllers::persistent_volume) fn plan_volume(view: &VolumeView<'_>) -> VolumeStep {
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
