//! Whether a pod wants a node: `nodeSelector` and the required node affinity.
//!
//! The scheduler has its own compiled form of this for its many comparisons; here is the plain one
//! for those who ask now and then.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};

/// Whether the pod's selectors let it onto the node.
pub fn is_selected(spec: &PodSpec, node: &Node) -> bool {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let mut wanted = spec.node_selector.iter().flatten();
    if !wanted.all(|(key, value)| label(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref();
    let affinity = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|it| {
        it.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    required.is_none_or(|required| {
        let terms = &required.node_selector_terms;
        terms.iter().any(|term| term_holds(term, node))
    })
}

/// An empty term selects nothing.
fn term_holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let name = node.metadata.name.as_deref();
    !(labels.is_empty() && fields.is_empty())
        && labels
            .iter()
            .all(|wanted| holds(wanted, label(&wanted.key)))
        && fields
            .iter()
            .all(|wanted| wanted.key == "metadata.name" && holds(wanted, name))
}

fn holds(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let is_among = value.is_some_and(|value| values.iter().any(|one| one == value));
    let numbers =
        || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match wanted.operator.as_str() {
        "In" => is_among,
        "NotIn" => !is_among,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn selects_as_the_scheduler_does() {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "size": "8"}}}),
        )
        .unwrap();
        let check = |term: Value, expected: bool| {
            let spec = json!({"containers": [], "affinity": {"nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(is_selected(&spec, &node), expected, "{term}");
        };
        let label = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), false);
        check(label("disk", "In", &["ssd", "hdd"]), true);
        check(label("disk", "NotIn", &["ssd"]), false);
        check(label("gpu", "NotIn", &["x"]), true);
        check(label("gpu", "Exists", &[]), false);
        check(label("gpu", "DoesNotExist", &[]), true);
        check(label("size", "Gt", &["4"]), true);
        check(label("size", "Lt", &["4"]), false);
        check(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
            true,
        );
        check(
            json!({"matchFields": [{"key": "spec.x", "operator": "Exists"}]}),
            false,
        );
    }
}
