//! The words of persistent storage: who provisions, who protects, what a volume and a claim say.

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, Pod, VolumeNodeAffinity,
};

use super::annotations::HOSTNAME;

/// The provisioner of directories on workers, and the CSI driver that volumes of it name.
pub const PROVISIONER: &str = "wasmorch.dev/local";
/// On StorageClasses: `"true"` makes it the class of claims that name none.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// On claims: the node that the scheduler chose for the first consumer.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On claims: both halves of the binding are written.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On claims and volumes: the controller chose the other half, not the user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On volumes: who made them.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Finalizer of claims: a pod may be using it.
pub const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Finalizer of volumes: it may be bound.
pub const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Finalizer of provisioned volumes: their directory is still on the worker.
pub const DIRECTORY: &str = "wasmorch.dev/local-directory";

/// The names of the claims that a pod mounts.
pub fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

/// The name of the class; empty is "none, and no default either".
pub fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let spec = claim.spec.as_ref();
    let class = spec.and_then(|spec| spec.storage_class_name.as_deref());
    class.unwrap_or_default()
}

/// The volume that a claim names, if it names one.
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let name = claim.spec.as_ref()?.volume_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Whether both halves of the binding are written.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    let is_complete = annotations.is_some_and(|all| all.contains_key(BIND_COMPLETED));
    is_complete && volume_name(claim).is_some()
}

/// An annotation of a claim.
pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    let node = annotations.get(SELECTED_NODE)?.as_str();
    Some(node).filter(|node| !node.is_empty())
}

/// Whether the volume is a directory that a worker made.
pub fn is_provisioned(volume: &PersistentVolume) -> bool {
    let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    source.is_some_and(|source| source.driver == PROVISIONER)
}

/// The affinity that ties a volume to one node.
pub fn only_on(node: &str) -> VolumeNodeAffinity {
    let requirement = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![requirement]),
                ..NodeSelectorTerm::default()
            }],
        }),
    }
}

/// The node of a provisioned volume; no other volume has a single one.
pub fn node_of(volume: &PersistentVolume) -> Option<&str> {
    if !is_provisioned(volume) {
        return None;
    }
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    let [term] = affinity.required.as_ref()?.node_selector_terms.as_slice() else {
        return None;
    };
    let [requirement] = term.match_expressions.as_deref()? else {
        return None;
    };
    let [node] = requirement.values.as_deref()? else {
        return None;
    };
    (requirement.key == HOSTNAME && requirement.operator == "In").then_some(node)
}

/// Whether the volume is a directory on that node.
pub fn is_on(volume: &PersistentVolume, node: &str) -> bool {
    node_of(volume) == Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provisioned_volume_has_a_node() {
        let mut volume: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "v"},
            "spec": {"csi": {"driver": PROVISIONER, "volumeHandle": "v"}},
        }))
        .unwrap();
        assert_eq!(node_of(&volume), None);
        volume.spec.as_mut().unwrap().node_affinity = Some(only_on("dev-1"));
        assert_eq!(node_of(&volume), Some("dev-1"));
        assert!(is_on(&volume, "dev-1") && !is_on(&volume, "dev-2"));
        volume.spec.as_mut().unwrap().csi.as_mut().unwrap().driver = "other".into();
        assert_eq!(node_of(&volume), None);
    }

    #[test]
    fn a_claim_is_bound_when_both_halves_are_written() {
        let check = |spec: serde_json::Value, annotation: bool| {
            let mut claim: PersistentVolumeClaim =
                serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            if annotation {
                claim.metadata.annotations = Some([(BIND_COMPLETED.into(), "yes".into())].into());
            }
            is_bound(&claim)
        };
        assert!(check(json!({"volumeName": "v"}), true));
        assert!(!check(json!({"volumeName": "v"}), false));
        assert!(!check(json!({"volumeName": ""}), true));
    }
}
