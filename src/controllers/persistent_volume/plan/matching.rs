//! Which existing volume serves a claim: the smallest that has all that is asked for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim,
};

use crate::api::selector::Labels;
use crate::api::{quantity, storage};

pub(super) fn best_match<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<&'a PersistentVolume> {
    let fitting = volumes.iter().filter(|volume| serves(volume, claim, node));
    let smallest = fitting.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone()));
    smallest.map(AsRef::as_ref)
}

fn serves(volume: &PersistentVolume, claim: &PersistentVolumeClaim, node: Option<&Node>) -> bool {
    let (Some(offer), Some(wanted)) = (&volume.spec, &claim.spec) else {
        return false;
    };
    // A selector that cannot be read selects nothing.
    let is_selected = wanted.selector.as_ref().is_none_or(|selector| {
        let labels = Labels::from_selector(selector);
        labels.is_ok_and(|labels| labels.matches(volume.metadata.labels.as_ref()))
    });
    offer.claim_ref.is_none()
        && is_of_class(volume, claim)
        && lacks(volume, claim).is_none()
        && is_selected
        && reaches(volume, node)
}

pub(super) fn is_of_class(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let class = volume.spec.as_ref().map(|spec| &spec.storage_class_name);
    class.is_some_and(|class| class.as_deref().unwrap_or_default() == storage::class_of(claim))
}

/// Why the volume cannot be what the claim asks for, whoever has chosen it; in Kubernetes' words.
pub(super) fn lacks(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Option<&'static str> {
    let offer = volume.spec.clone().unwrap_or_default();
    let wanted = claim.spec.as_ref();
    let has_mode = |mode: &String| offer.access_modes.iter().flatten().any(|m| m == mode);
    let modes = wanted.and_then(|spec| spec.access_modes.as_deref());
    let resources = wanted.and_then(|spec| spec.resources.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let asked = requests.and_then(|requests| requests.get("storage"));
    if volume.metadata.deletion_timestamp.is_some() {
        return Some("the volume is marked for deletion");
    }
    if asked.is_none_or(|asked| capacity(volume) < quantity::units_or_zero(asked)) {
        return Some("requested PV is too small");
    }
    if offer.volume_mode.as_ref() != wanted.and_then(|spec| spec.volume_mode.as_ref()) {
        return Some("incompatible volumeMode");
    }
    if !modes.unwrap_or_default().iter().all(has_mode) {
        return Some("incompatible accessMode");
    }
    None
}

fn capacity(volume: &PersistentVolume) -> u64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    let amount = capacity.and_then(|capacity| capacity.get("storage"));
    amount.map_or(0, quantity::units_or_zero)
}

/// Whether the node that was selected can use the volume; if none was, any will be found.
fn reaches(volume: &PersistentVolume, node: Option<&Node>) -> bool {
    let Some(node) = node else { return true };
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else {
        return true;
    };
    required
        .node_selector_terms
        .iter()
        .any(|term| term_holds(term, node))
}

fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let name = node.metadata.name.as_deref();
    let label = |wanted: &NodeSelectorRequirement| {
        let value = labels.and_then(|labels| labels.get(&wanted.key));
        holds(wanted, value.map(String::as_str))
    };
    let field =
        |wanted: &NodeSelectorRequirement| wanted.key == "metadata.name" && holds(wanted, name);
    let (labels, fields) = (&term.match_expressions, &term.match_fields);
    let is_empty = labels.iter().flatten().count() + fields.iter().flatten().count() == 0;
    !is_empty && labels.iter().flatten().all(label) && fields.iter().flatten().all(field)
}

fn holds(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let is_among = value.is_some_and(|value| values.iter().any(|v| v == value));
    match wanted.operator.as_str() {
        "In" => is_among,
        "NotIn" => !is_among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // The scheduler, which reads numbers too, has the last word.
        _ => false,
    }
}
