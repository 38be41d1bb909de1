//! Which nodes get a pod of a DaemonSet, and the pod that is bound to reach one of them. Pure.
//!
//! The scheduler places the pods, as any others: an affinity to the node's name holds each to its
//! node. Here only what must be known before is judged: selectors, affinity and taints.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec,
    Taint, Toleration,
};

use crate::api::annotations::{TAINT_NOT_READY, TAINT_UNREACHABLE, TAINT_UNSCHEDULABLE};
use crate::api::{node_affinity, pod};
use crate::controllers::pod_control;
use crate::controllers::revision::POD_LABEL;

/// What every daemon puts up with.
const TOLERATED: [(&str, &str); 6] = [
    (TAINT_NOT_READY, "NoExecute"),
    (TAINT_UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    (TAINT_UNSCHEDULABLE, "NoSchedule"),
];

/// Whether a node shall have a pod, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fits {
    pub(super) runs: bool,
    pub(super) stays: bool,
}

pub(super) fn fits(template: &PodTemplateSpec, node: &Node) -> Fits {
    let empty = PodSpec::default();
    let spec = template.spec.as_ref().unwrap_or(&empty);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let is_named = spec
        .node_name
        .as_deref()
        .is_none_or(|wanted| wanted.is_empty() || wanted == name);
    let is_selected = is_named && node_affinity::is_selected(spec, node);
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    tolerations.extend(own_tolerations());
    let repels = |effects: &[&str]| {
        taints.unwrap_or_default().iter().any(|taint| {
            effects.contains(&taint.effect.as_str())
                && !tolerations.iter().any(|one| tolerates(one, taint))
        })
    };
    Fits {
        runs: is_selected && !repels(&["NoSchedule", "NoExecute"]),
        stays: is_selected && !repels(&["NoExecute"]),
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let any = |text: &Option<String>, wanted: &str| match text.as_deref() {
        None | Some("") => true,
        Some(text) => text == wanted,
    };
    let same_value = toleration.operator.as_deref() == Some("Exists")
        || toleration.value.as_deref().unwrap_or_default()
            == taint.value.as_deref().unwrap_or_default();
    any(&toleration.effect, &taint.effect) && any(&toleration.key, &taint.key) && same_value
}

fn own_tolerations() -> impl Iterator<Item = Toleration> {
    TOLERATED.into_iter().map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    })
}

/// The node that a pod is on or held to.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if let Some(node) = pod::node_name(pod) {
        return Some(node);
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let by_name = fields.find(|field| field.key == "metadata.name")?;
    by_name.values.as_ref()?.first().map(String::as_str)
}

/// The pod for a node.
pub(super) fn pod(set: &DaemonSet, template: &PodTemplateSpec, hash: &str, node: &str) -> Pod {
    let mut pod = pod_control::from_template::<DaemonSet>(template, &set.metadata);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    hold(spec, node);
    let tolerations = spec.tolerations.get_or_insert_default();
    for own in own_tolerations() {
        if !tolerations.contains(&own) {
            tolerations.push(own);
        }
    }
    pod
}

/// Holds a pod to one node, on top of what its template asks for.
fn hold(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_default();
    let affinity = affinity.node_affinity.get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(NodeSelector::default);
    if required.node_selector_terms.is_empty() {
        required
            .node_selector_terms
            .push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]);
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(change: Value) -> Node {
        let mut base = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd"}}, "spec": {}});
        json_patch::merge(&mut base, &change);
        serde_json::from_value(base).unwrap()
    }

    fn check(spec: Value, change: Value, runs: bool, stays: bool) {
        let template: PodTemplateSpec =
            serde_json::from_value(json!({"spec": spec.clone()})).unwrap();
        let found = fits(&template, &node(change.clone()));
        assert_eq!(found, Fits { runs, stays }, "{spec} {change}");
    }

    #[test]
    fn nodes_that_fit_get_a_pod() {
        let taint = |effect: &str| json!({"spec": {"taints": [{"key": "gpu", "value": "x", "effect": effect}]}});
        let cordon =
            json!({"spec": {"taints": [{"key": TAINT_UNSCHEDULABLE, "effect": "NoSchedule"}]}});
        check(json!({"containers": []}), json!({}), true, true);
        check(json!({"containers": []}), cordon, true, true);
        check(json!({"containers": []}), taint("NoSchedule"), false, true);
        check(json!({"containers": []}), taint("NoExecute"), false, false);
        check(
            json!({"containers": [], "tolerations": [{"key": "gpu", "value": "x"}]}),
            taint("NoExecute"),
            true,
            true,
        );
        check(
            json!({"containers": [], "tolerations": [{"key": "gpu", "value": "y"}]}),
            taint("NoSchedule"),
            false,
            true,
        );
        check(
            json!({"containers": [], "nodeSelector": {"disk": "ssd"}}),
            json!({}),
            true,
            true,
        );
        check(
            json!({"containers": [], "nodeSelector": {"disk": "hdd"}}),
            json!({}),
            false,
            false,
        );
        check(
            json!({"containers": [], "nodeName": "n2"}),
            json!({}),
            false,
            false,
        );
    }

    #[test]
    fn a_pod_is_held_to_its_node() {
        let set = DaemonSet::default();
        let template: PodTemplateSpec = serde_json::from_value(
            json!({"spec": {"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}}}}),
        )
        .unwrap();
        let made = pod(&set, &template, "abc", "n1");
        assert_eq!(target(&made), Some("n1"));
        assert_eq!(made.metadata.labels.as_ref().unwrap()[POD_LABEL], "abc");
        let spec = made.spec.as_ref().unwrap();
        assert!(node_affinity::is_selected(spec, &node(json!({}))));
        assert!(!node_affinity::is_selected(
            spec,
            &node(json!({"metadata": {"name": "n2"}}))
        ));
        assert!(!node_affinity::is_selected(
            spec,
            &node(json!({"metadata": {"labels": {"disk": null}}}))
        ));
        assert_eq!(spec.tolerations.as_ref().unwrap().len(), TOLERATED.len());
        assert_eq!(target(&Pod::default()), None);
    }
}
